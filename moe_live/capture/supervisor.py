"""A command that runs beside moe-live, in a process group of its own.

Nothing ties it to moe-live: if that dies, the command goes on. What comes to moe-live, from its terminal or
from `kill`, reaches the command once, when moe-live passes it on.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from moe_live.errors import MoeLiveError, UsageError, printable

PASSED_ON = frozenset(
    {
        *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH),
    }
)
"""What is passed on to the command."""

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_KEPT_AFTER_CUT = 2  # one part in so many
_PATIENCE_SECONDS = 2.0  # until a command that was interrupted twice is killed
_TAIL = 1 << 14  # bytes in which the last lines are looked for
_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")  # colours and the like


class LaunchError(MoeLiveError):
    """moe-live itself failed, before the command or beside it."""

    exit_code = 125


class NotFoundError(LaunchError):
    """There is no such command."""

    exit_code = 127


class NotExecutableError(LaunchError):
    """The command cannot be started."""

    exit_code = 126


class Command:
    """A running command.

    Args:
        program: its path.
        arguments: its name and its arguments.
        environ: its environment.
        output: where its standard output and error go; None for those of moe-live.

    Attributes:
        pid: of its first process, and of its group.
        interrupts: how often Ctrl-C was passed on to it.

    Raises:
        LaunchError: it cannot be started.
    """

    def __init__(
        self, program: str, arguments: Sequence[str], environ: Mapping[str, str], output: BoundedOutput | None
    ) -> None:
        self._status: int | None = None
        self._kill_at = math.inf
        self.interrupts = 0
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        ]
        if output is not None:
            actions += [(os.POSIX_SPAWN_DUP2, output.descriptor, descriptor) for descriptor in (1, 2)]
        try:
            self.pid = os.posix_spawn(
                program,
                [*arguments],
                environ,
                file_actions=actions,
                setpgroup=0,
                setsigmask=(),
                setsigdef=_IGNORED_BY_PYTHON,
            )
        except OSError as error:
            raise NotExecutableError(
                f"cannot start {printable(program)}: {error.strerror}; is it a program for this machine?"
            ) from None

    def pass_on(self, number: int) -> None:
        """Send a signal to the command and the processes it started, as a terminal does.

        One that does not end soon after a second Ctrl-C is killed, by `poll`.
        """
        if self.poll() is not None:
            return
        self._send(number)
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 1:
            self._kill_at = min(self._kill_at, time.monotonic() + _PATIENCE_SECONDS)

    def poll(self) -> int | None:
        """Its exit status, 128 + n if signal n ended it; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
            elif time.monotonic() >= self._kill_at:
                self._send(signal.SIGKILL)
        return self._status

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class BoundedOutput:
    """What a command prints, in a file that does not grow without end: of a long one the last part is kept.

    The command appends to the file by itself, so that it goes on whatever becomes of moe-live.

    Args:
        path: the file; what it holds is kept.
        limit: bytes it may have.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"cannot write {printable(path)}: {error.strerror}; choose another file for the output"
            ) from None

    def trim(self) -> None:
        """Cut off the first part of a file that has become too long.

        What the command prints in that very moment may be lost.
        """
        size = os.fstat(self.descriptor).st_size
        if size <= self._limit:
            return
        kept = self._from(size - self._limit // _KEPT_AFTER_CUT)
        with suppress(OSError):  # a full disk: the next time
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, b"[moe-live: what came before was cut off]\n" + kept)

    def last_lines(self, count: int) -> list[str]:
        """The last lines of it, safe to print."""
        size = os.fstat(self.descriptor).st_size
        tail = _ESCAPE.sub(b"", self._from(max(0, size - _TAIL)))
        return [printable(line) for line in tail.splitlines()[-count:]]

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def _from(self, position: int) -> bytes:
        """From the first line that begins at or after a position."""
        text = os.pread(self.descriptor, self._limit, position)
        return text if not position else text.partition(b"\n")[2]
