"""Gate mass: what experts are weighted with, and how the weights of a row fall off."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.records import Records
from moe_live.settings import MAX_TOP_K
from moe_live.statistics.planes import Slots
from moe_live.statistics.tables import grown

_UNIT = float(1 << 30)
"""Weights are added up as whole numbers of 2**-30, so that sums do not depend on their order."""

_MOST = 64.0
"""Rows with a weight beyond this, or none at all (NaN), are left out."""


_ROWS = 1 << 16  # that are added at a time: sums of their weights are whole numbers below 2**53


@dataclass(frozen=True, slots=True, eq=False)
class LayerGateMass:
    """The weights of one layer's rows, prompts included.

    Attributes:
        layer: its number.
        rows: how many rows have weights.
        undefined: rows whose weights are no numbers, or no weights a router gives; left out.
        mass: (n_experts,) float64, each expert's share of the sum of all weights.
        by_rank: (k,) float64, mean weight of the first, second, ... expert of a row.
        top1_share: share of the sum of all weights that the first experts have.
        margin: mean of the first weight less the second; NaN if rows have one expert.
    """

    layer: int
    rows: int
    undefined: int
    mass: NDArray[np.float64]
    by_rank: NDArray[np.float64]
    top1_share: float
    margin: float


class GateMass:
    """Sums of weights by layer and expert, and by layer and rank.

    Memory: 8 bytes a layer and expert, and 4 KB a layer.
    """

    def __init__(self) -> None:
        self._slots = Slots()
        self._mass = np.zeros((0, 0), np.int64)
        self._by_rank = np.zeros((2, 0, MAX_TOP_K), np.int64)  # sums, and how many rows have so many experts
        self._undefined = np.zeros(0, np.int64)
        self._warming = False
        self._layer_before = -1

    def update(self, records: Records) -> None:
        """Add those of the rows of some lines, which follow those before, that come with weights."""
        weights = records.weights
        counts = ~self._warmup(records)[weights.row]
        if not counts.all():
            weights = weights.select(counts)
        if not len(weights):
            return
        widths = records.experts.widths()
        for table in records.experts.tables:
            k = table.shape[1]
            is_mine = weights.width == k
            if is_mine.any():
                mine = weights.select(is_mine)
                place = (np.cumsum(widths == k) - 1)[mine.row]
                self.add(records.layer[mine.row], table[place], mine.values.reshape(-1, k))

    def add(
        self, layer: NDArray[np.uint16], experts: NDArray[np.integer], weights: NDArray[np.float64]
    ) -> None:
        """Add rows.

        Args:
            layer: (n,) of each row.
            experts: (n, k) best first.
            weights: (n, k) of these experts.
        """
        for start in range(0, len(layer), _ROWS):
            some = slice(start, start + _ROWS)
            self._add(layer[some], experts[some], weights[some])

    def _add(
        self, layer: NDArray[np.uint16], experts: NDArray[np.integer], weights: NDArray[np.float64]
    ) -> None:
        k = experts.shape[1]
        slot = self._slots.of(layer)
        self._reserve(len(self._slots), int(experts.max(initial=0)) + 1)
        good = (np.abs(weights) <= _MOST).all(axis=1)
        layers, n_experts = self._mass.shape
        self._undefined += np.bincount(slot[~good], minlength=layers)
        slot, experts = slot[good], experts[good].astype(np.int64)
        units = np.rint(weights[good] * _UNIT)
        place = (slot[:, None] * n_experts + experts).ravel()
        self._mass += _sums(place, units.ravel(), self._mass.size).reshape(layers, n_experts)
        rank = (slot[:, None] * MAX_TOP_K + np.arange(k)).ravel()
        self._by_rank[0] += _sums(rank, units.ravel(), layers * MAX_TOP_K).reshape(layers, -1)
        self._by_rank[1] += np.bincount(rank, minlength=layers * MAX_TOP_K).reshape(layers, -1)

    def __iadd__(self, other: GateMass) -> Self:
        """Add the rows of another log."""
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        layers, n_experts = other._mass.shape
        self._reserve(len(self._slots), n_experts)
        self._mass[slots[:layers], :n_experts] += other._mass
        self._by_rank[:, slots[:layers]] += other._by_rank
        self._undefined[slots[:layers]] += other._undefined
        return self

    def interrupt(self) -> None:
        """What follows does not continue the step that came last."""
        self._warming = False
        self._layer_before = -1

    def summary(self, n_experts: int) -> tuple[LayerGateMass, ...]:
        """The figures of the layers with weights, ascending.

        Args:
            n_experts: experts of a layer, at least the highest id plus one.
        """
        found = []
        for slot in np.argsort(self._slots.layers, kind="stable").tolist():
            sums, rows = self._by_rank[:, slot]
            k = int(np.count_nonzero(rows))
            if not k:
                continue
            total = int(sums.sum())
            mass = np.zeros(n_experts)
            known = self._mass[slot, :n_experts]
            mass[: len(known)] = known
            mass /= total or np.nan
            found.append(
                LayerGateMass(
                    layer=self._slots.layers[slot],
                    rows=int(rows[0]),
                    undefined=int(self._undefined[slot]),
                    mass=mass,
                    by_rank=sums[:k] / rows[:k] / _UNIT,
                    top1_share=int(sums[0]) / total if total else np.nan,
                    margin=self._margin(slot),
                )
            )
        return tuple(found)

    def _margin(self, slot: int) -> float:
        """Mean of w_1 - w_2 over the rows that have both."""
        sums, rows = self._by_rank[:, slot, :2].tolist()
        # Rows of one expert would count in the first sum alone.
        return (sums[0] - sums[1]) / rows[0] / _UNIT if rows[0] == rows[1] else np.nan

    def _reserve(self, n_layers: int, n_experts: int) -> None:
        layers, experts = self._mass.shape
        if n_layers <= layers and n_experts <= experts:
            return
        layers, experts = max(layers, n_layers), max(experts, n_experts)
        self._mass = grown(self._mass, (layers, experts))
        self._by_rank = grown(self._by_rank, (2, layers, MAX_TOP_K))
        self._undefined = grown(self._undefined, (layers,))

    def _warmup(self, records: Records) -> NDArray[np.bool_]:
        """(n,) Which expert rows belong to a step that only warms the server up."""
        layer, marks, gates = records.layer, records.marks, records.gates
        n = len(layer)
        before = np.concatenate(([self._layer_before], layer[:-1].astype(np.int64)))[:n]
        begins = np.flatnonzero(layer < before)
        # Marks count gate lines too.
        rows = marks.place - np.searchsorted(gates.position + np.arange(len(gates.position)), marks.place)
        place = np.concatenate((begins, rows))
        warming = np.concatenate((np.zeros(len(begins), np.bool_), marks.warmup))
        order = np.argsort(place, kind="stable")  # a mark comes after the step's beginning that it stands for
        place, warming = place[order], warming[order]
        last = np.searchsorted(place, np.arange(n), "right")
        found = np.concatenate(([self._warming], warming))[last]
        if len(warming):
            self._warming = bool(warming[-1])
        if n:
            self._layer_before = int(layer[-1])
        return found


def _sums(place: NDArray[np.int64], units: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.bincount(place, units, size).astype(np.int64)
