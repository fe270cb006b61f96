"""Layers by experts: how often each expert is used, relative to uniform use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment

from moe_live.dashboard.canvas import Line, flow, text
from moe_live.dashboard.heat import Cells, glyphs, legend, shade_style, shades
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, absent, excerpt, layer_counts, longest_excerpt, relative_use
from moe_live.formatting import percent, times
from moe_live.snapshot import Snapshot
from moe_live.verdicts import FEW

_LABEL = 6
"""Columns left of the cells: the layer's number."""

_WIDEST_CELL = 8
_NUMBERED_CELL = 7
"""From this width on a cell shows its figure."""

_WIDE_TITLE = 41
_LEGEND_FROM = 9
"""With fewer lines than this the legend makes way for layers."""

_TALLEST_ROW = 3
"""Lines a layer takes at most, where there is room."""

_SIDE = 28
"""Columns right of the cells, if there is room: experts used, and the top one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How experts are laid out on columns.

    Attributes:
        experts: how many there are.
        group: experts a cell.
        cell: columns a cell.
    """

    experts: int
    group: int
    cell: int

    @classmethod
    def fitting(cls, experts: int, width: int) -> Grid:
        """As many cells as fit into `width` columns, as wide as they can be."""
        group = -(-experts // width)
        cells = -(-experts // group)
        return cls(experts, group, max(1, min(_WIDEST_CELL, width // cells)))

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return -(-self.experts // self.group)

    @property
    def width(self) -> int:
        """Columns they take."""
        return self.cells * self.cell

    def ratios(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """(layers, cells): the mean use of a cell's experts, relative to uniform use.

        Args:
            counts: (layers, experts) int64.
        """
        ratio = relative_use(counts)
        if self.group == 1:
            return ratio
        starts = np.arange(0, self.experts, self.group)
        sizes = np.diff(np.append(starts, self.experts))
        grouped: NDArray[np.float64] = np.add.reduceat(ratio, starts, axis=1) / sizes
        return grouped

    def axis(self) -> str:
        """Expert numbers above their cells, as many as are legible."""
        row = [" "] * self.width
        free = 0
        step = next(
            step
            for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
            if step * self.cell >= 6 * self.group
        )
        for expert in range(0, self.experts, max(step, self.group)):
            column = expert // self.group * self.cell
            mark = str(expert)
            if column >= free and column + len(mark) <= self.width:
                row[column : column + len(mark)] = mark
                free = column + len(mark) + 1
        return "".join(row)


def heatmap_width(experts: int, width: int) -> int:
    """Columns of at most `width` that the figure uses for its rows."""
    return _LABEL + Grid.fitting(experts, width - _LABEL).width


def heatmap(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The figure with its title, axis and legend, in at most `width` columns and `height` lines."""
    if not snapshot.layers:
        return absent(snapshot)
    counts = layer_counts(snapshot, state.phase)
    layers = [entry.layer for entry in snapshot.layers]
    grid = Grid.fitting(counts.shape[1], width - _LABEL)
    key = [legend(width, colour=state.colour)] if height >= _LEGEND_FROM else []
    notes = [text(f"one cell = {grid.group} experts", FAINT)] if grid.group > 1 else []
    if warning := _warning(counts, state):
        notes.append(text(warning, CAUTION))
    # Title lines depend on what is visible and the other way round: count them with the longest excerpt.
    longest = text(longest_excerpt(len(layers), "layers"))
    room = max(1, height - len(_title(state, [longest, *notes], width)) - 1 - len(key))
    half = state.colour and len(layers) > room and grid.cell < _NUMBERED_CELL
    if half:
        notes.insert(0, text("two layers a row", FAINT))
        room = max(1, height - len(_title(state, [longest, *notes], width)) - 1 - len(key))
    rows = state.window(len(layers), room * 2 if half else room)
    if shown := excerpt(rows, len(layers), "layers"):
        notes.insert(0, text(shown, STRONG))
    side = width - _LABEL - grid.width >= _SIDE and not half
    axis = "layer " + grid.axis() + ("   used     top expert" if side else "")
    lines = [*_title(state, notes, width), (text(axis, FAINT),)]
    ratios = grid.ratios(counts[rows.start : rows.stop])
    found = shades(ratios)
    tall = max(1, min(_TALLEST_ROW, room // len(layers)))
    for i in range(0, len(rows), 2 if half else 1):
        label = text(f"{layers[rows[i]]:>5} ", FAINT)
        cells = cells_of(ratios[i], found[i : i + (2 if half else 1)], grid, colour=state.colour)
        end = (text(_side(counts[rows[i]]), FAINT),) if side else ()
        lines.append((label, *cells, *end))
        if tall > 1:
            blank = cells_of(None, found[i : i + 1], grid, colour=state.colour)
            lines += [(text(" " * _LABEL), *blank)] * (tall - 1)
    return [*lines, *key]


def _warning(counts: NDArray[np.int64], state: ViewState) -> str:
    if not counts.any():
        return f"nothing selected in {state.phase.value} steps so far"
    few = counts.sum(axis=1).max() < FEW * counts.shape[1]
    return "few selections: cells are noisy" if few else ""


def _title(state: ViewState, notes: list[Segment], width: int) -> list[Line]:
    subject = "Use of experts, × uniform" if width >= _WIDE_TITLE else "Experts"
    title = f"{subject} · {state.phase.value} steps"
    return flow([(text(title, TITLE),), *[(note,) for note in notes]], width)


def cells_of(
    ratio: NDArray[np.float64] | None, found: NDArray[np.uint8], grid: Grid, *, colour: bool
) -> list[Cells | Segment]:
    """One line of cells, with one row of shades or two as upper and lower halves.

    Args:
        ratio: figures of the upper row, shown where cells are wide enough; None for none.
        found: (1 or 2, cells) shades.
        grid: how they are laid out.
        colour: whether shades are colours; glyphs otherwise, which show the upper row only.
    """
    if grid.cell >= _NUMBERED_CELL and ratio is not None:
        figures = [times(value).center(grid.cell - 2) for value in ratio.tolist()]
        if not colour:
            return [text(" ".join(a + b for a, b in zip(glyphs(found[0]), figures, strict=True)))]
        return [
            text(f" {figure} ", shade_style(shade))
            for figure, shade in zip(figures, found[0].tolist(), strict=True)
        ]
    wide = np.repeat(found, grid.cell, axis=1)
    if not colour:
        return [text(glyphs(wide[0]))]
    upper = wide[0].tobytes()
    if len(wide) == 2:
        return [Cells(upper, wide[1].tobytes())]
    return [Cells(upper, upper)]


def _side(counts: NDArray[np.int64]) -> str:
    total = int(counts.sum())
    if not total:
        return "   0"
    top = int(counts.argmax())
    share = int(counts[top]) / total
    used = np.count_nonzero(counts)
    return f"  {used:>5}   {'#' + str(top):>5} {percent(share):>5} {times(share * len(counts)):>5}"


VIEW = View(
    key="2",
    title="Heatmap",
    render=heatmap,
    gist="Rows are layers, columns experts: bright ones are hot, dark ones hardly used.",
    reading=(
        "A column may stand for several experts, then it says so. The shade tells how often the router "
        "chose the expert, relative to uniform use: at 1× an expert gets its fair share of the layer's "
        "selections, at 8× eight times that. Expert 5 of one layer has nothing to do with expert 5 of "
        "another."
    ),
    scroll="scroll",
    phases=True,
)
