"""Archives of arrays as `numpy.savez` writes them: each array of chosen experts is a text of its own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.numpy_array import NumpyDecoder
from moe_live.formats.numpy_array import fault as array_fault
from moe_live.formats.records import LineTally, Records

MAGIC = b"PK\x03\x04"

_FIXED = struct.Struct("<4s2xHH8xI4xHH")  # sizes unpacked are left out: arrays tell them themselves
_FIXED_BYTES = 30
_IN_EXTRA = 0xFFFFFFFF  # instead of a size: it stands in the extra field
_STORED, _DEFLATED = 0, 8
_PORTION = 1 << 20  # bytes unpacked at a time
_BEHIND = 24  # bytes of sizes that may stand behind a member


class NumpyArchiveDecoder:
    """Turns the bytes of such an archive into `Records`, however they are cut into chunks.

    What else is in the archive is malformed, and named.

    Args:
        gate_layers: is not needed: there are no router inputs.
        weights: is not needed: there are none.
    """

    def __init__(self, *, gate_layers: frozenset[int] | None = None, weights: bool = True) -> None:
        self._arrays = NumpyDecoder(gate_layers=gate_layers, weights=weights)
        self._begin()

    def _begin(self) -> None:
        self._held = bytearray()
        self._left = 0  # bytes of a member that is stored as it is
        self._unpacker: zlib._Decompress | None = None
        self._ended = False  # whether nothing more can be read

    @property
    def tally(self) -> LineTally:
        """What was read so far."""
        return self._arrays.tally

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        self._held += data
        while self._held and not self._ended:
            if self._unpacker is not None:
                yield from self._unpack(self._unpacker)
            elif self._left:
                part = bytes(self._held[: self._left])
                del self._held[: len(part)]
                self._left -= len(part)
                yield from self._arrays.feed(part)
                if not self._left:
                    yield from self._arrays.restart()
            elif not self._read_header():
                return
        self._held.clear()

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:  # noqa: ARG002 - another archive in any case
        """See `Decoder.restart`."""
        yield from self._arrays.restart()
        self._begin()

    def _unpack(self, unpacker: zlib._Decompress) -> Iterator[Records]:
        try:
            part = unpacker.decompress(bytes(self._held), _PORTION)
        except zlib.error:
            self._give_up("damaged")
            return
        self._held[:] = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        yield from self._arrays.feed(part)
        if unpacker.eof:
            self._unpacker = None
            yield from self._arrays.restart()

    def _read_header(self) -> bool:
        """Go on to the next member; False if more bytes are needed for that."""
        held = self._held
        if not held.startswith(MAGIC):
            at = held.find(MAGIC, 0, _BEHIND + len(MAGIC))
            if at < 0 and len(held) < _BEHIND + len(MAGIC) and not held.startswith(b"PK\x01\x02"):
                return False
            self._ended = at < 0
            del held[: max(0, at)]
            return True
        if len(held) < _FIXED_BYTES:
            return False
        _, flags, method, size, name_bytes, extra_bytes = _FIXED.unpack_from(held)
        end = _FIXED_BYTES + name_bytes + extra_bytes
        if len(held) < end:
            return False
        name = bytes(held[_FIXED_BYTES : _FIXED_BYTES + name_bytes])
        extra = bytes(held[_FIXED_BYTES + name_bytes : end])
        if size == _IN_EXTRA:
            size = int.from_bytes(extra[12:20], "little") if extra[:2] == b"\x01\x00" else 0
        del held[:end]
        if not name.endswith(b".npy"):
            self._arrays.refuse(MAGIC + b" " + name)
        if method == _DEFLATED:
            self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        elif method == _STORED and size and not flags & 8:
            self._left = size
        elif size or flags & 8:
            self._give_up(f"{name.decode('utf-8', 'replace')}: packed in a way that is not read")
        return True

    def _give_up(self, why: str) -> None:
        self._ended = True
        self._arrays.refuse(MAGIC + f" {why}".encode())


def recognize(lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect."""
    return Fit.CERTAIN if lines and lines[0].startswith(MAGIC) else Fit.NONE


def fault(line: bytes) -> str:
    """What is wrong with the archive, or with an array in it."""
    return "no archive that numpy.savez writes" if line.startswith(MAGIC) else array_fault(line)


DIALECTS = (
    Dialect(
        name="numpy-archive",
        example="experts.npz: such arrays, each of a text of its own",
        recognize=recognize,
        open=NumpyArchiveDecoder,
        fault=fault,
        is_text=False,
    ),
)
