"""A descriptor read once from its beginning to its end, unpacked if it is gzip, xz, bzip2 or zstd."""

from __future__ import annotations

import os
import re
import select
import stat
import zlib
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib import import_module
from typing import Any

from moe_live.errors import printable

READ_BYTES = 1 << 20
PACKED_BYTES = 1 << 17
GZIP_MAGIC = b"\x1f\x8b"
_BZIP2_MAGIC, _ZSTD_MAGIC = b"BZh", b"\x28\xb5\x2f\xfd"
PACKED_MAGICS = (GZIP_MAGIC, b"\xfd7zXZ\0", _BZIP2_MAGIC, _ZSTD_MAGIC)
"""How compressed files begin that are unpacked."""

_OWN_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path such as /dev/fd/63 or /dev/stdin means; None for others."""
    found = _OWN_DESCRIPTOR.fullmatch(path)
    return _STANDARD.get(path) if found is None else int(found[1])


def shortened(name: str) -> str:
    """What is wrong with a file that has fewer bytes than it had; `name` is printable."""
    return f"{name} became shorter while it was read; what was read of it is used"


class ByteStream:
    """Reads a descriptor to its end, never seeking and never blocking. Owns the descriptor.

    The open file description of a standard input is shared with other processes, so it is not made
    non-blocking; whatever is not a regular file is asked before each read whether it has something.

    Attributes:
        fd: the descriptor.
        position: bytes taken from `fd`, before unpacking.
        size: bytes there are in `fd`, before unpacking; None if it is not a regular file.
        ended: no more bytes will come.
        problem: why not everything could be read, in one line; "" if nothing is wrong.

    Args:
        fd: the descriptor.
        name: what it is, for messages; raw text.

    Raises:
        OSError: `fd` is not an open descriptor.
    """

    def __init__(self, fd: int, name: str) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.size: int | None = None
        if stat.S_ISREG(status.st_mode):
            self.size = max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))
        self._begin(name)

    def _begin(self, name: str) -> None:
        """Nothing is read yet of what is called so."""
        self.position = 0
        self.ended = False
        self.problem = ""
        self._name = printable(name)
        self._held_back = b""  # first bytes that alone do not tell whether the stream is compressed
        self._unpacker: _Unpacker | None = None

    def read(self, limit: int) -> bytes:
        """What has arrived, at most about `limit` bytes. b"": nothing now, or the end (see `ended`)."""
        pieces: list[bytes] = []
        room = limit
        while room > 0 and not self.ended:
            if self._unpacker is not None and self._unpacker.has_more:
                piece = self._unpack(self._unpacker, b"", room)
            elif self._is_ready():
                arrived = self._next_piece(room)
                if arrived is None:
                    break
                piece = arrived
            else:
                break
            pieces.append(piece)
            room -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give the descriptor back. Call it once."""
        with suppress(OSError):
            os.close(self.fd)

    def _take(self, limit: int) -> bytes:
        """The next bytes as they are, b"" at the end.

        Raises:
            OSError: they cannot be read.
        """
        return os.read(self.fd, limit)

    def _is_ready(self) -> bool:
        if self.size is not None:
            return True
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(poller.poll(0))  # hanging up and errors count: the read that follows tells

    def _next_piece(self, room: int) -> bytes | None:
        """One read; b"" if it gave nothing to hand out yet, None if nothing was there to read."""
        packed = self._unpacker is not None
        try:
            raw = self._take(PACKED_BYTES if packed else min(room, READ_BYTES))
        except BlockingIOError:  # somebody else made it non-blocking, or it is a file that waits, as in /proc
            return None
        except OSError as error:
            self._end(
                f"{self._name} could not be read to its end ({error.strerror}); what came before is used"
            )
            return b""
        start, self.position = self.position, self.position + len(raw)
        if not raw:
            if self.size is not None and start < self.size:
                self._end(shortened(self._name))
            elif self._unpacker is not None and self._unpacker.cut_short:
                self._end(f"{self._name} is cut short; what could be unpacked is used; copy or make it again")
            self._end(self.problem)
            return self._held_back
        at_start = start == len(self._held_back)
        raw, self._held_back = self._held_back + raw, b""
        if at_start and _begins_one(raw):
            self._held_back = raw
            return b""
        if at_start and raw.startswith(PACKED_MAGICS):
            self._unpacker = _GzipUnpacker() if raw.startswith(GZIP_MAGIC) else _OtherUnpacker()
        return raw if self._unpacker is None else self._unpack(self._unpacker, raw, room)

    def _unpack(self, unpacker: _Unpacker, raw: bytes, room: int) -> bytes:
        try:
            data = unpacker.feed(raw, room)
        except ImportError as error:
            self._end(f"{self._name} cannot be unpacked by this Python ({error}); unpack it first")
            return b""
        if unpacker.damage:
            self._end(f"{self._name} is damaged ({unpacker.damage}); what came before is used; make it again")
        return data

    def _end(self, problem: str) -> None:
        self.problem = problem
        self.ended = True


