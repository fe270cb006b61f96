"""What caches of the sizes asked for would have served of the latest steps, while a log is followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_live.errors import MoeLiveError
from moe_live.plans.cache import SHARES, sizing_of

if TYPE_CHECKING:
    from moe_live.snapshot import CacheSizing, Snapshot

USES = 1 << 16
"""Uses of experts that are replayed for one size: 92 decode steps of 89 layers, top-8; fewer for several."""

_OVERHEAD = 4
"""What a replay costs whatever the sizes are, in those of one size."""

_SHARE = 30
"""It takes a thirtieth of a core at most, on average."""


class LiveCaches:
    """Adds them to snapshots; they are made anew now and then, and say of how many steps.

    Args:
        known: the bytes of an expert, by layer or of all; 0 if they are not known: nothing is added then.
        budgets: the sizes, in bytes; none for eight shares of all experts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        known: dict[int, int] | int,
        budgets: Sequence[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._budgets = budgets
        self._clock = clock
        self._due = clock()
        self._steps = 0
        self._sizing: CacheSizing | None = None

    def add_to(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with them, if it tells the latest steps and they can be made: the end says why not."""
        if not self._known or snapshot.latest is None:
            return snapshot
        begun, steps = self._clock(), snapshot.steps.total
        if begun >= self._due or steps < self._steps:  # the statistics were started anew
            self._steps, self._sizing = steps, None
            with suppress(MoeLiveError):
                sizes = len(self._budgets) or len(SHARES)
                uses = snapshot.latest.latest(USES * (_OVERHEAD + 1) // (_OVERHEAD + sizes))
                self._sizing = sizing_of(uses, self._known, self._budgets)
            now = self._clock()
            self._due = now + _SHARE * (now - begun)
        return replace(snapshot, cache=self._sizing)
