"""Tables as Parquet, through pyarrow: the extra `tables`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from moe_live.tables.columns import Column, Names, Piece, Repeated, TableWriter, Type, Values, length, spread

_GROUP = 1 << 17
"""Lines of a group, at least."""

_WAITING = 3
"""Groups that are made before they are encoded, at most: lines come at no even pace."""

_BATCH = 1 << 16
"""Values that are encoded at a time."""

_BUFFER = 1 << 20
"""Bytes that are written at a time."""

_SOUGHT = ("step", "layer", "expert")
"""Columns of whose values the least and the greatest of each group are told, by which a reader leaves out
groups, or counts in an array. To find them takes as long as encoding; of others nobody asks."""


@contextmanager
def parquet_writer(file: IO[bytes], columns: Sequence[Column]) -> Iterator[TableWriter]:
    """What writes a table in groups of lines, and closes the file; see `tables.files.writer`.

    Runs of equal numbers are left to the compression: looking each of them up in a dictionary takes several
    times as long. Only experts, of which there are few in no order, are smaller with one.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # for two threads its own holds a tenth of all memory more
    # Each write to a file of Python waits for the interpreter, and a group has dozens.
    sink = pa.BufferedOutputStream(pa.PythonFile(file, "w"), _BUFFER)
    to = parquet.ParquetWriter(
        sink,
        pa.schema([pa.field(each.name, _type(each), nullable=each.nullable) for each in columns]),
        compression="snappy",
        use_dictionary=[each.name for each in columns if each.type is Type.STRING or each.name == "expert"],
        write_statistics=[each.name for each in columns if each.name in _SOUGHT],
        write_batch_size=_BATCH,
    )
    try:
        with ThreadPoolExecutor(1) as thread:  # who leaves it has waited for it
            table = _ParquetWriter(to, columns, thread)
            yield table
            table.finish()
        to.close()
        sink.close()
    except BaseException:
        to.is_open = False  # or, deleted, it would end the table in a file that is closed by then
        with suppress(OSError):
            sink.close()  # likewise
        raise


class _ParquetWriter:
    """A `TableWriter`.

    A group is encoded while the next one is made: that takes as long, and hardly needs the interpreter.

    Args:
        to: takes the groups.
        columns: of the table.
        thread: where they are encoded.
    """

    def __init__(self, to: Any, columns: Sequence[Column], thread: ThreadPoolExecutor) -> None:
        self._to = to
        self._columns = columns
        self._thread = thread
        self._encoding: deque[Future[None]] = deque()
        self._held: list[Any] = []
        self._alike: dict[str, tuple[object, Any]] = {}  # by the name of a column

    def write(self, piece: Piece) -> None:
        """See `TableWriter`."""
        n = length(piece)
        arrays = [self._array(each, piece[each.name], n) for each in self._columns]
        self._held.append(pa.record_batch(arrays, schema=self._to.schema))
        if sum(map(len, self._held)) >= _GROUP:
            self._write_held()

    def _array(self, column: Column, values: Values, n: int) -> Any:
        """The values (n,) as Arrow has them; what is often the same for all is made once."""
        if values is not None and not (isinstance(values, Repeated) and len(values.values) == 1):
            return _array(column, spread(values), n)
        value = None if values is None else _only(values)
        found = self._alike.get(column.name)
        if found is None or found[0] != value or len(found[1]) < n:
            found = self._alike[column.name] = value, _array(column, spread(values), n)
        return found[1][:n]

    def finish(self) -> None:
        """Write what is held.

        Raises:
            OSError: it cannot be written.
        """
        if self._held:
            self._write_held()
        self._wait(0)

    def _write_held(self) -> None:
        """Have it written after those that wait, which are a few at most."""
        table = pa.Table.from_batches(self._held, self._to.schema)
        self._held = []
        self._encoding.append(self._thread.submit(self._to.write_table, table, row_group_size=len(table)))
        self._wait(_WAITING)

    def _wait(self, groups: int) -> None:
        """Until so many groups at most are not written."""
        while len(self._encoding) > groups:
            self._encoding.popleft().result()


def _type(column: Column) -> Any:
    if column.type is Type.STRING:
        return pa.dictionary(pa.int32(), pa.string())
    return pa.type_for_alias(column.type.value)


def _only(values: Repeated) -> object:
    """What is repeated, if it is one value."""
    if isinstance(values.values, Names):
        return int(values.values.codes[0]), tuple(values.values.names)
    return values.values[0].item()


def _array(column: Column, values: NDArray[Any] | Names | None, n: int) -> Any:
    """The values (n,) as Arrow has them, made without what loads pandas wherever it is installed."""
    if values is None:
        return pa.nulls(n, _type(column))
    if isinstance(values, Names):
        missing = values.codes < 0 if column.nullable else None
        # For a name that is there twice pyarrow writes bytes of memory that nobody has set.
        names = {name: code for code, name in enumerate(dict.fromkeys(values.names))}
        codes = np.array([*(names[name] for name in values.names), -1], np.int32)[values.codes]
        codes = _of_numbers(pa.int32(), n, codes, missing)
        return pa.DictionaryArray.from_arrays(codes, _strings(list(names)), safe=False)
    if column.type is Type.BOOL:
        return _of_numbers(_type(column), n, _bits(values > 0), values < 0)
    missing = np.isnan(values) if column.nullable and column.type is Type.FLOAT64 else None
    return _of_numbers(_type(column), n, values.astype(column.type.value, copy=False), missing)


def _of_numbers(kind: Any, n: int, values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Any:
    """An array of this type: values as they lie in memory, and (n,) where there are none."""
    known = pa.py_buffer(_bits(~missing)) if missing is not None and missing.any() else None
    return pa.Array.from_buffers(kind, n, [known, pa.py_buffer(np.ascontiguousarray(values))])


def _bits(values: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")


def _strings(names: Sequence[str]) -> Any:
    """An array of these strings; what is no text is an escape in it."""
    texts = [name.encode("utf-8", "backslashreplace") for name in names]
    bounds = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(bounds), pa.py_buffer(b"".join(texts)))
