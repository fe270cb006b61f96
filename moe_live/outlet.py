"""Writing without waiting for ever for somebody who takes it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moe_live.descriptors import wait_for

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PATIENCE_S = 0.25
"""Who takes nothing for so long, such as a terminal whose output is held, is not waited for."""

_RETRY_S = 0.01


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
