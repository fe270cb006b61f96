"""One log file held open: reading on in it, and noticing that it was rewritten."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

MARKER_BYTES = 256
"""How much is compared with what was read: at the head of the file, and just before the offset."""

SCAN_BLOCK = 1 << 16
SCAN_LIMIT = 1 << 26
"""How far back `LogFile.skip_to_last_line` looks. A line longer than this is over-long for everybody."""

Identity = tuple[int, int]
"""(st_dev, st_ino). Unique as long as the file is held open, since its inode cannot be reused until then."""


def identity_of(status: os.stat_result) -> Identity:
    """Which file this is, whatever its name."""
    return status.st_dev, status.st_ino


class LogFile:
    """A regular file held open, read from an offset on by `pread`.

    Attributes:
        fd: the descriptor.
        identity: which file this is.
        offset: bytes handed out so far, in file positions: the next read starts here.
        size: bytes there were at the last look.
        left_at: when the followed path ceased to name this file; None while it does.
    """

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.identity = identity_of(status)
        self.offset = 0
        self.size = status.st_size
        self.left_at: float | None = None
        self.fd = fd
        self._line_start = 0
        self._head = b""
        self._marker = b""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open what `path` names now.

        Raises:
            OSError: it does not exist, cannot be opened, or is not a regular file of a known size.
        """
        _require_regular(path.stat(), path)  # before opening: opening a FIFO would disturb its writer
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            _require_regular(status, path)
            if not status.st_size:
                _require_stored(fd, path)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, status)

    def starts_with(self, magic: bytes) -> bool:
        """Whether these are the first bytes of the file.

        Raises:
            OSError: the file cannot be read.
        """
        return os.pread(self.fd, len(magic), 0) == magic

    def read(self, limit: int) -> bytes | None:
        """The next bytes, at most `limit`; b"" at the end; None if the file was rewritten: start again at 0.

        What was read before is compared *after* reading. As a rewritten file does not turn back, an
        unchanged marker proves that the new bytes continue the old ones.

        Raises:
            OSError: the read failed; nothing has changed.
        """
        data = os.pread(self.fd, limit, self.offset)
        size = os.fstat(self.fd).st_size
        if size < self.offset or not self._is_intact():
            self.size = size
            self._start_at(0)
            return None
        self.size = max(size, self.offset + len(data))
        newline = data.rfind(b"\n")
        if newline >= 0:
            self._line_start = self.offset + newline + 1
        if len(self._head) < MARKER_BYTES:
            self._head = (self._head + data[:MARKER_BYTES])[:MARKER_BYTES]
        self._marker = (self._marker + data[-MARKER_BYTES:])[-MARKER_BYTES:]
        self.offset += len(data)
        return data

    def look(self) -> int:
        """Take note of the present size; returns the number of names (hard links) the file still has."""
        with suppress(OSError):  # an unreadable file shows when it is read
            status = os.fstat(self.fd)
            self.size = status.st_size
            return status.st_nlink
        return 1

    def skip_to_last_line(self) -> None:
        """Start after the last newline: an unfinished line at the end will be read from its beginning.

        Raises:
            OSError: the file cannot be read.
        """
        floor = max(0, self.size - SCAN_LIMIT)
        end = self.size
        while end > floor:
            begin = max(floor, end - SCAN_BLOCK)
            newline = os.pread(self.fd, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                floor = begin + newline + 1
                break
            end = begin
        self._start_at(floor)

    def return_to_line_start(self) -> None:
        """Get ready to be read after another file, from the beginning of an unfinished line if there is one.

        Nothing to do in a new file; one that was read before may have been rewritten meanwhile.

        Raises:
            OSError: the file cannot be read.
        """
        self._start_at(self._line_start if self._is_intact() else 0)

    def reopen(self, path: Path) -> None:
        """Exchange a descriptor that gives errors for a new one, if `path` still names this very file."""
        with suppress(OSError):
            other = LogFile.open(path)
            if other.identity == self.identity:
                self.fd, other.fd = other.fd, self.fd
            other.close()

    def close(self) -> None:
        """Give the descriptor back. Call it once."""
        with suppress(OSError):  # a network file system may report a lost write here; we never write
            os.close(self.fd)

    def _start_at(self, offset: int) -> None:
        self.offset = self._line_start = offset
        length = min(offset, MARKER_BYTES)
        self._head = os.pread(self.fd, length, 0) if length else b""
        self._marker = os.pread(self.fd, length, offset - length) if length else b""

    def _is_intact(self) -> bool:
        """Whether what was read is still there, as far as the two samples tell.

        The head alone would not do: a restarted server writes the same header again.
        """
        marker = self._marker
        if marker and os.pread(self.fd, len(marker), self.offset - len(marker)) != marker:
            return False
        return self.offset <= MARKER_BYTES or os.pread(self.fd, len(self._head), 0) == self._head


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _require_stored(fd: int, path: Path) -> None:
    """An empty file that can be read, as in /proc, is made up as it is read: it cannot be followed."""
    if os.pread(fd, 1, 0) and not os.fstat(fd).st_size:
        raise OSError(errno.EINVAL, "Not a stored file", str(path))
