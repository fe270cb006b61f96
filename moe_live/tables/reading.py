"""Logs read once, and the lines of their rows as they are if what is supposed of the whole logs holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from moe_live.analyzer import Analyzer
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, UsageError
from moe_live.formats.records import LineTally
from moe_live.isolation import Failures
from moe_live.routing.batch import Kind, StepBatch
from moe_live.routing.evidence import Verdict
from moe_live.session import READ_SIZE
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break
from moe_live.tables.columns import Piece
from moe_live.tables.rows import RowLines

GLANCE_BYTES = 1 << 22
"""From so many bytes of a log is supposed what holds for all of it."""

_LONGEST_GLANCE_BYTES = 1 << 25
"""Or from so many, if fewer do not have a step that is complete."""


class Known(NamedTuple):
    """What logs show when they have been read to their end, as far as lines depend on it.

    Attributes:
        layers: of the model.
        last_layer_known: whether its last one is among them for sure: then undecided steps are decode.
        highest: layer in any row.
        verdicts: on the rows of each run of the server.
    """

    layers: tuple[int, ...]
    last_layer_known: bool
    highest: int
    verdicts: tuple[Verdict, ...]

    @property
    def decode(self) -> list[Kind]:
        """The kinds of steps that are decode."""
        return [Kind.DECODE, Kind.UNDECIDED] if self.last_layer_known else [Kind.DECODE]


@dataclass(frozen=True)
class Task:
    """How logs are to be read.

    Attributes:
        supposed: what they are taken to show; None if no lines are wanted.
        before: what was counted when they showed it; None if that has not been.
        at_most: bytes of each that are read, unpacked; nothing for all.
    """

    supposed: Known | None
    before: LineTally | None = None
    at_most: tuple[int, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What was found by reading logs to their end.

    Attributes:
        snapshot: the counts.
        known: what they show.
        holds: whether the lines are right that were made meanwhile.
        bytes: of each, unpacked.
        problem: why not all could be read; None if it could.
    """

    snapshot: Snapshot
    known: Known
    holds: bool
    bytes: tuple[int, ...]
    problem: MoeLiveError | None = None


@dataclass(frozen=True)
class Logs:
    """Finished logs.

    Attributes:
        paths: of the logs.
        settings: how they are read.
        labels: of each log; nothing for none.
    """

    paths: tuple[str, ...]
    settings: Settings
    labels: tuple[str, ...] = ()


def glance(logs: Logs) -> Known | None:
    """What the beginning of the first log shows; None if there are no rows.

    Raises:
        UsageError: it cannot be read at all.
    """
    watched = _Watched(Logs(logs.paths[:1], logs.settings), Task(None), lambda _: None)
    source, read = ArchiveSource(logs.paths[:1]), 0
    with closing(source):
        if source.status().size is None:
            return None
        while read < GLANCE_BYTES or (watched.analyzer.highest < 0 and read < _LONGEST_GLANCE_BYTES):
            items = _next(source, [])
            for item in items:
                if isinstance(item, bytes):
                    watched.analyzer.feed(item)
                    read += len(item)
            if not items:
                watched.analyzer.finish()
                break
    snapshot = watched.analyzer.snapshot(())
    return watched.known(snapshot) if snapshot.rows.logged else None


