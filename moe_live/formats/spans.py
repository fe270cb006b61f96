"""Chunks of bytes to spans of complete lines: cut lines, holes of NUL bytes, over-long lines."""

from __future__ import annotations

import builtins
import dataclasses
import re
from collections.abc import Iterator, Sequence
from operator import attrgetter

from moe_live.formats.records import LineTally

MAX_LINE_BYTES = 1 << 20
"""Twenty times the widest gate line of a published model, and what is decoded at a time: much is done once
for it, however short it is."""

SAMPLE_BYTES = 120

_HOLE_AT_START = re.compile(rb"(?:\A|(?<=\n))\0+")
_HOLE_AFTER_NEWLINE = re.compile(rb"(?<=\n)\0+")


@dataclasses.dataclass(slots=True)
class LineCounter:
    """A `LineTally` in the making: the fields have the same names and meaning."""

    bytes: int = 0
    lines: int = 0
    header_lines: int = 0
    label_lines: int = 0
    comment_lines: int = 0
    dropped_steps: int = 0
    empty_rows: int = 0
    empty_slots: int = 0
    malformed_lines: int = 0
    overlong_lines: int = 0
    incomplete_bytes: int = 0
    incomplete_lines: int = 0
    nul_bytes: int = 0
    samples: tuple[builtins.bytes, ...] = ()
    incomplete_head: builtins.bytes = b""

    def add_malformed(self, count: int, samples: Sequence[builtins.bytes]) -> None:
        """Count malformed lines, given the start of the first of them at least."""
        self.malformed_lines += count
        wanted = LineTally.MAX_SAMPLES - len(self.samples)
        self.samples += tuple(samples[:wanted])

    def tally(self) -> LineTally:
        """The counts so far."""
        return LineTally(*_counts(self))


_counts = attrgetter(*(field.name for field in dataclasses.fields(LineTally)))
"""The fields of a tally: `dataclasses.asdict` would copy each, for every frame of the dashboard."""


class LineAssembler:
    r"""Appends chunks to one buffer and says which part of it is complete lines.

    Lines end in ``\n`` and nothing else. NUL bytes at the start of a line (a hole in the file) are taken out
    as they come, whether or not the rest of the line has been seen; a line longer than the limit (its
    newline and such NUL bytes not counted) is dropped as it comes. So memory is bounded, and neither
    depends on where the chunks were cut.

    Args:
        counter: counts bytes, holes, over-long and unfinished lines; other complete lines are the caller's.
        max_line_bytes: the longest line that is kept.

    Attributes:
        text: the buffer. Never resized.
    """

    def __init__(self, counter: LineCounter, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._counter = counter
        self._limit = max_line_bytes
        self._make_room()
        self._unfinished = 0  # text[:unfinished] is the start of a line whose newline has not arrived
        self._dropped = 0  # bytes dropped of an over-long line whose newline has not arrived
        self._dropped_head = b""

    def __getstate__(self) -> tuple[LineCounter, int, bytes, int, bytes]:
        """All but what is left in the buffer of lines that were handed out."""
        unfinished = bytes(self._view[: self._unfinished])
        return self._counter, self._limit, unfinished, self._dropped, self._dropped_head

    def __setstate__(self, state: tuple[LineCounter, int, bytes, int, bytes]) -> None:
        """As it was."""
        self._counter, self._limit, unfinished, self._dropped, self._dropped_head = state
        if not len(unfinished) <= self._limit <= MAX_LINE_BYTES:
            raise ValueError(f"{self._limit} is no limit")
        self._make_room()
        self._unfinished = len(unfinished)
        self._view[: self._unfinished] = unfinished

    def _make_room(self) -> None:
        self.text = bytearray(2 * self._limit)
        self._view = memoryview(self.text)

    def spans(self, data: bytes | memoryview) -> Iterator[tuple[int, int]]:
        """Take in a chunk. Iterate to the end before the next call.

        Yields:
            (start, end): ``text[start:end]`` is one or more complete lines with their newlines, until the
            next item is asked for.
        """
        chunk = memoryview(data).cast("B")
        self._counter.bytes += len(chunk)
        text, view, limit = self.text, self._view, self._limit
        # Pieces are no longer than a line may be, so that only the line which began in an earlier one can be
        # over-long.
        for taken in range(0, len(chunk), limit):
            piece = chunk[taken : taken + limit]
            begin = self._unfinished
            end = begin + len(piece)
            view[begin:end] = piece
            if text.find(0, begin, end) >= 0:
                end = self._take_out_holes(begin, end)
            newline = text.find(b"\n", begin, end)
            if newline < 0:
                self._unfinished = end
                if self._dropped or end > limit:
                    self._drop()
                continue
            start = 0
            if self._dropped or newline > limit:
                self._unfinished = newline
                self._drop()
                self._end_overlong_line()
                start = newline + 1
            complete = text.rfind(b"\n", newline, end) + 1
            if start < complete:
                yield start, complete
            self._unfinished = end - complete
            view[: self._unfinished] = view[complete:end]

    def end(self) -> bytes:
        """Drop the unfinished line, which is returned unless it is over-long: the input was cut off here."""
        line = b"" if self._dropped else bytes(self._view[: self._unfinished])
        unfinished = self._unfinished + self._dropped
        self._counter.incomplete_bytes += unfinished
        self._counter.incomplete_lines += unfinished > 0
        self._counter.incomplete_head = self._counter.incomplete_head or self._head()
        self._unfinished = self._dropped = 0
        return line

    def _take_out_holes(self, begin: int, end: int) -> int:
        """Close up the holes in ``text[begin:end]``; return its new end."""
        at_line_start = not begin and not self._dropped
        hole = _HOLE_AT_START if at_line_start else _HOLE_AFTER_NEWLINE
        rest = hole.sub(b"", self._view[begin:end])
        self._counter.nul_bytes += end - begin - len(rest)
        self._view[begin : begin + len(rest)] = rest
        return begin + len(rest)

    def _head(self) -> bytes:
        """The start of the unfinished line."""
        if self._dropped:
            return self._dropped_head
        return bytes(self._view[: min(self._unfinished, SAMPLE_BYTES, self._limit)])

    def _drop(self) -> None:
        self._dropped_head = self._head()
        self._dropped += self._unfinished
        self._unfinished = 0

    def _end_overlong_line(self) -> None:
        self._dropped = 0
        self._counter.lines += 1
        self._counter.overlong_lines += 1
        self._counter.add_malformed(1, [self._dropped_head])
