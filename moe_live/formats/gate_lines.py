"""Gate lines `gate_input,LAYER,ROW,F( F)*`: told from other lines, and put among the expert rows again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.comments import Beside
from moe_live.formats.expert_lines import ExpertLines
from moe_live.formats.float_text import FloatLines
from moe_live.formats.records import GateRows, Records, RowWeights, StepMarks
from moe_live.settings import MAX_LAYERS, MAX_ROWS

Bounds = tuple[int, int]

_PREFIX = re.compile(rb"gate_input,([0-9]{1,4}),([0-9]{1,10}),(?!\n)")


@dataclass(slots=True)
class GateLines:
    """Gate lines found in a span, in their order. The first four lists are parallel.

    Attributes:
        start: where in the text the line starts.
        offset: how many bytes of other lines stand before it in the span.
        layer: its LAYER.
        row: its ROW.
        wanted: which of them have floats that are to be parsed.
        floats: for each wanted line, where in the text its floats are.
    """

    start: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    layer: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    floats: list[Bounds] = field(default_factory=list)


def carve(
    text: bytes | bytearray, start: int, end: int, wanted_layers: frozenset[int] | None, *, every_row: bool
) -> tuple[GateLines, list[Bounds]]:
    """Find the gate lines of a span.

    Of a gate line only what stands before its floats is checked here, and that no NUL byte is among them.

    Args:
        text: holds the span.
        start: where the span starts.
        end: where it ends, after a newline.
        wanted_layers: the layers whose lines are wanted; None for all.
        every_row: whether all rows of them are wanted, not row 0 alone.

    Returns:
        The gate lines, and where the other lines are: expert lines, or malformed ones.
    """
    lines = GateLines()
    others: list[Bounds] = []
    find, match = text.find, _PREFIX.match
    has_nul = find(0, start, end) >= 0
    others_start, others_bytes = start, 0
    position = start  # of a line
    while position < end:
        prefix = match(text, position, end)
        if prefix is None:
            at = find(b"g", position + 1, end)
            if at < 0:
                break
            position = at if text[at - 1] == 10 else find(b"\n", at, end) + 1
            continue
        line, floats = position, prefix.end()
        newline = find(b"\n", floats, end)
        position = newline + 1
        layer, row = int(prefix[1]), int(prefix[2])
        if layer >= MAX_LAYERS or row >= MAX_ROWS or (has_nul and find(0, floats, newline) >= 0):
            continue
        if line > others_start:
            others.append((others_start, line))
            others_bytes += line - others_start
        others_start = position
        if (every_row or row == 0) and (wanted_layers is None or layer in wanted_layers):
            lines.wanted.append(len(lines.start))
            lines.floats.append((floats, newline))
        lines.start.append(line)
        lines.offset.append(others_bytes)
        lines.layer.append(layer)
        lines.row.append(row)
    if end > others_start:
        others.append((others_start, end))
    return lines, others


def interleave(
    rows: ExpertLines,
    bounds: Sequence[Bounds],
    lines: GateLines,
    floats: FloatLines,
    beside: Beside | None,
) -> Iterator[Records]:
    """Put expert rows, gate lines, and what stands beside them into one order again.

    Args:
        rows: the expert rows, with offsets counted in the bytes of other than gate lines.
        bounds: where these are in the text.
        lines: the gate lines.
        floats: of the wanted ones; those that are not good are left out.
        beside: labels, marks and weights, by their offsets in the text; None for none.

    Yields:
        Records, a new one where n_embd changes.
    """
    good = np.ones(len(lines.start), np.bool_)
    good[lines.wanted] = floats.good
    placed = _Placed.none()
    if beside is not None:
        placed = _Placed.of(beside, rows, bounds, np.array(lines.start)[good])
    if not good.any():
        if len(rows) or len(placed):
            yield Records(
                rows.layer,
                rows.experts,
                labels=placed.labels,
                marks=placed.marks,
                weights=placed.weights,
            )
        return
    width = np.zeros(len(lines.start), np.int64)
    width[lines.wanted] = floats.width
    offset, layer, row = (np.array(column)[good] for column in (lines.offset, lines.layer, lines.row))
    position = rows.before(offset)
    width = width[good]
    values_end = np.cumsum(width)
    wanted = np.flatnonzero(width)
    vector = np.full(len(width), -1)
    vector[wanted] = np.arange(len(wanted))
    new_width = wanted[1:][np.diff(width[wanted]) != 0]

    rows_before = 0
    for first, stop in itertools.pairwise([0, *new_width.tolist(), len(width)]):
        rows_end = int(position[stop]) if stop < len(width) else len(rows)
        n_embd = int(width[first:stop].max())
        vectors = np.empty((0, 0))
        if n_embd:
            values = floats.values[values_end[first] - width[first] : values_end[stop - 1]]
            vectors = values.reshape(-1, n_embd)
        gates = GateRows(
            position=position[first:stop] - rows_before,
            layer=layer[first:stop],
            row=row[first:stop],
            vector=np.maximum(vector[first:stop] - np.searchsorted(wanted, first), -1),
            vectors=vectors,
        )
        part = placed.part(rows_before + first, rows_end + stop + (stop == len(width)))
        yield Records(
            rows.layer[rows_before:rows_end],
            rows.experts.part(rows_before, rows_end),
            gates,
            part.labels,
            marks=part.marks,
            weights=placed.weights.part(rows_before, rows_end),
        )
        rows_before = rows_end


@dataclass(frozen=True, slots=True)
class _Placed:
    """Labels and marks with the number of lines before them: expert rows and gate lines; weights by row."""

    labels: tuple[tuple[int, str], ...]
    marks: StepMarks
    weights: RowWeights

    @classmethod
    def none(cls) -> _Placed:
        return cls((), StepMarks.none(), RowWeights.none())

    @classmethod
    def of(
        cls, beside: Beside, rows: ExpertLines, bounds: Sequence[Bounds], gates: NDArray[np.int64]
    ) -> _Placed:
        """What stands beside rows, where `gates` (m,) is where gate lines start."""
        begin, end = np.array([(0, 0), *bounds]).T
        size = end - begin

        def rows_before(offset: NDArray[np.int64]) -> NDArray[np.int64]:
            index = np.searchsorted(begin, offset, "right") - 1
            others = (np.cumsum(size) - size)[index] + np.minimum(offset, end[index]) - begin[index]
            return rows.before(others)

        names = [name for _, name in beside.labels]
        offset = np.array([*(offset for offset, _ in beside.labels), *beside.offsets], np.int64)
        lines = rows_before(offset) + np.searchsorted(gates, offset)
        marks = beside.marks.part(0, len(beside.marks), lines[len(names) :])
        row, after = rows_before(np.array(beside.weighted, np.int64).reshape(-1, 2).T)
        weights = RowWeights(row, beside.weights.width, beside.weights.values).select(after > row)
        return cls(tuple(zip(lines.tolist(), names, strict=False)), marks, weights)

    def __len__(self) -> int:
        return len(self.labels) + len(self.marks)

    def part(self, begin: int, end: int) -> _Placed:
        """Those from line `begin` to before `end`, counted from there."""
        first, stop = np.searchsorted(self.marks.place, (begin, end)).tolist()
        return _Placed(
            tuple((line - begin, name) for line, name in self.labels if begin <= line < end),
            self.marks.part(first, stop, self.marks.place[first:stop] - begin),
            RowWeights.none(),
        )
