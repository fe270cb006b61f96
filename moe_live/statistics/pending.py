"""Rows put off until there are so many that counting them touches each table's memory once for many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows

ENOUGH = 56_000
"""Rows that are collected: some 600 a layer of a large model, in 2 MB; fewer long ones."""

_SHORT = 8  # experts of a row that counts as one
_JOINED = 1 << 10  # more than the tables of a batch: those of other rows of its steps stay apart from them


class PendingRows:
    """Collects the rows of successive batches, and hands them out as those of one.

    Tables of one batch stay apart; so the steps of each table ascend, as they did.

    Attributes:
        steps: that were added.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple[int, int], list[tuple[int, ExpertRows]]] = {}
        self._kinds: list[NDArray[np.int8]] = []
        self._sequences: list[NDArray[np.int64]] = []
        self.steps = self._rows = 0

    def __getstate__(self) -> tuple[Any, ...]:
        """All in few arrays."""
        tables = {key: [(0, _joined(parts))] for key, parts in self._tables.items()}
        kind, sequence = _concatenated(self._kinds, np.int8), _concatenated(self._sequences, np.int64)
        return tables, [kind], [sequence], self.steps, self._rows

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """As it was."""
        self._tables, self._kinds, self._sequences, self.steps, self._rows = state

    def copy(self) -> PendingRows:
        """The same, which goes on by itself."""
        same = PendingRows()
        same._tables = {key: parts.copy() for key, parts in self._tables.items()}
        same._kinds, same._sequences = self._kinds.copy(), self._sequences.copy()
        same.steps, same._rows = self.steps, self._rows
        return same

    def __bool__(self) -> bool:
        return self.steps > 0

    @property
    def size(self) -> int:
        """How many rows there are, long ones counted several times; steps without rows hold little."""
        return self._rows if self.steps < ENOUGH else max(self._rows, self.steps)

    def add(self, tables: Sequence[ExpertRows], kind: NDArray[np.int8], sequence: NDArray[np.int64]) -> None:
        """Keep the rows of some steps, which nobody changes any more; their `step` indexes the others."""
        for place, rows in enumerate(tables):
            key = rows.experts.shape[1], place
            self._tables.setdefault(key, []).append((self.steps, rows))
            self._rows += max(len(rows), rows.experts.size // _SHORT)
        self._kinds.append(kind)
        self._sequences.append(sequence)
        self.steps += len(kind)

    def add_rows(self, other: PendingRows, steps: int) -> None:
        """Keep other rows, of those of our steps that come after so many."""
        for (width, place), parts in other._tables.items():
            mine = self._tables.setdefault((width, place + _JOINED), [])
            mine += [(first + steps, rows) for first, rows in parts]
        self._rows += other._rows

    def take(self) -> tuple[tuple[ExpertRows, ...], NDArray[np.int8], NDArray[np.int64]]:
        """All rows collected, in few tables, the kinds and sequences of their steps; then there are none."""
        tables = tuple(_joined(parts) for _, parts in sorted(self._tables.items()))
        kind, sequence = _concatenated(self._kinds, np.int8), _concatenated(self._sequences, np.int64)
        self._tables, self._kinds, self._sequences = {}, [], []
        self.steps = self._rows = 0
        return tables, kind, sequence


def _concatenated(parts: Sequence[NDArray[Any]], dtype: type[np.integer]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _joined(parts: Sequence[tuple[int, ExpertRows]]) -> ExpertRows:
    """The rows of all parts, whose steps are counted from these numbers on."""
    if len(parts) == 1 and not parts[0][0]:
        return parts[0][1]
    return ExpertRows(
        np.concatenate([rows.step + first for first, rows in parts]),
        np.concatenate([rows.layer for _, rows in parts]),
        np.concatenate([rows.token for _, rows in parts]),
        np.concatenate([rows.whole for _, rows in parts]),
        np.concatenate([rows.experts.T for _, rows in parts], axis=1).T,
    )
