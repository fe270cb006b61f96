"""Parsed lines as arrays: what every log dialect is turned into."""

from __future__ import annotations

import builtins
import functools
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

# Bounds on what a line may say. They lie well above every published model and keep each table that is
# indexed by these numbers small; a line that exceeds one is malformed.
MAX_LAYERS = 1024
MAX_EXPERTS = 2048
MAX_TOP_K = 256
MAX_ROWS = 1 << 31


@dataclass(frozen=True, slots=True, eq=False)
class GateRows:
    """Gate lines of one span: the router's input vectors.

    Attributes:
        position: (m,) int64, how many expert rows of the same `Records` stand before the line.
        layer: (m,) int64.
        row: (m,) int64, the ROW field: the token's index in its block.
        vector: (m,) int64, index into `vectors`, or -1 where the floats were not needed and not parsed.
        vectors: (v, n_embd) float64, C-contiguous. Without parsed lines, n_embd is 0.
    """

    position: NDArray[np.int64]
    layer: NDArray[np.int64]
    row: NDArray[np.int64]
    vector: NDArray[np.int64]
    vectors: NDArray[np.float64]

    @classmethod
    @functools.cache
    def none(cls) -> GateRows:
        """No gate lines at all."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty, np.empty((0, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Consecutive well-formed lines of a log, in their order.

    All expert rows of one `Records` have the same k and all its vectors the same n_embd: where a log
    changes either, the decoder starts a new `Records`. The arrays may be views of buffers that the
    decoder reuses: they hold until the next `Records` is asked for.

    Attributes:
        layer: (n,) uint16, the layer of each expert row.
        experts: (n, k) uint16, the chosen experts of each row, best first. May be a transposed view: the
            decoder's fast path produces them as a contiguous (k, n). Without expert rows, k is 0.
        gates: the gate lines among them.
        label: what a line before these called the steps that begin from here on; None for no such line.
    """

    layer: NDArray[np.uint16]
    experts: NDArray[np.uint16]
    gates: GateRows = field(default_factory=GateRows.none)
    label: str | None = None


@dataclass(frozen=True, slots=True)
class LineTally:
    """How many bytes and lines were read, and what could not be used.

    Attributes:
        bytes: all bytes fed, NUL bytes included.
        lines: complete lines (a newline was seen), headers and malformed ones included.
        header_lines: lines equal to the header of the format.
        label_lines: lines that name what follows; no server writes them, but who drives it may.
        malformed_lines: complete lines that are none of these nor well formed (over-long ones included).
        overlong_lines: those of them longer than the line limit.
        incomplete_bytes: bytes of unfinished last lines, dropped at a restart or at the end.
        incomplete_lines: how many such lines.
        nul_bytes: NUL bytes skipped at the start of a line (a hole in the file).
        samples: the first few malformed lines, cut to a bounded length, raw bytes.
    """

    bytes: int = 0
    lines: int = 0
    header_lines: int = 0
    label_lines: int = 0
    malformed_lines: int = 0
    overlong_lines: int = 0
    incomplete_bytes: int = 0
    incomplete_lines: int = 0
    nul_bytes: int = 0
    samples: tuple[builtins.bytes, ...] = ()  # `bytes` is the field above

    MAX_SAMPLES: ClassVar[int] = 5

    def __add__(self, other: LineTally) -> LineTally:
        """The tally of both inputs, this one first."""
        return LineTally(
            bytes=self.bytes + other.bytes,
            lines=self.lines + other.lines,
            header_lines=self.header_lines + other.header_lines,
            label_lines=self.label_lines + other.label_lines,
            malformed_lines=self.malformed_lines + other.malformed_lines,
            overlong_lines=self.overlong_lines + other.overlong_lines,
            incomplete_bytes=self.incomplete_bytes + other.incomplete_bytes,
            incomplete_lines=self.incomplete_lines + other.incomplete_lines,
            nul_bytes=self.nul_bytes + other.nul_bytes,
            samples=(self.samples + other.samples)[: self.MAX_SAMPLES],
        )
