r"""Tables of chosen experts: a header that names the columns, then lines of as many fields.

Fields are separated by `,`, tabulators, `;`, `|` or blanks, whichever the header has. A field of several
numbers is in quotes or brackets, or has blanks between them where these separate no fields; if the experts
are the last column, they may take all the fields that a line has too many. Columns are known by their names,
see `moe_live.formats.columns`; of others nothing is read; `...` behind columns of one expert each stands for
more of these. Before the header and between lines there may be comments, see `moe_live.formats.comments`. The
header again is a restart of what writes it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.alike import MOST, NUMBER, Shape, Shapes
from moe_live.formats.columns import Column, columns, plain_name
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.fields import (
    float_lists,
    floats,
    lists,
    numbers,
    pairs,
    phase_named,
    phases,
    trimmed,
    untold,
)
from moe_live.formats.llama_server import HEADERS
from moe_live.formats.passes import PREFILL, UNTOLD, Telling, Told
from moe_live.formats.records import Records
from moe_live.formats.spans import SAMPLE_BYTES
from moe_live.formats.told_lines import Learned, ReadLines, ToldLinesDecoder, restarted, resumed
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

_SEPARATORS = b"\t,;|"
_BLANKS = re.compile(rb"[ \t]+")
_AND_SO_ON = ("...", "…")
_NAME = re.compile(r"[\"' ]*[A-Za-z_][^:|]*")


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a table.

    Attributes:
        line: as it is written, without blanks at its end.
        separator: between fields; a blank stands for any number of them.
        fields: how many there are.
        columns: which of them tell what.
        is_of_one: whether the name of the experts' column is of one expert.
    """

    line: bytes
    separator: int
    fields: int
    columns: Mapping[Column, Sequence[int]]
    is_of_one: bool

    @classmethod
    def of(cls, line: bytes, told: Mapping[str, str], *, counts: bool = False) -> Header | None:
        """What a line names, None if it is no header of a table of chosen experts, or of `counts` of them."""
        line = line.rstrip()
        separator = next((each for each in _SEPARATORS if each in line), ord(" "))
        parts = _parts(line, separator)
        names = [part.decode("utf-8", "replace") for part in parts]
        and_so_on = names[-1].strip() in _AND_SO_ON
        names = names[: len(names) - and_so_on]
        if not all(map(_NAME.fullmatch, names)):
            return None
        found = columns(names, told, counts=counts)
        if not found:
            return None
        if and_so_on:
            first = found[Column.EXPERTS][0]
            found[Column.EXPERTS] = [first]
            if first < max(max(indices) for indices in found.values()):
                return None
            names = names[: first + 1]
        is_of_one = not plain_name(names[found[Column.EXPERTS][0]]).endswith("s")
        return cls(line, separator, len(names), found, is_of_one)

    def split(self, line: bytes) -> list[bytes]:
        """The fields of a line; nothing is taken for a list."""
        return _parts(line, self.separator)

    @property
    def last_is_experts(self) -> bool:
        """Whether fields that are too many are experts."""
        return self.fields - 1 in self.columns[Column.EXPERTS]


def _parts(line: bytes, separator: int) -> list[bytes]:
    return _BLANKS.split(line.strip()) if separator == ord(" ") else line.split(bytes([separator]))


