"""How evenly the experts of each layer are used."""

from __future__ import annotations

import math

from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, Table, text
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, TITLE
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent, of_phase
from moe_live.dataclass import dataclass
from moe_live.formatting import expected, fraction, percent, short
from moe_live.judgement import Subject
from moe_live.snapshot import Balance, Snapshot, Usage
from moe_live.verdicts import EVEN, UNEVEN, few


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer's number, the share of its top expert, and its balance; -1 stands for the sum of all layers."""

    layer: int
    top_share: float
    balance: Balance


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer) if row.layer >= 0 else "sum"),
    Column("entropy", 8, lambda row: fraction(row.balance.entropy_normalized, 3)),
    Column("effective", 10, lambda row: short(row.balance.effective_experts)),
    Column("Gini", 5, lambda row: fraction(row.balance.gini)),
    Column("MaxVio", 7, lambda row: fraction(row.balance.max_violation), optional=1),
    Column("top share", 10, lambda row: percent(row.top_share), optional=2),
    Column("unused", 7, lambda row: str(row.balance.dead_experts)),
    Column("by chance", 9, lambda row: expected(row.balance.dead_expected)),
    Column("CV", 5, lambda row: fraction(row.balance.cv), optional=5),
    Column("Jain", 5, lambda row: fraction(row.balance.jain), optional=4),
    Column("mean/max", 8, lambda row: fraction(row.balance.balancedness), optional=6),
    Column("KL bits", 7, lambda row: fraction(row.balance.kl_uniform), optional=7),
)
_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("entropy", lambda row: row.balance.entropy_normalized, ascending=True),
        Order("layer", lambda row: row.layer, ascending=True),
        Order("MaxVio", lambda row: row.balance.max_violation),
        Order("top share", lambda row: row.top_share),
        Order("unused", lambda row: row.balance.dead_experts),
    ),
)
_SUM_FROM = 12
"""With fewer lines than this the sum of all layers makes way for layers."""


def _rows(snapshot: Snapshot, state: ViewState) -> list[_Row]:
    shown = of_phase(snapshot, state.phase)
    return [
        _Row(entry.layer, _top_share(entry.usage), balance)
        for entry, balance in zip(shown.layers, shown.balance, strict=True)
    ]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot, state), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The verdict, a row a layer, and at the end what all of them add up to."""
    if not snapshot.layers:
        return absent(snapshot)
    shown = of_phase(snapshot, state.phase)
    rows = _rows(snapshot, state)
    title: list[Line] = [(text(f"Balance · {state.phase.value} steps", TITLE),)]
    if few(shown):
        title.append((text("few selections: looks less even than it is", CAUTION),))
    verdict = verdict_line(Subject.BALANCE, shown, width)
    room = height - 1 - (height >= _SUM_FROM)
    lines = [verdict, *_LISTING.lines(rows, _COLUMNS, state, width=width, height=room, title=title)]
    if height < _SUM_FROM:
        return lines
    together = _Row(-1, _top_share(shown.overall), shown.overall_balance)
    line = "".join(
        piece.text for piece in Table(_COLUMNS, width - GUTTER).row(together) if isinstance(piece, Segment)
    )
    return [*lines, (text(" " + line, FAINT),)]


def _top_share(usage: Usage) -> float:
    return int(usage.counts.max()) / usage.selections if usage.selections else math.nan


VIEW = View(
    key="6",
    title="Balance",
    brief="Bal",
    render=render,
    gist="Entropy 1: all experts used alike. Unused beyond chance: dead. Uneven first.",
    reading=(
        "Entropy is that of the shares over the most it can be; effective experts are 2 to its power; "
        "Gini is 0 for equal use; MaxVio is how far the top expert exceeds the mean, over the mean; "
        "mean/max is what vLLM calls balancedness. Unused experts stand beside the number to expect if "
        "all were alike: only what exceeds it is dead. The last row, sum, adds up the layers by expert "
        "number, as the usual summary does: unrelated experts even each other out, so it says little of "
        f"any layer. A model is called even if the median layer is like {EVEN:.0%} of the "
        f"experts used alike, uneven below {UNEVEN:.0%}."
    ),
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
    phases=True,
)
