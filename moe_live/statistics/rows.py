"""What several accumulators ask of expert rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, repeats

MAX_TOGETHER = 64
"""Experts of a row at most whose pairs, and whose transitions to the next layer, are counted: three times as
many as any model chooses."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerRows:
    """Rows of one layer in the order of the log, all with the same k.

    Attributes:
        token: (n,) int64, the same number for rows of one token in whole blocks; of a row in another block
            one of its own, below 0.
        by_rank: (k, n) uint16, the first experts of the rows, their second ones, …; each line contiguous.
    """

    token: NDArray[np.int64]
    by_rank: NDArray[np.uint16]


class RowsByLayer:
    """Rows that name no expert twice, layer by layer, so that each layer's table is touched once for many.

    Attributes:
        layers: (l,) uint16, layers with rows, also with such as are left out; ascending.
        highest: (l,) uint16, the highest expert of each, likewise.
        sizes: (l,) int64, how many rows each has.
        by_rank: (k, n) uint16, experts of all rows, also of such as are left out, in the order of the log.
        bounds: (l + 1,) int64, where those of each layer begin in `rows`, and where they end.
        rows: (k, m) uint16, experts of the rows that name none twice.
    """

    def __init__(self, rows: ExpertRows) -> None:
        self.by_rank = by_rank = rows.experts.T
        order = np.argsort(rows.layer, kind="stable")
        layer = rows.layer[order]
        begins = np.flatnonzero(np.concatenate(([True], layer[1:] != layer[:-1])))
        self.layers = layer[begins]
        self.highest = np.maximum.reduceat(by_rank.max(axis=0)[order], begins)
        repeating = repeats(by_rank)
        if repeating is not None:
            distinct = ~repeating[order]
            order, layer = order[distinct], layer[distinct]
        bounds = np.append(np.searchsorted(layer, self.layers), len(layer))
        self.sizes = np.diff(bounds)
        self.bounds = bounds
        token = rows.step * (rows.token.max(initial=0) + 1) + rows.token
        if not rows.whole.all():
            token = np.where(rows.whole, token, -1 - np.arange(len(token)))
        self._token = token.take(order)
        self.rows = by_rank.take(order, axis=1)

    def of(self, index: int) -> LayerRows:
        """The rows of one of `layers`."""
        of_layer = slice(*self.bounds[index : index + 2].tolist())
        return LayerRows(self._token[of_layer], self.rows[:, of_layer])

    @cached_property
    def most_used(self) -> int:
        """In how many `rows` an expert of a layer is, at most."""
        width = int(self.rows.max(initial=0)) + 1
        begin = np.repeat(np.arange(len(self.sizes)) * width, self.sizes)
        counts = np.zeros(len(self.sizes) * width, np.int64)
        for line in self.rows:
            counts += np.bincount(begin + line, minlength=len(counts))
        return int(counts.max(initial=0))

    @cached_property
    def has_same_tokens(self) -> bool:
        """Whether all layers have rows of the same tokens, in whole blocks."""
        each = self._token[: self.sizes[0]]
        return bool(
            (self.sizes == len(each)).all()
            and (each >= 0).all()
            and (self._token.reshape(len(self.sizes), -1) == each).all()
        )


def highest_of(tables: Sequence[RowsByLayer]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The layers (n,) of all tables, one table after the other, and the highest expert of each."""
    none = np.zeros(0, np.uint16)
    layers = np.concatenate((none, *(table.layers for table in tables)))
    return layers, np.concatenate((none, *(table.highest for table in tables)))


def most_counted(tables: Sequence[RowsByLayer], few: int) -> int:
    """How often rows count at most for some experts: found out better only if it is not `few` anyway."""
    rows = sum(int(table.sizes.max()) for table in tables)
    return rows if rows <= few else sum(table.most_used for table in tables)


def same_tokens(lower: LayerRows, upper: LayerRows) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The experts by rank (k, m) of the tokens with rows in whole blocks of both layers."""
    if np.array_equal(lower.token, upper.token):
        return lower.by_rank, upper.by_rank
    _, i, j = np.intersect1d(lower.token, upper.token, assume_unique=True, return_indices=True)
    return np.take(lower.by_rank, i, axis=1), np.take(upper.by_rank, j, axis=1)
