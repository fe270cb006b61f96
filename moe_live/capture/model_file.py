"""Reads GGUF, the format of llama.cpp's model files (versions 2 and 3), without believing what it says.

A file begins with `GGUF`, the version (u32), and how many tensors and how many pairs there are (u64 each).
Then come the pairs: key, type (u32), value; then for each tensor its name, the number of its dimensions
(u32), these (u64), its type (u32), and where its data begin (u64), counted from the first multiple of the
alignment after all this. A string is its length (u64) and its bytes; an array the type of its items (u32),
how many they are (u64), and they. Numbers are little-endian, or big-endian throughout.

Source: docs/gguf.md of the ggml project.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.errors import UsageError, printable

# Far beyond every model: what exceeds these is damage, and would take time or memory.
_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_TEXT = 1 << 16  # bytes of a key, and of a value that is kept
_MAX_STRINGS = 1 << 24  # in an array
_MAX_DIMENSIONS = 4
_MAX_SIZE = 1 << 26  # bytes of a tensor that is read

_VERSIONS = (2, 3)
_NUMBERS = dict(enumerate("BbHhIif?")) | dict(zip((10, 11, 12), "Qqd", strict=True))  # types, as in `struct`
_STRING, _ARRAY = 8, 9
_ALIGNMENT = "general.alignment"
_SHARD = re.compile(r"(.*)-00001-of-([0-9]{5})\.gguf", re.DOTALL)
_STORED = {0: ("F32", "f4"), 1: ("F16", "f2"), 30: ("BF16", "u2")}

_BLOCKS = {  # numbers of a block and its bytes, by type, of `ggml.c`
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in a file.

    Attributes:
        path: of the file.
        shape: as in ggml, the length of a row first.
        kind: the number of its type in ggml.
        offset: of its first byte in the file.
        order: of bytes in a number, as in `struct`.
    """

    path: Path
    shape: tuple[int, ...]
    kind: int
    offset: int
    order: str

    @property
    def stored(self) -> str | None:
        """How its numbers are stored: F32, F16 or BF16; None for another way."""
        return _STORED[self.kind][0] if self.kind in _STORED else None

    @property
    def size(self) -> int:
        """Its bytes; 0 if it is stored in another way."""
        return math.prod(self.shape) * np.dtype(_STORED[self.kind][1]).itemsize if self.kind in _STORED else 0

    @property
    def bytes(self) -> int | None:
        """Its bytes, however it is stored; None if its type is not known here."""
        numbers, size = _BLOCKS.get(self.kind, (0, 0))
        return math.prod(self.shape) // numbers * size if numbers else None

    def numbers(self) -> NDArray[np.float64]:
        """Its numbers, rows last: the shape turned round. They must be stored in a way that has a name.

        Raises:
            UsageError: they are not there, are too many, or are not all finite.
        """
        name, dtype = _STORED[self.kind]
        if self.size > _MAX_SIZE:
            raise _damaged(self.path, f"a router of {self.size:,} bytes")
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                raw = file.read(self.size)
        except OSError as error:
            raise _unreadable(self.path, error.strerror) from None
        if len(raw) < self.size:
            raise _damaged(self.path, "it ends within a router")
        values = np.frombuffer(raw, f"{self.order}{dtype}")
        if name == "BF16":  # the upper half of a number in single precision
            values = (values.astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise _damaged(self.path, "a router has numbers that are not finite")
        return values.astype(np.float64).reshape(self.shape[::-1])


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a GGUF file says of its model.

    Attributes:
        values: numbers and short texts, by key.
        tensors: by name.
    """

    values: dict[str, float | str]
    tensors: dict[str, Tensor]


def model_parts(path: str) -> Iterator[Path]:
    """The files of a model: the one at the path or, if that is the first of several, all of them."""
    split = _SHARD.fullmatch(path)
    if split is None:
        yield Path(path)
        return
    for part in range(1, int(split[2]) + 1):
        yield Path(f"{split[1]}-{part:05d}-of-{split[2]}.gguf")


def read_model_file(path: Path) -> ModelFile:
    """Read all but the tensors themselves.

    Raises:
        UsageError: the file cannot be read, or is not a whole GGUF file.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise _unreadable(path, "it is not a regular file")
        with path.open("rb", buffering=1 << 18) as file:
            return _Head(path, file).read()
    except OSError as error:
        raise _unreadable(path, error.strerror) from None


def read_value(path: Path, key: str) -> float | str | None:
    """Read one value, which stands near the beginning as a rule; None if it is not there.

    Raises:
        UsageError: the file cannot be read, or is not a whole GGUF file as far as it was read.
    """
    try:
        with path.open("rb") as file:
            return _Head(path, file).value(key)
    except OSError as error:
        raise _unreadable(path, error.strerror) from None


def _unreadable(path: Path, reason: str | None) -> UsageError:
    return UsageError(f"cannot read {printable(path)}: {reason}; check the path")


def _damaged(path: Path, reason: str) -> UsageError:
    return UsageError(f"{printable(path)} is not a whole GGUF file ({reason})")


class _Head:
    """What a file begins with, read from its start to its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._left = self._size = os.fstat(file.fileno()).st_size
        self._order = "<"

    def value(self, wanted: str) -> float | str | None:
        _, n_pairs = self._begin()
        for _ in range(n_pairs):
            key, value = self._text(), self._value(self._number("I"))
            if key == wanted:
                return value
        return None

    def read(self) -> ModelFile:
        n_tensors, n_pairs = self._begin()
        values: dict[str, float | str] = {}
        for _ in range(n_pairs):
            key, value = self._text(), self._value(self._number("I"))
            if value is not None:
                values[key] = value
        found = [self._tensor() for _ in range(n_tensors)]
        alignment = values.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._damage(f"{_ALIGNMENT} is no size")
        head = self._size - self._left
        data = -(-head // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in found:
            if name in tensors:
                raise self._damage("two tensors have one name")
            tensors[name] = tensor = Tensor(self._path, shape, kind, data + offset, self._order)
            if tensor.offset + tensor.size > self._size:
                raise self._damage("it ends before its tensors do")
        return ModelFile(values, tensors)

    def _begin(self) -> tuple[int, int]:
        """How many tensors and pairs there are."""
        if self._take(4) != b"GGUF":
            raise self._damage("it does not begin as one")
        version = self._number("I")
        if not version & 0xFFFF:
            self._order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in _VERSIONS:
            raise self._damage(f"its version is {version}, only 2 and 3 are known")
        return self._count(_MAX_TENSORS), self._count(_MAX_PAIRS)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, n_dimensions = self._text(), self._number("I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise self._damage(f"a tensor of {n_dimensions:,} dimensions")
        shape = tuple(self._number("Q") for _ in range(n_dimensions))
        return name, shape, self._number("I"), self._number("Q")

    def _value(self, kind: int) -> float | str | None:
        """A number or a short text; None for what is not kept."""
        if kind in _NUMBERS:
            number: float = self._number(_NUMBERS[kind])
            return number
        if kind == _STRING:
            length = self._number("Q")
            if length <= _MAX_TEXT:
                return self._take(length).decode(errors="replace")
            self._skip(length)
        elif kind == _ARRAY:
            self._skip_array()
        else:
            raise self._damage(f"a value of the unknown type {kind}")
        return None

    def _skip_array(self) -> None:
        kind = self._number("I")
        if kind in _NUMBERS:
            self._skip(self._number("Q") * struct.calcsize(_NUMBERS[kind]))
        elif kind == _STRING:
            for _ in range(self._count(_MAX_STRINGS)):
                self._skip(self._number("Q"))
        else:
            raise self._damage(f"an array of the unknown type {kind}")

    def _text(self) -> str:
        return self._take(self._count(_MAX_TEXT)).decode(errors="replace")

    def _count(self, most: int) -> int:
        count: int = self._number("Q")
        if count > most:
            raise self._damage(f"the number {count:,} where there cannot be more than {most:,}")
        return count

    def _number(self, kind: str) -> Any:
        """A number of a type of `struct`."""
        layout = f"{self._order}{kind}"
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _take(self, size: int) -> bytes:
        text = self._file.read(size)
        if len(text) < size:
            raise self._damage("it ends too early")
        self._left -= size
        return text

    def _skip(self, size: int) -> None:
        if size > self._left:
            raise self._damage("it ends too early")
        self._left -= size
        self._file.seek(size, os.SEEK_CUR)

    def _damage(self, reason: str) -> UsageError:
        return _damaged(self._path, reason)
