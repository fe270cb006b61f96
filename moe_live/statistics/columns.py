"""The columns of tables: as many as experts are used, not as the highest number would need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.memory import unique
from moe_live.settings import MAX_EXPERTS
from moe_live.statistics.tables import BLOCK


class Columns:
    """The columns for the experts that were used, in the order of their numbers.

    A model uses experts from 0 on, so each usually has the column of its own number. An expert that is far
    beyond the others, in a line that is not as it should be, costs no more than a `BLOCK` of columns: as many
    experts, from a multiple of it on, get theirs together as soon as one of them is used.

    >>> columns = Columns()
    >>> columns.learn(np.array([1, 2000], np.uint16)).tolist()
    []
    >>> columns.of(np.array([1, 2000], np.uint16)).tolist(), len(columns)
    ([1, 48], 64)
    >>> columns.learn(np.array([100], np.uint16))[[1, 48]].tolist()
    [1, 80]

    Attributes:
        experts: (columns,) int64, the expert that each column is for, ascending.
        as_numbered: whether each expert has the column of its own number.
    """

    def __init__(self) -> None:
        self.experts = np.zeros(0, np.int64)
        self.as_numbered = True
        self._column = np.zeros(MAX_EXPERTS, np.uint16)

    def __len__(self) -> int:
        return len(self.experts)

    def learn(self, *experts: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Give columns to experts, in arrays of any shape, that have none.

        Returns:
            (columns,) int64, ascending: where those are now that there were.
        """
        before = self.experts
        highest = max((int(some.max(initial=0)) for some in experts if some.size), default=-1)
        if highest < (len(before) if self.as_numbered else 0):
            return np.arange(len(before))
        is_used = np.zeros(MAX_EXPERTS // BLOCK, np.bool_)
        for some in experts:
            is_used[(some // BLOCK).reshape(-1)] = True
        is_used[before[::BLOCK] // BLOCK] = True
        if np.count_nonzero(is_used) * BLOCK > len(before):
            self.experts = np.flatnonzero(np.repeat(is_used, BLOCK))
            self._column[self.experts] = np.arange(len(self.experts))
            self.as_numbered = int(self.experts[-1]) == len(self.experts) - 1
        return self._column[before].astype(np.int64)

    def include(self, other: Columns) -> NDArray[np.int64]:
        """Give columns to all experts that have one there; returns the same as `learn`."""
        return self.learn(other.experts[::BLOCK].astype(np.uint16))

    def of(self, experts: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The columns of experts, in an array of any shape, all of which have one."""
        return experts if self.as_numbered else self._column.take(experts)

    def common(self, experts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some experts (n,), ascending, have a column: their indices (m,), and the columns (m,)."""
        _, index, column = np.intersect1d(experts, self.experts, assume_unique=True, return_indices=True)
        return index, column

    def spread(self, table: NDArray[np.integer], experts: NDArray[np.int64]) -> NDArray[np.integer]:
        """A table of the first columns as one (n, n) of experts (n,), ascending, 0 where it has none.

        It may be a part of the table itself.
        """
        n = len(experts)
        if self.as_numbered and min(table.shape) >= n and experts[-1] == n - 1:
            return table[:n, :n]
        index, column = self.common(experts)
        spread = np.zeros((n, n), table.dtype)
        i, j = np.searchsorted(column, table.shape).tolist()
        spread[np.ix_(index[:i], index[:j])] = table[np.ix_(column[:i], column[:j])]
        return spread


def moved(width: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many columns tables need that had `width` (n,) of them, once these are `where` `learn` says."""
    return np.concatenate(([0], where + 1))[width]


def experts_of(tables: Sequence[Columns], n_experts: int) -> NDArray[np.int64]:
    """The experts (m,) that tables have, ascending: all of a layer, unless far more are never used."""
    used = unique(np.concatenate([np.zeros(0, np.int64), *(columns.experts for columns in tables)]))
    if n_experts - len(used) < BLOCK:
        return np.arange(n_experts)
    return used[used < n_experts]
