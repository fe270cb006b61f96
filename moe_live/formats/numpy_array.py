"""Arrays of chosen experts as `numpy.save` writes them: (tokens, layers, k), what vLLM and SGLang return.

Layers are not named in them: they are 0, 1, 2 and so on. Each token is one step of one sequence. A row of the
array is called a line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.passes import PassGatherer
from moe_live.formats.records import LineTally, Records
from moe_live.formats.spans import SAMPLE_BYTES, LineCounter
from moe_live.formats.told import UNTOLD, Telling, Told
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K

MAGIC = b"\x93NUMPY"

_FIXED = len(MAGIC) + 2
_MAX_HEADER = 1 << 16
_PORTION = 1 << 16  # rows made into records at a time


class NumpyDecoder:
    """Turns the bytes of such a file into `Records`, however they are cut into chunks.

    Args:
        gate_layers: is not needed: there are no router inputs.
        weights: is not needed: there are none.
    """

    def __init__(self, *, gate_layers: frozenset[int] | None = None, weights: bool = True) -> None:  # noqa: ARG002 - what every dialect is told
        self._counter = LineCounter()
        self._passes = PassGatherer(Telling(step=True))
        self._begin()

    def _begin(self) -> None:
        self._held = bytearray()
        self._shape: tuple[int, int] | None = None  # layers and k
        self._dtype: np.dtype[np.integer] = np.dtype(np.int64)
        self._left = -1  # tokens; -1 before the header is read, 0 once nothing more can be
        self._token = 0

    @property
    def tally(self) -> LineTally:
        """What was read so far."""
        return self._counter.tally()

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        self._counter.bytes += len(data)
        self._held += data
        if self._left < 0:
            self._read_header()
        if self._shape is None or self._left <= 0:
            if self._left >= 0:
                self._held.clear()  # behind the end of the array, or of one that is not read
            return
        layers, k = self._shape
        size = layers * k * self._dtype.itemsize
        while tokens := min(len(self._held) // size, self._left, max(1, _PORTION // layers)):
            values = np.frombuffer(bytes(self._held[: tokens * size]), self._dtype)
            del self._held[: tokens * size]
            self._left -= tokens
            yield from self._passes.feed(self._told(values.reshape(tokens * layers, k), tokens))
            self._count_empty()

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:  # noqa: ARG002 - another array in any case
        """See `Decoder.restart`."""
        yield from self._passes.end()
        self._count_empty()
        if self._held:
            self._counter.incomplete_bytes += len(self._held)
            self._counter.incomplete_lines += 1
        self._begin()

    def _count_empty(self) -> None:
        self._counter.empty_rows = self._passes.empty_rows
        self._counter.empty_slots = self._passes.empty_slots

    def _read_header(self) -> None:
        held = self._held
        if len(held) < _FIXED + 4 and MAGIC.startswith(bytes(held[: len(MAGIC)])):
            return
        width = 2 if held[len(MAGIC)] == 1 else 4
        begin = _FIXED + width
        end = begin + int.from_bytes(held[_FIXED:begin], "little")
        if held[: len(MAGIC)] == MAGIC and end <= _MAX_HEADER:
            if len(held) < end:
                return
            self._left, self._shape, self._dtype = _header(bytes(held[begin:end]))
            if self._shape is not None:
                del held[:end]
                return
            header = bytes(held[begin:end])
            self.refuse(b"numpy array, " + header[max(0, header.find(b"'shape'")) :].strip())
        else:
            self.refuse(b"numpy array, not")

    def refuse(self, what: bytes) -> None:
        """Read nothing of what comes until the next array begins, and count it as one malformed line."""
        self._left = 0
        self._counter.lines += 1
        self._counter.add_malformed(1, [what[:SAMPLE_BYTES]])

    def _told(self, values: NDArray[np.integer], tokens: int) -> Told:
        """Rows (n, k) of some tokens; those with an impossible expert are malformed."""
        n, k = values.shape
        layers = n // tokens
        good = ((values >= -1) & (values < MAX_EXPERTS)).all(axis=1)
        self._counter.lines += n
        if not good.all():
            wrong = np.flatnonzero(~good)
            samples = [
                str(values[row].tolist()).encode()[:SAMPLE_BYTES] for row in wrong[: LineTally.MAX_SAMPLES]
            ]
            self._counter.add_malformed(len(wrong), samples)
        step = np.repeat(np.arange(self._token, self._token + tokens), layers)[good]
        self._token += tokens
        nothing = np.zeros(len(step), np.int64)
        return Told(
            layer=np.tile(np.arange(layers), tokens)[good],
            phase=nothing + UNTOLD,
            sequence=nothing,
            step=step,
            token=nothing,
            rank=nothing,
            count=nothing + k,
            experts=values[good].astype(np.int64).reshape(-1),
            weights=np.full(len(step) * k, np.nan),
        )


def _header(text: bytes) -> tuple[int, tuple[int, int] | None, np.dtype[np.integer]]:
    """Tokens, layers and k, and the type of the numbers; no shape if this is no such array."""
    nothing = 0, None, np.dtype(np.int64)
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
        dtype = np.dtype(header["descr"])
        shape = tuple(map(int, header["shape"]))
        is_fortran = bool(header["fortran_order"])
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        return nothing
    if dtype.kind not in "iu" or is_fortran or len(shape) != 3 or prod(shape) <= 0 or min(shape) < 1:
        return nothing
    if shape[1] > MAX_LAYERS or shape[2] > MAX_TOP_K:
        return nothing
    return shape[0], shape[1:], dtype


def recognize(lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect."""
    return Fit.CERTAIN if lines and lines[0].startswith(MAGIC) else Fit.NONE


def fault(line: bytes) -> str:
    """What is wrong with a row, or with a header."""
    if line.startswith(b"["):
        return f"an expert that is not below {MAX_EXPERTS:,}"
    return "not (tokens, layers, k) integers in C order"


DIALECTS = (
    Dialect(
        name="numpy-array",
        example="experts.npy: (tokens, layers, k) integers, as vLLM and SGLang return them",
        recognize=recognize,
        open=NumpyDecoder,
        fault=fault,
        is_text=False,
    ),
)
