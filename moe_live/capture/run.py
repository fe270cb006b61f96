"""`moe-live run -- COMMAND`: a command with the tap, and its rows as they are computed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import FrameType

from moe_live.capture.command import (
    OUTPUT_LIMIT,
    TapSettings,
    nothing_computed,
    prepared,
    tell_of_failure,
)
from moe_live.capture.launch import Launch
from moe_live.capture.model_name import model_name
from moe_live.capture.supervisor import BoundedOutput, Command, LaunchError
from moe_live.errors import printable
from moe_live.sources.follow import Follower
from moe_live.sources.peers import PeerSource
from moe_live.sources.source import Break, CommandStatus, Source, SourceStatus, State
from moe_live.terminal import Signals

PASSED_ON = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""What is passed on to the command at once; SIGINT, SIGTERM and SIGHUP end the run and the command."""

KEPT_LOGS = 4
"""Older files of a log that is rotated."""

_SAID = 12  # lines
_LAST_WORD_S = 5.0  # until rows that cannot be read any more are given up, when the command has ended


class KeptLog:
    """The log that the tap writes, rotated when it is large; the tap notices that its file was renamed.

    Args:
        path: the log.
        limit: bytes; None for a log that is never rotated.
    """

    def __init__(self, path: Path, limit: int | None) -> None:
        self._names = [path, *(path.with_name(f"{path.name}.{i}") for i in range(1, KEPT_LOGS + 1))]
        self._limit = limit
        self._gone = -sum(map(_size, self._names))  # bytes that were there before, or are there no more
        self.problem = ""

    @property
    def written(self) -> int:
        """Bytes that were written since the beginning."""
        return self._gone + sum(map(_size, self._names))

    @property
    def is_large(self) -> bool:
        """Whether it should be rotated."""
        return self._limit is not None and _size(self._names[0]) >= self._limit

    def rotate(self) -> None:
        """Give it, and those that were rotated before, their next names."""
        oldest = _size(self._names[-1])
        self.problem = ""
        for i in reversed(range(KEPT_LOGS)):
            try:
                self._names[i].replace(self._names[i + 1])
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problem = f"{printable(self._names[i])} cannot be rotated: {error.strerror}"
                return
            if i == KEPT_LOGS - 1:
                self._gone += oldest


class CommandSource:
    """What a command computes, as `Source`: it ends when the command has ended and all is read.

    Args:
        command: it runs already.
        name: what people call it.
        rows: what is read while it runs.
        output: of the command.
        kept: the log that is kept.
    """

    def __init__(
        self, command: Command, name: str, rows: Source, output: BoundedOutput, kept: KeptLog | None
    ) -> None:
        self._command = command
        self._name = name
        self._rows = rows
        self._output = output
        self._kept = kept
        self._due: list[int] = []
        self._ended = False
        self._came_at = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether the command runs."""
        return self._command.poll() is None

    @property
    def pid(self) -> int:
        """Of the command."""
        return self._command.pid

    @property
    def exit_status(self) -> int:
        """What moe-live's own should be: that of the command, 0 if the user has ended it."""
        return 0 if self._command.interrupts else self._command.poll() or 0

    def ask_to_end(self, number: int) -> None:
        """Pass on a signal that ends it; the second SIGINT ends it soon, whatever it does."""
        self._command.pass_on(number)

    def pass_on_later(self, number: int, _frame: FrameType | None = None) -> None:
        """A signal handler: the signal is passed on with the next `read`."""
        self._due.append(number)

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """What has been computed since the last call. Sees to the command, its output and its log too."""
        while self._due:
            self._command.pass_on(self._due.pop(0))
        self._output.trim()
        running = self.running  # before reading: what it wrote last is read then
        is_large = self._kept is not None and self._kept.is_large
        items = self._rows.read(limit)
        if self._kept is not None and is_large:
            self._kept.rotate()  # now that its reader has seen it under its name
        now = time.monotonic()
        if items or running:
            self._came_at = now
        elif not self._rows.status().lag or now > self._came_at + _LAST_WORD_S:
            self._ended = True
        return items

    def pause(self) -> float:
        """That of the rows."""
        return self._rows.pause()

    def wake_fd(self) -> int | None:
        """That of the rows."""
        return self._rows.wake_fd()

    def status(self) -> SourceStatus:
        """The state of the rows, and of the command."""
        rows = self._rows.status()
        kept = self._kept
        command = CommandStatus(
            output=str(self._output.path),
            said=tuple(self._output.last_lines(_SAID)),
            ended=self._command.poll(),
            logged=None if kept is None else kept.written,
        )
        problem = kept.problem if kept is not None else ""
        return replace(
            rows,
            name=self._name,
            state=State.ENDED if self._ended else rows.state,
            detail="; ".join(filter(None, (problem, rows.detail))),
            command=command,
        )

    def close(self) -> None:
        """Read no more; the command goes on."""
        self._rows.close()
        self._ended = True

    def tell_of_end(self, *, computed: bool) -> None:
        """Say on standard error how it ended, if not as it should.

        Args:
            computed: whether anything was read.
        """
        if self.running:
            sys.stderr.write(
                f"moe-live: {self._name} goes on as process {self.pid}; what it says: {self._output.path}\n"
            )
            return
        if self.exit_status:
            tell_of_failure(self._name, self.exit_status, self._output)
        if not computed:
            sys.stderr.write(f"moe-live: nothing to sum up: {nothing_computed(self._name)}\n")


