"""What plans make of the latest steps, for views, the summary and outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moe_live.errors import MoeLiveError
from moe_live.plans.table import PLANS

if TYPE_CHECKING:
    from moe_live.plans.given import Given
    from moe_live.plans.plan import Plan, Progress
    from moe_live.snapshot import Snapshot

_SHARE = 60
"""The figures of a plan take a sixtieth of a core at most, on average."""

_LASTING = 1.0
"""Seconds for which they are shown, however little they take."""


class LivePlans:
    """Adds their figures to snapshots; they are made anew now and then, and say of how many steps.

    Args:
        given: what they go by.
        follows: whether logs are followed: then they rest on so few of the latest uses that they can be made
            anew again and again.
        clock: seconds, monotonic.
    """

    def __init__(
        self, given: Given, *, follows: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._given = given
        self._turns = {plan.name: _Turn(plan, given, clock, follows=follows) for plan in PLANS}

    def add_to(self, snapshot: Snapshot, plans: Collection[str]) -> Snapshot:
        """The snapshot with the sizes of the experts, as far as they are known, and with these plans."""
        snapshot = with_sizes(snapshot, self._given)
        if snapshot.latest is None and not snapshot.lacks_rows:
            return snapshot
        made = {name: self._turns[name].figures(snapshot) for name in sorted(plans)}
        return _with(snapshot, made)


class _Turn:
    """One plan, and when it is to be made anew."""

    def __init__(self, plan: Plan, given: Given, clock: Callable[[], float], *, follows: bool) -> None:
        self._plan = plan
        self._follows = follows
        self._given = given
        self._clock = clock
        self._due = clock()
        self._steps = 0
        self._figures: Any = None

    def figures(self, snapshot: Snapshot) -> Any:
        """Those of this moment, or of a moment ago; or why there are none, in a sentence."""
        begun, steps = self._clock(), snapshot.steps.total
        if begun >= self._due or steps < self._steps:  # the statistics were started anew
            self._steps = steps
            if self._follows and snapshot.latest is not None:
                latest = snapshot.latest.latest(self._plan.live_uses(self._given))
                snapshot = snapshot.having(latest=latest)
            self._figures = _made(self._plan, snapshot, self._given)
            now = self._clock()
            self._due = now + max(_LASTING, _SHARE * (now - begun))
        return self._figures


def with_sizes(snapshot: Snapshot, given: Given) -> Snapshot:
    """The snapshot with the bytes of an expert of each layer, as far as they are known."""
    return snapshot.having(model=replace(snapshot.model, expert_bytes=given.sizes(snapshot.model)))


def with_plans(snapshot: Snapshot, given: Given, progress: Progress) -> Snapshot:
    """The final snapshot with the plans that were asked for, and with a warning for each that fails."""
    snapshot = with_sizes(snapshot, given)
    made = {plan.name: _made(plan, snapshot, given, progress) for plan in PLANS if plan.name in given.asked}
    snapshot = _with(snapshot, made)
    warnings = (f"the plan {name} was not made: {reason}" for name, reason in snapshot.unplanned.items())
    return snapshot.having(warnings=(*snapshot.warnings, *warnings))


def _made(plan: Plan, snapshot: Snapshot, given: Given, progress: Progress = lambda _: None) -> Any:
    """The figures of a plan, or why there are none, in a sentence."""
    try:
        return plan.figures(snapshot, given, progress)
    except MoeLiveError as error:
        return str(error)


def _with(snapshot: Snapshot, made: dict[str, Any]) -> Snapshot:
    reasons = {name: figures for name, figures in made.items() if isinstance(figures, str)}
    return snapshot.having(**{name: made[name] for name in made.keys() - reasons}, unplanned=reasons)