def read_once(
    logs: Logs, task: Task, take: Callable[[Piece], object], progress: Callable[[float], object]
) -> Findings:
    """Read all logs to their end.

    Args:
        logs: to be read.
        task: how.
        take: is given lines, until it shows that they are not right.
        progress: is told the share that is read, sometimes.

    Raises:
        MoeLiveError: they cannot be read at all, or are pipes.
    """
    watched, found, shown = _Watched(logs, task, take), [0], 0.0
    analyzer, source = watched.analyzer, ArchiveSource(logs.paths)
    problems: list[MoeLiveError] = []
    with closing(source):
        size = source.status().size
        if size is None:
            raise UsageError(
                "the rows of a log are read twice where its end tells more: give a file, not a pipe"
            )
        _begin(analyzer, logs, 0)
        while items := _next(source, problems):
            for item in items:
                if isinstance(item, bytes):
                    kept = item[: task.at_most[len(found) - 1] - found[-1]] if task.at_most else item
                    found[-1] += len(kept)
                    analyzer.feed(kept)
                else:
                    analyzer.interrupt(item)
                    _begin(analyzer, logs, len(found))
                    found.append(0)
            if (share := source.status().position / max(size, 1)) > shown + 0.01:
                progress(shown := share)
    analyzer.finish()
    snapshot = analyzer.snapshot(())
    known = watched.known(snapshot)
    return Findings(snapshot, known, watched.agrees(known), tuple(found), *problems[:1])


def _next(source: ArchiveSource, problems: list[MoeLiveError]) -> Sequence[bytes | Break]:
    """What comes next; nothing at the end. What was read until there is a problem is used."""
    try:
        return source.read(READ_SIZE)
    except MoeLiveError as problem:
        problems.append(problem)
        return ()


def _begin(analyzer: Analyzer, logs: Logs, log: int) -> None:
    """What comes now is of this log."""
    if logs.labels:
        analyzer.label = logs.labels[log]


class _Watched:
    """An analyzer whose steps become lines.

    Args:
        logs: that are read.
        task: how.
        take: is given the lines.

    Attributes:
        analyzer: is to be fed.
    """

    def __init__(self, logs: Logs, task: Task, take: Callable[[Piece], object]) -> None:
        self._supposed = task.supposed
        self._before = task.before
        self._take = take
        self._ended: list[Verdict] = []
        self._used: dict[int, Verdict] = {}  # of the runs that had rows on which it matters
        self._holds = task.supposed is not None
        self.analyzer = Analyzer(
            logs.settings, paths=logs.paths, watch=self._watch, weights=task.supposed is not None
        )
        if task.supposed is not None:
            self.analyzer.learn(task.supposed.highest)
            self._rows = RowLines(task.supposed.layers, task.supposed.decode)

    def known(self, snapshot: Snapshot) -> Known:
        """What the analyzer has found, of which this is the snapshot."""
        verdicts = (*self._ended, self._latest_verdict())
        return Known(snapshot.model.layers, snapshot.last_layer_known, self.analyzer.highest, verdicts)

    def agrees(self, known: Known) -> bool:
        """Whether the lines are right if this is true."""
        return (
            self._holds
            and self._supposed is not None
            and self._supposed[:-1] == known[:-1]
            and self._before in (None, self.analyzer.tally)
            and all(known.verdicts[run] is verdict for run, verdict in self._used.items())
        )

    def _watch(self, batch: StepBatch) -> None:
        """Keep the verdict on a run that ended before these steps, and make lines of them."""
        runs, supposed = self.analyzer.runs, self._supposed
        if runs.number > len(self._ended) + 1:
            self._ended.append(runs.latest[-1].soundness)
            last = len(self._ended) - 1
            self._holds &= self._used.get(last, self._ended[last]) is self._ended[last]
        if supposed is None or not self._holds:
            return
        self._holds = self.analyzer.highest == supposed.highest
        verdict = Verdict.UNKNOWN
        if batch.written or batch.repeating or batch.verified:
            verdict = self._verdict(supposed, runs.number - 1)
        for piece in self._rows.of(batch, verdict):
            self._take(piece)

    def _verdict(self, supposed: Known, run: int) -> Verdict:
        """On a run: the same for all of its lines. What is not supposed is as it seems now."""
        if run not in self._used:
            verdict = supposed.verdicts[min(run, len(supposed.verdicts) - 1)]
            if verdict is Verdict.UNKNOWN and self._before is None:
                verdict = self._latest_verdict()
            self._used[run] = verdict
        return self._used[run]

    def _latest_verdict(self) -> Verdict:
        """On the run that goes on."""
        return self.analyzer.runs.run(Failures()).soundness
