"""Lines of a log as arrays that can be cut and joined: what an open step is held as."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.records import Records

Scalar = TypeVar("Scalar", bound=np.generic)

_NO_GATE = np.int64(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Consecutive lines in the order of the log, expert rows and gate lines merged.

    Attributes:
        layer: (n,) uint16.
        row: (n,) int64, ROW of a gate line, -1 for an expert row.
        has_vector: (n,) bool, whether the numbers of a gate line were parsed.
        experts: the expert rows, one array (n_i, k_i) uint16 for each run of equal k.
        vectors: the parsed gate inputs, one array (v_i, n_embd_i) float64 for each run of equal n_embd.
    """

    layer: NDArray[np.uint16]
    row: NDArray[np.int64]
    has_vector: NDArray[np.bool_]
    experts: tuple[NDArray[np.uint16], ...]
    vectors: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, records: Records) -> Lines:
        """The lines of one `Records`; may share its arrays."""
        gates = records.gates
        experts = (records.experts,) if len(records.layer) else ()
        lines = _rows(records.layer, experts)
        if not len(gates.layer):
            return lines
        return cls(
            np.insert(lines.layer, gates.position, gates.layer),
            np.insert(lines.row, gates.position, gates.row),
            np.insert(lines.has_vector, gates.position, gates.vector >= 0),
            experts,
            (gates.vectors,) if len(gates.vectors) else (),
        )

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def only_rows(self) -> bool:
        """Whether there are no gate lines: the usual case, in which much work can be saved."""
        return len(self.layer) == sum(map(len, self.experts))

    def part(self, begin: int, end: int) -> Lines:
        """The lines from `begin` to before `end`; shares the arrays."""
        if self.only_rows:
            return _rows(self.layer[begin:end], _cut(self.experts, begin, end - begin))
        row, has_vector = self.row[begin:end], self.has_vector[begin:end]
        rows_before = int(np.count_nonzero(self.row[:begin] < 0))
        vectors_before = int(np.count_nonzero(self.has_vector[:begin]))
        return Lines(
            self.layer[begin:end],
            row,
            has_vector,
            _cut(self.experts, rows_before, int(np.count_nonzero(row < 0))),
            _cut(self.vectors, vectors_before, int(np.count_nonzero(has_vector))),
        )

    def copy(self) -> Lines:
        """The same in memory of its own."""
        return Lines(
            self.layer.copy(),
            self.row.copy(),
            self.has_vector.copy(),
            tuple(run.T.copy().T for run in self.experts),
            tuple(run.copy() for run in self.vectors),
        )

    def first_vectors(self, values: int) -> Lines:
        """The same with only as many of the first gate inputs as hold `values` numbers in all."""
        kept: list[NDArray[np.float64]] = []
        for run in self.vectors:
            fit = min(len(run), values // run.shape[1])
            values -= fit * run.shape[1]
            kept.append(run[:fit])
            if fit < len(run):
                break
        index = np.cumsum(self.has_vector)
        has_vector = self.has_vector & (index <= sum(map(len, kept)))
        return Lines(self.layer, self.row, has_vector, self.experts, tuple(run for run in kept if len(run)))

    @property
    def values(self) -> int:
        """How many numbers the gate inputs hold."""
        return sum(run.size for run in self.vectors)


def joined(parts: list[Lines]) -> Lines:
    """All parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    experts = [run for part in parts for run in part.experts]
    vectors = [run for part in parts for run in part.vectors]
    layer = np.concatenate([part.layer for part in parts])
    # The runs are transposed views of (k, n) arrays: joined along their contiguous axis they stay so.
    runs = tuple(
        np.concatenate([run.T for run in same], axis=1).T for _, same in groupby(experts, key=_width)
    )
    if all(part.only_rows for part in parts):
        return _rows(layer, runs)
    return Lines(
        layer,
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.has_vector for part in parts]),
        runs,
        tuple(np.concatenate(list(same)) for _, same in groupby(vectors, key=_width)),
    )


def _rows(layer: NDArray[np.uint16], experts: tuple[NDArray[np.uint16], ...]) -> Lines:
    """Lines that are all expert rows."""
    row, has_vector = np.broadcast_to(_NO_GATE, len(layer)), np.broadcast_to(np.False_, len(layer))
    return Lines(layer, row, has_vector, experts, ())


def _width(run: NDArray[Any]) -> int:
    return int(run.shape[1])


def _cut(runs: tuple[NDArray[Scalar], ...], begin: int, length: int) -> tuple[NDArray[Scalar], ...]:
    """Rows `begin` to `begin + length` over all runs."""
    cut = []
    for run in runs:
        piece = run[max(0, begin) : max(0, begin + length)]
        if len(piece):
            cut.append(piece)
        begin -= len(run)
    return tuple(cut)
