"""Tables as CSV, many lines at a time: numbers and names are looked up as text, not formatted one by one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isnan
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from moe_live.tables.columns import Column, Names, Piece, TableWriter, Type, length, spread

_LINES = 1 << 15
"""Lines that are put together at a time: what they need stays in the caches."""

_WIDEST = 1 << 17
"""Numbers from the least of a column to the greatest, if each of them is to be looked up."""

_TRUTHS = np.array([b"false", b"true", b""])


@contextmanager
def csv_writer(file: IO[bytes], columns: Sequence[Column]) -> Iterator[TableWriter]:
    """What writes a table, its head first; what is missing is empty. See `tables.files.writer`."""
    file.write((",".join(column.name for column in columns) + "\n").encode())
    yield _CsvWriter(file, columns)
    file.flush()


class _CsvWriter:
    """A `TableWriter`.

    Args:
        file: takes the lines.
        columns: of the table.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._columns = columns

    def write(self, piece: Piece) -> None:
        """See `TableWriter`."""
        values = {name: spread(each) for name, each in piece.items()}
        for begin in range(0, length(piece), _LINES):
            end = min(begin + _LINES, length(piece))
            cells = [_text(column, values[column.name], begin, end) for column in self._columns]
            self._file.write(_joined(cells))


def _joined(cells: Sequence[NDArray[np.bytes_]]) -> bytes:
    """Lines of these columns, (n,) each."""
    n = len(cells[0])
    ends = [b","] * (len(cells) - 1) + [b"\n"]
    wide = [np.ascontiguousarray(cell).view(np.uint8).reshape(n, -1) for cell in cells]
    text = np.zeros((n, sum(cell.shape[1] + 1 for cell in wide)), np.uint8)
    at = 0
    for cell, end in zip(wide, ends, strict=True):
        text[:, at : at + cell.shape[1]] = cell
        at += cell.shape[1] + 1
        text[:, at - 1] = ord(end)
    return bytes(text[text != 0])


def _text(column: Column, values: NDArray[Any] | Names | None, begin: int, end: int) -> NDArray[np.bytes_]:
    """(n,) The values from `begin` to before `end` as they stand in a cell."""
    if values is None:
        return np.zeros(end - begin, "S1")
    if isinstance(values, Names):
        cells = np.array([*map(_quoted, values.names), b""])  # -1 is the last one
        return np.asarray(cells[values.codes[begin:end]])
    some = values[begin:end]
    if column.type is Type.BOOL:
        return np.asarray(_TRUTHS[some])
    if column.type is Type.FLOAT64:
        return np.array([b"" if isnan(value) else repr(value).encode() for value in some.tolist()])
    least, greatest = int(some.min()), int(some.max())
    if greatest - least >= _WIDEST:
        return some.astype(np.bytes_)
    return np.asarray(np.arange(least, greatest + 1).astype(np.bytes_)[some.astype(np.int64) - least])


def _quoted(name: str) -> bytes:
    """A name as a cell, in quotes if it needs them. What is no text, and NUL, is written as an escape."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([name.replace("\0", "\\x00")])
    return out.getvalue().encode("utf-8", "backslashreplace")
