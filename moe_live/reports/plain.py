"""A run without a dashboard: status lines or a progress bar on stderr while the log is read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from moe_live.errors import printable
from moe_live.formatting import duration
from moe_live.reports.unusable import has_usable_lines, unknown_so_far
from moe_live.running import Run, Status
from moe_live.sources.source import State

PUZZLED_AFTER = 2.0
"""Seconds after which it is said that no line is usable, while they still come."""

_SLICE = 0.1  # seconds of reading between two looks at the stop flag


class _Display(Protocol):
    """Shows how the run is going; asked often, it decides itself when there is something new to show."""

    def update(self, status: Status) -> None: ...

    def close(self) -> None: ...


def run_plain(
    session: Run,
    *,
    stderr: TextIO,
    stop: Callable[[], bool],
    wait: Callable[[float], object],
    publish: Callable[[Run], object] = lambda _: None,
    no_color: bool = False,
    interval: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Read until the source has ended or `stop` says so.

    Finished files get a progress bar if stderr is a terminal, everything else a status line now and then.

    Args:
        session: the run; the caller finishes it.
        stderr: where the status goes.
        stop: whether to end now; asked about every tenth of a second.
        wait: sleeps that many seconds, less if there is reason.
        publish: called at every turn, for outputs that follow.
        no_color: draw the progress bar without colours, whatever the environment says.
        interval: seconds between two status lines.
        clock: seconds, monotonic.
    """
    status = session.status()
    puzzle = _Puzzle(stderr, clock)
    finished_files = status.source.size is not None and not status.source.watch
    display: _Display | None = None
    if finished_files and stderr.isatty():
        from moe_live.reports.progress_bar import progress_bar

        display = progress_bar(stderr, status, no_color=no_color)
    if display is None:
        display = _Lines(stderr, interval, clock, delay=0.0 if status.source.watch else interval)
    try:
        while not stop() and not session.ended:
            session.ingest(_SLICE)
            publish(session)
            display.update(session.status())
            if not finished_files:
                puzzle.update(session)
            wait(session.pause)
    finally:
        display.close()


class _Puzzle:
    """Says once what comes instead of usable lines, if for two seconds nothing else did."""

    def __init__(self, stderr: TextIO, clock: Callable[[], float]) -> None:
        self._stderr = stderr
        self._clock = clock
        self._due = clock() + PUZZLED_AFTER

    def update(self, session: Run) -> None:
        if self._clock() < self._due:
            return
        self._due = self._clock() + PUZZLED_AFTER
        tally = session.snapshot(()).input.tally
        if said := unknown_so_far(tally):
            self._stderr.writelines(f"moe-live: {line}\n" for line in said)
            self._stderr.flush()
        if said or has_usable_lines(tally):
            self._due = math.inf


class _Lines:
    """A line every few seconds, the first after `delay`, and at once when the source has something new."""

    def __init__(self, stderr: TextIO, interval: float, clock: Callable[[], float], *, delay: float) -> None:
        self._stderr = stderr
        self._interval = interval
        self._clock = clock
        self._due = clock() + delay
        self._detail = ""

    def update(self, status: Status) -> None:
        now = self._clock()
        detail = status.source.detail
        if now < self._due and detail in ("", self._detail):
            return
        self._due = now + self._interval
        self._detail = detail
        self._stderr.write(f"moe-live: {status_line(status)}\n")
        self._stderr.flush()

    def close(self) -> None:
        pass


def status_line(status: Status) -> str:
    """How the run is going, in one line without control characters."""
    from rich.filesize import decimal

    source = status.source
    parts = [f"{source.state.value} {printable(source.name)}"]
    if source.detail:
        parts.append(printable(source.detail))
    if source.state is not State.WAITING:
        read = decimal(source.position)
        parts.append(f"{read} read" if status.progress is None else f"{read} read ({status.progress:.0%})")
        parts.append(f"{decimal(int(status.bytes_per_second))}/s")
        parts.append(f"{status.lines_per_second:.0f} lines/s")
        parts.append(f"{status.tokens_per_second:.1f} tokens/s")
        if source.state is State.READING and status.seconds_left is not None:
            parts.append(f"{duration(status.seconds_left)} left")
    if source.restarts:
        parts.append(f"{source.restarts} restarts")
    if source.rotations:
        parts.append(f"{source.rotations} rotations")
    return ", ".join(parts)
