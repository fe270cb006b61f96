"""Where the experts of each layer stand in a heatmap, and on which of them the cursor is."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.selection import NO_AXIS, Axis, Selection
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.view import layer_counts, layer_index, uniform_use
from moe_live.dataclass import dataclass
from moe_live.snapshot import Snapshot

SORTS = ("by number", "by heat")


@dataclass(frozen=True)
class Plan:
    """Which expert of a layer stands at which place: at its number, or at its rank by use.

    Attributes:
        counts: (layers, experts) int64 selections, by expert number.
        layers: the numbers of the layers.
        by_heat: whether experts stand in the order of their use, the most used first.
        reverse: whether the order is turned around.
        selection: what is chosen.
        row: index of the layer that is chosen, 0 if none is.
    """

    counts: NDArray[np.int64]
    layers: tuple[int, ...]
    by_heat: bool
    reverse: bool
    selection: Selection
    row: int

    @classmethod
    def of(cls, snapshot: Snapshot, state: ViewState) -> Plan:
        """That of the present view; there are layers."""
        place = state.place
        return cls(
            layer_counts(snapshot, state.phase),
            tuple(entry.layer for entry in snapshot.layers),
            SORTS[place.sort] == "by heat",
            place.reverse,
            state.selection,
            layer_index(snapshot, state.selection),
        )

    @property
    def numbers(self) -> range:
        """What the places are called: by the numbers of the experts, or by rank from 1 on."""
        n, first = self.counts.shape[1], int(self.by_heat)
        return range(first + n - 1, first - 1, -1) if self.reverse else range(first, first + n)

    def experts(self, row: int) -> NDArray[np.intp]:
        """(experts,) the expert at each place of a layer."""
        counts = self.counts[row]
        order = np.argsort(-counts, kind="stable") if self.by_heat else np.arange(len(counts))
        return order[::-1] if self.reverse else order

    def placed(self, rows: range) -> NDArray[np.int64]:
        """(rows, experts) int64, the selections of the expert at each place of these layers."""
        counts = self.counts[rows.start : rows.stop]
        if self.by_heat:
            counts = -np.sort(-counts, axis=1)
        return counts[:, ::-1] if self.reverse else counts

    @cached_property
    def cursor(self) -> tuple[int, int]:
        """Index of a layer and number of an expert: those chosen, else the hottest of the layer, or all."""
        row, expert = self.row, self.selection.expert
        if self.selection.layer is None:
            row = int(np.argmax(self.counts.max(axis=1, keepdims=True) / uniform_use(self.counts)))
        if expert is None or expert >= self.counts.shape[1]:
            expert = int(np.argmax(self.counts[row]))
        return row, expert

    def cell(self, group: int) -> int:
        """The cell, of so many places each, that the cursor is in."""
        row, expert = self.cursor
        return int(np.flatnonzero(self.experts(row) == expert)[0]) // group

    def choice(self, row: int, cell: int, group: int) -> Selection:
        """The most used of the experts in a cell of so many places."""
        experts = self.experts(row)[cell * group : (cell + 1) * group]
        expert = int(experts[np.argmax(self.counts[row, experts])])
        return replace(self.selection, layer=self.layers[row], expert=expert, partner=None)


def layers_axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """Up and down: the cell in the other layers."""
    if not snapshot.layers:
        return NO_AXIS
    plan, group = Plan.of(snapshot, state), state.place.group
    cell = plan.cell(group)
    return Axis(len(plan.layers), plan.cursor[0], lambda row: plan.choice(row, cell, group))


def experts_axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """Left and right: the other cells of the layer."""
    if not snapshot.layers:
        return NO_AXIS
    plan, group = Plan.of(snapshot, state), state.place.group
    cells = -(-plan.counts.shape[1] // group)
    return Axis(cells, plan.cell(group), lambda cell: plan.choice(plan.cursor[0], cell, group))
