"""Tables as Parquet, by numpy alone.

https://parquet.apache.org/docs/file-format tells what a file has, and `parquet.thrift` in
https://github.com/apache/parquet-format the structures that tell it, whose fields and enumerations have
numbers. A writer of Parquet that is given lines looks at each of them, in each column, to find what is the
same; here that is known, and what is written is not compressed besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from moe_live.tables.columns import Column, Piece, TableWriter, Type, length
from moe_live.tables.encoding import Encoded, encode
from moe_live.tables.thrift import Value, array, binary, i32, i64, struct

_GROUP = 1 << 17
"""Lines of a group, at least."""

_MAGIC = b"PAR1"

_STORED = {
    Type.BOOL: 0,
    Type.INT32: 1,
    Type.UINT16: 1,
    Type.INT64: 2,
    Type.FLOAT64: 5,
    Type.STRING: 6,
}
"""`Type` of the values in the file."""

_MEANT = {Type.STRING: 0, Type.UINT16: 12}
"""`ConvertedType`: what they are, where their type does not tell it."""

_REQUIRED, _OPTIONAL = 0, 1
"""`FieldRepetitionType`"""

_PLAIN, _RUNS, _IN_DICTIONARY = 0, 3, 8
"""`Encoding`"""

_NOT_COMPRESSED = 0
"""`CompressionCodec`"""

_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
"""`PageType`"""


@contextmanager
def parquet_writer(file: IO[bytes], columns: Sequence[Column]) -> Iterator[TableWriter]:
    """What writes a table in groups of lines; see `tables.files.writer`."""
    table = _ParquetWriter(file, columns)
    yield table
    table.finish()


class _ParquetWriter:
    """A `TableWriter`.

    Args:
        file: takes the table.
        columns: of it.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._columns = columns
        self._held: list[Piece] = []
        self._held_lines = self._lines = self._at = 0
        self._groups: list[Value] = []
        self._append(_MAGIC)

    def write(self, piece: Piece) -> None:
        """See `TableWriter`."""
        self._held.append(piece)
        self._held_lines += length(piece)
        if self._held_lines >= _GROUP:
            self._write_held()

    def finish(self) -> None:
        """Write what is held, and what the file has.

        Raises:
            OSError: it cannot be written.
        """
        if self._held:
            self._write_held()
        _, foot = _foot(self._columns, self._lines, self._groups)
        self._append(foot + len(foot).to_bytes(4, "little") + _MAGIC)
        self._file.flush()

    def _write_held(self) -> None:
        """Write what is held, as a group."""
        begin, n = self._at, self._held_lines
        lengths = [length(piece) for piece in self._held]
        chunks = []
        for column in self._columns:
            values = [piece[column.name] for piece in self._held]
            encoded = encode(column, list(zip(values, lengths, strict=True)))
            chunks.append(self._write_chunk(column, encoded, n))
        self._groups.append(struct({1: array(chunks), 2: i64(self._at - begin), 3: i64(n)}))
        self._lines += n
        self._held, self._held_lines = [], 0

    def _write_chunk(self, column: Column, encoded: Encoded, n: int) -> Value:
        """Write a column of a group of `n` lines; returns the `ColumnChunk` that tells of it."""
        begin, encoding, dictionary = self._at, _PLAIN, {}
        if encoded.dictionary is not None:
            encoding, dictionary = _IN_DICTIONARY, {11: i64(begin)}
            entries, data = encoded.dictionary
            self._append(_page(_DICTIONARY_PAGE, {7: struct({1: i32(entries), 2: i32(_PLAIN)})}, data))
        place = i64(self._at)
        told = struct({1: i32(n), 2: i32(encoding), 3: i32(_RUNS), 4: i32(_RUNS)})
        self._append(_page(_DATA_PAGE, {5: told}, encoded.data))
        statistics = {3: i64(encoded.missing)}
        if encoded.bounds is not None:
            least, greatest = encoded.bounds
            statistics |= {5: binary(greatest), 6: binary(least)}
        size = i64(self._at - begin)
        column_data = {
            1: i32(_STORED[column.type]),
            2: array([i32(_RUNS), i32(_PLAIN), i32(encoding)]),
            3: array([binary(column.name.encode())]),
            4: i32(_NOT_COMPRESSED),
            5: i64(n),
            6: size,
            7: size,
            9: place,
            **dictionary,
            12: struct(statistics),
        }
        return struct({2: i64(begin), 3: struct(column_data)})

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)


def _page(kind: int, told: Mapping[int, Value], data: bytes) -> bytes:
    """A page after its `PageHeader`; `told` is what that has of its kind."""
    size = i32(len(data))
    _, head = struct({1: i32(kind), 2: size, 3: size, **told})
    return head + data


def _foot(columns: Sequence[Column], lines: int, groups: Sequence[Value]) -> Value:
    """The `FileMetaData`."""
    schema = [struct({4: binary(b"schema"), 5: i32(len(columns))})]
    for column in columns:
        element = {
            1: i32(_STORED[column.type]),
            3: i32(_OPTIONAL if column.nullable else _REQUIRED),
            4: binary(column.name.encode()),
        }
        if column.type in _MEANT:
            element[6] = i32(_MEANT[column.type])
        schema.append(struct(element))
    by_type = struct({1: struct({})})  # how least and greatest values compare
    return struct(
        {
            1: i32(1),
            2: array(schema),
            3: i64(lines),
            4: array(groups),
            6: binary(b"moe-live"),
            7: array([by_type] * len(columns)),
        }
    )
