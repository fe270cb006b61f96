"""How few experts serve how much: of each layer, and of all layers together."""

from __future__ import annotations

from moe_live.dashboard.canvas import Column, Line, Table, bar, beside, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, TITLE
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent, of_phase
from moe_live.dataclass import dataclass
from moe_live.formatting import percents, whole
from moe_live.judgement import Subject
from moe_live.settings import Phase
from moe_live.snapshot import COVERED_PERCENT, Budget, Snapshot
from moe_live.verdicts import NARROW, WIDE

_GAP = 3
_LAYERS = 41
"""Columns of the table of layers at most."""

_NARROWEST_LAYERS = 26
_WIDEST_BAR = 50


_STEPS = {Phase.DECODE: "decode", Phase.PREFILL: "prompts", Phase.ALL: "all steps"}


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer and, for each of `COVERED_PERCENT`, the experts that serve so much of it."""

    layer: int
    needed: tuple[int, ...]


def _covering(place: int) -> Column[_Row]:
    return Column(
        f"{COVERED_PERCENT[place]}%",
        5,
        lambda row: str(row.needed[place] or "–"),
        optional={50: 2, 95: 1}.get(COVERED_PERCENT[place], 0),
    )


def _order(percentage: int) -> Order[_Row]:
    place = COVERED_PERCENT.index(percentage)
    return Order(f"{percentage}%", lambda row: row.needed[place], ascending=True)


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer)),
    *map(_covering, range(len(COVERED_PERCENT))),
)
_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        _order(90),
        Order("layer", lambda row: row.layer, ascending=True),
        _order(80),
        _order(99),
    ),
)


def _budgets(snapshot: Snapshot, width: int) -> list[Line]:
    """What resident experts over all layers serve, with the best choice as a curve."""
    total = sum(snapshot.layer_sizes)
    columns: list[Column[Budget]] = [
        Column("experts", 7, lambda budget: whole(budget.experts, 7)),
        Column("of all", 6, lambda budget: percents(budget.experts / total)),
        Column("even", 6, lambda budget: percents(budget.even)),
        Column("best", 6, lambda budget: percents(budget.best)),
        Column("a layer", 9, lambda budget: f"{budget.fewest}–{budget.most}", optional=1),
    ]
    room = min(_WIDEST_BAR, width - sum(column.width + 2 for column in columns[:4]))
    if room >= 8:
        columns.append(Column("", room, lambda budget: text(bar(budget.best, room), BAR), right=False))
    table = Table(columns, width)
    return [
        (text(f"Resident in {_STEPS[snapshot.resident_phase]}, hindsight", TITLE),),
        table.header(),
        *[table.row(budget) for budget in snapshot.budgets],
    ]


def _rows(snapshot: Snapshot, state: ViewState) -> list[_Row]:
    shown = of_phase(snapshot, state.phase)
    return [
        _Row(entry.layer, tuple(needed))
        for entry, needed in zip(shown.layers, shown.coverage.tolist(), strict=True)
    ]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot, state), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The verdict, the layers, and what budgets serve."""
    if not snapshot.layers:
        return absent(snapshot)
    shown = of_phase(snapshot, state.phase)
    rows = _rows(snapshot, state)
    left = max(_NARROWEST_LAYERS, min(_LAYERS, width - _GAP - 31))
    title: list[Line] = [(text(f"{state.phase.value.capitalize()} steps", TITLE),)]
    layers = _LISTING.lines(rows, _COLUMNS, state, width=left, height=height - 1, title=title)
    return [
        verdict_line(Subject.HOT_SET, shown, width),
        *beside(layers, _budgets(shown, width - left - _GAP)[: height - 1], left, _GAP),
    ]


VIEW = View(
    key="7",
    title="Hot set",
    brief="Hot",
    render=render,
    gist="Left: fewest experts for so much of a layer. Right: what resident ones serve.",
    reading=(
        "The budget table counts resident experts over all layers: 'even' with the same number in each "
        "layer, 'best' wherever an expert serves most; 'a layer' is how many of a layer that takes. All "
        "with hindsight: a bound for what is placed in advance. Few tokens make a hot set look smaller "
        "than it is. The load is called concentrated if the median layer serves 90 % with at most "
        f"{NARROW:.0%} of its experts, spread out from {WIDE:.0%} on."
    ),
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
    phases=True,
)
