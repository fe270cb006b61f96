"""The terminal comes back on every way out, in a real pseudo-terminal with a job as a shell runs it."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moe_live.errors import StoppedError
from moe_live.terminal import MAX_COLUMNS, MAX_LINES, Signals
from tests.conftest import REPOSITORY

PATIENCE = 120.0

ALTERNATE = (b"\x1b[?1049h", b"\x1b[?1049l")
CURSOR_HIDDEN = (b"\x1b[?25l", b"\x1b[?25h")
NO_WRAP = (b"\x1b[?7l", b"\x1b[?7h")
PASTE = (b"\x1b[?2004h", b"\x1b[?2004l")
MOUSE = (b"\x1b[?1002h", b"\x1b[?1002l")
MOUSE_IN_NUMBERS = (b"\x1b[?1006h", b"\x1b[?1006l")


class Job:
    """The child program in a terminal, its shell, and what it has written so far."""

    def __init__(self, mode: str, **environ: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(120, 40)
        self.before: list[Any] = termios.tcgetattr(self.slave)
        self.output = b""
        self.shell = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.dashboard.shell", os.ttyname(self.slave)),
                *(sys.executable, "-m", "tests.dashboard.child", mode),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "TERM": "xterm-256color",
                "COLUMNS": "7",
                "LINES": "7",
                **environ,
            },
            start_new_session=True,
        )
        self.events: list[str] = []

    def tell(self, command: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(command.encode() + b"\n")
        self.shell.stdin.flush()

    def kill(self, number: signal.Signals) -> None:
        self.tell(f"kill {int(number)}")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def hang_up(self) -> None:
        """Close the terminal's other end, as a closed window does."""
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), self.master)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, condition: Callable[[], bool]) -> None:
        """Take what the terminal and the shell say until the condition holds."""
        assert self.shell.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"events {self.events}, screen {self.output[-2000:]!r}"
            events = self.shell.stdout.fileno()
            ready, _, _ = select.select([self.master, events], [], [], min(left, 0.1))
            if self.master in ready:
                self.output += os.read(self.master, 65536)
            if events in ready:
                self.events.append(self.shell.stdout.readline().decode().strip())

    def shows(self, text: str) -> bool:
        return text.encode() in self.output

    def stopped(self, times: int) -> bool:
        return self.events.count("stopped") == times

    def on(self, feature: tuple[bytes, bytes]) -> bool:
        """Whether the feature was last switched on."""
        return self.output.rfind(feature[0]) > self.output.rfind(feature[1])

    @property
    def mode(self) -> list[Any]:
        mode: list[Any] = termios.tcgetattr(self.slave)
        return mode

    @property
    def key_by_key(self) -> bool:
        return not self.mode[3] & (termios.ICANON | termios.ECHO)

    def drawing(self) -> bool:
        return self.on(ALTERNATE) and self.key_by_key and self.shows("1Over")

    def assert_restored(self) -> None:
        assert self.mode == self.before
        for feature in (ALTERNATE, CURSOR_HIDDEN, NO_WRAP, PASTE, MOUSE, MOUSE_IN_NUMBERS):
            assert not self.on(feature)

    def wait_for_exit(self) -> int:
        """Its exit status; everything it wrote is taken by then."""
        self.until(lambda: bool(self.events) and self.events[-1].startswith("exited"))
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], 0)[0] and (written := os.read(self.master, 65536)):
                self.output += written
        return int(self.events[-1].split()[1])

    def close(self) -> None:
        if not (self.events and self.events[-1].startswith("exited")):
            with contextlib.suppress(OSError):
                self.kill(signal.SIGKILL)
                self.kill(signal.SIGCONT)
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        with contextlib.suppress(OSError):
            self.shell.stdin.close()
        self.shell.wait(PATIENCE)
        self.shell.stdout.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def job() -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(mode: str = "quiet", **environ: str) -> Job:
        jobs.append(Job(mode, **environ))
        return jobs[-1]

    yield start
    for started in jobs:
        started.close()


Start = Callable[..., Job]


