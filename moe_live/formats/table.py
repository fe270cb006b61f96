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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.cells import SEPARATORS, Cells
from moe_live.formats.columns import Column, columns, plain_name
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.fields import Value, float_lists, floats, lists, numbers, pairs, untold
from moe_live.formats.llama_server import HEADERS
from moe_live.formats.records import Records
from moe_live.formats.spans import SAMPLE_BYTES
from moe_live.formats.told import PREFILL, UNTOLD, Telling, Told, picked, same
from moe_live.formats.told_lines import Learned, ReadLines, ToldLinesDecoder, restarted, resumed
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

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
        separator = next((each for each in SEPARATORS if each in line), ord(" "))
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
    def last_is_list(self) -> bool:
        """Whether fields that are too many are experts."""
        return self.columns[Column.EXPERTS] == [self.fields - 1]


def _parts(line: bytes, separator: int) -> list[bytes]:
    return _BLANKS.split(line.strip()) if separator == ord(" ") else line.split(bytes([separator]))


class TableDecoder(ToldLinesDecoder):
    """Turns the bytes of a table into `Records`, however they are cut into chunks.

    Args:
        told: what the user says the columns are called, by our names of them.
        known: a decoder of the same table, which has read its first lines.
        gate_layers: is not needed: tables have no router inputs.
        weights: whether those of the experts are needed.
    """

    def __init__(
        self,
        told: Mapping[str, str],
        known: tuple[Header, Learned] | None = None,
        *,
        gate_layers: frozenset[int] | None = None,
        weights: bool = True,
    ) -> None:
        super().__init__(gate_layers=gate_layers, weights=weights)
        self._told = told
        self._header: Header | None = None
        self._may_restart = False
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
                break
            self._counter.add_malformed(1, [line[:SAMPLE_BYTES]])
        return begin

    def read(self, text: bytes) -> ReadLines:
        """See `ToldLinesDecoder.read`."""
        assert self._header is not None  # noqa: S101 - it is looked for before
        header, where = self._header, self._header.columns
        cells = Cells(text, header.separator, header.fields, last_is_list=header.last_is_list)
        good = cells.whole.copy()
        nothing = same(np.int64(0), len(good))

        def number(column: Column) -> NDArray[np.int64]:
            if column not in where:
                return nothing
            value, has = numbers(cells.text, *cells.column(where[column][0]))
            good[:] &= has
            return value

        layer = number(Column.LAYER)
        good &= (layer >= 0) & (layer < MAX_LAYERS)
        step, token, rank = map(number, (Column.STEP, Column.TOKEN, Column.RANK))
        sequence, phase = nothing, same(np.int64(UNTOLD), len(good))
        if Column.SEQUENCE in where:
            sequence = cells.names(where[Column.SEQUENCE][0])
        if Column.PHASE in where:
            phase = cells.phases(where[Column.PHASE][0])
        if Column.TOKEN in where:
            phase = np.where(token < 0, PREFILL, phase)
        experts, weights, count = self._experts(cells, good)
        if experts.min(initial=0) < -1 or experts.max(initial=0) >= MAX_EXPERTS:
            is_out = (experts < -1) | (experts >= MAX_EXPERTS)
            good[np.repeat(np.arange(len(good)), count)[is_out]] = False
        good &= count > 0
        telling = self._telling
        if telling is None and good.any():
            one_each = (Column.RANK in where or header.is_of_one) and bool(count[good.argmax()] == 1)
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
                return self.read(text)
        self._may_restart |= bool(good.any())
        columns = [layer, phase, sequence, step, token, rank, count]
        if not good.all():
            entries = np.repeat(good, count)
            columns = [picked(column, good) for column in columns]
            experts, weights = experts[entries], picked(weights, entries)
        told = Told.of([*columns, experts], weights)
        return ReadLines(told, np.flatnonzero(good), cells.end, good, telling)

    def _experts(
        self, cells: Cells, good: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """The experts of the lines one after the other, their weights, and (l,) how many each line has.

        Args:
            cells: of the lines.
            good: (l,) those whose experts are no numbers are taken out.
        """
        assert self._header is not None  # noqa: S101 - it is looked for before
        of_experts = self._header.columns[Column.EXPERTS]
        of_weights = self._header.columns.get(Column.WEIGHTS, ()) if self._wants_weights else ()
        is_list = len(of_experts) == 1 and not self._has_one_each
        weights = None
        if not is_list:
            experts, has = _beside(numbers, cells, of_experts)
            good &= has.all(axis=1)
            count = same(np.int64(len(of_experts)), len(good))
        elif (cells.text == _COLON).any():
            experts, weights, count = pairs(cells.text, *cells.column(of_experts[0]))
        else:
            experts, count = lists(cells.text, *cells.column(of_experts[0]))
        if len(of_weights) == len(of_experts) and not is_list:
            return experts, _beside(floats, cells, of_weights)[0], count
        if weights is None:
            weights = untold(experts) if of_weights else same(np.float64(np.nan), len(experts))
        if len(of_weights) == 1:
            found, n_weights = float_lists(cells.text, *cells.column(of_weights[0]))
            fits = n_weights == count
            weights[np.repeat(fits, count)] = found[np.repeat(fits, n_weights)]
        return experts, weights, count


def _beside(
    read: Callable[..., tuple[NDArray[Value], NDArray[np.bool_]]], cells: Cells, columns: Sequence[int]
) -> tuple[NDArray[Value], NDArray[np.bool_]]:
    """What `read` reads in several columns, line after line, and (l, columns) whether it could."""
    found = [read(cells.text, *cells.column(index)) for index in columns]
    if len(found) == 1:
        return found[0][0], found[0][1][:, None]
    values, good = (np.stack(each, axis=1) for each in zip(*found, strict=True))
    return values.reshape(-1), good


_NEWLINE, _COLON = b"\n:"


def _next_header(text: bytes, begin: int, line: bytes) -> int:
    """Where the next line begins that is the header, or the end of the text."""
    if line[:1] not in text:  # is told much faster
        return len(text)
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
