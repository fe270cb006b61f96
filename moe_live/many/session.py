"""Many logs as one run: hands tasks to an engine, and merges what they find in a tree."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from moe_live.analyzer import Analyzer, Progress
from moe_live.errors import MoeLiveError, printable
from moe_live.many.engine import Engine, Task
from moe_live.many.logs import LogPart
from moe_live.many.tasks import merge, read, unpacked
from moe_live.running import Meter, Status
from moe_live.settings import Settings
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Break, SourceStatus, State
from moe_live.statistics.step_distances import StepDistance
from moe_live.version import __version__

FAN = 8
"""Results that are merged by one task."""

_AHEAD = 4
"""Tasks for each worker that are handed out before the first of them is done."""


class _Reading(NamedTuple):
    of: Sequence[LogPart]
    task: Task


class LogsSource:
    """The logs as `Source`, read elsewhere: it has no bytes, but tells how things are.

    Attributes:
        size: bytes of all, as they lie there; None if that of one is unknown.
        position: bytes of those that are read.
        ended: whether all is done.
        detail: what is to be said of it now, "" for nothing.
    """

    def __init__(self, name: str, size: int | None) -> None:
        self.name, self.size = name, size
        self.position = 0
        self.ended = False
        self.detail = ""

    def read(self, limit: int) -> Sequence[bytes | Break]:  # noqa: ARG002 - there are no bytes
        """Nothing."""
        return []

    def pause(self) -> float:
        """No time: `ingest` waits for the engine."""
        return 0.0

    def wake_fd(self) -> int | None:
        """None."""
        return None

    def status(self) -> SourceStatus:
        """How far it is."""
        return SourceStatus(
            name=self.name,
            state=State.ENDED if self.ended else State.READING,
            detail=self.detail,
            position=self.position,
            size=self.size,
        )

    def close(self) -> None:
        """Nothing is held open."""


class ManyLogs:
    """A `Run` over logs that an engine reads. The result is that of one process over all, in their order.

    What follows a part that ends under another label than was expected is read again: which one is in force
    where a part begins is known only when all before it are read. Labels in logs are rare.

    Args:
        parts: what the tasks are to read, in the order of the logs.
        engine: what runs the tasks.
        settings: of the analysis.
        name: what the logs are called together.
        size: bytes of all; None if unknown.
        strict: whether a log that cannot be read to its end is an error.
        clock: seconds, monotonic.

    Attributes:
        problems: why what could not be read was not, a line each.
    """

    def __init__(
        self,
        parts: Iterable[Sequence[LogPart]],
        engine: Engine,
        settings: Settings,
        *,
        name: str,
        size: int | None,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = LogsSource(name, size)
        self.analyzer = Analyzer(settings)
        self.problems: list[str] = []
        self._engine = engine
        self._settings = settings
        self._strict = strict
        self._clock = clock
        self._meter = Meter(clock)
        self._waiting: Iterator[Sequence[LogPart]] = iter(parts)
        self._reading: deque[_Reading] = deque()
        self._label = settings.label
        self._progress = Progress(0, 0, 0)
        self._levels: list[list[Task]] = []
        self._last: Task | None = None

    @property
    def ended(self) -> bool:
        """Whether all is merged."""
        return self.source.ended

    @property
    def held(self) -> int:
        """Nothing."""
        return 0

    @property
    def pause(self) -> float:
        """No time: `ingest` waits for the engine."""
        return 0.0

    def ingest(self, seconds: float) -> bool:
        """Take what is found, for about `seconds` at most; whether anything came.

        Raises:
            MoeLiveError: what was found is lost; or not all could be read, and that is to be an error.
        """
        deadline = self._clock() + seconds
        came = False
        while not self.ended:
            self._hand_out()
            if self._take():
                came = True
            elif (left := deadline - self._clock()) > 0:
                self._engine.wait(left)
            else:
                break
        return came

    def _hand_out(self) -> None:
        """Keep the workers busy."""
        while len(self._reading) < _AHEAD * max(1, self._engine.workers):
            if (part := next(self._waiting, None)) is None:
                return
            self._reading.append(self._submitted(part))

    def _submitted(self, part: Sequence[LogPart]) -> _Reading:
        return _Reading(part, self._engine.submit(read, part, self._settings, self._label))

    def _take(self) -> bool:
        """Take what comes next in the order of the logs; whether it is there."""
        if self._reading:
            if not self._reading[0].task.done():
                return False
            self._take_part(self._reading.popleft())
        elif self._last is None:
            self._close_levels()
        elif self._last.done():
            self._finish(self._last)
        else:
            return False
        return True

    def _take_part(self, reading: _Reading) -> None:
        try:
            told = reading.task.told()
        except Exception as error:  # a log that kills its reader, or the like
            if len(reading.of) > 1:  # which of them it was shows when each is read alone
                self._reading.extendleft([self._submitted([each]) for each in reading.of][::-1])
            else:
                path = printable(reading.of[0].part.path)
                self._read_badly(f"cannot analyze {path}: {printable(str(error))}")
            return
        if told.version != __version__:
            raise MoeLiveError(
                f"{self._engine.name} has moe-live {told.version}, and this is {__version__}; install one"
            )
        if told.began != self._label:
            self._reading.appendleft(self._submitted(reading.of))
            return
        for problem in told.problems:
            self._read_badly(problem)
        self._label = told.label
        self._progress = Progress(*map(sum, zip(self._progress, told.progress, strict=True)))
        self.source.position += sum(each.size for each in reading.of)
        self._add(reading.task, 0)

    def _read_badly(self, problem: str) -> None:
        """Note it.

        Raises:
            MoeLiveError: it is not to be put up with.
        """
        if self._strict:
            raise MoeLiveError(problem)
        self.problems.append(problem)

    def _add(self, task: Task, level: int) -> None:
        """Take what comes after all before it into the tree."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(task)
        if len(self._levels[level]) == FAN:
            merged = self._merged(self._levels[level])
            self._levels[level] = []
            self._add(merged, level + 1)

    def _merged(self, tasks: Sequence[Task]) -> Task:
        return self._engine.submit(merge, *tasks)

    def _close_levels(self) -> None:
        """All is read: merge what is left, the higher levels of which come first."""
        rest = [task for level in reversed(self._levels) for task in level]
        self._levels = []
        while len(rest) > 1:
            groups = [rest[begin : begin + FAN] for begin in range(0, len(rest), FAN)]
            rest = [self._merged(group) if len(group) > 1 else group[0] for group in groups]
        if rest:
            (self._last,) = rest
        else:
            self.source.ended = True

    def _finish(self, whole: Task) -> None:
        """Take over what all found.

        Raises:
            MoeLiveError: it is lost.
        """
        try:
            self.analyzer.merge(unpacked(whole.found()))
        except MoeLiveError:
            raise
        except Exception as error:
            raise MoeLiveError(f"what was found cannot be merged: {printable(str(error))}") from error
        if self.analyzer.progress()[:2] != self._progress[:2]:  # bytes and lines
            raise MoeLiveError("logs changed while they were read, and were read again; start anew")
        self.source.ended = True

    def progress(self) -> Progress:
        """Totals of what is read."""
        return self._progress

    def status(self) -> Status:
        """See `Run.status`."""
        self.source.detail = "" if self._engine.workers else "waiting for workers"
        return self._meter.status(self.source.status(), self._progress, self._label)

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics: there are none before all is merged."""
        return self.analyzer.snapshot(sections, pairs_of=pairs_of, anew=anew)

    def take_steps(self) -> list[StepDistance]:
        """None: logs are not read in their order."""
        raise NotImplementedError

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:  # noqa: ARG002 - nothing is held
        """End the engine; the statistics if all is merged."""
        self._engine.close()
        return self.analyzer.snapshot()
