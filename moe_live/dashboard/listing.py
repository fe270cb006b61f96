"""A table of rows in an order to choose, its visible part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from moe_live.dashboard.canvas import Column, Line, Row, Table, flow, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, STRONG
from moe_live.dashboard.view import excerpt, longest_excerpt


@dataclass(frozen=True, slots=True)
class Order(Generic[Row]):
    """An order of rows.

    Attributes:
        title: its name: the title of the column that shows the figure.
        figure: what rows are ordered by; those where it is NaN come last.
        ascending: smallest first; otherwise largest first.
    """

    title: str
    figure: Callable[[Row], float]
    ascending: bool = False

    def sort(self, rows: Sequence[Row], *, reverse: bool) -> list[Row]:
        """The rows in this order or, but for undefined figures, turned around."""
        known = [row for row in rows if not math.isnan(self.figure(row))]
        unknown = [row for row in rows if math.isnan(self.figure(row))]
        return sorted(known, key=self.figure, reverse=self.ascending == reverse) + unknown


def titles(orders: Sequence[Order[Row]]) -> tuple[str, ...]:
    """What a view's `sorts` are for these orders."""
    return tuple(order.title for order in orders)


def listing(
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    orders: Sequence[Order[Row]],
    state: ViewState,
    *,
    width: int,
    height: int,
    title: Sequence[Line] = (),
    pinned: Sequence[Row] = (),
) -> list[Line]:
    """The rows in the order chosen.

    Args:
        rows: the rows.
        columns: what is shown of them; those that do not fit are named.
        orders: as the view's `sorts`.
        state: where the view stands.
        width: columns of the terminal.
        height: lines.
        title: pieces of the title.
        pinned: rows always shown, above the others.
    """
    table = Table(columns, width)
    pieces = list(title)
    if table.narrow:
        pieces.append((text(table.narrow, CAUTION),))
    longest: Line = (text(longest_excerpt(len(rows), "rows")),)
    taken = len(flow([*pieces[:1], longest, *pieces[1:]], width)) + 1 + len(pinned)
    visible = state.window(len(rows), height - taken)
    if shown := excerpt(visible, len(rows), "rows"):
        pieces.insert(1, (text(shown, STRONG),))
    order = orders[state.place.sort]
    ascending = order.ascending != state.place.reverse
    ordered = order.sort(rows, reverse=state.place.reverse)
    return [
        *flow(pieces, width),
        table.header(order.title, arrow="▲" if ascending else "▼"),
        *[table.row(row) for row in (*pinned, *ordered[visible.start : visible.stop])],
    ]