def test_q_ends_it(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    assert child.on(CURSOR_HIDDEN)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()
    assert child.output.rindex(b"ENDED quit") > child.output.rindex(ALTERNATE[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(job: Start, number: signal.Signals) -> None:
    child = job()
    child.until(child.drawing)
    child.kill(number)
    assert child.wait_for_exit() == 0
    child.assert_restored()
    assert child.shows(f"ENDED signal {number.name}")


def test_ctrl_c_typed_works_even_if_sigint_was_inherited_ignored(job: Start) -> None:
    child = job(IGNORE_SIGINT="1")
    child.until(child.drawing)
    child.type(b"\x03")
    assert child.wait_for_exit() == 0
    child.assert_restored()
    assert child.shows("ENDED signal SIGINT")


def test_a_second_ctrl_c_dies_of_the_signal_with_the_terminal_restored(job: Start, tmp_path: Path) -> None:
    stuck = tmp_path / "stuck"
    child = job("stuck", TOUCH=str(stuck))
    child.until(lambda: child.drawing() and stuck.exists())

    def interrupted_to_death() -> bool:
        child.kill(signal.SIGINT)  # again and again: two that come too close to each other are one
        return child.events[-1] != "started"

    child.until(interrupted_to_death)
    assert child.wait_for_exit() == -signal.SIGINT
    child.assert_restored()


def test_quit_from_the_keyboard_dies_of_the_signal_with_the_terminal_restored(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    child.type(b"\x1c")
    assert child.wait_for_exit() == -signal.SIGQUIT
    child.assert_restored()


OTHERS = (
    *("USR1", "USR2", "ALRM", "VTALRM", "PROF", "ABRT", "XCPU"),
    *("POLL", "PWR", "STKFLT", "SYS", "TRAP", "RTMIN", "RTMAX"),
)


@pytest.mark.parametrize("name", [name for name in OTHERS if hasattr(signal, f"SIG{name}")])
def test_of_any_other_signal_it_dies_with_the_terminal_restored(job: Start, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    child = job()
    child.until(child.drawing)
    child.kill(number)
    assert child.wait_for_exit() == -number
    child.assert_restored()


def test_an_exception_is_seen_on_the_normal_screen(job: Start) -> None:
    child = job("statistic")
    assert child.wait_for_exit() == 1
    child.assert_restored()
    assert child.output.rindex(b"ZeroDivisionError") > child.output.rindex(ALTERNATE[1])


def test_a_view_that_fails_ends_nothing(job: Start) -> None:
    child = job("panel")
    child.until(lambda: b"a panel broke" in child.output)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_the_end_of_the_input_ends_it(job: Start) -> None:
    child = job("ends")
    assert child.wait_for_exit() == 0
    child.assert_restored()
    assert child.shows("ENDED input ended")


def test_a_terminal_that_nobody_left_is_left_at_exit(job: Start) -> None:
    child = job("forgotten")
    assert child.wait_for_exit() == 0
    assert ALTERNATE[0] in child.output
    child.assert_restored()


def test_ctrl_z_gives_the_screen_back_and_fg_takes_it_again(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    for stops in (1, 2):
        child.type(b"\x1a")
        child.until(partial(child.stopped, stops))
        child.until(lambda: not child.on(ALTERNATE))
        child.assert_restored()
        child.output = b""
        child.tell("foreground")
        child.kill(signal.SIGCONT)
        child.until(child.drawing)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_a_stop_that_cannot_be_caught_is_made_up_for(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    child.kill(signal.SIGSTOP)
    child.until(lambda: "stopped" in child.events)
    termios.tcsetattr(child.slave, termios.TCSANOW, child.before)  # as a shell does
    child.output = b""
    child.kill(signal.SIGCONT)
    child.until(child.drawing)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_continued_in_the_background_it_keeps_off_the_terminal_and_is_not_stopped(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    child.type(b"\x1a")
    child.until(lambda: "stopped" in child.events and not child.on(ALTERNATE))
    child.output = b""
    child.tell("background")
    child.kill(signal.SIGCONT)
    time.sleep(0.5)  # ten frames that must not be drawn
    child.until(lambda: True)
    assert child.output == b""
    assert child.mode == child.before
    child.tell("foreground")
    child.until(child.drawing)
    assert child.events.count("stopped") == 1
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_started_in_the_background_it_reads_and_waits_for_the_terminal(job: Start, tmp_path: Path) -> None:
    reading = tmp_path / "reading"
    child = job(BACKGROUND="1", TOUCH=str(reading))
    child.until(reading.exists)
    assert child.output == b""
    assert child.mode == child.before
    child.tell("foreground")
    child.until(child.drawing)
    assert "stopped" not in child.events
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_keys_come_from_the_terminal_when_stdin_is_something_else(job: Start) -> None:
    child = job(NO_STDIN="1")
    child.until(child.drawing)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


@pytest.mark.parametrize("footer", [b"", b" reset"])
def test_a_terminal_that_went_away_ends_it_while_it_draws_and_while_it_waits(
    job: Start, footer: bytes
) -> None:
    child = job()
    child.until(lambda: child.drawing() and footer in child.output)
    child.hang_up()
    child.wait_for_exit()


def test_a_paste_is_not_keys(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    child.type(b"\x1b[200~qqq\x1b[201~3")
    child.until(lambda: child.shows("selections"))
    child.type(b"q")
    assert child.wait_for_exit() == 0


def test_the_real_size_counts_at_every_moment(job: Start) -> None:
    child = job()
    child.until(child.drawing)
    child.until(lambda: child.shows("\x1b[40;1H"))  # the last line, whatever LINES says
    child.resize(40, 10)
    child.until(lambda: child.shows("40x10 is too small: 60x16 needed"))
    child.output = b""
    child.resize(80, 24)
    child.until(lambda: child.shows("\x1b[24;1H") and child.shows("1Over"))
    child.resize(40, 10)
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.until(lambda: not child.on(ALTERNATE))


def test_of_a_terminal_of_absurd_size_a_part_is_drawn(job: Start) -> None:
    child = job()
    child.resize(65535, 65535)
    child.until(lambda: child.shows(f"\x1b[{MAX_LINES};1H"))
    assert not child.shows(f"\x1b[{MAX_LINES + 1};1H")
    assert len(max(child.output.split(b"\x1b["), key=len)) <= MAX_COLUMNS + 10
    child.type(b"q")
    assert child.wait_for_exit() == 0
    child.assert_restored()


def test_signals_that_come_twice_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_live.terminal.time", SimpleNamespace(monotonic=lambda: 0.0))
    with Signals() as signals:
        stops = []
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            stops.append(signals.stop)
            signals.rearm()
    assert stops == [signal.SIGINT, None, signal.SIGTERM]


def test_a_signal_can_break_off_what_would_never_end() -> None:
    out, into = os.pipe()
    try:
        with Signals() as signals, signals.breaking():
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            with pytest.raises(StoppedError, match="SIGTERM") as stopped:
                os.read(out, 1)
        assert stopped.value.exit_code == 128 + signal.SIGTERM
        with Signals() as signals, signals.breaking():
            signal.raise_signal(signal.SIGHUP)
            assert signals.stop is signal.SIGHUP
    finally:
        os.close(out)
        os.close(into)


def test_signals_give_the_former_handlers_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [signal.getsignal(number) for number in numbers]
    with Signals() as signals:
        assert [signal.getsignal(number) for number in numbers] != former
        signal.raise_signal(signal.SIGTERM)
        assert signals.stop is signal.SIGTERM
        assert signals.wait(PATIENCE) == []  # it came before: no sleep
    assert [signal.getsignal(number) for number in numbers] == former


def test_an_ignored_hangup_stays_ignored() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.stop is None
    finally:
        signal.signal(signal.SIGHUP, former)


def test_wait_tells_which_descriptors_are_ready() -> None:
    (a_out, a_in), (b_out, b_in) = os.pipe(), os.pipe()
    try:
        with Signals() as signals:
            os.write(b_in, b"x")
            assert signals.wait(PATIENCE, [a_out, b_out]) == [b_out]
            assert signals.wait(0, [a_out]) == []
    finally:
        for descriptor in (a_out, a_in, b_out, b_in):
            os.close(descriptor)
