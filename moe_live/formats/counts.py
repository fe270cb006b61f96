"""How often each expert was chosen, and no row: a table, JSON lines, or lines of three numbers.

What SGLang's expert distribution recorder dumps (`layer_id,expert_id,count`), and what engines keep of the
use of experts (`layer expert count`). Columns and keys are known by their names, as those of rows are; the
column of experts must be of one each. The header again adds to what came before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from moe_live.formats.columns import Column, columns, json_object
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.records import ExpertCounts, Experts, LineTally, Records
from moe_live.formats.spans import MAX_LINE_BYTES, SAMPLE_BYTES, LineAssembler, LineCounter
from moe_live.formats.table import Header
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

MAX_COUNT = 10**12
"""Selections that a line can tell of."""

_TOLD = (Column.LAYER, Column.EXPERTS, Column.COUNT)

Counted = tuple[int, int, int]
"""A layer, one of its experts, and how often that was chosen."""


class CountsDecoder:
    """Turns the bytes of such a file into `Records`, however they are cut into chunks.

    Args:
        told: what the user says the columns or keys are called, by our names of them.
        gate_layers: is not needed: there are no router inputs.
        weights: is not needed: there are none.
    """

    def __init__(
        self,
        told: Mapping[str, str],
        *,
        gate_layers: frozenset[int] | None = None,  # noqa: ARG002 - what every dialect is told
        weights: bool = True,  # noqa: ARG002 - likewise
    ) -> None:
        self._told = told
        self._counter = LineCounter()
        self._assembler = LineAssembler(self._counter, MAX_LINE_BYTES)
        self._header: Header | None = None

    @property
    def tally(self) -> LineTally:
        """What was read so far."""
        return self._counter.tally()

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        for start, end in self._assembler.spans(data):
            read = map(self._read, bytes(self._assembler.text[start : end - 1]).split(b"\n"))
            if found := [each for each in read if each is not None]:
                layer, expert, count = np.array(found, np.int64).T
                counts = ExpertCounts(layer.astype(np.uint16), expert.astype(np.uint16), count)
                yield Records(np.empty(0, np.uint16), Experts(), counts=counts)

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`."""
        self._assembler.end()
        if not emptied:
            self._header = None
        return ()

    def _read(self, line: bytes) -> Counted | None:
        """What one line tells; it is counted as what it is."""
        self._counter.lines += 1
        line = line.strip()
        if line.startswith(b"#"):
            self._counter.comment_lines += 1
        elif (header := Header.of(line, self._told, counts=True)) is not None:
            self._counter.header_lines += 1
            self._header = header
        elif (found := counted(line, self._told, self._header)) is not None:
            return found
        else:
            self._counter.add_malformed(1, [line[:SAMPLE_BYTES]])
        return None


def counted(line: bytes, told: Mapping[str, str], header: Header | None = None) -> Counted | None:
    """What a line tells, None if it is not well-formed.

    Args:
        line: without blanks at its ends.
        told: what the user says the columns or keys are called.
        header: the one above it; without one, and if it is no object, the line is of three numbers.
    """
    if line.startswith(b"{"):
        value = json_object(line) or {}
        names = list(value)
        where = columns(names, told, counts=True)
        fields = [value[names[where[column][0]]] for column in _TOLD] if where else []
        numbers = fields if all(type(field) is int for field in fields) else []
    else:
        parts = line.split() if header is None else header.split(line)
        texts = [part.strip(b" \"'") for part in parts]
        if header is not None:
            fits = len(texts) == header.fields
            texts = [texts[header.columns[column][0]] for column in _TOLD] if fits else []
        numbers = [int(text) for text in texts] if all(map(_is_number, texts)) else []
    if len(numbers) != len(_TOLD):
        return None
    layer, expert, count = numbers
    within = 0 <= layer < MAX_LAYERS and 0 <= expert < MAX_EXPERTS and 0 <= count < MAX_COUNT
    return (layer, expert, count) if within else None


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= len(str(MAX_COUNT))


def recognize(told: Mapping[str, str], lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect."""
    lines = [line.strip() for line in lines]
    if any(
        Header.of(line, told, counts=True) or (line[:1] == b"{" and counted(line, told)) for line in lines
    ):
        return Fit.CERTAIN
    found = [counted(line, told) for line in lines if line and not line.startswith(b"#")]
    whole = [each[:2] for each in found if each is not None]
    return Fit.POSSIBLE if whole and len({*whole}) == len(found) else Fit.NONE


def counts(told: Mapping[str, str]) -> Dialect:
    """The dialect, if its columns are called so; see `CountsDecoder`."""
    return Dialect(
        name="counts",
        example="layer_id,expert_id,count\n3,51,1204\n3,52,0",
        recognize=partial(recognize, told),
        open=partial(CountsDecoder, told),
        named=counts,
    )


DIALECTS = (counts({}),)
