"""Where reading stands in a log file, in a form that outlives the open file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Self

from moe_live.dataclass import dataclass

MARKER_BYTES = 256
"""How much is compared with what was read: at the head of the file, and just before the offset."""

Identity = tuple[int, int]
"""(st_dev, st_ino). Unique as long as the file is held open, since its inode cannot be reused until then."""

ReadAt = Callable[[int, int], bytes]
"""So many bytes (the first argument) from that offset on (the second), fewer at the end of the file."""


def identity_of(status: os.stat_result) -> Identity:
    """Which file this is, whatever its name."""
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read, and what tells that a file is still the one.

    Device and inode alone do not: an inode is given to another file once its file is deleted. Nor does the
    head: a server that is started again writes the same header.

    Attributes:
        device: of the file.
        inode: of the file.
        offset: bytes that were read, from the beginning of the file.
        head: the first bytes of the file, `MARKER_BYTES` unless fewer were read.
        tail: the bytes just before the offset, as many.
    """

    device: int
    inode: int
    offset: int = 0
    head: bytes = b""
    tail: bytes = b""

    @classmethod
    def at(cls, identity: Identity, offset: int, read_at: ReadAt) -> Self:
        """The place at an offset of a file that can be read.

        Raises:
            OSError: the file cannot be read.
        """
        length = min(offset, MARKER_BYTES)
        head = read_at(length, 0) if length else b""
        tail = read_at(length, offset - length) if length else b""
        return cls(*identity, offset, head, tail)

    def after(self, data: bytes) -> Self:
        """The place after these bytes, which follow it."""
        head = self.head
        if len(head) < MARKER_BYTES:
            head = (head + data[:MARKER_BYTES])[:MARKER_BYTES]
        tail = data if len(data) >= MARKER_BYTES else self.tail + data
        return type(self)(self.device, self.inode, self.offset + len(data), head, tail[-MARKER_BYTES:])

    def is_in(self, read_at: ReadAt) -> bool:
        """Whether a file holds what was read up to here, as far as the two samples tell.

        Raises:
            OSError: the file cannot be read.
        """
        tail = self.tail
        if tail and read_at(len(tail), self.offset - len(tail)) != tail:
            return False
        return self.offset <= MARKER_BYTES or read_at(len(self.head), 0) == self.head
