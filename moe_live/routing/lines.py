"""Lines of a log as arrays that can be cut and joined: what an open step is held as."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.records import Experts, Records

_NO_ROW = np.array([-1]).tobytes()
_NO_VECTOR = bytes(1)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Consecutive lines in the order of the log, expert rows and gate lines merged.

    Attributes:
        layer: (n,) uint16.
        row: (n,) int64, ROW of a gate line, -1 for an expert row.
        has_vector: (n,) bool, whether the numbers of a gate line were parsed.
        experts: of the expert rows.
        vectors: the parsed gate inputs, one array (v_i, n_embd_i) float64 for each run of equal n_embd.
    """

    layer: NDArray[np.uint16]
    row: NDArray[np.int64]
    has_vector: NDArray[np.bool_]
    experts: Experts
    vectors: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, records: Records) -> Lines:
        """The lines of one `Records`; may share its arrays."""
        gates = records.gates
        lines = _rows(records.layer, records.experts)
        if not len(gates.layer):
            return lines
        return cls(
            np.insert(lines.layer, gates.position, gates.layer),
            np.insert(lines.row, gates.position, gates.row),
            np.insert(lines.has_vector, gates.position, gates.vector >= 0),
            records.experts,
            (gates.vectors,) if len(gates.vectors) else (),
        )

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def only_rows(self) -> bool:
        """Whether there are no gate lines: the usual case, in which much work can be saved."""
        return len(self.layer) == len(self.experts)

    def part(self, begin: int, end: int) -> Lines:
        """The lines from `begin` to before `end`; shares the arrays."""
        if self.only_rows:
            return _rows(self.layer[begin:end], self.experts.part(begin, end))
        row, has_vector = self.row[begin:end], self.has_vector[begin:end]
        rows_before = int(np.count_nonzero(self.row[:begin] < 0))
        rows_end = rows_before + int(np.count_nonzero(row < 0))
        vectors_before = int(np.count_nonzero(self.has_vector[:begin]))
        return Lines(
            self.layer[begin:end],
            row,
            has_vector,
            self.experts.part(rows_before, rows_end),
            _cut(self.vectors, vectors_before, int(np.count_nonzero(has_vector))),
        )

    def copy(self) -> Lines:
        """The same in memory of its own."""
        if self.only_rows:
            return _rows(self.layer.copy(), self.experts.copy())
        return Lines(
            self.layer.copy(),
            self.row.copy(),
            self.has_vector.copy(),
            self.experts.copy(),
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
    layer = np.concatenate([part.layer for part in parts])
    experts = Experts.joined([part.experts for part in parts])
    if all(part.only_rows for part in parts):
        return _rows(layer, experts)
    vectors = [run for part in parts for run in part.vectors]
    return Lines(
        layer,
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.has_vector for part in parts]),
        experts,
        tuple(np.concatenate(list(same)) for _, same in groupby(vectors, key=_width)),
    )


def _rows(layer: NDArray[np.uint16], experts: Experts) -> Lines:
    """Lines that are all expert rows."""
    size = len(layer)
    row = np.ndarray(size, np.int64, _NO_ROW, strides=(0,))
    return Lines(layer, row, np.ndarray(size, np.bool_, _NO_VECTOR, strides=(0,)), experts, ())


def _width(run: NDArray[np.float64]) -> int:
    return int(run.shape[1])


def _cut(runs: tuple[NDArray[np.float64], ...], begin: int, length: int) -> tuple[NDArray[np.float64], ...]:
    """Rows `begin` to `begin + length` over all runs."""
    cut = []
    for run in runs:
        piece = run[max(0, begin) : max(0, begin + length)]
        if len(piece):
            cut.append(piece)
        begin -= len(run)
    return tuple(cut)
