"""Large finished files read by several processes, a part at a time, and merged in their order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait

from moe_live.analyzer import Analyzer, Progress
from moe_live.errors import MoeLiveError
from moe_live.parallel.plan import Part
from moe_live.parallel.worker import Worker
from moe_live.running import Meter, Status
from moe_live.settings import Settings
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Source, State
from moe_live.statistics.step_distances import StepDistance


class ParallelSession:
    """A `Run` over files in parts that other processes read. The result is that of one process.

    This process merges what they find, in the order of the parts. Who is done before its turn waits.

    Args:
        source: all the files; asked only what they are.
        parts: their parts in order.
        workers: one at least; ended by `finish`.
        settings: of the analysis.
        paths: for the report.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        parts: Sequence[Part],
        workers: Sequence[Worker],
        settings: Settings,
        *,
        paths: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.analyzer = Analyzer(settings, paths=paths, dialect=parts[0].dialect)
        self._clock = clock
        self._meter = Meter(clock)
        self._parts = parts
        self._waiting = deque(range(len(parts)))
        self._merged = 0
        self._workers = workers
        self._idle = list(workers)
        self._busy: dict[int, Worker] = {}  # by the index of the part
        self._problems: list[str] = []
        self._failure: MoeLiveError | None = None

    @property
    def ended(self) -> bool:
        """Whether all parts are merged, and what was wrong with them is raised."""
        return self._has_merged_all() and not self._problems

    @property
    def held(self) -> int:
        """Nothing: what is read is analyzed at once."""
        return 0

    @property
    def pause(self) -> float:
        """No time: `ingest` waits for the processes."""
        return 0.0

    def ingest(self, seconds: float) -> bool:
        """Merge what is found, for about `seconds` at most.

        Returns:
            Whether not all is merged yet.

        Raises:
            MoeLiveError: not everything could be read; what could be is in the figures.
        """
        deadline = self._clock() + seconds
        self._hand_out()
        while not self._has_merged_all():
            reading = {worker.connection: worker for worker in self._busy.values() if not worker.finished}
            for connection in wait(list(reading), max(0.0, deadline - self._clock())):
                reading[connection].receive()  # type: ignore[index] # `wait` returns what it was given
            self._merge_finished()
            if self._clock() >= deadline:
                return True
        if self._problems:
            problem, self._problems = self._problems[0], []
            raise MoeLiveError(problem)
        return False

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:  # noqa: ARG002 - nothing is held
        """End all processes; the statistics are those of the input so far as nothing before is missing.

        Raises:
            MoeLiveError: a process died while it handed over what it found: there are no figures.
        """
        first = self._busy.get(self._merged)
        if first is not None and first.label == self.analyzer.label:
            with suppress(MoeLiveError):
                self._merge(first)
        for worker in self._workers:
            worker.close()
        self._busy, self._workers = {}, []
        if self._failure is not None:
            raise self._failure
        self.source.close()
        self.analyzer.finish()
        return self.analyzer.snapshot()

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of what is merged; see `Analyzer.snapshot`."""
        return self.analyzer.snapshot(sections, pairs_of=pairs_of, anew=anew)

    def _has_merged_all(self) -> bool:
        return self._merged == len(self._parts)

    def _hand_out(self) -> None:
        """Give every worker a part that has none."""
        while self._idle and self._waiting:
            index, worker = self._waiting.popleft(), self._idle.pop()
            worker.begin(self._parts[index], self.analyzer.label)  # a good guess at least
            self._busy[index] = worker

    def _merge_finished(self) -> None:
        """Merge what workers have finished, as far as nothing before it is missing."""
        while (worker := self._busy.get(self._merged)) is not None and worker.finished:
            del self._busy[self._merged]
            if worker.label == self.analyzer.label:
                self._merge(worker)
            else:  # known only now: a part before it has changed it
                worker.drop()
                self._waiting.appendleft(self._merged)
            self._idle.append(worker)
            self._hand_out()

    def _merge(self, worker: Worker) -> None:
        """Merge the part that comes next.

        Raises:
            MoeLiveError: the worker has died.
        """
        try:
            self.analyzer.merge(worker)
        except MoeLiveError as error:
            if worker.finished:
                self._failure = error  # half a part may be in the figures
            raise
        self.analyzer.label = worker.end_label
        if worker.problem:
            self._problems.append(worker.problem)
        self._merged += 1

    def take_steps(self) -> list[StepDistance]:
        """None: parts are not read in their order. Where steps are wanted one process reads."""
        raise NotImplementedError

    def progress(self) -> Progress:
        """Totals of what is merged and of what is being read."""
        parts = [self.analyzer.progress(), *(worker.progress for worker in self._busy.values())]
        return Progress(*map(sum, zip(*parts, strict=True)))

    def status(self) -> Status:
        """See `Run.status`."""
        progress = self.progress()
        source = replace(
            self.source.status(),
            state=State.ENDED if self.ended else State.READING,
            position=progress.bytes,
        )
        return self._meter.status(source, progress, self.analyzer.label)
