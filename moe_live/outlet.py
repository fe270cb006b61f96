"""Standard output and error, written without waiting for ever for somebody who takes it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moe_live.descriptors import wait_for
from moe_live.errors import MoeLiveError, StoppedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PATIENCE_S = 0.25
"""Who takes nothing for so long, such as a terminal whose output is held, is not waited for."""

_RETRY_S = 0.01

_OUTPUT_ERRORS = (
    errno.EPIPE,
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EBADF,
    errno.EAGAIN,
)
"""What writing to standard output can fail of."""


class Outlet(io.FileIO):
    """A terminal, a pipe or a file that is written to only while somebody takes it.

    Args:
        descriptor: stays its owner's.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._patience = PATIENCE_S

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it.

        Raises:
            TimeoutError: nobody takes it. The next write does not wait then.
            OSError: it cannot be written.
        """
        left = memoryview(data).cast("B")
        size = len(left)
        with _unblocked(self.fileno()) as descriptor:
            deadline = time.monotonic() + self._patience
            while left:
                if written := _write_some(descriptor, left, max(0.0, deadline - time.monotonic())):
                    left = left[written:]
                    self._patience = PATIENCE_S
                    deadline = time.monotonic() + PATIENCE_S
                elif time.monotonic() >= deadline:
                    self._patience = 0.0
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return size


class Diagnostics(Outlet):
    """Standard error. What cannot be written there is lost, and nothing else fails or waits for it."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it, or let it go."""
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes


@contextlib.contextmanager
def standard_output(ended_by: signal.Signals | None = None) -> Iterator[None]:
    """Writes out what is printed herein. A reader who has had enough ends that without a word.

    Args:
        ended_by: the signal that ended the run. Who sent it does not wait for a terminal that takes nothing.

    Raises:
        MoeLiveError: it cannot be written.
    """
    try:
        try:
            with _written_only_while_taken() if ended_by is not None else contextlib.nullcontext():
                yield
        except StoppedError:  # perhaps because nobody takes what is printed
            _discard_output()
            raise
        finally:
            sys.stdout.flush()
    except OSError as error:
        if ended_by is not None and isinstance(error, TimeoutError):
            _discard_output()
            raise StoppedError.by(ended_by) from None
        if error.errno not in _OUTPUT_ERRORS:
            raise
        # `isatty` says no of a terminal that has gone.
        is_terminal = stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
        _discard_output()
        if error.errno == errno.EPIPE:
            return
        if error.errno == errno.EIO and is_terminal:
            raise StoppedError("the terminal has gone", signal.SIGHUP) from error
        raise MoeLiveError(f"cannot write the output: {error.strerror}; write it elsewhere") from error


@contextlib.contextmanager
def _written_only_while_taken() -> Iterator[None]:
    """Gives up what is printed herein if it goes to a terminal that takes nothing.

    Raises:
        TimeoutError: the terminal takes nothing.
    """
    if not sys.stdout.isatty():
        yield
        return
    raw = Outlet(sys.stdout.fileno())
    with (
        io.TextIOWrapper(io.BufferedWriter(raw), sys.stdout.encoding, sys.stdout.errors) as out,
        contextlib.redirect_stdout(out),
    ):
        yield


def _discard_output() -> None:
    """Give up what is still buffered: it must not fail, or wait, again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _unblocked(descriptor: int) -> Iterator[int]:
    """A descriptor of the same terminal for which writing never blocks; what is no terminal, as it is.

    A terminal that can take a byte need not take two. Its open file description is shared with others, who
    may expect it to block, so it is opened anew.
    """
    opened = None
    if sys.platform != "win32" and os.isatty(descriptor):
        with contextlib.suppress(OSError):  # it cannot be opened anew: writing may block
            opened = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        yield descriptor if opened is None else opened
    finally:
        if opened is not None:
            os.close(opened)


def _write_some(descriptor: int, data: memoryview, timeout: float) -> int:
    """Write as much as is taken at once, within `timeout` seconds; returns how many bytes that are."""
    if sys.platform == "win32":  # select knows sockets only
        return os.write(descriptor, data)
    _, ready = wait_for((), (descriptor,), timeout)
    if not ready:
        return 0
    try:
        # More might block, even in a pipe that can take something.
        return os.write(descriptor, data[: select.PIPE_BUF])
    except BlockingIOError:
        time.sleep(min(_RETRY_S, timeout))
        return 0
