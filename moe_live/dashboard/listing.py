"""A table of layers in an order to choose, its visible part, with the chosen row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic

from moe_live.dashboard.canvas import Column, Line, Row, Table, choosing, flow, highlighted, text
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import Place, ViewState
from moe_live.dashboard.theme import CAUTION, STRONG
from moe_live.dashboard.view import excerpt, longest_excerpt, of_layer
from moe_live.dataclass import dataclass

MARKER = "▶"
GUTTER = 1
"""Columns left of a table: the marker of the chosen row."""


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


def marked(line: Line, width: int, *, chosen: bool) -> Line:
    """A line of a table behind its gutter."""
    return highlighted((text(MARKER), *line), width) if chosen else (text(" "), *line)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """How rows become a table.

    Attributes:
        layer: the layer that a row is about, which is chosen with it.
        orders: to choose from.
    """

    layer: Callable[[Row], int]
    orders: tuple[Order[Row], ...]

    @property
    def sorts(self) -> tuple[str, ...]:
        """What a view's `sorts` are."""
        return tuple(order.title for order in self.orders)

    def ordered(self, rows: Sequence[Row], place: Place) -> list[Row]:
        """The rows in the order that is chosen there."""
        return self.orders[place.sort].sort(rows, reverse=place.reverse)

    def axis(self, rows: Sequence[Row], state: ViewState) -> Axis:
        """What the arrows move over: the rows in their order. The first is chosen as long as none is."""
        numbers = [self.layer(row) for row in self.ordered(rows, state.place)]
        layer = state.selection.layer
        at = (
            0 if layer is None else min(range(len(numbers)), key=lambda i: abs(numbers[i] - layer), default=0)
        )
        return Axis(len(numbers), at, lambda i: of_layer(state.selection, numbers[i]))

    def lines(
        self,
        rows: Sequence[Row],
        columns: Sequence[Column[Row]],
        state: ViewState,
        *,
        width: int,
        height: int,
        title: Sequence[Line] = (),
    ) -> list[Line]:
        """The title, headings, and the rows that are visible.

        Args:
            rows: all of them, in any order.
            columns: what is shown of them; those that do not fit are named.
            state: where the view stands.
            width: columns of the terminal.
            height: lines.
            title: pieces of the title.
        """
        table = Table(columns, width - GUTTER)
        pieces = list(title)
        if table.narrow:
            pieces.append((text(table.narrow, CAUTION),))
        longest: Line = (text(longest_excerpt(len(rows), "rows")),)
        # A row has to be seen; what matters most stands first.
        while (taken := 1 + len(flow([*pieces[:1], longest, *pieces[1:]], width))) >= height:
            if len(pieces) < 2:
                break
            pieces.pop()
        axis = self.axis(rows, state)
        window = state.place.rows
        visible = window.around(len(rows), height - taken, state.selection, axis.at)
        if shown := excerpt(visible, len(rows), "rows"):
            pieces.insert(1, (text(shown, STRONG),))
        order = self.orders[state.place.sort]
        arrow = "▲" if order.ascending != state.place.reverse else "▼"
        ordered = self.ordered(rows, state.place)
        return [
            *flow(pieces, width),
            (text(" "), *table.header(order.title, arrow=arrow)),
            *[
                (
                    choosing(axis.choice(i)),
                    *marked(table.row(ordered[i]), min(width, table.width + GUTTER), chosen=i == axis.at),
                )
                for i in visible
            ],
        ]
