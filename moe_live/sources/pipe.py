"""Bytes that come in through a descriptor: standard input, a FIFO, `< log`."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.sources.source import BUSY_PAUSE_S, Break, SourceStatus, State, idle_pause
from moe_live.sources.stream import ByteStream

_TRICKLE = 1 << 15
"""Bytes at a time that are little: half of what a pipe of Linux takes before its writer has to wait."""


class PipeSource:
    """Reads a descriptor until its end, as `Source`. The descriptor becomes the source's own.

    Args:
        fd: open for reading.
        name: what people call it, such as "stdin".

    Raises:
        UsageError: `fd` is closed, or a directory.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._name = name
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            self._stream = ByteStream(fd, name)
        except OSError:
            raise UsageError(
                f"{printable(name)} is closed; give it a log, or name one on the command line"
            ) from None
        if is_directory:
            raise UsageError(f"{printable(name)} is a directory; give it a log instead")
        self._pause = 0.0
        self._trickles = False
        self._raised = False
        self._closed = False

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """What has arrived since the last call.

        Raises:
            MoeLiveError: at the end, once, if not everything could be read or unpacked.
        """
        if self._closed:
            return []
        data = self._stream.read(limit)
        if data:
            self._pause = 0.0 if self._stream.size is not None or len(data) >= limit else BUSY_PAUSE_S
            self._trickles = len(data) < _TRICKLE
            return [data]
        self._trickles = False
        self._pause = idle_pause(self._pause)
        if self._stream.problem and not self._raised:
            self._raised = True
            raise MoeLiveError(self._stream.problem)
        return []

    def pause(self) -> float:
        """0 while more is known to be there; else short, as `wake_fd` says when something comes."""
        return self._pause

    def wake_fd(self) -> int | None:
        """The descriptor itself; None at the end, and for a regular file, which is always readable.

        None too while little comes at a time: each line would wake us up.
        """
        if self._closed or self._trickles or self._stream.ended or self._stream.size is not None:
            return None
        return self._stream.fd

    def status(self) -> SourceStatus:
        """The present state. It has not ended while `read` has still something to raise."""
        stream = self._stream
        if self._closed or (stream.ended and (self._raised or not stream.problem)):
            state = State.ENDED
        else:
            state = State.FOLLOWING if stream.size is None else State.READING
        return SourceStatus(
            name=self._name, state=state, detail=stream.problem, position=stream.position, size=stream.size
        )

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        if not self._closed:
            self._closed = True
            self._stream.close()