@contextmanager
def started(launch: Launch, signals: Signals) -> Iterator[CommandSource]:
    """The command, running. It is not ended here.

    Args:
        launch: what to run, and how.
        signals: entered already; those that are `PASSED_ON` are the command's herein.

    Raises:
        LaunchError: it cannot be started.
        UsageError: the log cannot be followed.
    """
    program = Path(launch.command[0]).name
    model = model_name(launch.command[1:], os.environ)
    name = printable(program if model is None else f"{program} ({model})")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="moe-live-"))
        keeps: list[Path] = []
        stack.callback(_clean_up, directory, keeps)
        rows: Source
        if launch.log is None:
            log, kept = str(directory / "rows"), None
            rows = PeerSource(log, name)
            stack.callback(rows.close)
        else:
            log, kept = launch.log, KeptLog(Path(launch.log), launch.log_limit)
        settings = TapSettings(
            log=log, weights=launch.weights, gate_layers=launch.gate_layers, drafts=launch.drafts
        )
        path, library = prepared(launch.command[0], settings)
        if kept is not None:
            _check_unwritten(log)
            if kept.is_large:
                kept.rotate()
            rows = Follower(log, from_end=True)
            stack.callback(rows.close)
        output = BoundedOutput(Path(launch.output or directory / "output"), OUTPUT_LIMIT)
        stack.callback(output.close)
        command = Command(path, launch.command, settings.environ(library, os.environ), output)
        source = CommandSource(command, name, rows, output, kept)
        for number in PASSED_ON:
            signals.handle(number, source.pass_on_later)
        try:
            yield source
        finally:
            if source.running or source.exit_status:
                keeps.append(output.path)


def _clean_up(directory: Path, keeps: Sequence[Path]) -> None:
    """Remove what was only needed for the run; what a command said that failed, or goes on, is kept."""
    if not any(path.parent == directory for path in keeps):
        shutil.rmtree(directory, ignore_errors=True)


def _check_unwritten(log: str) -> None:
    """See that nobody writes the log: the tap would write another file then.

    Raises:
        LaunchError: somebody does.
    """
    path = Path(log)
    if path.exists() and not path.is_file():
        raise LaunchError(f"cannot keep the log in {printable(log)}: it is no regular file; name another")
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise LaunchError(
                f"{printable(log)} is written by another process: choose another log, or end that one"
            ) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
