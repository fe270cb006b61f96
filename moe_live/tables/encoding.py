"""Values of a column as they lie in a Parquet file.

https://parquet.apache.org/docs/file-format/data-pages/encodings tells how. Most columns of the table of rows
say the same for many lines. Here that is a run, which takes the same time and place however long it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.tables.columns import Column, Names, Repeated, Type, Values
from moe_live.tables.thrift import varint

Counts = NDArray[np.int64] | None
"""For how many lines each of some values (r,) stands; None if each stands for one."""

_NUMBERS = {Type.INT32: "<i4", Type.UINT16: "<i4", Type.INT64: "<i8", Type.FLOAT64: "<f8"}
"""How numbers of each type lie in a file, as numpy calls it: there are none of two bytes."""


class Dictionary(NamedTuple):
    """All values that a column may have.

    Attributes:
        entries: how many.
        data: one after the other.
    """

    entries: int
    data: bytes


class Encoded(NamedTuple):
    """Values of a column.

    Attributes:
        data: their places in the dictionary, if there is one, else the values themselves; before them, if the
            column is nullable, which lines have one.
        missing: how many lines have none.
        dictionary: None if there is none.
        bounds: the least and the greatest value; None if they are not told.
    """

    data: bytes
    missing: int
    dictionary: Dictionary | None
    bounds: tuple[bytes, bytes] | None


def encode(column: Column, parts: Sequence[tuple[Values, int]]) -> Encoded:
    """The values of some pieces, one after the other; beside each how many lines it has."""
    values, counts, names = _joined(column, parts)
    lines = sum(n for _, n in parts)
    levels, missing = b"", 0
    if column.nullable:
        known = ~np.isnan(values) if column.type is Type.FLOAT64 else values >= 0
        levels = _places(known, counts, 2)
        levels = len(levels).to_bytes(4, "little") + levels
        values, counts = values[known], None if counts is None else counts[known]
        missing = lines - int(len(values) if counts is None else counts.sum())
    dictionary = bounds = None
    if names:
        dictionary = Dictionary(len(names), b"".join(map(_text, names)))
    elif column.type in (Type.INT32, Type.INT64, Type.UINT16) and len(values):
        least, greatest = int(values.min()), int(values.max())
        bounds = _plain(column, [least]), _plain(column, [greatest])
        if (entries := greatest - least + 1) <= lines - missing:
            dictionary = Dictionary(entries, _plain(column, np.arange(least, greatest + 1)))
            values = values - least
    if dictionary is None:
        data = _plain(column, values if counts is None else np.repeat(values, counts))
    else:
        data = bytes([_width(dictionary.entries)]) + _places(values, counts, dictionary.entries)
    return Encoded(levels + data, missing, dictionary, bounds)


def _joined(
    column: Column, parts: Sequence[tuple[Values, int]]
) -> tuple[NDArray[Any], Counts, Sequence[str]]:
    """All values (r,), for how many lines each stands, and the names that they are places of."""
    names: dict[str, int] = {}
    found: list[tuple[NDArray[Any], Counts]] = []
    for part, n in parts:
        told, counts = (part.values, part.counts) if isinstance(part, Repeated) else (part, None)
        values = told.codes if isinstance(told, Names) else told
        if values is None:
            values, counts = np.array([np.nan if column.type is Type.FLOAT64 else -1]), np.array([n])
        elif counts is not None:
            values, counts = _merged(values, counts)
        if isinstance(told, Names):
            places = [names.setdefault(name, len(names)) for name in told.names]
            values = np.array([*places, -1])[values]  # -1 is the last one
        found.append((values, counts))
    if len(found) == 1:
        return *found[0], list(names)
    every = np.concatenate([values for values, _ in found])
    if all(counts is None for _, counts in found):
        return every, None, list(names)
    ones = [np.ones(len(values), np.int64) if counts is None else counts for values, counts in found]
    return every, np.concatenate(ones), list(names)


def _plain(column: Column, values: Sequence[int] | NDArray[Any]) -> bytes:
    """Truths or numbers (n,) one after the other, of which none is missing; nothing of names, if all are."""
    if column.type is Type.BOOL:
        return np.packbits(values, bitorder="little").tobytes()
    return np.asarray(values, _NUMBERS.get(column.type)).tobytes()


def _text(name: str) -> bytes:
    """A name after its length; what is no text is an escape in it."""
    text = name.encode("utf-8", "backslashreplace")
    return len(text).to_bytes(4, "little") + text


def _width(n: int) -> int:
    """How many bits each of n places has: of fewer than eight, so many that a byte is full of them."""
    return next(width for width in (1, 2, 4, 8, 16, 32) if n <= 1 << width)


def _places(places: NDArray[Any], counts: Counts, n: int) -> bytes:
    """Places (r,) from 0 to n - 1: packed where each stands for one line, else in runs."""
    width = _width(n)
    if counts is not None:
        return _runs(places, counts, width)
    packed = _packed(places, width)
    return varint(len(packed) // width << 1 | 1) + packed


def _packed(places: NDArray[Any], width: int) -> bytes:
    """Places (n,) of so many bits each, and zeros until their number is a multiple of eight."""
    packed = np.zeros(-(-len(places) // 8) * 8, f"<u{max(width, 8) // 8}")
    packed[: len(places)] = places
    while width < 8:
        packed = packed[::2] | packed[1::2] << width
        width *= 2
    return packed.tobytes()


def _runs(places: NDArray[Any], counts: NDArray[np.int64], width: int) -> bytes:
    """Places (r,) of so many bits each, rounded up to bytes, each after the lines that it stands for."""
    head = counts << 1  # even: these are not packed
    each = places.astype(f"<u{max(width, 8) // 8}")[:, None].view(np.uint8)
    rest = head[:, None] >> np.arange(0, int(head.max(initial=0)).bit_length(), 7)  # as `varint` has it
    heads = (rest & 0x7F | np.where(rest > 0x7F, 0x80, 0)).astype(np.uint8)
    table = np.concatenate((heads, each), axis=1)
    if rest.shape[1] == 1:
        return table.tobytes()
    kept = np.ones(table.shape, np.bool_)
    kept[:, : rest.shape[1]] = rest > 0
    return table[kept].tobytes()


def _merged(values: NDArray[Any], counts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values (r,) and for how many lines each stands, those that follow upon the same one with it."""
    changes = values[1:] != values[:-1]
    if changes.all():
        return values, counts
    first = np.flatnonzero(np.concatenate(([True], changes)))
    return values[first], np.add.reduceat(counts, first)
