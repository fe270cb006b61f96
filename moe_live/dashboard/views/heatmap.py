"""Layers by experts: how often each expert is used, relative to uniform use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment

from moe_live.dashboard.canvas import NOWHERE, Line, Piece, Spot, fill, flow, text
from moe_live.dashboard.grid import NUMBERED_CELL, Grid
from moe_live.dashboard.heat import HeatRow, glyphs, legend, marked_half, shades
from moe_live.dashboard.plan import SORTS, Plan, experts_axis, layers_axis
from moe_live.dashboard.readout import readout, standing
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, SELECTED, STRONG, TITLE, Look
from moe_live.dashboard.view import View, absent, choosing_layer, excerpt, longest_excerpt, relative_use
from moe_live.dataclass import dataclass
from moe_live.formatting import percent, times
from moe_live.snapshot import Section, Snapshot
from moe_live.verdicts import FEW

_LABEL = 6
"""Columns left of the cells: the layer's number."""

_WIDE_TITLE = 41
_LEGEND_FROM = 9
"""With fewer lines than this the legend makes way for layers."""

_TALLEST_ROW = 3
"""Lines a layer takes at most, where there is room."""

_SIDE = 28
"""Columns right of the cells, if there is room: experts used, and the top one."""

_MARK = "▼"


@dataclass(frozen=True, slots=True)
class Mark:
    """The cell that the cursor stands on.

    Attributes:
        cell: its index among those that are seen.
        lower: whether it is in the lower half of its line, where halves are two rows.
    """

    cell: int
    lower: bool = False


def heatmap_width(experts: int, width: int) -> int:
    """Columns of at most `width` that the figure uses for its rows."""
    return _LABEL + Grid.fitting(experts, width - _LABEL).width