def _begins_one(raw: bytes) -> bool:
    """Whether these are the first bytes, and not all, of what compressed streams begin with."""
    return any(magic.startswith(raw) and magic != raw for magic in PACKED_MAGICS)


class _Unpacker(ABC):
    """Unpacks streams, one after the other, in bounded pieces.

    Attributes:
        complete: whether the last stream has ended.
        has_more: whether `feed` has bytes to give without new input.
        damage: what is wrong with the data; "" if nothing is.
    """

    def __init__(self) -> None:
        self.complete = True
        self.has_more = False
        self.damage = ""
        self._packed = b""

    @property
    def cut_short(self) -> bool:
        """Whether a stream has begun and not ended, if there is no more input."""
        return not self.complete or bool(self._packed)

    def feed(self, packed: bytes, room: int) -> bytes:
        """Take `packed` and give at most `room` unpacked bytes."""
        packed = self._packed + packed
        if self.complete:
            packed = packed.lstrip(b"\0")  # padding between and after streams, as on tapes
            if not packed or _begins_one(packed):  # what kind of stream it is cannot be told yet
                self._packed, self.has_more = packed, False
                return b""
        return self._unpack(packed, room)

    @abstractmethod
    def _unpack(self, packed: bytes, room: int) -> bytes:
        """The same of what is there: it begins a stream if the last one is complete."""

    def _damaged(self, damage: str) -> None:
        self.damage = printable(damage)
        self.has_more = False


class _GzipUnpacker(_Unpacker):
    """Of gzip, whose streams are called members; gives what comes before a damaged place too."""

    def _unpack(self, packed: bytes, room: int) -> bytes:
        if self.complete:
            self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: with a gzip header and checksum
        before = self._member.copy()
        try:
            data = self._member.decompress(packed, room)
        except zlib.error as error:
            self._damaged(str(error).rpartition(": ")[2])
            return _unpack_undamaged(before, packed)
        self.complete = self._member.eof
        self._packed = self._member.unused_data if self.complete else self._member.unconsumed_tail
        self.has_more = bool(self._packed) or len(data) >= room
        return data


_XZ_MEMORY = 1 << 27
"""Bytes that unpacking xz may take: twice what the strongest of its presets does."""


class _OtherUnpacker(_Unpacker):
    """Of xz, bzip2 and zstd."""

    def _unpack(self, packed: bytes, room: int) -> bytes:
        try:
            if self.complete:
                self._stream = _stream_of(packed)
            data = self._stream.decompress(packed, room)
        except ImportError:
            raise
        except Exception as error:  # each module has its own
            self._damaged(str(error).lower())
            return b""
        self.complete = self._stream.eof
        self._packed = self._stream.unused_data if self.complete else b""
        self.has_more = bool(self._packed) or not (self.complete or self._stream.needs_input)
        return bytes(data)


def _stream_of(packed: bytes) -> Any:
    """What unpacks a stream that begins so.

    Raises:
        ImportError: this Python lacks it.
    """
    if packed.startswith(_ZSTD_MAGIC):
        try:
            zstd = import_module("compression.zstd")  # from 3.14 on
        except ImportError:
            try:
                zstd = import_module("backports.zstd")
            except ImportError:
                raise ImportError("zstd is missing: pip install 'moe-live[zstd]'") from None
        return zstd.ZstdDecompressor()
    if packed.startswith(_BZIP2_MAGIC):
        from bz2 import BZ2Decompressor  # noqa: PLC0415 - not every Python has it

        return BZ2Decompressor()
    from lzma import LZMADecompressor  # noqa: PLC0415 - likewise

    return LZMADecompressor(memlimit=_XZ_MEMORY)


def _unpack_undamaged(member: zlib._Decompress, packed: bytes) -> bytes:
    """What comes before the damaged place: an error loses the output of its call, so byte by byte."""
    pieces: list[bytes] = []
    with suppress(zlib.error):
        pieces.extend(member.decompress(packed[i : i + 1]) for i in range(len(packed)))
    return b"".join(pieces)
