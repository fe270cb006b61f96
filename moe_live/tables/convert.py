"""Logs in any dialect to a table of their rows, in bounded memory.

What rows are worth, and which steps are decode, may show at the very end of logs. Mostly it is as their
beginning shows: that is supposed, and the table is written while they are read. If it turns out otherwise,
the table is begun anew, and they are read again: what was found the first time is said of all rows the
second time. So the table does not depend on what was supposed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, printable
from moe_live.memory import keep_freed_memory
from moe_live.plans.progress import bar
from moe_live.reports.unusable import require_usable
from moe_live.snapshot import Snapshot
from moe_live.tables.beside import Reader, reader
from moe_live.tables.columns import Piece, TableWriter, length
from moe_live.tables.reading import Findings, Logs, Task, glance

LARGE_BYTES = 1 << 25
"""Smaller logs are read by this process: another takes as long to start."""


@dataclass(frozen=True)
class Written:
    """What became of logs.

    Attributes:
        snapshot: the counts.
        lines: of the table.
        problem: why not all could be read; None if it could.
    """

    snapshot: Snapshot
    lines: int
    problem: MoeLiveError | None


class _WrongLinesError(Exception):
    """The lines of a table are not right; what was found meanwhile."""

    def __init__(self, found: Findings) -> None:
        super().__init__()
        self.found = found


def write_rows(
    logs: Logs,
    table: Callable[[], AbstractContextManager[TableWriter]],
    *,
    beside: bool = True,
    again: bool = True,
) -> Written:
    """Write a table of all rows.

    Args:
        logs: that have them.
        table: begins the table, which is whole when it is left without an exception.
        beside: large logs are read by a process beside this one.
        again: whether a table that was begun may be given up, and begun anew.

    Raises:
        MoeLiveError: the logs cannot be read, are pipes, have no rows, or change meanwhile.
        OSError: the table cannot be written.
    """
    keep_freed_memory()
    supposed = glance(logs) if again else None
    with reader(logs, beside=beside and _size(logs) >= LARGE_BYTES) as reads:
        if supposed is None:
            reads.begin(Task(None))
            with bar("reading") as progress:
                found = reads.follow(lambda _: None, progress)
        else:
            try:
                return _write(reads, Task(supposed), table)
            except _WrongLinesError as error:
                found = error.found
        _require_rows(found.snapshot)
        try:
            return _write(reads, Task(found.known, found.snapshot.input.tally, found.bytes), table)
        except _WrongLinesError:
            raise MoeLiveError(
                f"{_named(logs.paths)} changed while it was read: make the table of a copy"
            ) from None


def _write(reads: Reader, task: Task, table: Callable[[], AbstractContextManager[TableWriter]]) -> Written:
    """Write what is read to a table; the arguments are those of `write_rows`.

    Raises:
        _WrongLinesError: it would not be right, and is not there.
    """
    lines = 0
    reads.begin(task)
    with table() as writer, bar("writing") as progress:

        def take(piece: Piece) -> None:
            nonlocal lines
            writer.write(piece)
            lines += length(piece)

        found = reads.follow(take, progress)
        if not found.holds:
            raise _WrongLinesError(found)
    return Written(found.snapshot, lines, found.problem)


def _require_rows(snapshot: Snapshot) -> None:
    """See that there is something to make a table of.

    Raises:
        MoeLiveError: there is not.
    """
    require_usable(snapshot)
    if not snapshot.rows.logged:
        told = "counts, and no rows" if snapshot.lacks_rows and snapshot.layers else "no expert rows"
        paths = snapshot.input.paths
        raise MoeLiveError(f"there are {told} in {_named(paths)}: nothing to make a table of rows of")


def _named(paths: tuple[str, ...]) -> str:
    return printable(paths[0]) if len(paths) == 1 else f"{len(paths)} files"


def _size(logs: Logs) -> int:
    """Bytes of all of them, packed or not, as far as they are there."""
    return sum(path.stat().st_size for path in map(Path, logs.paths) if path.is_file())
