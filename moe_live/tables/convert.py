"""Logs in any dialect to a table of their rows, in bounded memory.

A log is read twice. What its rows are worth, and which of its steps are decode, may show at its very end;
what is found the first time is said of all rows the second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.isolation import Failures
from moe_live.parallel.plan import plan
from moe_live.parallel.session import ParallelSession
from moe_live.parallel.worker import start_workers
from moe_live.plans.progress import bar
from moe_live.reports.unusable import require_usable
from moe_live.routing.batch import Kind, StepBatch
from moe_live.routing.evidence import Verdict
from moe_live.session import READ_SIZE
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break
from moe_live.tables.columns import TableWriter, length
from moe_live.tables.rows import Known, RowLines

_SLICE = 0.1  # seconds of reading at a time


class Logs:
    """Finished logs that are read twice.

    Args:
        paths: of the logs.
        settings: how they are read.
        labels: of each log; nothing for none.
        jobs: processes that read a large one for the first time.

    Attributes:
        problem: why not all could be read; None if it could.
    """

    def __init__(
        self, paths: Sequence[str], settings: Settings, labels: Sequence[str] = (), *, jobs: int = 1
    ) -> None:
        self.problem: MoeLiveError | None = None
        self._paths = tuple(paths)
        self._settings = settings
        self._labels = labels
        self._jobs = jobs
        self._steps = 0
        self._runs = [1]
        self._verdicts: list[Verdict] = []
        self._bytes: list[int] = []
        self._analyzer = Analyzer(settings, paths=self._paths, watch=self._notice)

    def examine(self) -> Snapshot:
        """Read them for the first time: the counts, and what is to be known of the rows.

        Raises:
            MoeLiveError: they cannot be read, are pipes, or have no rows.
        """
        if not self._examine_in_parts():
            self._bytes = self._feed(self._analyzer, "reading")
        self._verdicts.append(self._analyzer.runs.run(Failures()).soundness)
        snapshot = self._analyzer.snapshot(())
        require_usable(snapshot)
        if not snapshot.rows.logged:
            told = "counts, and no rows" if snapshot.lacks_rows and snapshot.layers else "no expert rows"
            raise MoeLiveError(f"there are {told} in {self._names}: nothing to make a table of rows of")
        return snapshot

    def _examine_in_parts(self) -> bool:
        """Read a large log for the first time with several processes; returns whether that told enough.

        It does not if the server was started anew in it: where in the log is known to who reads it in order.

        Raises:
            MoeLiveError: one of them has died.
        """
        parts = plan(self._paths, self._jobs, self._settings) if len(self._paths) == 1 else []
        workers = start_workers(min(self._jobs, len(parts)), self._settings)
        if not workers:
            return False
        source = ArchiveSource(self._paths)
        session = ParallelSession(source, parts, workers, self._settings, paths=self._paths)
        try:
            with bar("reading") as progress:
                while session.ingest(_SLICE):
                    read = session.status().source
                    progress(read.position / max(read.size or 0, 1))
        except MoeLiveError as problem:
            if not session.ended:
                raise
            self.problem = problem  # what was read until then is used
        finally:
            session.finish()
        if session.analyzer.runs.number > 1:
            self.problem = None
            return False
        self._analyzer = session.analyzer
        self._bytes = [self._analyzer.tally.bytes]
        return True

    def write(self, snapshot: Snapshot, writer: TableWriter) -> int:
        """Read them again, as far as before, and write their rows; returns how many lines the table has.

        Args:
            snapshot: what was found before.
            writer: takes the lines.

        Raises:
            MoeLiveError: they are not what they were.
            OSError: the table cannot be written.
        """
        decode = [Kind.DECODE, Kind.UNDECIDED] if snapshot.last_layer_known else [Kind.DECODE]
        rows, lines = RowLines(Known(snapshot.model.layers, decode, self._runs, self._verdicts)), 0

        def take(batch: StepBatch) -> None:
            nonlocal lines
            for piece in rows.of(batch):
                writer.write(piece)
                lines += length(piece)

        again = Analyzer(self._settings, paths=self._paths, watch=take, weights=True, counts=False)
        again.learn(self._analyzer)
        self._feed(again, "writing", self._bytes)
        if again.tally != self._analyzer.tally:
            raise MoeLiveError(f"{self._names} changed while it was read: make the table of a copy")
        return lines

    @property
    def _names(self) -> str:
        return printable(self._paths[0]) if len(self._paths) == 1 else f"{len(self._paths)} files"

    def _notice(self, batch: StepBatch) -> None:
        """Keep the verdict on a run that ended before these steps, and with which of them the next began."""
        runs = self._analyzer.runs
        if runs.number > len(self._runs):
            self._verdicts.append(runs.latest[-1].soundness)
            self._runs.append(self._steps + 1)
        self._steps += int(np.count_nonzero(batch.begins))

    def _feed(self, analyzer: Analyzer, what: str, at_most: Sequence[int] = ()) -> list[int]:
        """Read all logs to their end.

        Args:
            analyzer: takes what is read.
            what: is done, for the progress bar.
            at_most: so many bytes of each, unpacked; nothing for all.

        Returns:
            How many bytes each has.
        """
        source, found, shown = ArchiveSource(self._paths), [0], 0.0
        with closing(source), bar(what) as progress:
            size = source.status().size
            if size is None:
                raise UsageError("the rows of a log are read twice: give a file, not a pipe")
            self._begin(analyzer, 0)
            while items := self._read(source):
                for item in items:
                    if isinstance(item, bytes):
                        kept = item[: at_most[len(found) - 1] - found[-1]] if at_most else item
                        found[-1] += len(kept)
                        analyzer.feed(kept)
                    else:
                        analyzer.interrupt(item)
                        self._begin(analyzer, len(found))
                        found.append(0)
                if (share := source.status().position / max(size, 1)) > shown + 0.01:
                    progress(shown := share)
        analyzer.finish()
        return found

    def _begin(self, analyzer: Analyzer, log: int) -> None:
        """What comes now is of this log."""
        if self._labels:
            analyzer.label = self._labels[log]

    def _read(self, source: ArchiveSource) -> Sequence[bytes | Break]:
        """What comes next; nothing at the end."""
        try:
            return source.read(READ_SIZE)
        except MoeLiveError as problem:  # what was read until then is used
            self.problem = problem
            return ()
