"""What decoders have in common whose lines tell what they belong to."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.comments import take_apart
from moe_live.formats.dialect import Dialect
from moe_live.formats.passes import PassGatherer
from moe_live.formats.records import Experts, LineTally, Records
from moe_live.formats.spans import SAMPLE_BYTES, LineAssembler, LineCounter
from moe_live.formats.told import PREFILL, Telling, Told
from moe_live.memory import keep_freed_memory

_AT_END = re.compile(rb"[ \t\r]+\n")


@dataclass(frozen=True, slots=True, eq=False)
class ReadLines:
    """Complete lines of a text, read.

    Attributes:
        told: the rows, or single experts, they tell of.
        line: (n,) int64, ascending: which line each is from.
        end: (l,) int64, where the newline of each line is.
        good: (l,) bool, whether it is well-formed.
        telling: what such lines tell, None as long as that is not known.
        labels: lines that are labels, and the names.
    """

    told: Told
    line: NDArray[np.int64]
    end: NDArray[np.int64]
    good: NDArray[np.bool_]
    telling: Telling | None
    labels: Sequence[tuple[int, str]] = ()


class Learned(NamedTuple):
    """What lines tell, and how many make a row."""

    telling: Telling
    row_lines: int


def _has_blanks_at_ends(text: bytes) -> bool:
    """Whether any of complete lines has; looking for two bytes in a row would take much longer."""
    blanks = [blank for blank in b" \t\r" if blank in text]
    letters = np.frombuffer(text, np.uint8)
    return any(((letters[:-1] == blank) & (letters[1:] == ord("\n"))).any() for blank in blanks)


class ToldLinesDecoder(ABC):
    """Turns the bytes of a log into `Records`, however they are cut into chunks.

    Args:
        gate_layers: is not needed: none of these logs has router inputs.
        weights: whether those of the experts are needed; if not, they may be left out.
    """

    def __init__(self, *, gate_layers: frozenset[int] | None = None, weights: bool = True) -> None:  # noqa: ARG002 - what every dialect is told
        keep_freed_memory()
        self._wants_weights = weights
        self._counter = LineCounter()
        self._assembler = LineAssembler(self._counter)
        self._telling: Telling | None = None
        self._passes = PassGatherer(Telling())

    @property
    def learned(self) -> Learned | None:
        """What the first lines have shown of all; None as long as that needs more of them."""
        row_lines = self._passes.row_lines
        return None if self._telling is None or row_lines is None else Learned(self._telling, row_lines)

    @property
    @abstractmethod
    def known(self) -> tuple[object, Learned] | None:
        """What another decoder must know to read on where a pass begins; None if that is not known."""

    def _know(self, learned: Learned) -> None:
        """What the first lines have shown is known before these come."""
        self._telling = learned.telling
        self._passes = PassGatherer(learned.telling, row_lines=learned.row_lines)

    @abstractmethod
    def read(self, text: bytes) -> ReadLines:
        """What complete lines tell; none is a comment, and none has blanks at its end."""

    @property
    def tally(self) -> LineTally:
        """What was read so far."""
        return self._counter.tally()

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        for start, end in self._assembler.spans(data):
            text = bytes(memoryview(self._assembler.text)[start:end])
            labels: Sequence[tuple[int, str]] = ()
            if _has_blanks_at_ends(text):
                text = _AT_END.sub(b"\n", text)
            if b"#" in text:
                comments = take_apart(text, 0, len(text))
                text, labels = comments.others, comments.labels
                self._counter.lines += len(labels) + comments.count
                self._counter.label_lines += len(labels)
                self._counter.comment_lines += comments.count
                self._counter.dropped_steps += comments.dropped
                if comments.expert_bytes:
                    yield Records(np.empty(0, np.uint16), Experts(), expert_bytes=comments.expert_bytes)
            yield from self._counted(self._take(text, labels))

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:  # noqa: ARG002 - a cut line is no line
        """See `Decoder.restart`."""
        self._assembler.end()
        yield from self._counted(self._passes.end())

    def _take(self, text: bytes, labels: Sequence[tuple[int, str]]) -> Iterator[Records]:
        """The records of complete lines.

        Args:
            text: of them.
            labels: names, and from which offset in the text on each holds.
        """
        if not text:
            yield from self._passes.feed(NO_LINES, [(0, name) for _, name in labels])
            return
        read = self.read(text)
        self._counter.lines += len(read.good)
        self._counter.label_lines += len(read.labels)
        wrong = np.flatnonzero(~read.good)
        if len(wrong):
            begin = np.append([0], read.end[:-1] + 1)
            first = wrong[: LineTally.MAX_SAMPLES]
            samples = [text[begin[i] : read.end[i]][:SAMPLE_BYTES] for i in first.tolist()]
            self._counter.add_malformed(len(wrong), samples)
        if self._telling is None and read.telling is not None:
            self._telling = read.telling
            self._passes = PassGatherer(read.telling, self._passes.waiting)
        places = [(int(np.searchsorted(read.end, offset)), name) for offset, name in labels]
        placed = sorted([*places, *read.labels], key=lambda place: place[0])
        yield from self._passes.feed(
            read.told, [(int(np.searchsorted(read.line, line)), name) for line, name in placed]
        )

    def _counted(self, records: Iterator[Records]) -> Iterator[Records]:
        """The same, with what the passes find out on the way."""
        passes = self._passes
        rows, slots, torn = passes.empty_rows, passes.empty_slots, passes.torn_lines
        yield from records
        if passes is not self._passes:
            rows = slots = torn = 0
        self._counter.empty_rows += self._passes.empty_rows - rows
        self._counter.empty_slots += self._passes.empty_slots - slots
        self._counter.add_malformed(self._passes.torn_lines - torn, ())


def resumed(
    dialect: Dialect, decode: Callable[..., ToldLinesDecoder], lines: Sequence[bytes]
) -> Dialect | None:
    """The dialect of what comes after these first lines; see `Dialect.resumed`.

    Args:
        dialect: of the first lines.
        decode: makes a decoder of it, which knows from the start what it is given of another's `known`.
        lines: without newlines.
    """
    decoder = decode()
    for _ in decoder.feed(b"".join(line + b"\n" for line in lines)):
        pass
    if decoder.known is None:
        return None
    known = partial(decode, decoder.known)
    return replace(dialect, open=known, places=partial(_places, known), resumed=None)


def _places(decode: Callable[[], ToldLinesDecoder], text: bytes) -> Iterator[tuple[int, int, int]]:
    """Where passes of decode begin, seen from the row before; see `Dialect.places`.

    Args:
        decode: makes a decoder that knows what lines tell.
        text: begins with a line.
    """
    decoder = decode()
    lines = decoder.read(text[: text.rfind(b"\n") + 1])
    told, begins = lines.told, lines.end - np.diff(lines.end, prepend=-1) + 1
    if decoder.learned is None or len(told) < 2:
        return
    telling, row_lines = decoder.learned
    other = np.cumsum(~lines.good)
    for index in PassGatherer(telling).begins(told).tolist():
        if index < row_lines or index + row_lines > len(told) or told.phase[index] == PREFILL:
            continue
        before, line, last = lines.line[[index - row_lines, index, index + row_lines - 1]].tolist()
        if other[before] == other[last] and not any(before <= label < last for label, _ in lines.labels):
            yield int(begins[before]), int(begins[line]), int(lines.end[last]) + 1


NO_LINES = Told.of([np.empty(0, np.int64)] * 8, np.empty(0))


def restarted() -> Records:
    """What wrote the log was started anew."""
    return Records(np.empty(0, np.uint16), Experts(), restarts=True)