class TableDecoder(ToldLinesDecoder):
    """Turns the bytes of a table into `Records`, however they are cut into chunks.

    Args:
        told: what the user says the columns are called, by our names of them.
        known: a decoder of the same table, which has read its first lines.
        gate_layers: is not needed: tables have no router inputs.
    """

    def __init__(
        self,
        told: Mapping[str, str],
        known: tuple[Header, Learned] | None = None,
        *,
        gate_layers: frozenset[int] | None = None,
    ) -> None:
        super().__init__(gate_layers=gate_layers)
        self._told = told
        self._header: Header | None = None
        self._may_restart = False
        self._shapes = Shapes(self._shape_of)
        self._has_one_each = False  # whether each line is known to have one expert
        if known is not None:
            self._header, learned = known
            self._know(learned)
            self._has_one_each = learned.telling.one_each
            self._may_restart = True

    @property
    def known(self) -> tuple[Header, Learned] | None:
        """See `ToldLinesDecoder.known`."""
        header, learned = self._header, self.learned
        return None if header is None or learned is None else (header, learned)

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`."""
        yield from super().restart(emptied=emptied)
        self._may_restart = False
        if not emptied:
            self._header = None

    def _take(self, text: bytes, labels: Sequence[tuple[int, str]]) -> Iterator[Records]:
        """The records of complete lines, headers among them."""
        begin = 0
        while begin < len(text) or labels:
            if self._header is None:
                begin = self._find_header(text, begin)
                if self._header is None:
                    yield from super()._take(b"", labels)
                    return
            end = _next_header(text, begin, self._header.line)
            mine = [(offset - begin, name) for offset, name in labels if offset <= end]
            labels = [(offset, name) for offset, name in labels if offset > end]
            yield from super()._take(text[begin:end], mine)
            begin = end
            if end < len(text):
                self._counter.lines += 1
                self._counter.header_lines += 1
                yield from self._passes.end()
                if self._may_restart:
                    self._may_restart = False
                    yield restarted()
                begin = end + len(self._header.line) + 1

    def _find_header(self, text: bytes, begin: int) -> int:
        """Where the lines begin after the header; all before it are malformed."""
        while begin < len(text):
            end = text.index(b"\n", begin)
            line = text[begin:end]
            begin = end + 1
            self._counter.lines += 1
            if (header := Header.of(line, self._told)) is not None:
                self._counter.header_lines += 1
                self._header = header
                self._telling = None
                self._has_one_each = False
                self._shapes = Shapes(self._shape_of)
                break
            self._counter.add_malformed(1, [line[:SAMPLE_BYTES]])
        return begin

    def read(self, text: bytes) -> ReadLines:
        """See `ToldLinesDecoder.read`."""
        if self._telling is None:
            return self._read_any(text)
        end = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE)
        told, good = self._shapes.read(text, end, self._read_others)
        self._may_restart |= bool(good.any())
        return ReadLines(told, np.flatnonzero(good), end, good, self._telling)

    def _read_others(self, text: bytes, _: NDArray[np.int64]) -> tuple[Told, NDArray[np.bool_]]:
        read = self._read_any(text)
        return read.told, read.good

    def _shape_of(self, line: bytes) -> Shape | None:
        """What the numbers tell of lines that are like this one but for these; see `Shapes`."""
        header = self._header
        if header is None or any(mark in line for mark in (*_MARKS, b":")):
            return None
        parts = header.split(line)
        if len(parts) != header.fields:
            return None
        before = [0, *accumulate(len(NUMBER.findall(part)) for part in parts)]
        where: dict[Column, int] = {}
        known: dict[Column, int] = {}
        listed: dict[Column, list[int]] = {Column.EXPERTS: [], Column.WEIGHTS: []}
        for column, indices in header.columns.items():
            for index in indices:
                field = parts[index].strip(b" ")
                if column in listed:
                    one = _WEIGHT if column is Column.WEIGHTS else NUMBER
                    if not all(map(one.fullmatch, field.split(b" "))):
                        return None
                    step = 1 if column is Column.EXPERTS else 2
                    listed[column] += range(before[index], before[index + 1], step)
                elif NUMBER.fullmatch(field):
                    where[column] = before[index]
                elif column in _NAMED and not NUMBER.search(field):
                    known[column] = _named(column, field)
                else:
                    return None
        experts, weights = listed.values()
        n_weights = len(header.columns.get(Column.WEIGHTS, ()))
        if n_weights not in {0, 1, len(header.columns[Column.EXPERTS])} or (
            n_weights and len(weights) != len(experts)
        ):
            return None
        if self._has_one_each and len(experts) != 1:
            return None
        return Shape.of(line, where, known, experts, [(first, first + 1) for first in weights])

    def _read_any(self, text: bytes) -> ReadLines:
        assert self._header is not None  # noqa: S101 - it is looked for before
        table = _Fields(text, self._header)
        where = self._header.columns
        good = table.whole.copy()

        def number(column: Column) -> NDArray[np.int64]:
            if column not in where:
                return np.zeros(len(good), np.int64)
            value, has = numbers(table.text, *table.column(where[column][0]))
            good[:] &= has
            return value

        layer = number(Column.LAYER)
        good &= (layer >= 0) & (layer < MAX_LAYERS)
        step, token, rank = map(number, (Column.STEP, Column.TOKEN, Column.RANK))
        sequence = np.zeros(len(good), np.int64)
        if Column.SEQUENCE in where:
            sequence = table.names(where[Column.SEQUENCE][0])
        phase = np.full(len(good), UNTOLD)
        if Column.PHASE in where:
            phase = table.phases(where[Column.PHASE][0])
        phase[token < 0] = PREFILL
        weights: NDArray[np.float64] | None = None
        if self._has_one_each:
            experts, count = number(Column.EXPERTS), np.ones(len(good), np.int64)
        elif len(where[Column.EXPERTS]) == 1:
            start, end = table.column(where[Column.EXPERTS][0])
            if b":" in text:
                experts, weights, count = pairs(table.text, start, end)
            else:
                experts, count = lists(table.text, start, end)
        else:
            found = [numbers(table.text, *table.column(index)) for index in where[Column.EXPERTS]]
            experts = np.stack([value for value, _ in found], axis=1).reshape(-1)
            good &= np.logical_and.reduce([has for _, has in found])
            count = np.full(len(good), len(found))
        if weights is None:
            weights = untold(experts)
        of_weights = where.get(Column.WEIGHTS, ())
        if len(of_weights) == 1:
            found_weights, n_weights = float_lists(table.text, *table.column(of_weights[0]))
            fits = n_weights == count
            weights[np.repeat(fits, count)] = found_weights[np.repeat(fits, n_weights)]
        elif len(of_weights) == len(where[Column.EXPERTS]) > 1:
            weights = np.stack([floats(table.text, *table.column(i))[0] for i in of_weights], axis=1).reshape(
                -1
            )
        out = (experts < -1) | (experts >= MAX_EXPERTS)
        good[np.repeat(np.arange(len(good)), count)[out]] = False
        good &= count > 0
        telling = self._telling
        if telling is None and good.any():
            one_each = (Column.RANK in where or self._header.is_of_one) and bool(count[good.argmax()] == 1)
            telling = Telling(
                one_each=one_each,
                phase=Column.PHASE in where or Column.TOKEN in where,
                sequence=Column.SEQUENCE in where,
                step=Column.STEP in where,
                token=Column.TOKEN in where,
                rank=Column.RANK in where and one_each,
            )
            if telling.one_each and not self._has_one_each:
                self._has_one_each = True
                return self._read_any(text)
        self._may_restart |= bool(good.any())
        columns = (layer, phase, sequence, step, token, rank, count)
        entries = np.repeat(good, count)
        told = Told.of([*(column[good] for column in columns), experts[entries]], weights[entries])
        return ReadLines(told, np.flatnonzero(good), table.end, good, telling)


def _named(column: Column, field: bytes) -> int:
    """The number of a phase or sequence that is a name."""
    return phase_named(field.decode("latin-1")) if column is Column.PHASE else zlib.crc32(field) & MOST


class _Fields:
    """The fields of complete lines.

    Attributes:
        text: (b,) uint8, of the lines.
        end: (l,) int64, where their newlines are.
        whole: (l,) whether a line has as many fields as the header.
    """

    def __init__(self, text: bytes, header: Header) -> None:
        self.text = np.frombuffer(bytearray(text), np.uint8)
        is_end = self.text == _NEWLINE
        self.end = np.flatnonzero(is_end)
        balanced = np.ones(len(self.end), np.bool_)
        if any(mark in text for mark in _MARKS):
            balanced = self._open_lists(is_end)
        is_separator = self.text == header.separator
        if header.separator == _BLANK:  # any number of them is one, and none at the beginning of a line
            is_separator[:-1] &= ~is_separator[1:]
            is_separator[1:] &= ~is_end[:-1]
            is_separator[0] = False
        separator = np.flatnonzero(is_separator)
        before = np.searchsorted(separator, self.end)
        fields = np.diff(before, prepend=0) + 1
        self.whole = (fields == header.fields) & balanced
        if header.last_is_experts and len(header.columns[Column.EXPERTS]) == 1:
            more = (fields > header.fields) & balanced
            if more.any():
                self.whole |= more
                first = before - fields + header.fields
                for index in np.flatnonzero(more).tolist():
                    self.text[separator[first[index] : before[index]]] = _BLANK
        self._first = before - (fields - 1)
        self._separator = np.append(separator, len(text))
        self._fields = header.fields

    def column(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(l,) Where the fields of a column begin and end; at the same byte where a line is not whole."""
        start = np.append([0], self.end[:-1] + 1)
        end = self.end
        at = np.minimum(self._first + index, len(self._separator) - 1)
        if index:
            start = self._separator[at - 1] + 1
        if index < self._fields - 1:
            end = self._separator[at]
        start = np.where(self.whole, start, self.end)
        end = np.where(self.whole, end, self.end)
        return trimmed(self.text, start, end)

    def phases(self, index: int) -> NDArray[np.int64]:
        """(l,) The phases that a column names."""
        return phases(self.text, *self.column(index))

    def names(self, index: int) -> NDArray[np.int64]:
        """(l,) A number for each name in a column; the same one where they are numbers."""
        start, end = self.column(index)
        value, good = numbers(self.text, start, end)
        for at in np.flatnonzero(~good).tolist():
            value[at] = zlib.crc32(self.text[start[at] : end[at]].tobytes())
        return value & MOST

    def _open_lists(self, is_end: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Make blanks of quotes and brackets, and of all that separates what is between them.

        Returns:
            (l,) whether each in a line has its counterpart.
        """
        is_quote = self.text == _QUOTE
        length = np.diff(self.end, prepend=-1)
        begin = self.end - length + 1

        def counted(marks: NDArray[np.int8]) -> NDArray[np.int32]:
            found: NDArray[np.int32] = np.cumsum(marks, dtype=np.int32)
            found -= np.repeat(np.where(begin > 0, found[begin - 1], 0), length)
            return found

        depth, quotes = counted(_DEPTH[self.text]), counted(is_quote.view(np.int8))
        inside = ((depth > 0) | (quotes & 1 == 1)) & ~is_end
        balanced: NDArray[np.bool_] = (depth[self.end] == 0) & (quotes[self.end] & 1 == 0)
        is_mark = is_quote | (_DEPTH[self.text] != 0)
        self.text[is_mark | (inside & ~_IN_NUMBERS[self.text])] = _BLANK
        return balanced


_NAMED = (Column.PHASE, Column.SEQUENCE)
_WEIGHT = re.compile(rb"-?[0-9]+\.[0-9]+")
_NEWLINE, _BLANK, _QUOTE = b'\n "'
_MARKS = tuple(bytes([mark]) for mark in b'"[](){}')
_DEPTH = np.zeros(256, np.int8)
_DEPTH[list(b"[({")], _DEPTH[list(b"])}")] = 1, -1
_IN_NUMBERS = np.ones(256, np.bool_)
_IN_NUMBERS[list(_SEPARATORS)] = False


def _next_header(text: bytes, begin: int, line: bytes) -> int:
    """Where the next line begins that is the header, or the end of the text."""
    found = text.find(line + b"\n", begin)
    while found > begin and text[found - 1] != _NEWLINE:
        found = text.find(line + b"\n", found + 1)
    return len(text) if found < 0 else found


def _resumed(told: Mapping[str, str], lines: Sequence[bytes]) -> Dialect | None:
    return resumed(table(told), partial(TableDecoder, told), lines)


def recognize(told: Mapping[str, str], lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect: whether one of them is a header of a table."""
    for line in lines:
        if line.strip() not in HEADERS and Header.of(line, told) is not None:
            return Fit.CERTAIN
    return Fit.NONE


def table(told: Mapping[str, str]) -> Dialect:
    """The dialect, if its columns are called so; see `TableDecoder`."""
    return Dialect(
        name="table",
        example="turn,phase,step,layer,slot,expert,weight\n0,1,28,0,0,51,0.27\n0,1,28,0,1,12,0.21",
        recognize=partial(recognize, told),
        open=partial(TableDecoder, told),
        resumed=partial(_resumed, told),
        named=table,
    )


DIALECTS = (table({}),)
