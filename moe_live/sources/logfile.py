"""One log file held open: reading on in it, and noticing that it was rewritten."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from moe_live.sources.place import MARKER_BYTES, Place, identity_of
from moe_live.sources.source import Break
from moe_live.sources.trail import Trail

SCAN_BLOCK = 1 << 16
SCAN_LIMIT = 1 << 26
"""How far back `LogFile.skip_to_last_line` looks. A line longer than this is over-long for everybody."""


class LogFile:
    """A regular file held open, read from an offset on by `pread`.

    Attributes:
        fd: the descriptor.
        identity: which file this is.
        place: how far it was read: the next read starts at its offset.
        trail: samples of what was read.
        size: bytes there were at the last look.
        line_start: where the line begins in which the offset lies.
        left_at: when the followed path ceased to name this file; None while it does.
        entry: what separates it from the file that is read before; None if it goes on with that one's text.
        repeated_lines: lines that may have been read twice, as the file was rewritten with the same bytes.
        lost_bytes: bytes that were there at a look, and were cut off before they were read.
        is_rewritten: what it held when it was seen first is gone, and its turn has not come.
    """

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.identity = identity_of(status)
        self.place = Place(*self.identity)
        self.trail = Trail()
        self.size = status.st_size
        self._mtime_ns = status.st_mtime_ns
        self.line_start = 0
        self.left_at: float | None = None
        self.entry: Break | None = Break.ROTATED
        self.repeated_lines = self.lost_bytes = 0
        self.is_rewritten = False
        self.fd = fd
        self._former: Trail | None = None  # of what it held before it was rewritten, while that comes again
        self._former_end = self._former_lines = 0
        self._seen_head = b""

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

    @property
    def offset(self) -> int:
        """Bytes handed out so far, in file positions."""
        return self.place.offset

    def read_at(self, count: int, offset: int) -> bytes:
        """So many bytes from the offset on, fewer at the end.

        Raises:
            OSError: the file cannot be read.
        """
        return os.pread(self.fd, count, offset)

    @property
    def first_line(self) -> bytes:
        """What is known of the first line."""
        return (self.place.head or self._seen_head).partition(b"\n")[0]

    def head(self) -> bytes:
        """The first bytes of the file, by which another one is told from it.

        Raises:
            OSError: the file cannot be read.
        """
        return self.read_at(MARKER_BYTES, 0)

    def present_size(self) -> int:
        """Bytes there are now.

        Raises:
            OSError: that cannot be told.
        """
        return os.fstat(self.fd).st_size

    def quiet_for(self) -> float:
        """Seconds since it was written to; 0 if that cannot be told."""
        with suppress(OSError):
            return time.time() - os.fstat(self.fd).st_mtime
        return 0.0

    def was_written_to(self) -> bool:
        """Whether there is something in the file, or was since the last call though it is empty now."""
        with suppress(OSError):  # an unreadable file shows when it is read
            status = os.fstat(self.fd)
            before, self._mtime_ns = self._mtime_ns, status.st_mtime_ns
            return status.st_size > 0 or before != status.st_mtime_ns
        return False

    def is_intact(self) -> bool:
        """Whether what was read is still there, as far as its head and its end tell."""
        with suppress(OSError):  # an unreadable file shows when it is read
            return self._holds_what_was_read(self.present_size())
        return True

    def read(self, limit: int) -> bytes | None:
        """The next bytes, at most `limit`; b"" at the end; None if the file was rewritten: see `start_again`.

        What was read before is compared *after* reading. As a rewritten file does not turn back, an
        unchanged marker proves that the new bytes continue the old ones.

        Raises:
            OSError: the read failed; nothing has changed.
        """
        data = self.read_at(limit, self.offset)
        size = self.present_size()
        if not self._holds_what_was_read(size):
            return None
        self.lost_bytes += max(0, self.size - size)
        self.size = max(size, self.offset + len(data))
        if data:
            self._take(data)
        return data

    def start_again(self, *, is_copied: bool) -> bool:
        """Get ready to read on in a file that was rewritten.

        Args:
            is_copied: there is a copy of what it held. So it was emptied, and what it holds now is new.

        Returns:
            Whether no more has happened than that its end was cut off inside a line: a server that starts
            anew writes whole lines. Reading goes on at the new end then, else at 0.
        """
        size, shortened = 0, False
        place = Place(*self.identity)
        with suppress(OSError):  # an unreadable file shows when it is read
            size = self.present_size()
            shortened = (
                0 < size < self.offset
                and self.read_at(1, size - 1) != b"\n"
                and self.trail.holds(size, self.read_at)
            )
            place = Place.at(self.identity, size if shortened else 0, self.read_at)
        self.lost_bytes += max(0, self.size - self.offset)
        if not (shortened or is_copied):
            self._former, self._former_end, self._former_lines = self.trail, size, 0
        self._go_to(place)
        self._forget_head(size)
        return shortened

    def look(self) -> int:
        """Take note of what is in a file whose turn has not come; returns how many bytes of it are gone."""
        gone = 0
        with suppress(OSError):  # an unreadable file shows when it is read
            size, head = self.present_size(), self.head()
            gone = max(0, self.size - size) if head.startswith(self._seen_head) else self.size
            self.size, self._seen_head = size, head
        self.is_rewritten |= gone > 0
        return gone

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
        self.trail = Trail(floor)

    def begin(self) -> bool:
        """Get ready to be read after another file, from the beginning of an unfinished line if there is one.

        Nothing to do in a new file; one that was read before may have been rewritten meanwhile.

        Returns:
            True: it takes one call.

        Raises:
            OSError: the file cannot be read.
        """
        if self.place.is_in(self.read_at):
            self._start_at(self.line_start)
        else:
            self._start_at(0)
            self._forget_head(0)
        return True

    def resume(self, place: Place) -> None:
        """Go on at a place that `is_in` this file.

        Raises:
            OSError: the file cannot be read.
        """
        self._start_at(place.offset)
        self.trail = Trail(place.offset)

    def goes_on(self, place: Place, trail: Trail, line_start: int) -> bool:
        """Go on at a place, if it holds all that was read up to there.

        Args:
            place: where reading ended in it, or in a file of which it is a copy.
            trail: of what was read; taken over.
            line_start: where the line begins that the place lies in.

        Raises:
            OSError: the file cannot be read.
        """
        if self.size < place.offset or not place.is_in(self.read_at):
            return False
        if not (trail.is_empty or trail.holds(place.offset, self.read_at)):
            return False
        self._start_at(place.offset)
        self.trail, self.line_start, self.entry = trail, line_start, None
        return True

    def was_read_to(self, place: Place, trail: Trail) -> None:
        """Take in how far it had been read before it was rewritten; `start_again` comes next."""
        self.place, self.trail, self.size = place, trail, place.offset

    def go_on_from(self, other: LogFile) -> bool:
        """Get ready to go on where `other` was read to, if this is a copy of it; says whether it is.

        Raises:
            OSError: the file cannot be read.
        """
        if self.size >= other.offset:
            is_copy = other.offset > 0 and other.place.is_in(self.read_at)
        else:  # made while `other` was still read; an empty one may be anything
            is_copy = self.size > 0 and other.trail.holds(self.size, self.read_at)
        if is_copy:
            self._start_at(min(self.size, other.offset))
            self.trail = Trail(self.offset)
            self.entry = None
        return is_copy

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

    def _holds_what_was_read(self, size: int) -> bool:
        """See `is_intact`; if nothing was read yet, whether what was seen is still there."""
        if not self.offset:
            return size >= self.size and self.head().startswith(self._seen_head)
        return size >= self.offset and self.place.is_in(self.read_at)

    def _forget_head(self, size: int) -> None:
        """The file was rewritten, and has so many bytes now."""
        self.size = size
        self._seen_head = b""

    def _take(self, data: bytes) -> None:
        """Note that these bytes are handed out."""
        begin = self.offset
        newline = data.rfind(b"\n")
        if newline >= 0:
            self.line_start = begin + newline + 1
        if self._former is not None:
            same = self._former.common(begin, data[: max(0, self._former_end - begin)])
            before = self._former_lines
            self._former_lines += data.count(b"\n", 0, same)
            if self._former_lines > 1:  # the first one alone is a header: servers write the same
                self.repeated_lines += self._former_lines - (before if before > 1 else 0)
            if same < len(data):
                self._former = None
        self.trail.extend(begin, data)
        self.place = self.place.after(data)

    def _start_at(self, offset: int) -> None:
        self._go_to(Place.at(self.identity, offset, self.read_at))

    def _go_to(self, place: Place) -> None:
        self.place = place
        self.line_start = place.offset
        if not place.offset:
            self.trail = Trail()


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _require_stored(fd: int, path: Path) -> None:
    """An empty file that can be read, as in /proc, is made up as it is read: it cannot be followed."""
    if os.pread(fd, 1, 0) and not os.fstat(fd).st_size:
        raise OSError(errno.EINVAL, "Not a stored file", str(path))
