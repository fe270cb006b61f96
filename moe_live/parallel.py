"""Large finished files read by several processes, a part at a time, and merged in their order."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import NamedTuple

from moe_live.analyzer import Analyzer, Progress, Settings
from moe_live.errors import MoeLiveError, printable
from moe_live.parts import Part
from moe_live.session import READ_SIZE, Session, portion_after
from moe_live.snapshot import Snapshot
from moe_live.sources.source import Source, SourceStatus, State
from moe_live.sources.stream import ByteStream, shortened
from moe_live.terminal import unhandle_signals, without_interrupts

PROGRESS_S = 0.05
"""Seconds after which a process tells its progress again."""


class PartResult(NamedTuple):
    """The finished analyzer of a part, and why not all of it could be read, "" if nothing is wrong."""

    analyzer: Analyzer
    problem: str


class PartReader:
    """Reads one part into an analyzer of its own.

    Args:
        part: what to read.
        settings: of the analysis.
        label: what is in force where the part begins.
    """

    def __init__(self, part: Part, settings: Settings, label: str) -> None:
        self.analyzer = Analyzer(replace(settings, label=label))
        self._part = part
        self._left = None if part.end is None else part.end - part.begin
        self._portion = READ_SIZE
        self._problem = ""
        self._stream: ByteStream | None = None
        try:
            descriptor = os.open(part.path, os.O_RDONLY)
            os.lseek(descriptor, part.begin, os.SEEK_SET)
            self._stream = ByteStream(descriptor, part.path)
        except OSError as error:  # it was there when we started
            self._problem = f"{printable(part.path)} is gone ({error.strerror}); the others are used"

    def read(self) -> bool:
        """Read and analyze some of it; returns whether there is more."""
        if self._stream is None:
            return False
        limit = min(READ_SIZE, self._portion)
        data = self._stream.read(limit if self._left is None else min(limit, self._left))
        begun = time.monotonic()
        self.analyzer.feed(data)
        self._portion = portion_after(self._portion, time.monotonic() - begun)
        if self._left is not None:
            self._left -= len(data)
        return self._left != 0 and not self._stream.ended

    def finish(self) -> PartResult:
        """Close the part, read to its end or not."""
        if self._stream is not None:
            self._problem = self._stream.problem
            if self._stream.ended and not self._problem and self._is_short(self._stream):
                self._problem = shortened(printable(self._part.path))
            self._stream.close()
        self.analyzer.finish()
        return PartResult(self.analyzer, self._problem)

    def _is_short(self, stream: ByteStream) -> bool:
        """Whether there was more when the parts were planned, as far as the stream itself cannot tell."""
        return self._part.begin > 0 and not stream.size if self._left is None else self._left > 0


class _Worker:
    """A process that reads parts, and what is known of it.

    Attributes:
        connection: where it tells its progress and results.
        index: the part it reads, None for none.
        label: the label under which that part is taken to begin.
        progress: how far it is in that part.
    """

    def __init__(self, settings: Settings, others: Sequence[Connection]) -> None:
        context = _context()
        self.connection, theirs = context.Pipe()
        self.index: int | None = None
        self.label = ""
        self.progress = Progress(0, 0, 0)
        copied = context.get_start_method() == "fork"
        ours = (*others, self.connection) if copied else ()
        self._process = context.Process(target=_work, args=(theirs, settings, ours), daemon=True)
        if not copied:
            resource_tracker.ensure_running()  # its own start would let SIGINT through again
        with without_interrupts():
            self._process.start()
        theirs.close()

    def begin(self, index: int, part: Part, label: str) -> None:
        self.index, self.label, self.progress = index, label, Progress(0, 0, 0)
        with suppress(OSError):  # a worker that died is noticed when it is asked for its result
            self.connection.send((part, label))

    def receive(self) -> PartResult | None:
        """Take one message; returns the result if it is one.

        Raises:
            MoeLiveError: the process has died.
        """
        try:
            message: Progress | PartResult = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise MoeLiveError(
                f"a process that read a part of the input died (exit code {self._process.exitcode}); "
                "try --jobs 1, which takes less memory"
            ) from None
        if isinstance(message, PartResult):
            self.index, self.progress = None, Progress(0, 0, 0)
            return message
        self.progress = message
        return None

    def stop(self) -> PartResult:
        """End it where it is: the result of what it has read of its part."""
        with suppress(OSError):
            self.connection.send(None)
        while (result := self.receive()) is None:
            pass
        return result

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _context() -> ForkContext | SpawnContext:
    """How processes are started: as copies of this one, which takes no time, where it has a single thread.

    A copy has none of the other threads, but the locks they held; so it is for fresh interpreters then.
    """
    if sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1:
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("spawn")


def _work(connection: Connection, settings: Settings, others: Sequence[Connection]) -> None:
    """What a worker does: read the parts it is given; anything else that comes while it does ends that.

    Args:
        connection: where tasks come from.
        settings: of the analysis.
        others: connections of the process that asks, which a copy of it holds and so would never see closed.
    """
    for other in others:
        other.close()
    unhandle_signals()
    with suppress(EOFError, OSError):  # the process that asked has gone
        while (task := connection.recv()) is not None:
            part, label = task
            reader = PartReader(part, settings, label)
            due = 0.0
            while reader.read() and not connection.poll():
                if time.monotonic() >= due:
                    connection.send(reader.analyzer.progress())
                    due = time.monotonic() + PROGRESS_S
            connection.send(reader.finish())


class ParallelSession(Session):
    """A session over files in parts, some of which other processes read. The result is that of one process.

    This process reads parts too: it need not wait until the others have started.

    Args:
        source: all the files; asked only what they are.
        parts: their parts in order.
        jobs: processes that read, this one among them.
        settings: of the analysis.
        paths: for the report.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        parts: Sequence[Part],
        jobs: int,
        settings: Settings,
        *,
        paths: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(source, Analyzer(settings, paths=paths), clock=clock)
        self._settings = settings
        self._parts = parts
        self._waiting = deque(range(len(parts)))
        self._results: dict[int, tuple[str, PartResult]] = {}  # by part; with the label it was read under
        self._merged = 0
        self._problems: list[str] = []
        self._reader: PartReader | None = None
        self._index, self._label = 0, ""
        self._workers: list[_Worker] = []
        with suppress(OSError):  # no more processes, or descriptors, may be had: fewer do
            for _ in range(min(jobs, len(parts)) - 1):
                self._workers.append(_Worker(settings, [worker.connection for worker in self._workers]))

    def ingest(self, seconds: float) -> bool:
        """Read and analyze what is there, for about `seconds` at most.

        Returns:
            Whether anything came.

        Raises:
            MoeLiveError: not everything could be read; what could be is in the figures.
        """
        deadline = self._clock() + seconds
        while not self._has_merged_all():
            self._hand_out()
            busy = {worker.connection: worker for worker in self._workers if worker.index is not None}
            patience = 0.0 if self._reader is not None else max(0.0, deadline - self._clock())
            for connection in wait(list(busy), patience):
                worker = busy[connection]  # type: ignore[index] # `wait` returns what it was given
                index, label = worker.index, worker.label
                result = worker.receive()
                if result is not None and index is not None:
                    self._results[index] = label, result
                    self._hand_out()  # before this process does anything else that takes time
            if self._reader is not None and not self._reader.read():
                self._results[self._index] = self._label, self._reader.finish()
                self._reader = None
            self._merge()
            if self._clock() >= deadline:
                return True
        if self._problems:
            problem, self._problems = self._problems[0], []
            raise MoeLiveError(problem)
        return False

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:
        """End all processes; the statistics are those of the input so far as nothing before is missing."""
        self._waiting.clear()
        first = self._merged  # of the parts that are not finished
        if self._reader is not None and self._index == first:
            self._results[first] = self._label, self._reader.finish()
        for worker in self._workers:
            if worker.index == first:
                with suppress(MoeLiveError):
                    self._results[first] = worker.label, worker.stop()
        self._results = {index: result for index, result in self._results.items() if index == first}
        self._merge()
        for worker in self._workers:
            worker.close()
        self._results, self._reader, self._workers = {}, None, []
        return super().finish(stop)

    def _has_merged_all(self) -> bool:
        return self._merged == len(self._parts)

    def _hand_out(self) -> None:
        """Give every process a part that has none."""
        label = self.analyzer.label  # a good guess at least
        if self._reader is None and self._waiting:
            self._index, self._label = self._waiting.popleft(), label
            self._reader = PartReader(self._parts[self._index], self._settings, label)
        for worker in self._workers:
            if worker.index is None and self._waiting:
                index = self._waiting.popleft()
                worker.begin(index, self._parts[index], label)

    def _merge(self) -> None:
        """Merge what is finished, as far as nothing before it is missing."""
        while self._merged in self._results:
            label, result = self._results.pop(self._merged)
            if label != self.analyzer.label:  # known only now: a part before it has changed it
                self._waiting.appendleft(self._merged)
                return
            self.analyzer.merge(result.analyzer)
            self.analyzer.label = result.analyzer.label
            if result.problem:
                self._problems.append(result.problem)
            self._merged += 1

    def _progress(self) -> Progress:
        parts = [self.analyzer.progress(), *(worker.progress for worker in self._workers)]
        parts += [result.analyzer.progress() for _, result in self._results.values()]
        if self._reader is not None:
            parts.append(self._reader.analyzer.progress())
        return Progress(*map(sum, zip(*parts, strict=True)))

    def _source_status(self) -> SourceStatus:
        ended = self._has_merged_all() and not self._problems
        return replace(
            self.source.status(),
            state=State.ENDED if ended else State.READING,
            position=self._progress().bytes,
        )