def heatmap(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The figure with its title, axis and legend, in at most `width` columns and `height` lines."""
    if not snapshot.layers:
        return absent(snapshot)
    plan, look, place = Plan.of(snapshot, state), state.look, state.place
    n_layers, experts = plan.counts.shape
    grid = _zoomed(Grid.fitting(experts, width - _LABEL), state)
    cursor_row, cursor_cell = plan.cursor[0], plan.cell(grid.group)
    cells = place.columns.around(grid.cells, grid.visible(width - _LABEL), plan.selection, cursor_cell)
    key = [legend(width, look.ramp, ascii_only=look.ascii_only)] if height >= _LEGEND_FROM else []
    notes = _notes(plan, grid, cells, state, width)
    # Title lines depend on what is visible and the other way round: count them with the longest excerpt.
    longest = text(longest_excerpt(n_layers, _what("layers", width)))
    room = max(1, height - len(_title(state, [longest, *notes], width)) - 1 - len(key))
    half = look.halves and n_layers > room and grid.cell < NUMBERED_CELL
    rows = place.rows.around(n_layers, room * 2 if half else room, plan.selection, cursor_row)
    if shown := excerpt(rows, n_layers, _what("layers", width)):
        notes.insert(0, text(shown, STRONG))
    side = width - _LABEL - grid.width >= _SIDE and not half
    mark_column = (cursor_cell - cells.start) * grid.cell if cursor_cell in cells else None
    lines = [*_title(state, notes, width), _axis(grid, cells, plan.numbers, mark_column, side=side)]
    shown_cells = slice(cells.start, cells.stop)
    ratios = grid.of_cells(relative_use(plan.placed(rows)), state.cell_of)[:, shown_cells]
    found = shades(ratios)
    tall = max(1, min(_TALLEST_ROW, room // n_layers))
    for i in range(0, len(rows), 2 if half else 1):
        stop = min(len(rows), i + (2 if half else 1))
        here = cursor_row - rows.start
        chosen = i <= here < stop
        mark = None
        if mark_column is not None and chosen:
            mark = Mark(cursor_cell - cells.start, lower=here > i)
        label = text(f"{plan.layers[rows[here if chosen else i]]:>5} ", SELECTED if chosen else FAINT)
        line = (
            choosing_layer(plan.selection, plan.layers[rows[i]]),
            label,
            _picking(plan, rows[here] if mark else rows[i], grid, cells),
            *cells_of(ratios[i], found[i:stop], grid, look, mark),
            NOWHERE,
        )
        lines.append((*line, text(_side(plan.counts[rows[i]]), FAINT)) if side else line)
        if tall > 1:
            blank = cells_of(None, found[i : i + 1], grid, look)
            lines += [(line[0], text(" " * _LABEL), line[2], *blank, NOWHERE)] * (tall - 1)
    return [*lines, *key]


def _zoomed(grid: Grid, state: ViewState) -> Grid:
    """As close as was asked for; what was asked for beyond the closest is forgotten."""
    place = state.place
    for closer in range(place.zoom):
        if grid.finest:
            place.zoom = closer
            break
        grid = grid.closer()
    place.group = grid.group
    return grid


def _picking(plan: Plan, row: int, grid: Grid, cells: range) -> Spot:
    """A click on a cell of a row chooses its expert."""

    def choice(column: int) -> Selection:
        return plan.choice(row, min(cells.stop - 1, cells.start + column // grid.cell), grid.group)

    return Spot(choice)


def _what(rows: str, width: int) -> str:
    """What an excerpt is of; where there is little room, the labels beside the rows tell it."""
    return rows if width >= _WIDE_TITLE else ""


def _notes(plan: Plan, grid: Grid, cells: range, state: ViewState, width: int) -> list[Segment]:
    """What is to be said of the cells."""
    notes = []
    if len(cells) < grid.cells:
        seen = range(grid.places_of(cells.start).start, grid.places_of(cells.stop - 1).stop)
        arrows = ("←" if cells.start else "") + ("→" if cells.stop < grid.cells else "")
        what = "ranks" if plan.by_heat else _what("experts", width)
        first, last = sorted((plan.numbers[seen.start], plan.numbers[seen.stop - 1]))
        notes.append(text(f"{what} {first}–{last} of {grid.places} {arrows}".strip(), STRONG))
    elif plan.by_heat:
        notes.append(text("hottest at the right" if plan.reverse else "hottest at the left", STRONG))
    if grid.group > 1:
        notes.append(text(f"cell: {state.cell_of.value} of {grid.group}", FAINT))
    if warning := _warning(plan.counts, state):
        notes.append(text(warning, CAUTION))
    return notes


def _warning(counts: NDArray[np.int64], state: ViewState) -> str:
    if not counts.any():
        return f"nothing selected in {state.phase.value} steps so far"
    few = counts.sum(axis=1).max() < FEW * counts.shape[1]
    return "few selections: cells are noisy" if few else ""


def _title(state: ViewState, notes: list[Segment], width: int) -> list[Line]:
    title = f"Experts · {state.phase.value} steps"
    separator = "   " if width >= _WIDE_TITLE else "  "
    return flow([(text(title, TITLE),), *[(note,) for note in notes]], width, separator)


def _axis(grid: Grid, cells: range, numbers: range, mark: int | None, *, side: bool) -> Line:
    """What the columns are, and a mark above the one the cursor is in."""
    axis = "layer " + grid.axis(cells, numbers)
    end = text("   used     top expert" if side else "", FAINT)
    if mark is None:
        return (text(axis, FAINT), end)
    column = _LABEL + mark
    return (text(axis[:column], FAINT), text(_MARK, STRONG), text(axis[column + 1 :], FAINT), end)


def cells_of(
    ratio: NDArray[np.float64] | None,
    found: NDArray[np.uint8],
    grid: Grid,
    look: Look,
    mark: Mark | None = None,
) -> list[Piece]:
    """One line of cells, with one row of shades or two as upper and lower halves.

    Args:
        ratio: figures of the upper row, shown where cells are wide enough; None for none.
        found: (1 or 2, cells) shades.
        grid: how they are laid out.
        look: how shades are shown; glyphs show the upper row only.
        mark: the cell with the cursor, None for none of this line.
    """
    if grid.cell >= NUMBERED_CELL and ratio is not None:
        return _figures(ratio, found[0], grid, look, mark)
    wide = np.repeat(found, grid.cell, axis=1)
    if mark is None:
        return [_run(wide, look)]
    begin, end = mark.cell * grid.cell, (mark.cell + 1) * grid.cell
    return [
        _run(wide[:, :begin], look),
        _marked(found[:, mark.cell], grid, look, mark),
        _run(wide[:, end:], look),
    ]


def _run(found: NDArray[np.uint8], look: Look) -> Piece:
    """Columns without the cursor."""
    if look.ramp is None:
        return text(glyphs(found[0], ascii_only=look.ascii_only))
    return HeatRow.of(found[0], found[-1], look.ramp)


def _marked(found: NDArray[np.uint8], grid: Grid, look: Look, mark: Mark) -> Segment:
    """The cell with the cursor: (1 or 2,) shades."""
    if look.ramp is None:
        return text(glyphs(found[:1], ascii_only=look.ascii_only) * grid.cell, SELECTED)
    if len(found) == 2:
        half = marked_half(look.ramp, int(found[0 if mark.lower else 1]), upper=not mark.lower)
        return text(half.text * grid.cell, half.style)
    sign = "◆" if grid.cell == 1 else "[" + " " * (grid.cell - 2) + "]"
    return text(sign, look.ramp.text_on(int(found[0])))


def _figures(
    ratio: NDArray[np.float64], found: NDArray[np.uint8], grid: Grid, look: Look, mark: Mark | None
) -> list[Piece]:
    """Cells that are wide enough to hold their figure."""
    pieces: list[Piece] = []
    for i, (value, shade) in enumerate(zip(ratio.tolist(), found.tolist(), strict=True)):
        figure = times(value).center(grid.cell - 2)
        chosen = mark is not None and mark.cell == i
        if look.ramp is None:
            glyph = glyphs(found[i : i + 1], ascii_only=look.ascii_only)
            pieces.append(text(f"{glyph}{figure} ", SELECTED if chosen else None))
        else:
            pieces.append(text(f"[{figure}]" if chosen else f" {figure} ", look.ramp.text_on(shade)))
    return pieces


def _side(counts: NDArray[np.int64]) -> str:
    total = int(counts.sum())
    if not total:
        return "   0"
    top = int(counts.argmax())
    share = int(counts[top]) / total
    used = np.count_nonzero(counts)
    return f"  {used:>5}   {'#' + str(top):>5} {percent(share):>5} {times(share * len(counts)):>5}"


def cursor_line(snapshot: Snapshot, state: ViewState, width: int, of: str = "") -> Line:
    """What is known of the expert that the cursor stands on, with the steps it is `of` if need be."""
    row, expert = Plan.of(snapshot, state).cursor
    found = standing(snapshot, snapshot.layers[row], expert, state.phase)
    return readout(found, width, hottest=state.selection.layer is None, of=of)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The figure, and below it what the cursor stands on."""
    if not snapshot.layers:
        return absent(snapshot)
    figure = fill(heatmap(snapshot, state, width, height - 1), height - 1)
    return [*figure, cursor_line(snapshot, state, width)]


VIEW = View(
    key="2",
    title="Heatmap",
    brief="Heat",
    render=render,
    gist="Rows are layers, columns experts: the stronger the colour, the hotter. z: closer",
    reading=(
        "The shade tells how often the router chose the expert, relative to uniform use: at 1× an expert "
        "gets its fair share of the layer's selections, at 8× eight times that; what is blank was never "
        "chosen. Where a cell stands for several experts it shows the hottest of them, or with c their "
        "mean, and the title says which. z looks closer, until each expert has a cell and each cell its "
        "figure; the arrows, < and > move on. s puts the experts of each layer in the order of their "
        "use: columns then are ranks, and a row is the shape of the layer's load. The last line tells of "
        "the expert under the cursor. Expert 5 of one layer has nothing to do with expert 5 of another."
    ),
    sections=frozenset({Section.LOCALITY}),
    rows=layers_axis,
    columns=experts_axis,
    opens=True,
    zooms=True,
    sorts=SORTS,
    phases=True,
)
