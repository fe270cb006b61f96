"""The terminal and the signals around it: everything that only POSIX has stands here.

On other systems this module can be imported and `Signals` works; `Terminal` then has neither keys nor
job control.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, Self

from moe_live.descriptors import wait_for
from moe_live.errors import StoppedError

if sys.platform != "win32":
    import termios

# Alternate screen, cursor hidden, no wrapping at the right edge, pastes bracketed to be told from keys.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[2J"
# The same undone; a synchronized update that was cut short is ended first, or the terminal would stay frozen.
_LEAVE = "\x1b[?2026l\x1b[0m\x1b[?1006l\x1b[?1002l\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l"
# Buttons, the wheel and what moves while a button is pressed are told, in numbers (SGR).
_MOUSE = {True: "\x1b[?1002h\x1b[?1006h", False: "\x1b[?1006l\x1b[?1002l"}

_READ_SIZE = 4096

BREAKING = (signal.SIGINT, signal.SIGTERM)
"""With these somebody asks for an end; SIGHUP only says that a terminal has gone."""

_HARMLESS = frozenset(
    {
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGINFO",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGWINCH",
    }
    | (set() if sys.platform == "linux" else {"SIGIO"})
)
"""Signals that do not end a process that does not handle them."""

_INEVITABLE = frozenset({"SIGKILL", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})
"""Signals that end a process whatever it does: a fault would only happen again on return from its handler."""

_ECHO_SECONDS = 0.25
"""The same signal within this time is the same request: Ctrl-C comes from the terminal, and once more from a
parent that passes it on, such as `timeout`."""

MAX_COLUMNS = 1000
MAX_LINES = 400
"""What is drawn of a larger terminal. No real one is; a careless program may claim one of 65535 x 65535."""

Handler = Callable[[int, FrameType | None], None]


class Signals:
    """Turns the signals that ask to end into a flag, and sleeps so that every signal wakes it up.

    A context manager for the whole run, of the main thread. SIGINT and SIGTERM are taken even when inherited
    ignored; an inherited ignored SIGHUP stays ignored (nohup). A second SIGINT ends the process by that
    signal at once, after `last_words`; one that follows within a quarter of a second is still the first.

    Attributes:
        stop: the first signal that asked to end, None so far.
        last_words: called before dying of a signal; a `Terminal` puts its restoring there.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self.last_words: Callable[[], None] | None = None
        self._breaking = False
        self._last, self._last_at = 0, 0.0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._receiver, self._sender = socket.socketpair()
        for end in (self._receiver, self._sender):
            end.settimeout(0)
        self._former_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        self.handle(signal.SIGINT, self._ask_to_stop)
        self.handle(signal.SIGTERM, self._ask_to_stop)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self.handle(signal.SIGHUP, self._ask_to_stop)
        return self

    def __exit__(self, *_: object) -> None:
        self.release(list(self._former))
        signal.set_wakeup_fd(self._former_fd)
        self._receiver.close()
        self._sender.close()

    def handle(self, number: int, handler: Handler) -> None:
        """Install a handler until `release`. It must only set flags: it runs between any two instructions."""
        self._former[number] = signal.signal(number, handler)

    def release(self, numbers: Iterable[int]) -> None:
        """Give signals back to who handled them before."""
        for number in numbers:
            former = self._former.pop(number)
            signal.signal(number, signal.SIG_DFL if former is None else former)

    def wait(
        self, timeout: float, descriptors: Sequence[int] = (), writable: Sequence[int] = ()
    ) -> list[int]:
        """Sleep until a descriptor is readable, a signal came or time is up; return the readable descriptors.

        So do those in `writable` that can be written to. A signal that came before the call ends it at once.
        On Windows only time and signals count.
        """
        watched = list(descriptors) if sys.platform != "win32" else []
        wakeup = self._receiver.fileno()
        ready, _ = wait_for([wakeup, *watched], writable, max(0.0, timeout))
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                while self._receiver.recv(_READ_SIZE):
                    pass
        return [descriptor for descriptor in watched if descriptor in ready]

    def rearm(self) -> None:
        """Let the next signal that asks to end be a first one again."""
        self.stop = None

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Herein the `BREAKING` ones raise `StoppedError`, also out of a call that may block forever."""
        self._breaking = True
        try:
            yield
        finally:
            self._breaking = False

    def die(self, number: int, _frame: FrameType | None = None) -> None:
        """Put the terminal in order and die of the signal, so that the parent sees what happened."""
        if self.last_words is not None:
            self.last_words()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == self._last and now - self._last_at < _ECHO_SECONDS:
            return
        self._last, self._last_at = number, now
        if self._breaking and number in BREAKING:
            raise StoppedError.by(number)
        if self.stop is None:
            self.stop = signal.Signals(number)
        elif number == signal.SIGINT:
            self.die(number, frame)


@contextlib.contextmanager
def group_signals_blocked() -> Iterator[None]:
    """Processes started herein leave to this one what a terminal, or `kill`, tells the whole group."""
    if sys.platform == "win32":
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {*BREAKING, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def unhandle_signals() -> None:
    """Leave to the system what a process was told to do on signals: in a copy of it, that is not meant."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def can_draw() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return os.name == "posix" and os.isatty(1) and os.environ.get("TERM", "") not in ("", "dumb")


