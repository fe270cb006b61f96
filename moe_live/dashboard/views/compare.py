"""This run beside another: is it still the same model?"""

from __future__ import annotations

import math
from collections.abc import Callable

from moe_live.dashboard.canvas import Column, Line, flow, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import FAINT, STRONG, TITLE
from moe_live.dashboard.view import View
from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.formatting import fraction, percents
from moe_live.snapshot import Compared, Snapshot
from moe_live.statistics.comparison import FIGURES
from moe_live.wrapping import shorten, wrap

_HOW = (
    "Nothing to compare here. moe-live compare A B --browse shows two logs beside each other; "
    "view Labels (L) compares types of prompts."
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer: what its rows have in common, and its usage; NaN where that is not known.

    Attributes:
        rows: pairs of rows.
        experts: in common, of a row on average.
        width: experts a row.
        top: share of the pairs whose best experts are one.
        same: share of the pairs that choose the same experts.
        first: the first step that differs, from 1; NaN for none.
        common: share of the selections in common.
        hot: share of the hot set that is hot on both sides.
        js: divergence in bits.
        between: of a half of each side.
        within: of the two halves of each side.
    """

    layer: int
    rows: int
    experts: float
    width: float
    top: float
    same: float
    first: float
    common: float
    hot: float
    js: float
    between: float
    within: tuple[float, float]


def _bits(title: str, figure: Callable[[_Row], float], optional: int = 0) -> Column[_Row]:
    return Column(title, max(8, len(title)), lambda row: fraction(figure(row), 4), optional=optional)


def _differs(row: _Row) -> str:
    if not row.rows:
        return "–"
    return "never" if math.isnan(row.first) else f"step {row.first:.0f}"


_LEAST_ROWS = 8
"""Figures of all layers make way for these."""

_LAYER: Column[_Row] = Column("layer", 5, lambda row: str(row.layer))
_OF_ROWS: tuple[Column[_Row], ...] = (
    _LAYER,
    Column("rows", 7, lambda row: str(row.rows), optional=2),
    Column("in common", 10, lambda row: f"{fraction(row.experts)} of {row.width:g}" if row.rows else "–"),
    Column("top-1 equal", 11, lambda row: percents(row.top)),
    Column("all equal", 9, lambda row: percents(row.same)),
    Column("differs at", 10, _differs),
    Column("usage", 6, lambda row: percents(row.common), optional=1),
)
_OF_USAGE: tuple[Column[_Row], ...] = (
    _LAYER,
    Column("in common", 9, lambda row: percents(row.common)),
    Column("hot in both", 11, lambda row: percents(row.hot)),
    _bits("divergence", lambda row: row.js),
    _bits("between halves", lambda row: row.between),
    _bits("within A", lambda row: row.within[0], 1),
    _bits("within B", lambda row: row.within[1], 1),
)

_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("layer", lambda row: row.layer, ascending=True),
        Order(
            "in common", lambda row: row.common if math.isnan(row.experts) else row.experts, ascending=True
        ),
    ),
)


def _rows(found: Compared | None) -> list[_Row]:
    return [] if found is None else [_row(found, place) for place in range(len(found.layers))]


def _row(found: Compared, place: int) -> _Row:
    """That of one of the layers, by its place among them."""
    layer, usage, agreed = found.layers[place], found.usage, found.rows
    pairs = 0 if agreed is None or not found.same_text else int(agreed.rows[layer])
    experts = width = top = same = first = math.nan
    if agreed is not None and pairs:
        experts, width, top, same = (
            float(each[layer]) / pairs for each in (agreed.common, agreed.width, agreed.top, agreed.same)
        )
        step = agreed.first_step(layer)
        first = math.nan if step is None else float(step + 1)
    return _Row(
        layer=layer,
        rows=pairs,
        experts=experts,
        width=width,
        top=top,
        same=same,
        first=first,
        common=float(usage.common[place]),
        hot=float(usage.hot[place]),
        js=float(usage.js[place]),
        between=float(usage.between[place]),
        within=(float(usage.within[0, place]), float(usage.within[1, place])),
    )


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot.compared), state)


def _figures(found: Compared) -> list[Line]:
    """What stands side by side."""
    a, b = found.figures
    return [
        (text(f"{what} ", FAINT), text(f"{fraction(a[name], 3)} {fraction(b[name], 3)}"))
        for name, what in FIGURES.items()
        if name in a and name in b
    ]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The result in a sentence, what the sides are, and a row a layer."""
    found = snapshot.compared
    if found is None:
        return [(text(part),) for part in wrap(_HOW, width, 4)]
    head: list[Line] = [(text(part, STRONG),) for part in wrap(found.conclusion, width, 2)]
    head += flow(
        [
            (text(f"{side} ", TITLE), text(shorten(printable(name), width - 2)))
            for side, name in zip("AB", found.names, strict=True)
        ],
        width,
    )
    rows = _rows(found)
    columns = _OF_ROWS if found.same_text else _OF_USAGE
    title: list[Line] = [(text("A and B", TITLE),), *_figures(found)]
    room = height - len(head)
    if room < len(flow(title, width)) + _LEAST_ROWS:
        title = []
    return [*head, *_LISTING.lines(rows, columns, state, width=width, height=room, title=title)][:height]


VIEW = View(
    key="A",
    title="A and B",
    brief="A",
    render=render,
    gist="Is it still the same model? Two runs beside each other: moe-live compare.",
    reading=(
        "Two logs of one text row by row: experts in common of a row, how often the best one is the same, "
        "how often all are, the first step that differs. Other texts, and labels: selections in common, the "
        "hot eighth of the experts, divergence in bits beside that of a half of each side and of the two "
        "halves of each: what differs by no more than these may be the text, not the model. Figures of A "
        "stand before those of B. moe-live compare A B --browse shows it here, and all other views are of A; "
        "--json FILE has all of it, --fail-below SHARE is for scripts."
    ),
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
)
