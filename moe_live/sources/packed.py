"""A rotated log that is compressed with gzip, read once to its end."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Self

from moe_live.sources.logfile import LogFile
from moe_live.sources.place import MARKER_BYTES, Place, identity_of
from moe_live.sources.source import Break
from moe_live.sources.stream import GZIP_MAGIC, ByteStream
from moe_live.sources.trail import Trail

HEAD_BYTES = 1 << 16
"""How much is compared with another file."""

SKIP_BYTES = 1 << 23
"""How much is unpacked at a time of what had been read before: some tens of milliseconds."""

_SIZE_BYTES = 4
_SIZES = 1 << 32
"""A gzip file ends with the size of what is packed, modulo this."""


class PackedLog:
    """A finished file, unpacked from its beginning or from where the log it was made of had been read to.

    Offsets and sizes are those of the unpacked text.

    Attributes:
        identity, offset, size, trail, left_at, entry: see `LogFile`.
        beginning: its first bytes, `HEAD_BYTES` unless it has fewer.
        problem: why not all of it could be read, in one line; "" if nothing is wrong.
    """

    def __init__(self, fd: int, path: Path) -> None:
        status = os.fstat(fd)
        self.identity = identity_of(status)
        self.offset = 0
        self.left_at: float | None = -math.inf  # nobody writes to it any more
        self.entry: Break | None = Break.ROTATED
        self.trail = Trail()
        self._tail = b""
        self._path = path
        self._stream = ByteStream(fd, str(path))
        self.beginning = self._stream.read(HEAD_BYTES)
        self._rewind()
        # That of its last member; there is only one in what gzip makes of a log.
        size = os.pread(fd, _SIZE_BYTES, max(0, status.st_size - _SIZE_BYTES))
        self.size = int.from_bytes(size, "little")
        self._original: tuple[Place, Trail] | None = (
            None  # what it seems to be a copy of, until that is known
        )

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Open a file; None if it is not compressed with gzip.

        Raises:
            OSError: it cannot be read.
        """
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if os.pread(fd, len(GZIP_MAGIC), 0) == GZIP_MAGIC:
                return cls(fd, path)
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        return None

    @property
    def problem(self) -> str:
        """Why not all of it could be read, in one line; "" if nothing is wrong."""
        return self._stream.problem

    @property
    def place(self) -> Place:
        """How far it was read."""
        return Place(
            *self.identity, self.offset, self.beginning[: min(self.offset, MARKER_BYTES)], self._tail
        )

    @property
    def line_start(self) -> int:
        """What `LogFile` has: here no line is read twice."""
        return self.offset

    def is_packed(self, size: int, head: bytes) -> bool:
        """Whether this seems to be a file of this size that begins like this, compressed."""
        return self.size == size % _SIZES and self.beginning[: len(head)] == head

    def is_made_of(self, file: LogFile) -> bool:
        """Whether this seems to be a file that is held, compressed; that may have grown since.

        One that is empty is made of none in particular.

        Raises:
            OSError: the file cannot be read.
        """
        return 0 < self.size <= file.present_size() and self.beginning == file.read_at(len(self.beginning), 0)

    def go_on_from(self, other: LogFile) -> bool:
        """Get ready to go on where `other` was read to, if this seems to be a copy of it.

        What shows to be another text when it is unpacked is read from its beginning.

        Returns:
            Whether it seems so.
        """
        head = other.place.head
        length = min(len(head), len(self.beginning))
        if not length or self.beginning[:length] != head[:length]:
            return False
        self._original = other.place, other.trail
        self.entry = None
        return True

    def begin(self) -> bool:
        """Get ready to be read: skip some of what had been read before.

        Returns:
            Whether that is done; if not, call it again.
        """
        if self._original is None:
            return True
        place, trail = self._original
        begin = self.offset
        skipped = self.read(min(SKIP_BYTES, place.offset - begin))
        same = trail.common(begin, skipped) == len(skipped)
        at_place = self.offset == place.offset
        if not same or (at_place and self._tail[-len(place.tail) :] != place.tail):
            self._original = None
            self.entry = Break.ROTATED
            self._rewind()
        elif at_place or self._stream.ended:
            self._original = None
        return self._original is None

    def goes_on(self, place: Place, trail: Trail) -> bool:
        """Go on at a place, if it holds all that was read up to there; that is unpacked at once."""
        head = place.head[: len(self.beginning)]
        if not place.offset or self.beginning[: len(head)] != head:
            return False
        self._original = place, trail
        self.entry = None
        while not self.begin():
            pass
        return self.offset == place.offset

    def read(self, limit: int) -> bytes:
        """The next bytes, at most `limit`; b"" at the end."""
        data = self._stream.read(limit)
        self.trail.extend(self.offset, data)
        self.offset += len(data)
        self._tail = (self._tail + data)[-MARKER_BYTES:]
        return data

    def look(self) -> int:
        """Nothing changes in it: no byte is gone."""
        return 0

    def close(self) -> None:
        """Give the descriptor back. Call it once."""
        self._stream.close()

    def _rewind(self) -> None:
        os.lseek(self._stream.fd, 0, os.SEEK_SET)
        self._stream = ByteStream(self._stream.fd, str(self._path))
        self.offset = 0
        self.trail = Trail()
        self._tail = b""
