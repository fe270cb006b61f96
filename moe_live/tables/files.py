"""Tables to files, in the format that the name of each ends with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TYPE_CHECKING

from moe_live.errors import UsageError, printable

if TYPE_CHECKING:
    from moe_live.tables.columns import Column, TableWriter

MISSING = "pyarrow is not installed: pip install 'moe-live[tables]', or name a file .csv"


def check_name(path: str) -> None:
    """See whether a table can be written there.

    Raises:
        UsageError: it cannot: the name does not tell the format, or pyarrow is missing.
    """
    if path == "-" or path.endswith(".csv"):
        return
    if not path.endswith(".parquet"):
        raise UsageError(f"{printable(path)} is no name of a table: it ends with .parquet or .csv")
    if not has_parquet():
        raise UsageError(MISSING)


def has_parquet() -> bool:
    """Whether tables can be written as Parquet."""
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


@contextmanager
def table_writer(path: str, columns: Sequence[Column], what: str) -> Iterator[TableWriter]:
    """What writes a table to a file that appears when it is whole; - for CSV on standard output.

    Args:
        path: of the file, as `check_name` takes it.
        columns: of the table.
        what: the table is, for messages.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    from moe_live.reports.files import file_in_place

    if path == "-":
        with writer(path, sys.stdout.buffer, columns) as table:
            yield table
        return
    with file_in_place(path, what) as file, writer(path, file, columns) as table:
        yield table


def writer(path: str, file: IO[bytes], columns: Sequence[Column]) -> AbstractContextManager[TableWriter]:
    """What writes a table to an open file: Parquet if its name says so, else CSV.

    The table is whole at the end of this, unless that is an exception. Parquet closes the file, CSV does not.

    Raises:
        OSError: it cannot be written.
    """
    if path.endswith(".parquet"):
        from moe_live.tables.parquet import parquet_writer

        return parquet_writer(file, columns)
    from moe_live.tables.csv_text import csv_writer

    return csv_writer(file, columns)
