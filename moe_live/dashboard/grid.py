"""How the experts of a layer are laid out on the columns of a heatmap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.state import CellOf
from moe_live.dataclass import dataclass

WIDEST_CELL = 8
NUMBERED_CELL = 7
"""From this width on a cell shows its figure."""

_MARK_COLUMNS = 6
"""Columns from one number above the cells to the next, at least."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How places are laid out on columns: a place holds an expert, by its number or by its heat.

    Attributes:
        places: how many there are.
        group: places a cell.
        cell: columns a cell.
    """

    places: int
    group: int
    cell: int

    @classmethod
    def fitting(cls, places: int, width: int) -> Grid:
        """As many cells as fit into `width` columns, as wide as they can be: every place can be seen."""
        group = -(-places // width)
        return cls(places, group, max(1, min(WIDEST_CELL, width // -(-places // group))))

    @property
    def finest(self) -> bool:
        """Whether there is nothing closer."""
        return self.group == 1 and self.cell == WIDEST_CELL

    def closer(self) -> Grid:
        """Half as many places a cell, or cells twice as wide."""
        if self.group > 1:
            return Grid(self.places, -(-self.group // 2), self.cell)
        return Grid(self.places, 1, min(WIDEST_CELL, 2 * self.cell))

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return -(-self.places // self.group)

    @property
    def width(self) -> int:
        """Columns that all of them take."""
        return self.cells * self.cell

    def visible(self, width: int) -> int:
        """How many cells fit into so many columns."""
        return max(1, min(self.cells, width // self.cell))

    def places_of(self, cell: int) -> range:
        """The places that a cell stands for."""
        return range(cell * self.group, min(self.places, (cell + 1) * self.group))

    def of_cells(self, ratio: NDArray[np.float64], shown: CellOf) -> NDArray[np.float64]:
        """(layers, cells): what the cells show.

        Args:
            ratio: (layers, places) use relative to uniform use.
            shown: of the places of a cell.
        """
        if self.group == 1:
            return ratio
        starts = np.arange(0, self.places, self.group)
        if shown is CellOf.HOTTEST:
            hottest: NDArray[np.float64] = np.maximum.reduceat(ratio, starts, axis=1)
            return hottest
        sizes = np.diff(np.append(starts, self.places))
        mean: NDArray[np.float64] = np.add.reduceat(ratio, starts, axis=1) / sizes
        return mean

    def axis(self, cells: range, numbers: range) -> str:
        """What the places of these cells are called, above the first cell of each, as many as are legible.

        Args:
            cells: those that are seen.
            numbers: of all places.
        """
        row = [" "] * (len(cells) * self.cell)
        step = 1
        while step * self.cell < _MARK_COLUMNS * self.group:
            step *= 2
        free = 0
        for place in range(0, self.places, max(step, self.group)):
            column = (place // self.group - cells.start) * self.cell
            mark = str(numbers[place])
            if free <= column <= len(row) - len(mark):
                row[column : column + len(mark)] = mark
                free = column + len(mark) + 1
        return "".join(row)
