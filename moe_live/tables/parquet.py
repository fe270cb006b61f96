"""Tables as Parquet, through pyarrow: the extra `tables`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from moe_live.tables.columns import Column, Names, Piece, Type, Values, length

_GROUP = 1 << 18
"""Lines of a group, at least."""

_BATCH = 1 << 14
"""Values that are encoded at a time."""


class ParquetWriter:
    """Writes a table in groups of lines.

    Runs of equal numbers are left to the compression: looking each of them up in a dictionary takes several
    times as long. Only experts, of which there are few in no order, are smaller with one.

    Args:
        file: takes it; closed by who opened it.
        columns: of the table.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._schema = pa.schema(
            [pa.field(each.name, _type(each), nullable=each.nullable) for each in columns]
        )
        self._columns = columns
        self._held: list[Any] = []
        self._writer = parquet.ParquetWriter(
            file,
            self._schema,
            compression="snappy",
            use_dictionary=[
                each.name for each in columns if each.type is Type.STRING or each.name == "expert"
            ],
            write_statistics=[each.name for each in columns if each.type is not Type.STRING],
            write_batch_size=_BATCH,
        )

    def write(self, piece: Piece) -> None:
        """See `TableWriter`."""
        n = length(piece)
        arrays = [_array(each, piece[each.name], n) for each in self._columns]
        self._held.append(pa.record_batch(arrays, schema=self._schema))
        if sum(map(len, self._held)) >= _GROUP:
            self._write_held()

    def close(self) -> None:
        """See `TableWriter`."""
        if self._held:
            self._write_held()
        self._writer.close()

    def _write_held(self) -> None:
        table = pa.Table.from_batches(self._held, self._schema)
        self._held = []
        self._writer.write_table(table, row_group_size=len(table))


def _type(column: Column) -> Any:
    if column.type is Type.STRING:
        return pa.dictionary(pa.int32(), pa.string())
    return pa.type_for_alias(column.type.value)


def _array(column: Column, values: Values, n: int) -> Any:
    """The values (n,) as Arrow has them, made without what loads pandas wherever it is installed."""
    if values is None:
        return pa.nulls(n, _type(column))
    if isinstance(values, Names):
        codes = _of_numbers(pa.int32(), values.codes.astype(np.int32), values.codes < 0)
        return pa.DictionaryArray.from_arrays(codes, _strings(values.names))
    if column.type is Type.BOOL:
        return _of_numbers(_type(column), _bits(values > 0), values < 0)
    missing = np.isnan(values) if column.type is Type.FLOAT64 else np.zeros(n, np.bool_)
    return _of_numbers(_type(column), values.astype(column.type.value, copy=False), missing)


def _of_numbers(kind: Any, values: NDArray[Any], missing: NDArray[np.bool_]) -> Any:
    """An array of this type: values as they lie in memory, and (n,) where there are none."""
    known = pa.py_buffer(_bits(~missing)) if missing.any() else None
    return pa.Array.from_buffers(kind, len(missing), [known, pa.py_buffer(np.ascontiguousarray(values))])


def _bits(values: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")


def _strings(names: Sequence[str]) -> Any:
    """An array of these strings; what is no text is an escape in it."""
    texts = [name.encode("utf-8", "backslashreplace") for name in names]
    bounds = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))
