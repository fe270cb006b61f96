"""moe-live in a process: with pipes, or in a pseudo-terminal with what its user sees."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any, Self

import pyte

from moe_live.sources.source import State

REPOSITORY = Path(__file__).resolve().parents[1]
MOE_LIVE = (sys.executable, "-m", "moe_live")


_STATUS = re.compile(f"moe-live: (?:{'|'.join(state.value for state in State)}) ".encode())


def told(stderr: bytes) -> bytes:
    """What a run said beside the status lines, which come on a busy machine."""
    return b"".join(line for line in stderr.splitlines(keepends=True) if not _STATUS.match(line))


def one_line(stderr: bytes) -> str:
    """What it said, which is one printable line."""
    (line,) = told(stderr).decode().split("\n")[:-1]
    assert line.startswith("moe-live: ")
    assert line.isprintable()
    return line


class PseudoTerminal:
    """Runs a command as the leader of a terminal of its own; a context manager that leaves nothing behind.

    Args:
        command: program and arguments.
        columns: of the terminal.
        lines: of the terminal.
        stdin: a descriptor to be its standard input instead of the terminal.
        environ: variables that differ from ours.
        before: is done to it before the program starts.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 120,
        lines: int = 40,
        stdin: int | None = None,
        environ: Mapping[str, str] | None = None,
        before: Callable[[PseudoTerminal], None] | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        # A copy of the terminal's slave side stays open here, so that its mode can be asked for at the end.
        self._master, self._slave = pty.openpty()
        self.mode_before = termios.tcgetattr(self._slave)
        ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY), **(environ or {})}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            env.pop(name, None)
        if before is not None:
            before(self)
        self.process = subprocess.Popen(
            command,
            stdin=self._slave if stdin is None else stdin,
            stdout=self._slave,
            stderr=self._slave,
            env=env,
            start_new_session=True,
            preexec_fn=self._take_control,  # noqa: PLW1509 - one system call; there is no other way in
        )
        self.pid = self.process.pid

    def _take_control(self) -> None:
        """In the child: the terminal becomes its own."""
        ioctl(self._slave, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(self.screen.display)

    @property
    def mode(self) -> list[Any]:
        """The terminal's mode now."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def fill(self) -> None:
        """Write to it until it takes nothing more: nobody reads it."""
        slave = os.open(os.ttyname(self._slave), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            while True:
                os.write(slave, b".")
        except BlockingIOError:
            pass
        finally:
            os.close(slave)

    def hold(self) -> None:
        """Hold its output, as Ctrl-S does."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def release(self) -> None:
        """Let its output go on, as Ctrl-Q does."""
        termios.tcflow(self._slave, termios.TCOON)

    def hang_up(self) -> None:
        """Close the terminal's other end, as a closed window does. There is nothing to read or type then."""
        with Path(os.devnull).open("r+b") as nothing:
            os.dup2(nothing.fileno(), self._master)

    def wait_until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Read what the program writes until the condition holds; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not seen in {seconds} s; the screen:\n{self.text}")
            self._read(0.05)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Until the screen shows the text."""
        self.wait_until(lambda: text in self.text, seconds)

    def wait(self, seconds: float = 120) -> int:
        """Until the program has ended: its exit status, or minus the signal it died of."""
        self.wait_until(lambda: self.process.poll() is not None, seconds)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout)
        if not ready:
            return False
        data = os.read(self._master, 65536)
        self.output += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def started(
    *arguments: str | Path,
    program: Sequence[str] = MOE_LIVE,
    directory: Path = REPOSITORY,
    stderr: int = subprocess.PIPE,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """moe-live while it runs; killed at the end, in case it would not end by itself."""
    with subprocess.Popen(
        [*program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=directory,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
