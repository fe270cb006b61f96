"""Columns of tables: names, types, what they mean, and how their values come to those who write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass


class Type(StrEnum):
    """What a column holds; the names are those of Arrow."""

    UINT16 = "uint16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT64 = "float64"
    STRING = "string"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: in the table's head.
        type: of its values.
        what: they tell, a phrase.
        nullable: whether some may be missing.
    """

    name: str
    type: Type
    what: str
    nullable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Strings of a column.

    Attributes:
        codes: (n,) integers, which of `names` each is; -1 where none is.
        names: those that occur, and perhaps others.
    """

    codes: NDArray[np.integer]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """Values that are the same for several consecutive lines.

    Attributes:
        values: (r,) numbers or truths, or strings, as in `Values`.
        counts: (r,) for how many lines each of them stands, one at least.
    """

    values: NDArray[Any] | Names
    counts: NDArray[np.integer]

    @classmethod
    def of(cls, values: NDArray[Any] | Names, counts: NDArray[np.integer]) -> Repeated:
        """The same; where many are equal to those before them, such are one."""
        told = values.codes if isinstance(values, Names) else values
        changes = told[1:] != told[:-1]
        if 2 * np.count_nonzero(changes) > len(changes):
            return cls(values, counts)
        begins = np.concatenate(([0], np.flatnonzero(changes) + 1))
        kept = Names(told[begins], values.names) if isinstance(values, Names) else told[begins]
        return cls(kept, np.add.reduceat(counts, begins, dtype=np.int64))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def spread(self) -> NDArray[Any] | Names:
        """A value for each line."""
        times = _times(self.counts)
        if isinstance(self.values, Names):
            return Names(np.repeat(self.values.codes, times), self.values.names)
        return np.repeat(self.values, times)


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The place of each line among those that belong together.

    Attributes:
        counts: (r,) how many consecutive lines do, one at least.
    """

    counts: NDArray[np.integer]

    def __len__(self) -> int:
        return int(self.counts.sum())

    def spread(self) -> NDArray[np.uint16]:
        """(n,) From 0, for each line."""
        times = _times(self.counts)
        if isinstance(times, int):
            return np.tile(np.arange(times, dtype=np.uint16), len(self.counts))
        ends = np.cumsum(self.counts, dtype=np.int64)
        ranks: NDArray[np.int64] = np.arange(ends[-1]) - np.repeat(ends - self.counts, self.counts)
        return ranks.astype(np.uint16)


def _times(counts: NDArray[np.integer]) -> NDArray[np.integer] | int:
    """One number if all are the same: NumPy is far quicker with it."""
    return int(counts[0]) if (counts == counts[0]).all() else counts


Values = NDArray[Any] | Names | Repeated | Ranks | None
"""Values of a column: (n,) numbers, of which NaN is none; (n,) int8 of truths, 1 and 0, of which -1 is none;
strings; any of these for several lines each; places among several lines; or None where all are missing."""

Piece = Mapping[str, Values]
"""Values of all columns of some consecutive lines, by name; of one column at least not None."""


class TableWriter(Protocol):
    """Takes the lines of a table that is being written."""

    def write(self, piece: Piece) -> None:
        """Append lines. Their arrays are not to be changed any more: they may be held for a while.

        Raises:
            OSError: these lines, or some before them, cannot be written.
        """
        ...


def length(piece: Piece) -> int:
    """How many lines it has."""
    return next(len(values) for values in piece.values() if values is not None)


def spread(values: Values) -> NDArray[Any] | Names | None:
    """A value for each line; None where all are missing."""
    return values.spread() if isinstance(values, Repeated | Ranks) else values
