"""The figures that are shown: counts of this moment, and what costs more of a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.running import Run
from moe_live.snapshot import Section, Snapshot

LASTING = 1.0
"""Seconds for which sections are shown while counts are made anew: they hardly change from frame to frame,
and are most of what a frame costs."""

Complete = Callable[[Snapshot, Collection[str]], Snapshot]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a snapshot is to hold beside what each does: plans, and the arguments of `Run.snapshot`."""

    sections: frozenset[Section]
    plans: frozenset[str] = frozenset()
    pairs_of: frozenset[int] | None = frozenset()
    anew: bool = False


PLANS = frozenset(view.plan for view in VIEWS if view.plan)
EVERYTHING = Scope(frozenset(Section), PLANS, pairs_of=None, anew=True)
_NOTHING = Scope(frozenset())


def of_view(view: View) -> Scope:
    """What a view shows."""
    return Scope(view.sections, frozenset({view.plan} - {""}))


class Figures:
    """Makes the snapshot that is shown.

    Args:
        session: of what.
        complete: adds to a snapshot the plans of these names.
        scope: what it is to hold at first.
        clock: seconds, monotonic.

    Attributes:
        snapshot: of the moment it was made; its sections may be `LASTING` seconds older.
        scope: what it holds.
        behind: whether sections are older.
        making: seconds that it took.
    """

    def __init__(self, session: Run, complete: Complete, scope: Scope, *, clock: Callable[[], float]) -> None:
        self._session = session
        self._complete = complete
        self._clock = clock
        self._made_at = clock()
        self._made = self._all_of(scope)
        self.snapshot = complete(self._made, scope.plans)
        self.scope = scope
        self.behind = False
        self.making = clock() - self._made_at

    def make(self, scope: Scope) -> None:
        """Make it anew, with what is in `scope`."""
        begun = self._clock()
        lasting = scope == self.scope and not scope.anew and begun < self._made_at + LASTING
        made = self._with_sections_as_they_are() if lasting else None
        self.behind = made is not None
        if made is None:
            made, self._made_at = self._all_of(scope), begun
        self._made = made
        self.snapshot = self._complete(made, scope.plans)
        self.scope = scope
        self.making = self._clock() - begun

    def _all_of(self, scope: Scope) -> Snapshot:
        return self._session.snapshot(scope.sections, pairs_of=scope.pairs_of, anew=scope.anew)

    def _with_sections_as_they_are(self) -> Snapshot | None:
        """What is counted now, with the sections there are; None if they are of other layers or rows."""
        before, now = self._made, self._all_of(_NOTHING)
        alike = now.model == before.model and now.rows.soundness is before.rows.soundness
        if not alike or now.left_out != before.left_out or now.steps.total < before.steps.total:
            return None
        kept = (section.field for section in self.scope.sections)
        return replace(now, **{field: getattr(before, field) for field in kept})
