"""What caches of the sizes asked for would have served of the latest steps, while a log is followed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_live.errors import MoeLiveError
from moe_live.plans.cache import sizing_of

if TYPE_CHECKING:
    from moe_live.snapshot import CacheSizing, Snapshot

USES = 1 << 16
"""Uses of experts that are replayed, over all sizes: 92 decode steps of 89 layers, top-8, for one size."""

_SHARE = 30
"""It takes a thirtieth of a core at most, on average."""


class LiveCaches:
    """Adds them to snapshots; they are made anew now and then, and say of how many steps.

    Args:
        known: the bytes of an expert, by layer or of all.
        budgets: the sizes, in bytes; none for nothing to add.
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
        if not self._budgets or snapshot.latest is None:
            return snapshot
        begun, steps = self._clock(), snapshot.steps.total
        if begun >= self._due or steps < self._steps:  # the statistics were started anew
            self._steps, self._sizing = steps, None
            with suppress(MoeLiveError):
                uses = snapshot.latest.latest(USES // len(self._budgets))
                self._sizing = sizing_of(uses, self._known, self._budgets)
            now = self._clock()
            self._due = now + _SHARE * (now - begun)
        return replace(snapshot, cache=self._sizing)
