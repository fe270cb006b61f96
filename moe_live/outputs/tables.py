"""`--tables`: what the summary has as tables for other programs, one file a subject."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.outputs.output import Output, OutputOptions
from moe_live.sources.patterns import follows_several

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot
    from moe_live.statistics.step_distances import StepDistance
    from moe_live.tables.columns import TableWriter

TABLES = "the tables"

_DISTANCES = "distances"


class TablesDirectory(Output):
    """A directory with a table for each subject, Parquet if pyarrow is installed, else CSV.

    Distances of steps are written as they happen, all else at the end.

    Args:
        path: of the directory, which is made if it is missing.
        logs: that are read: they are not to be overwritten.
        has_order: whether the steps have one: of several sources that go on there are no distances.
    """

    def __init__(self, path: str, logs: Sequence[str], *, has_order: bool = True) -> None:
        self.wants_steps = has_order
        self._path = path
        self._logs = logs
        self._open = ExitStack()
        self._distances: TableWriter | None = None
        self._problem = ""

    def start(self) -> None:
        """Make the directory, see that the files can be written, and begin that of the distances.

        Raises:
            UsageError: they cannot be.
        """
        from moe_live.reports.files import check_destination
        from moe_live.tables.files import writer
        from moe_live.tables.subjects import DISTANCES, SUBJECTS

        try:
            Path(self._path).mkdir(exist_ok=True)
            for name in (_DISTANCES, *(subject.name for subject in SUBJECTS)):
                check_destination(self._place(name), TABLES, [(log, "the log itself") for log in self._logs])
            place = self._place(_DISTANCES)
            file = self._open.enter_context(Path(place).open("wb"))  # noqa: SIM115 - as the stack does
            self._distances = self._open.enter_context(writer(place, file, DISTANCES))
        except OSError as error:
            shown = printable(self._path)
            raise UsageError(
                f"cannot write {TABLES} to {shown}: {error.strerror}; name another directory"
            ) from error

    def take_steps(self, steps: Sequence[StepDistance]) -> None:
        """Write them; what fails is told at the end."""
        from moe_live.tables.subjects import DISTANCES, piece_of

        if self._distances is not None and not self._problem:
            try:
                self._distances.write(piece_of(DISTANCES, steps))
            except OSError as error:
                self._problem = error.strerror or str(error)

    def finish(self, snapshot: Snapshot) -> None:
        """Write all tables.

        Raises:
            MoeLiveError: one of them cannot be written.
        """
        from moe_live.tables.files import table_writer
        from moe_live.tables.subjects import SUBJECTS

        self._finish_distances()
        for subject in SUBJECTS:
            with table_writer(self._place(subject.name), subject.columns, TABLES) as writer:
                for piece in subject.pieces(snapshot):
                    writer.write(piece)
        if self._problem:
            where = printable(self._place(_DISTANCES))
            raise MoeLiveError(
                f"cannot write {TABLES} to {where}: {self._problem}; its last lines are missing"
            )

    def _finish_distances(self) -> None:
        """End their table, whatever becomes of the others."""
        try:
            self._open.close()
        except OSError as error:
            self._problem = self._problem or error.strerror or str(error)

    def _place(self, name: str) -> str:
        from moe_live.tables.files import has_parquet

        return str(Path(self._path) / f"{name}.{'parquet' if has_parquet() else 'csv'}")


def _add(group: Any) -> None:
    group.add_argument(
        "--tables",
        type=file_name,
        metavar="DIR",
        help="write layers, experts, pairs and so on as tables for other programs, a file each: Parquet, or "
        "CSV without the extra (pip install 'moe-live[tables]')",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.tables is not None:
        has_order = not follows_several(options.follow)
        yield TablesDirectory(options.tables, options.paths, has_order=has_order)


OPTIONS = OutputOptions(_add, _make)
