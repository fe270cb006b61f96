"""Logs to snapshots in one call: what `import moe_live` offers beside the analyzer itself."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from moe_live.analyzer import Analyzer
from moe_live.kernels.loading import prepare
from moe_live.reports.unusable import require_usable
from moe_live.session import READ_AHEAD, Session
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.follow import Follower
from moe_live.sources.source import Source
from moe_live.statistics.step_distances import StepDistance

_SLICE = 0.1  # seconds of reading at a time


def read(
    path: str | os.PathLike[str], *more: str | os.PathLike[str], settings: Settings | None = None
) -> Snapshot:
    """The statistics of finished logs, read to their end by this process.

    Args:
        path: a log, packed by gzip or not.
        more: others, which come after it.
        settings: what to count; by default what the command does.

    Raises:
        MoeLiveError: a log is missing, damaged or may not be read, or none has a usable line.
    """
    names = tuple(os.fspath(each) for each in (path, *more))
    source = ArchiveSource(names)
    prepare(source.status().total)
    run = Session(source, Analyzer(settings, paths=names))
    for _ in _portions(run):
        pass
    snapshot = run.finish()
    require_usable(snapshot)
    return snapshot


def read_steps(
    path: str | os.PathLike[str], *more: str | os.PathLike[str], settings: Settings | None = None
) -> Iterator[StepDistance]:
    """The distances between gate inputs in each step of finished logs, in their order, as they are read.

    Args:
        path: a log, packed by gzip or not.
        more: others, which come after it.
        settings: `include_prompt` for steps of prefill too, `gate_layers` for some layers only.

    Raises:
        MoeLiveError: a log is missing, damaged or may not be read.
    """
    names = tuple(os.fspath(each) for each in (path, *more))
    return _steps(Session(ArchiveSource(names), Analyzer(settings, paths=names, keep_steps=True)))


def _steps(run: Session) -> Iterator[StepDistance]:
    for _ in _portions(run):
        yield from run.take_steps()
    run.finish()
    yield from run.take_steps()


def _portions(run: Session) -> Iterator[None]:
    """Read to the end, a portion each time; the source is closed then, or when nobody goes on."""
    with closing(run.source):
        while not run.ended:
            run.ingest(_SLICE)
            yield
            time.sleep(run.pause)  # of a FIFO; files have none


def follow(
    path: str | os.PathLike[str],
    *,
    every: float = 1.0,
    from_end: bool = False,
    settings: Settings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Snapshots of a log that grows, for as long as they are asked for; restarts and rotations do not end it.

    The log is held open from the first to the last; leaving the loop, or `close()` of what is returned, lets
    it go.

    Args:
        path: the log. It may be missing: it is waited for.
        every: seconds from one snapshot to the next, at least; what came meanwhile is in it. The same object
            comes again if nothing did.
        from_end: begin with what comes from now on.
        settings: what to count; by default what the command does.
        clock: seconds, monotonic.

    Raises:
        ValueError: `every` is not positive.
        MoeLiveError: the log cannot be read.
    """
    if not every > 0:
        raise ValueError(f"every is {every!r}; it must be a positive number of seconds")
    name = os.fspath(path)
    return _snapshots(Follower(name, from_end=from_end), name, every, settings, clock)


def _snapshots(
    source: Follower, name: str, every: float, settings: Settings | None, clock: Callable[[], float]
) -> Iterator[Snapshot]:
    run = Session(source, Analyzer(settings, paths=(name,)), read_ahead=READ_AHEAD, clock=clock)
    snapshot: Snapshot | None = None
    known: object = None
    with closing(source):
        while True:
            due = clock() + every
            while (left := due - clock()) > 0:
                run.ingest(left)
                _wait(source, min(run.pause, max(0.0, due - clock())))
            status = source.status()
            read_so_far = (run.progress(), status.restarts, status.rotations)
            if snapshot is None or read_so_far != known:
                snapshot, known = run.snapshot(), read_so_far
            yield snapshot


def _wait(source: Source, seconds: float) -> None:
    """Sleep so long, less if the source has something."""
    descriptor = source.wake_fd()
    if descriptor is None or os.name != "posix":
        time.sleep(seconds)
    else:
        select.select([descriptor], [], [], seconds)
