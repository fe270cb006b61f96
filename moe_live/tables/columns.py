"""Columns of tables: names, types, what they mean, and how their values come to those who write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


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
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.counts.sum())

    def spread(self) -> NDArray[Any] | Names:
        """A value for each line."""
        alike = (self.counts == self.counts[0]).all()
        times = int(self.counts[0]) if alike else self.counts  # a number is far quicker
        if isinstance(self.values, Names):
            return Names(np.repeat(self.values.codes, times), self.values.names)
        return np.repeat(self.values, times)


Values = NDArray[Any] | Names | Repeated | None
"""Values of a column: (n,) numbers, of which NaN is none; (n,) int8 of truths, 1 and 0, of which -1 is none;
strings; any of these for several lines each; or None where all are missing."""

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
