"""What lines of a log tell, as columns; one that is the same in all of them takes no memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass

Number = TypeVar("Number", np.int64, np.float64)

UNTOLD, PREFILL, DECODE = -1, 0, 1
"""Phases."""

_WHOLE = ("layer", "phase", "sequence", "step", "token", "rank", "count", "experts")
"""What is told in whole numbers."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What the lines of a log tell beside layer and experts.

    Attributes:
        one_each: a line has one expert, not all of its row.
        phase: each of these, whether it is told.
        sequence: likewise.
        step: likewise.
        token: likewise.
        rank: likewise.
    """

    one_each: bool = False
    phase: bool = False
    sequence: bool = False
    step: bool = False
    token: bool = False
    rank: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Well-formed lines of a log, and what each tells.

    What is not told at all is the same number everywhere, see `same`.

    Attributes:
        layer: (n,) int64.
        phase: (n,) int64, one of the phases.
        sequence: (n,) int64.
        step: (n,) int64.
        token: (n,) int64.
        rank: (n,) int64, of the one expert.
        count: (n,) int64, how many experts the line has.
        experts: (sum of count,) int64, -1 for an empty slot.
        weights: (sum of count,) float64, of these; NaN where they are not told.
    """

    layer: NDArray[np.int64]
    phase: NDArray[np.int64]
    sequence: NDArray[np.int64]
    step: NDArray[np.int64]
    token: NDArray[np.int64]
    rank: NDArray[np.int64]
    count: NDArray[np.int64]
    experts: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, numbers: Sequence[NDArray[np.int64]], weights: NDArray[np.float64]) -> Told:
        """All that is told in whole numbers, in the order of the attributes, and the weights."""
        layer, phase, sequence, step, token, rank, count, experts = numbers
        return cls(layer, phase, sequence, step, token, rank, count, experts, weights)

    def __len__(self) -> int:
        return len(self.layer)

    def part(self, begin: int, end: int) -> Told:
        """The lines `begin` to before `end`; shares the arrays."""
        if is_same(self.count):
            first, stop = (place * int(self.count[:1].sum()) for place in (begin, end))
        else:
            first = int(self.count[:begin].sum())
            stop = first + int(self.count[begin:end].sum())
        columns = (self.layer, self.phase, self.sequence, self.step, self.token, self.rank, self.count)
        parts = [column[begin:end] for column in columns]
        return Told.of([*parts, self.experts[first:stop]], self.weights[first:stop])

    @classmethod
    def joined(cls, parts: Sequence[Told]) -> Told:
        """All of them, one after the other."""
        if len(parts) == 1:
            return parts[0]
        weights = _joined([part.weights for part in parts])
        return cls.of([_joined([getattr(part, name) for part in parts]) for name in _WHOLE], weights)

    def copy(self) -> Told:
        """The same in memory of its own."""
        return Told.of([_copied(getattr(self, name)) for name in _WHOLE], _copied(self.weights))

    def ordered(self, order: NDArray[np.intp]) -> Told:
        """The lines in another order."""
        first = np.cumsum(self.count) - self.count
        count = self.count[order]
        entry = np.repeat(first[order] - np.cumsum(count) + count, count) + np.arange(count.sum())
        columns = (self.layer, self.phase, self.sequence, self.step, self.token, self.rank)
        parts = [picked(column, order) for column in columns]
        return Told.of([*parts, count, self.experts[entry]], picked(self.weights, entry))


def same(number: Number, n: int) -> NDArray[Number]:
    """(n,) The number everywhere, which takes neither memory nor time."""
    return np.broadcast_to(number, n)


def is_same(column: NDArray[Any]) -> bool:
    """Whether a column (n,) is the same number everywhere, as by `same`."""
    return column.strides == (0,)


def picked(column: NDArray[Number], index: NDArray[Any]) -> NDArray[Number]:
    """What is at these places, or where the mask is True; what is the same everywhere stays so."""
    if is_same(column):
        return column[: np.count_nonzero(index) if index.dtype == np.bool_ else len(index)]
    found: NDArray[Number] = column[index]
    return found


def _copied(column: NDArray[Number]) -> NDArray[Number]:
    return column if is_same(column) else column.copy()


def _joined(parts: Sequence[NDArray[Number]]) -> NDArray[Number]:
    if all(map(is_same, parts)) and len({part[:1].tobytes() for part in parts if len(part)}) == 1:
        return same(next(part[0] for part in parts if len(part)), sum(map(len, parts)))
    return np.concatenate(parts)