class Terminal:
    """A screen of its own and the keys typed there, as a context manager.

    Keys come from the controlling terminal, never from stdin. Only a process in the foreground may touch it:
    while in the background the screen is not taken (`ours` is False), no key is read, and nothing stops the
    process. A terminal that takes nothing, at the end of a connection that hangs say, holds nobody up. The
    screen, the cursor and the terminal's mode come back on every way out: leaving the context for whatever
    reason, signals, suspension, and at the latest at interpreter exit.

    Args:
        signals: entered already; its flag `stop` is also set when the terminal goes away.
        output: descriptor of the terminal to draw on.
        draws: whether it is drawn on; otherwise only keys are taken, and nothing is written to it.

    Attributes:
        redraw: something may have overwritten or resized the screen; the one who draws sets it back.
    """

    def __init__(self, signals: Signals, output: int = 1, *, draws: bool = True) -> None:
        self.redraw = True
        self._entering, self._leaving = (_ENTER, _LEAVE) if draws else ("", "")
        self._signals = signals
        self._output = output
        self._screen = output
        self._unsent = b""
        self._tty: int | None = None
        self._mode: list[Any] | None = None
        self._taken = False
        self._mouse = False
        self._suspend_asked = False
        self._continued = False

    def __enter__(self) -> Self:
        atexit.register(self._leave)
        self._signals.last_words = self._leave
        self._handled: list[int] = []
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # no controlling terminal: a dashboard without keys
                self._tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            with contextlib.suppress(OSError):  # it cannot be opened anew: writing may block
                # The open file description of `output` is shared with others, who may expect it to block.
                self._screen = os.open(os.ttyname(self._output), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            self._handle(signal.SIGCONT, self._note_continued)
            self._handle(signal.SIGWINCH, self._note_resized)
            for number in signal.valid_signals():
                name = getattr(number, "name", "")  # those called real-time have none
                deadly = name not in _HARMLESS and name not in _INEVITABLE
                if deadly and signal.getsignal(number) == signal.SIG_DFL:
                    self._handle(number, self._signals.die)
            if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:  # ignored: the shell has no job control
                self._handle(signal.SIGTSTP, self._note_suspend)
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        self._signals.release(self._handled)
        self._signals.last_words = None
        atexit.unregister(self._leave)
        if self._screen != self._output:
            os.close(self._screen)
            self._screen = self._output
        if self._tty is not None:
            os.close(self._tty)
            self._tty = None

    @property
    def ours(self) -> bool:
        """Whether the screen may be drawn on now. It has taken all that was written before."""
        return self._is_shown() and not self._unsent

    def size(self) -> tuple[int, int]:
        """Columns and lines to draw on at this moment, whatever COLUMNS and LINES say."""
        try:
            columns, lines = os.get_terminal_size(self._output)
        except OSError:
            columns, lines = 0, 0
        # Some serial lines and containers report 0.
        return min(columns or 80, MAX_COLUMNS), min(lines or 24, MAX_LINES)

    def tell_of_mouse(self, *, wanted: bool) -> None:
        """Whether what the mouse does is typed; a terminal that cannot tell types nothing."""
        self._mouse = wanted
        if self._is_shown():
            self.write(_MOUSE[wanted])

    def wait(self, timeout: float, descriptors: Sequence[int] = ()) -> bytes:
        """Sleep until a key, a signal, one of the descriptors, or the time is up; return what was typed.

        Suspension (SIGTSTP) happens in here: it returns after the process was continued.
        """
        shown = self._is_shown()
        keys = [self._tty] if self._tty is not None and shown else []
        unsent = [self._screen] if self._unsent and shown else []
        ready = self._signals.wait(timeout, [*descriptors, *keys], unsent)
        if self._suspend_asked:
            self._suspend()
        self._take()
        if not self._is_shown():
            return b""
        self._send()
        if self._tty in ready:
            return self._read()
        return b""

    def write(self, text: str) -> None:
        """Write the text to the screen, now or in later `wait`s; a terminal that went away is a hangup."""
        self._unsent += text.encode("utf-8", "replace")
        self._send()

    def _is_shown(self) -> bool:
        return self._taken and self._in_foreground()

    def _send(self) -> None:
        """Write as much as the terminal takes."""
        left = memoryview(self._unsent)
        try:
            while left:
                left = left[os.write(self._screen, left) :]
        except BlockingIOError:
            pass
        except OSError:
            left = left[:0]
            self._hang_up()
        self._unsent = bytes(left)

    def _handle(self, number: int, handler: Handler) -> None:
        self._signals.handle(number, handler)
        self._handled.append(number)

    def _note_suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._suspend_asked = True

    def _note_continued(self, _number: int, _frame: FrameType | None) -> None:
        self._continued = True

    def _note_resized(self, _number: int, _frame: FrameType | None) -> None:
        self.redraw = True

    def _hang_up(self) -> None:
        if self._signals.stop is None and sys.platform != "win32":
            self._signals.stop = signal.SIGHUP

    def _in_foreground(self) -> bool:
        if self._tty is None or sys.platform == "win32":
            return True
        try:
            return os.tcgetpgrp(self._tty) == os.getpgrp()
        except OSError:  # the terminal has gone, and SIGHUP may never come: it goes to the session's leader
            self._hang_up()
            return False

    def _take(self) -> None:
        """Take the screen, if it is free to take; take it again after a stop that was not announced."""
        if self._taken and not self._continued:
            return
        if not self._in_foreground():
            return
        self._continued = False
        if self._tty is not None and sys.platform != "win32" and not self._taken:
            self._mode = termios.tcgetattr(self._tty)
        self._taken = True  # before anything is changed: a signal may end it at any time
        if self._tty is not None and sys.platform != "win32" and self._mode is not None:
            # At once: a terminal that takes nothing would be waited for.
            termios.tcsetattr(self._tty, termios.TCSANOW, _key_by_key(self._mode))
        self.redraw = True
        self.write(self._entering + (_MOUSE[True] if self._mouse else ""))

    def _leave(self) -> None:
        """Give the screen back. Also called between any two instructions, when dying of a signal."""
        if not self._taken:
            return
        self._taken = False
        self._unsent = b""
        foreground = self._in_foreground()
        if foreground and sys.platform != "win32":
            with contextlib.suppress(OSError, termios.error):
                if not wait_for((), (self._screen,), 0)[1]:
                    # What the terminal has not taken so far is dropped, or this would wait for it.
                    termios.tcflush(self._screen, termios.TCOFLUSH)
        with contextlib.suppress(OSError):
            os.write(self._screen, self._leaving.encode())
        # In the background the mode is the shell's business, and setting it would stop us.
        if foreground and self._tty is not None and self._mode is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._tty, termios.TCSANOW, self._mode)

    def _suspend(self) -> None:
        self._suspend_asked = False
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)  # to this thread: it stops right here
        signal.signal(signal.SIGTSTP, self._note_suspend)

    def _read(self) -> bytes:
        assert self._tty is not None  # noqa: S101 - only called when keys are readable; tells the type checker
        try:
            typed = os.read(self._tty, _READ_SIZE)
        except BlockingIOError:  # somebody else on this terminal was faster
            return b""
        except OSError:
            typed = b""
        if not typed:
            self._hang_up()
        return typed


def _key_by_key(mode: list[Any]) -> list[Any]:
    """The mode in which each key arrives at once, unechoed; keys that send signals keep doing so.

    Ctrl-S and Ctrl-Q become keys like others: output held by Ctrl-S would hold the ingest too.
    """
    if sys.platform == "win32":
        return mode
    changed = list(mode)
    changed[0] = mode[0] & ~termios.IXON
    changed[3] = mode[3] & ~(termios.ICANON | termios.ECHO)
    changed[6] = list(mode[6])
    changed[6][termios.VMIN] = 1
    changed[6][termios.VTIME] = 0
    return changed
