r"""The routing log of llama-server: lines of chosen experts, and of router inputs.

Grammar (a line ends in ``\n``; one ``\r`` before it is ignored)::

    header := "layer_id,expert_ids" [",weights"]
    expert := LAYER "," ID (" " ID)*
    gate   := "gate_input," LAYER "," ROW "," F (" " F)*
    other  := "#" ANYTHING, see `moe_live.formats.comments`

LAYER and ID are one to four digits, ROW one to ten. Leading zeros are accepted; values, and more IDs, than
the bounds of `moe_live.settings` allow are not. F is what C's %g prints, with any number of digits.
Everything else is a malformed line: an empty one, one with blanks at either end, one with a NUL byte in it
(but NUL bytes at its start are a hole in the file, and skipped).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.comments import has_weights, take_apart
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.expert_lines import ExpertLineParser
from moe_live.formats.fault import fault
from moe_live.formats.float_text import FloatLines, FloatTextParser
from moe_live.formats.gate_lines import GateLines, carve, interleave
from moe_live.formats.records import Experts, LineTally, Records
from moe_live.formats.spans import MAX_LINE_BYTES, SAMPLE_BYTES, LineAssembler, LineCounter
from moe_live.formats.spellings import in_plain, is_otherwise
from moe_live.memory import keep_freed_memory
from moe_live.settings import MAX_LAYERS

HEADER = b"layer_id,expert_ids"
HEADERS = (HEADER, HEADER + b",weights")

_NEWLINE = ord("\n")
_SHORTEST_ROW = len("0,1")
DRAFT = b"# draft "
"""How a line begins that says which layer is of a draft head."""

_DRAFT = re.compile(rb"# draft ([0-9]{1,4})\r?\n")
_AFTER_HEADER = (b"\n", b"\r\n", b",weights\n", b",weights\r\n")

_CERTAIN = re.compile(
    rb"layer_id,expert_ids(?:,weights)?\r?$|gate_input,[0-9]"
    rb"|[0-9]{1,4},[0-9]{1,4} [0-9 ]+(?:,[-0-9.e ]+)?\r?$"
)
_SINGLE = re.compile(rb"[0-9]{1,4},[0-9]{1,4}\r?")
_LAYER = re.compile(rb"(gate_input,)?([0-9]{1,4}),(0,)?")


class LlamaServerDecoder:
    """Turns the bytes of a log into `Records`, however they are cut into chunks.

    The floats of a gate line are parsed, and checked, only where they are needed: usually in row 0 of a
    block, the one row whose input can be compared from layer to layer. Of any other gate line only what
    stands before the floats is checked, and that no NUL byte is among them.

    Args:
        gate_layers: the layers whose router inputs are needed; None for all.
        weights: is not needed: a line whose weights are none is malformed.
        every_row: whether those of all rows are needed, not of row 0 alone.
        max_line_bytes: a longer line is malformed.
    """

    def __init__(
        self,
        *,
        gate_layers: frozenset[int] | None = None,
        weights: bool = True,  # noqa: ARG002 - what every dialect is told
        every_row: bool = False,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        keep_freed_memory()
        self._gate_layers = gate_layers
        self._every_row = every_row
        self._sample_bytes = min(SAMPLE_BYTES, max_line_bytes)
        self._counter = LineCounter()
        self._cut_line = b""  # what was there of a line whose rest may come as the first line
        self._may_restart = False  # whether lines came that the server wrote before the next header
        self._assembler = LineAssembler(self._counter, max_line_bytes)
        self._experts = ExpertLineParser()
        self._floats = FloatTextParser()
        self._weights: FloatTextParser | None = None  # once there are any
        self._spelled_otherwise = False  # whether any row is

    @property
    def tally(self) -> LineTally:
        """What was read so far. Does not depend on how the input was cut into chunks."""
        return self._counter.tally()

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """Take in the next chunk of the log.

        This is a generator: nothing is read before the first item is asked for, and what was not asked for is
        lost. Iterate to the end before feeding more.

        Yields:
            The records of the lines completed by this chunk, in the order of the log. Their arrays hold until
            the next one is asked for.
        """
        text = self._assembler.text
        for start, end in self._assembler.spans(data):
            begin = self._skip_rest(text, start, end) if self._cut_line else start
            for header in _headers(text, begin, end):
                yield from self._decode_run(text, begin, header)
                if self._may_restart:
                    yield Records(np.empty(0, np.uint16), Experts(), restarts=True)
                    self._may_restart = False
                begin = header
            yield from self._decode_run(text, begin, end)

    def _decode_run(self, text: bytearray, start: int, end: int) -> Iterator[Records]:
        """The records of complete lines that one run of a server has written; no header is among them."""
        begin = start
        has_comments = text.find(b"#", start, end) >= 0  # one byte is found several times as fast
        while begin < end:
            line = text.find(DRAFT, begin, end) if has_comments else -1
            told = _DRAFT.match(text, line, end) if line >= 0 else None
            stop = end if line < 0 else text.index(b"\n", line) + 1
            for records in self._decode(text, begin, stop):
                self._may_restart |= len(records.layer) + len(records.gates.layer) > 0
                yield records
            layer = int(told[1]) if told else MAX_LAYERS
            if layer < MAX_LAYERS and (line == start or text[line - 1] == _NEWLINE):
                yield Records(np.empty(0, np.uint16), Experts(), drafts=(layer,))
            begin = stop

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """The log starts anew, or has ended: drop the unfinished line.

        Args:
            emptied: the same file goes on, perhaps written by the same server with the rest of that line. If
                the first line is well-formed, and joined to the unfinished one as well, none can tell which
                it is: it counts as malformed.

        Returns:
            Nothing: a record is complete with its line.
        """
        cut_line = self._assembler.end()
        self._may_restart = False
        self._cut_line = (cut_line or self._cut_line) if emptied else b""
        return ()

    def _skip_rest(self, text: bytearray, start: int, end: int) -> int:
        """Where the lines begin that are none of a line that was cut."""
        cut_line, self._cut_line = self._cut_line, b""
        first_end = text.index(b"\n", start, end) + 1
        line = bytes(text[start:first_end])
        if not (_is_row(line) and _is_row(cut_line + line)):
            return start
        self._counter.lines += 1
        self._counter.add_malformed(1, [line[:-1][: self._sample_bytes]])
        return first_end

    def _decode(self, text: bytes | bytearray, start: int, end: int) -> Iterator[Records]:
        """The records of the complete lines ``text[start:end]``."""
        if text.find(b"\r", start, end) >= 0:
            text = text[start:end].replace(b"\r\n", b"\n")
            start, end = 0, len(text)
        whole, beside, empty_rows, empty_slots = (text, start, end), None, 0, 0
        if self._spelled_otherwise:
            text, empty_rows, empty_slots = in_plain(bytes(text[start:end]))
            start, end = 0, len(text)
        if self._weights is not None or text.find(b"#", start, end) >= 0:
            beside = take_apart(text, start, end, self._weights)
            text, start, end = beside.others, 0, len(beside.others)
        gates, bounds = carve(text, start, end, self._gate_layers, every_row=self._every_row)
        if len(bounds) == 1:
            other_text, (start, end) = text, bounds[0]
        else:
            view = memoryview(text)
            other_text = b"".join([view[a:b] for a, b in bounds])
            start, end = 0, len(other_text)
        rows = self._experts.parse(other_text, start, end)
        if len(rows.others) and (self._weights is None or not self._spelled_otherwise):
            others = memoryview(other_text)[start:end]
            like_rows = _like_rows(others, rows.others)
            if self._weights is None and any(has_weights(others[a : b + 1]) for a, b in like_rows):
                self._weights = FloatTextParser()
                yield from self._decode(*whole)
                return
            if not self._spelled_otherwise and any(is_otherwise(others[a:b]) for a, b in like_rows):
                self._spelled_otherwise = True
                yield from self._decode(*whole)
                return
        self._counter.lines += empty_rows
        self._counter.empty_rows += empty_rows
        self._counter.empty_slots += empty_slots
        if beside is not None:
            self._counter.lines += len(beside.labels) + beside.count
            self._counter.label_lines += len(beside.labels)
            self._counter.comment_lines += beside.count
            self._counter.dropped_steps += beside.dropped
        floats = self._floats.parse(text, gates.floats)

        self._counter.lines += len(rows) + len(rows.others) + len(gates.start)
        if len(rows.others) or (gates.wanted and not floats.good.all()):
            parsed = memoryview(other_text)[start:end]
            self._count_others(parsed, rows.others, memoryview(text), gates, floats)
        yield from interleave(rows, bounds, gates, floats, beside)

    def _count_others(
        self,
        other_text: memoryview,
        others: NDArray[np.int64],
        text: memoryview,
        gates: GateLines,
        floats: FloatLines,
    ) -> None:
        """Count headers and malformed lines."""
        headers = []
        for header in HEADERS:
            as_long = np.flatnonzero(others[:, 1] - others[:, 0] == len(header))
            headers += [i for i in as_long.tolist() if other_text[others[i, 0] : others[i, 1]] == header]
        self._counter.header_lines += len(headers)
        malformed = np.delete(others, headers, axis=0)
        bad_gates = np.flatnonzero(~floats.good)
        # The first of both, in the order of the log: a gate line stands before the line at its offset.
        first = [
            (start, 1, other_text[start:end]) for start, end in malformed[: LineTally.MAX_SAMPLES].tolist()
        ]
        for i in bad_gates[: LineTally.MAX_SAMPLES].tolist():
            line = gates.wanted[i]
            first.append((gates.offset[line], 0, text[gates.start[line] : gates.floats[i][1]]))
        first.sort(key=operator.itemgetter(0, 1))
        samples = [bytes(line[: self._sample_bytes]) for _, _, line in first]
        self._counter.add_malformed(len(malformed) + len(bad_gates), samples)


def _like_rows(text: memoryview, lines: NDArray[np.int64]) -> list[list[int]]:
    """Those of the lines that begin as a row does, with a digit, and are as long as one.

    Args:
        text: of the log.
        lines: (n, 2), where each begins and ends.
    """
    long = lines[lines[:, 1] - lines[:, 0] >= _SHORTEST_ROW]
    begins = np.frombuffer(text, np.uint8)[long[:, 0]] - np.uint8(ord("0")) < 10
    found: list[list[int]] = long[begins].tolist()
    return found


def _headers(text: bytearray, start: int, end: int) -> Iterator[int]:
    """Where lines begin that are headers, among the complete lines ``text[start:end]``."""
    if text.find(HEADER[:1], start, end) < 0:  # one byte is found faster, and rows have none like it
        return
    place = text.find(HEADER, start, end)
    while place >= 0:
        after = place + len(HEADER)
        if (place == start or text[place - 1] == _NEWLINE) and text.startswith(_AFTER_HEADER, after):
            yield place
        place = text.find(HEADER, after, end)


def _is_row(line: bytes) -> bool:
    """Whether this is one well-formed line of experts or of a gate input."""
    decoder = LlamaServerDecoder()
    return any(len(records.layer) + len(records.gates.layer) for records in decoder.feed(line))


def recognize(lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect."""
    if any(map(_CERTAIN.match, lines)):
        return Fit.CERTAIN
    return Fit.POSSIBLE if any(map(_SINGLE.fullmatch, lines)) else Fit.NONE


def places(text: bytes) -> Iterator[tuple[int, int, int]]:
    """Where steps may begin: where the layer goes down, or rows of gate inputs of the same layer begin again.

    See `Dialect.places`.
    """
    before, layer_before = 0, -1
    start = 0
    while end := text.find(b"\n", start) + 1:
        found = _LAYER.match(text, start, end)
        layer = int(found[2]) if found else -1
        goes_down = 0 <= layer < layer_before
        first_again = layer == layer_before and found is not None and found[1] and found[3]
        if goes_down or first_again:
            yield before, start, end
        before = start
        if found is not None and not found[1]:  # no step begins among the other rows of this layer
            other = re.compile(rb"\n(?!%b,)" % found[2]).search(text, end - 1)
            end = other.end() if other else len(text)
            before = text.rfind(b"\n", 0, end - 1) + 1
        layer_before, start = layer, end


LLAMA_SERVER = Dialect(
    name="llama-server",
    example="layer_id,expert_ids\n3,51 1 12\n4,7 30 2",
    recognize=recognize,
    open=LlamaServerDecoder,
    fault=fault,
    places=places,
)

DIALECTS = (LLAMA_SERVER,)
