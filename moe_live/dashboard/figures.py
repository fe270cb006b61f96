"""The figures that are shown: counts of this moment, and what costs more of a moment ago."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache

from moe_live.dashboard.trend import PERIOD
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.dataclass import dataclass
from moe_live.formats.records import LineTally
from moe_live.running import Run
from moe_live.snapshot import PhaseCount, Section, Snapshot

LASTING = 1.0
"""Seconds for which a section is shown while counts are made anew: it hardly changes from frame to frame, and
sections are most of what a frame costs."""

Complete = Callable[[Snapshot, Collection[str]], Snapshot]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a snapshot is to hold beside what each does: plans, and the arguments of `Run.snapshot`.

    Of the sections in `seldom` the trend alone is shown.
    """

    sections: frozenset[Section]
    plans: frozenset[str] = frozenset()
    seldom: frozenset[Section] = frozenset()
    pairs_of: frozenset[int] | None = frozenset()
    anew: bool = False


PLANS = frozenset(view.plan for view in VIEWS if view.plan)
EVERYTHING = Scope(frozenset(Section), PLANS, pairs_of=None, anew=True)


@cache
def of_view(view: View) -> Scope:
    """What a view shows; it is asked for several times a frame."""
    return Scope(view.sections, frozenset({view.plan} - {""}), view.of_trend)


class Figures:
    """Makes the snapshot that is shown.

    Args:
        session: of what.
        complete: adds to a snapshot the plans of these names.
        scope: what it is to hold at first.
        clock: seconds, monotonic.

    Attributes:
        snapshot: of the moment it was made; its sections may be older. Half of them at most are made anew at
            a time, the oldest, once they are `LASTING` seconds old, or `PERIOD` of which the trend alone is
            shown. Tokens may be counted later than all else.
        scope: what it holds.
        behind: whether more is counted than sections are of.
        making: seconds that it took.
    """

    snapshot: Snapshot

    def __init__(self, session: Run, complete: Complete, scope: Scope, *, clock: Callable[[], float]) -> None:
        self._session = session
        self._complete = complete
        self._clock = clock
        self._sections: dict[Section, tuple[float, LineTally]] = {}  # when each was made, and of what
        self._make_all(scope)

    def make(self, scope: Scope) -> None:
        """Make it anew, with what is in `scope`."""
        if scope != self.scope or scope.anew or not self._make_some():
            self._make_all(scope)

    def count(self) -> bool:
        """Count tokens anew and leave all else as it is, for a frame of which the header alone is drawn.

        Returns:
            False, with nothing done, where something else in the header would be another too: then all is to
            be made.
        """
        made, progress = self._made, self._session.progress()
        stays = made.layers and not made.rows.unrecoverable and not made.input.sources
        if not stays or progress.malformed != made.input.tally.malformed_lines:
            return False
        tokens = PhaseCount(prefill=progress.tokens - progress.decode, decode=progress.decode)
        self.snapshot = self.snapshot.having(tokens=tokens)
        return True

    def _due(self) -> set[Section]:
        """The sections that are to be made anew."""
        now, seldom, made = self._clock(), self.scope.seldom, self._sections
        by_age = sorted(made, key=lambda section: made[section][0])
        due = [each for each in by_age if now >= made[each][0] + (PERIOD if each in seldom else LASTING)]
        return set(due[: -(-len(made) // 2)])

    def _make_all(self, scope: Scope) -> None:
        begun = self._clock()
        made = self._session.snapshot(scope.sections, pairs_of=scope.pairs_of, anew=scope.anew)
        self._sections = {}
        self._show(made, scope.sections, scope, begun)

    def _make_some(self) -> bool:
        """Make what is due anew; False if what there is of other sections is of other layers or rows."""
        begun, before = self._clock(), self._made
        due = self._due()
        made = self._session.snapshot(due, pairs_of=self.scope.pairs_of, anew=False)
        alike = made.model == before.model and made.rows.soundness is before.rows.soundness
        if not alike or made.left_out != before.left_out or made.steps.total < before.steps.total:
            return False
        kept = (section.field for section in self.scope.sections - due)
        made = made.having(**{field: getattr(before, field) for field in kept})
        self._show(made, due, self.scope, begun)
        return True

    def _show(self, made: Snapshot, new: Collection[Section], scope: Scope, begun: float) -> None:
        tally = made.input.tally
        self._sections |= dict.fromkeys(new, (begun, tally))
        self._made, self.scope = made, scope
        self.snapshot = self._complete(made, scope.plans)
        self.behind = any(of != tally for _, of in self._sections.values())
        self.making = self._clock() - begun
