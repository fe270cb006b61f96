"""Which experts of a layer are chosen together: counts of all pairs in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial, reduce
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.statistics.cells import Cells
from moe_live.statistics.columns import Columns, experts_of, moved
from moe_live.statistics.members import Member
from moe_live.statistics.pairs import LayerPairs, factors, notable_pairs
from moe_live.statistics.planes import Slots
from moe_live.statistics.rows import RowsByLayer, highest_of, most_counted
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import roomy

MAX_CELLS = 1 << 25
"""Cells of all tables together at most (32 to 128 MB): 250 layers of 512 experts. A larger model is not
counted."""

MAX_WIDTH = 1 << 10
"""Columns of a table at most. A layer that uses more experts is none of a model, and nothing is counted."""

RENEWED = 4
"""Layers whose pairs are looked for anew at a time, where that is to take some milliseconds only."""

_CHUNK = 1 << 15  # pairs handled at a time: what fits a processor's cache
_MAX_UINT16_EXPERTS = 256  # so that the product of an expert and the next fits


class Coactivation:
    """Exact counts of rows for every pair of experts of a layer, over all kinds of steps.

    A row that names an expert twice does not tell a set of experts: it is left out.

    The counts of a layer are a triangle: cell b(b+1)/2 + a counts rows with a and b, a <= b; so (a, a) counts
    rows with a. Memory: that of `Cells`, 26 KB a layer of 160 experts, 131 to 525 KB of 512. If more than
    `MAX_CELLS` were needed, all counts are given up and `too_large` is set.

    >>> from moe_live.routing.batch import ExpertRows
    >>> zero, whole = np.zeros(2, np.int64), np.ones(2, np.bool_)
    >>> experts = np.array([[2, 0], [2, 1]], np.uint16)
    >>> pairs = Coactivation()
    >>> rows = ExpertRows(zero, np.array([3, 3], np.uint16), zero, whole, experts)
    >>> pairs.update([RowsByLayer(rows)])
    >>> pairs.rows(3), pairs.counts(3, np.arange(3)).tolist()
    (2, [[1, 0, 1], [0, 1, 1], [1, 1, 2]])

    Attributes:
        columns: of the tables.
        known: what was told of each layer when it was asked for last.
    """

    def __init__(self) -> None:
        self.too_large = False
        self.columns = Columns()
        self.known: dict[int, LayerPairs] = {}
        self._slots = Slots()
        self._rows = np.zeros(0, np.int64)
        self._capacity = np.zeros(0, np.int64)  # experts a layer's table has room for
        self._base = np.zeros(0, np.int64)  # where it begins
        self._counts = Cells()

    @property
    def layers(self) -> list[int]:
        """Layers that were counted, ascending."""
        return [] if self.too_large else sorted(self._slots.layers)

    def update(self, tables: Sequence[RowsByLayer]) -> None:
        """Count rows."""
        where = self.columns.learn(*(table.by_rank for table in tables))
        layers, highest = highest_of(tables)
        self._reserve(self._slots.of(layers), self.columns.of(highest) + np.int64(1), where)
        if self.too_large:
            return
        self._counts.make_room(most_counted(tables, self._counts.half))
        for table in tables:
            slots = self._slots.of(table.layers)
            self._rows[slots] += table.sizes
            rows = self.columns.of(table.rows)
            if kernels.count_pairs(self._counts.low, self._base[slots], table.bounds, rows):
                continue
            for slot, (begin, end) in zip(slots.tolist(), pairwise(table.bounds.tolist()), strict=True):
                self._count(slot, rows[:, begin:end])

    def settle(self) -> None:
        """A higher layer was seen: rows count here whatever the kind of their step."""

    def __iadd__(self, other: Coactivation) -> Self:
        """Add the counts of another log."""
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        where = self.columns.include(other.columns)
        _, place = self.columns.common(other.columns.experts)
        self._reserve(slots, moved(other._capacity, place), where)
        if self.too_large or other.too_large:
            self._give_up()
            return self
        self._rows[slots] += other._rows
        self._counts.make_room_for(other._counts)
        sizes = other._capacity.tolist()
        triangles = {size: _triangle(size, place) for size in set(sizes)}
        for base, size, source in zip(self._base[slots].tolist(), sizes, other._base.tolist(), strict=True):
            self._counts.add(base + triangles[size], other._counts, source)
        return self

    def rows(self, layer: int) -> int:
        """Rows counted of a layer."""
        return int(self._rows[self._slots.layers.index(layer)]) if layer in self.layers else 0

    def counts(self, layer: int, experts: NDArray[np.int64]) -> NDArray[np.integer]:
        """Rows with both of these experts (E,), ascending, as (E, E); with the expert on the diagonal.

        The counts of two accumulators over different rows may simply be added, as wider ones.
        """
        if layer not in self.layers:
            return np.zeros((len(experts), len(experts)), np.int64)
        slot = self._slots.layers.index(layer)
        triangle = self._counts.counts(int(self._base[slot]), int(_cells(self._capacity[slot])))
        return self.columns.spread(triangle[_triangle_index(int(self._capacity[slot]))], experts)

    def single(self, layer: int, experts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows with each of these experts (E,), ascending: the diagonal of `counts`."""
        single = np.zeros(len(experts), np.int64)
        if layer in self.layers:
            slot = self._slots.layers.index(layer)
            column = np.arange(self._capacity[slot])
            cells = self._counts.counts(int(self._base[slot]), int(_cells(self._capacity[slot])))
            index, place = self.columns.common(experts)
            known = place < len(column)
            single[index[known]] = cells[column * (column + 3) // 2][place[known]]
        return single

    def _count(self, slot: int, by_rank: NDArray[np.uint16]) -> None:
        """Count the rows of one layer, experts by rank (k, n)."""
        base, capacity = int(self._base[slot]), int(self._capacity[slot])
        counts = self._counts.low[base : base + capacity * (capacity + 1) // 2]
        one = counts.dtype.type(1)  # a Python integer would make this a hundred times slower
        k, n = by_rank.shape
        i, j = _pairs(k)
        if capacity > _MAX_UINT16_EXPERTS:
            by_rank = by_rank.astype(np.uint32)
        chunk = max(1, _CHUNK // len(i))
        for start in range(0, n, chunk):
            part = by_rank[:, start : start + chunk]
            line = part * (part + part.dtype.type(1)) // part.dtype.type(2)
            # Of b's line + a and a's line + b, the cell of the pair is the larger one.
            cell = np.maximum(line[i] + part[j], line[j] + part[i])
            np.add.at(counts, cell.reshape(-1).astype(np.int64), one)

    def _reserve(self, slot: NDArray[np.int64], width: NDArray[np.int64], where: NDArray[np.int64]) -> None:
        """Room for this many columns `width` (n,) in the tables at `slot` (n,).

        Args:
            slot: of layers.
            width: columns of each.
            where: (columns,) where the columns so far are to be.
        """
        new = len(self._slots) - len(self._rows)
        if new:
            self._rows, self._capacity, self._base = (
                np.concatenate((array, np.zeros(new, np.int64)))
                for array in (self._rows, self._capacity, self._base)
            )
        before, capacity = self._capacity, moved(self._capacity, where)
        np.maximum.at(capacity, slot, roomy(width))
        if self.too_large or (capacity == before).all():
            return
        cells = _cells(capacity)
        if cells.sum() > MAX_CELLS or capacity.max() > MAX_WIDTH:
            self._give_up()
            return
        base = np.cumsum(cells) - cells
        counts = Cells(int(cells.sum()), self._counts)
        for size in set(before.tolist()):
            triangle = _triangle(size, where)
            for index in np.flatnonzero(before == size).tolist():
                counts.add(base[index] + triangle, self._counts, int(self._base[index]))
        self._base, self._capacity, self._counts = base, capacity, counts

    def _give_up(self) -> None:
        self.too_large = True
        self._counts = Cells()


def _cells(capacity: NDArray[np.int64]) -> NDArray[np.int64]:
    return capacity * (capacity + 1) // 2


@lru_cache(maxsize=4)
def _pairs(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs of places in a row, each place with itself too."""
    return np.triu_indices(k)


def _triangle(size: int, where: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where the cells of a triangle of `size` columns are once the columns are moved."""
    column = where[:size].astype(np.int32)
    place = np.repeat(column * (column + 1) // 2, np.arange(1, size + 1))
    place += np.concatenate([column[:length] for length in range(size + 1)])
    return place


@lru_cache(maxsize=4)
def _triangle_index(n_experts: int) -> NDArray[np.int64]:
    """Cell of each pair (n_experts, n_experts)."""
    expert = np.arange(n_experts)
    line = expert * (expert + 1) // 2
    index: NDArray[np.int64] = line[:, None] + expert
    for a, cells in enumerate(index):  # one at a time: they may be a million
        np.maximum(cells, line + a, out=cells)
    return index


def _make(counted: Counted) -> Mapping[int, LayerPairs]:
    """Of those of the layers that were asked for that have rows; of none if it is too much.

    All anew, or only the `RENEWED` whose rows have grown most, and the others as when asked for last.
    """
    every = counted.of_rows(Coactivation)
    if any(pairs.too_large for pairs in every):
        return {}
    *_, last = every  # which rows count may change, and this one then changes too
    rows = {
        layer: sum(pairs.rows(layer) for pairs in every)
        for layer in counted.pairs_of
        if layer in counted.layers
    }
    known = {} if counted.anew else {layer: last.known[layer] for layer in rows if layer in last.known}
    changed = [layer for layer in known if known[layer].rows != rows[layer]]
    for layer in sorted(changed, key=lambda layer: known[layer].rows / max(rows[layer], 1))[:RENEWED]:
        del known[layer]
    anew = [layer for layer in rows if layer not in known]
    experts = experts_of([pairs.columns for pairs in every], counted.n_experts)
    share = np.array([sum(pairs.single(layer, experts) for pairs in every) for layer in anew], np.float64)
    share /= np.maximum([[rows[layer]] for layer in anew], 1)
    of_layers = factors(share.reshape(len(anew), len(experts)))  # at once: of one layer they are few
    for layer, factor in zip(anew, of_layers, strict=True):
        # Not kept under a name: the next ones would be made before they take the place of these.
        known[layer] = notable_pairs(
            _counts_of(every, layer, experts), rows[layer], experts=experts, factor=factor
        )
    last.known |= known
    return {layer: known[layer] for layer in rows}


def _counts_of(every: Sequence[Coactivation], layer: int, experts: NDArray[np.int64]) -> NDArray[np.integer]:
    """Rows of a layer with both of these experts, over all accumulators; see `Coactivation.counts`."""
    # None has rows where all of a layer name too many experts.
    having = [pairs for pairs in every if pairs.rows(layer)] or every[:1]
    counts = [pairs.counts(layer, experts) for pairs in having]
    return reduce(partial(np.add, dtype=np.int64), counts)


PAIRS = OnDemand(
    name="pairs",
    rows_put_off=(Member(Coactivation, lambda it, portion: it.update(portion.by_layer)),),
    make=_make,
)
