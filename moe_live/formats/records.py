"""Parsed lines as arrays: what every log dialect is turned into."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, fields, replace
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.settings import MAX_LAYERS


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

    @property
    def line(self) -> NDArray[np.int64]:
        """(m,) int64, how many expert rows and gate lines stand before each."""
        return self.position + np.arange(len(self.position))

    def select(self, lines: NDArray[np.bool_]) -> GateRows:
        """Those at which the (m,) mask is True."""
        parsed = self.vector[lines] >= 0
        vector = np.full(len(parsed), -1)
        vector[parsed] = np.arange(np.count_nonzero(parsed))
        vectors = self.vectors[self.vector[lines & (self.vector >= 0)]]
        return GateRows(self.position[lines], self.layer[lines], self.row[lines], vector, vectors)

    @classmethod
    @functools.cache
    def none(cls) -> GateRows:
        """No gate lines at all."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty, np.empty((0, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """The chosen experts of consecutive expert rows, sorted by k.

    Attributes:
        tables: (n_k, k) uint16 for each k that occurs, ascending: the rows that have it, in their order, best
            expert first. Usually transposed views of contiguous (k, n_k).
        width: (n,) uint16, the k of each row, if several occur; else None.
        weights: (n_k, k) float64 for each of `tables`, what the experts are multiplied with, NaN where that
            is not told. Empty where nobody asked, or no row tells; see `weighted`.
    """

    tables: tuple[NDArray[np.uint16], ...] = ()
    width: NDArray[np.uint16] | None = None
    weights: tuple[NDArray[np.float64], ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def part(self, begin: int, end: int) -> Experts:
        """Rows `begin` to before `end`; shares the arrays."""
        if self.width is None:
            if begin >= end:
                return Experts()
            return Experts(
                tuple(table[begin:end] for table in self.tables),
                weights=tuple(weights[begin:end] for weights in self.weights),
            )
        tables, kept = [], []
        width = self.width[begin:end]
        for place, table in enumerate(self.tables):
            is_mine = self.width[:end] == table.shape[1]
            first = int(np.count_nonzero(is_mine[:begin]))
            if last := int(np.count_nonzero(is_mine[begin:])):
                tables.append(table[first : first + last])
                kept += [weights[first : first + last] for weights in self.weights[place : place + 1]]
        return Experts(tuple(tables), width if len(tables) > 1 else None, tuple(kept))

    def copy(self) -> Experts:
        """The same in memory of its own."""
        width = None if self.width is None else self.width.copy()
        weights = tuple(weights.copy() for weights in self.weights)
        return Experts(tuple(table.T.copy().T for table in self.tables), width, weights)

    @classmethod
    def joined(cls, parts: Sequence[Experts]) -> Experts:
        """The rows of all parts, one after the other."""
        by_k: dict[int, list[NDArray[np.uint16]]] = {}
        weights: dict[int, list[NDArray[np.float64]]] = {}
        has_weights = any(part.weights for part in parts)
        for part in parts:
            for place, table in enumerate(part.tables):
                by_k.setdefault(table.shape[1], []).append(table.T)
                if has_weights:
                    told = part.weights[place] if part.weights else np.full(table.shape, np.nan)
                    weights.setdefault(table.shape[1], []).append(told)
        tables = tuple(_side_by_side(by_k[k]).T for k in sorted(by_k))
        width = np.concatenate([part.widths() for part in parts]) if len(tables) > 1 else None
        return cls(tables, width, tuple(np.concatenate(weights[k]) for k in sorted(weights)))

    def weighted(self, told: RowWeights) -> Experts:
        """The same rows with what is told of their weights."""
        if not len(told):
            return self
        width, found = self.widths(), []
        for table in self.tables:
            k = table.shape[1]
            weights = np.full(table.shape, np.nan)
            mine = told.select((told.width == k) & (width[told.row] == k))
            weights[(np.cumsum(width == k) - 1)[mine.row]] = mine.values.reshape(-1, k)
            found.append(weights)
        return Experts(self.tables, self.width, tuple(found))

    def select(self, rows: NDArray[np.bool_]) -> Experts:
        """The rows at which the (n,) mask is True, in memory of their own."""
        width = self.widths()
        tables = tuple(np.compress(rows[width == table.shape[1]], table.T, axis=1).T for table in self.tables)
        kept = width[rows]
        tables = tuple(table for table in tables if len(table))
        return Experts(tables, kept if len(tables) > 1 else None)

    def highest(self) -> NDArray[np.uint16]:
        """(n,) the highest expert of each row."""
        if self.width is None:
            return np.concatenate([table.max(axis=1) for table in self.tables])
        highest = np.empty(len(self.width), np.uint16)
        for table in self.tables:
            highest[self.width == table.shape[1]] = table.max(axis=1)
        return highest

    def widths(self) -> NDArray[np.uint16]:
        """(n,) the k of each row."""
        if self.width is not None:
            return self.width
        return np.repeat(np.array([table.shape[1] for table in self.tables], np.uint16), len(self))


def _side_by_side(tables: Sequence[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    """Tables of k rows each as one, whose long axis is the inner one, whichever it is in these."""
    every = np.empty((len(tables[0]), sum(table.shape[1] for table in tables)), np.uint16)
    return np.concatenate(tables, axis=1, out=every)


@dataclass(frozen=True, slots=True, eq=False)
class StepMarks:
    """What lines that begin steps tell of them.

    Attributes:
        place: (m,) int64, how many of the expert rows and gate lines of the same `Records` stand before each,
            ascending.
        warmup: (m,) bool, whether the step only warms the server up.
        kind: (m,) int8, 0 if the step reads a prompt, 1 if it generates, -1 where that is not told.
        tokens: (m,) int64, how many tokens the line tells of.
        position: (n,) int64, places in their texts of all these tokens, one step after the other.
        sequence: (n,) int64, which text each belongs to; -1 where that is not told.
        output: (n,) int8, whether the model's output is computed; -1 where that is not told.
    """

    place: NDArray[np.int64]
    warmup: NDArray[np.bool_]
    kind: NDArray[np.int8]
    tokens: NDArray[np.int64]
    position: NDArray[np.int64]
    sequence: NDArray[np.int64]
    output: NDArray[np.int8]

    @classmethod
    @functools.cache
    def none(cls) -> StepMarks:
        """No such lines at all."""
        empty = np.empty(0, np.int64)
        return cls(
            empty, empty.astype(np.bool_), empty.astype(np.int8), empty, empty, empty, empty.astype(np.int8)
        )

    def __len__(self) -> int:
        return len(self.place)

    def at(self, places: NDArray[np.int64]) -> StepMarks:
        """One for each of these places (p,), ascending, all of these among them; others tell nothing."""
        index = np.searchsorted(places, self.place)
        warmup, tokens = np.zeros(len(places), np.bool_), np.zeros(len(places), np.int64)
        kind = np.full(len(places), -1, np.int8)
        warmup[index], kind[index], tokens[index] = self.warmup, self.kind, self.tokens
        return StepMarks(places, warmup, kind, tokens, self.position, self.sequence, self.output)

    def part(self, begin: int, end: int, place: NDArray[np.int64]) -> StepMarks:
        """The lines `begin` to before `end`, at other places (end - begin,)."""
        first, stop = int(self.tokens[:begin].sum()), int(self.tokens[:end].sum())
        return StepMarks(
            place,
            self.warmup[begin:end],
            self.kind[begin:end],
            self.tokens[begin:end],
            self.position[first:stop],
            self.sequence[first:stop],
            self.output[first:stop],
        )

    @classmethod
    def joined(cls, parts: Sequence[StepMarks]) -> StepMarks:
        """All of them, one after the other; their places are as they were."""
        return cls(
            np.concatenate([part.place for part in parts]),
            np.concatenate([part.warmup for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.position for part in parts]),
            np.concatenate([part.sequence for part in parts]),
            np.concatenate([part.output for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RowWeights:
    """What the experts of some expert rows are multiplied with.

    Attributes:
        row: (w,) int64, index of each row among the expert rows of the same `Records`, ascending.
        width: (w,) int64, how many experts it has.
        values: (sum of width,) float64, row after row, in the order of the experts.
    """

    row: NDArray[np.int64]
    width: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    @functools.cache
    def none(cls) -> RowWeights:
        """No weights at all."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, np.empty(0))

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows: NDArray[np.bool_]) -> RowWeights:
        """Those at which the (w,) mask is True."""
        if rows.all():
            return self
        return RowWeights(self.row[rows], self.width[rows], self.values[np.repeat(rows, self.width)])

    def part(self, begin: int, end: int) -> RowWeights:
        """Those of the rows `begin` to before `end`, counted from there."""
        mine = self.select((self.row >= begin) & (self.row < end))
        return RowWeights(mine.row - begin, mine.width, mine.values)


@dataclass(frozen=True, slots=True, eq=False)
class ExpertCounts:
    """How often experts were chosen, where no row tells when.

    Attributes:
        layer: (c,) uint16.
        expert: (c,) uint16, one of that layer.
        count: (c,) int64, how often it was chosen; 0 for one that is there and never was.
    """

    layer: NDArray[np.uint16]
    expert: NDArray[np.uint16]
    count: NDArray[np.int64]

    @classmethod
    @functools.cache
    def none(cls) -> ExpertCounts:
        """No counts at all."""
        return cls(np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.int64))

    def select(self, chosen: NDArray[np.bool_]) -> ExpertCounts:
        """Those at which the (c,) mask is True."""
        return ExpertCounts(self.layer[chosen], self.expert[chosen], self.count[chosen])

    def __len__(self) -> int:
        return len(self.layer)


Columns = TypeVar("Columns", GateRows, StepMarks, RowWeights, ExpertCounts)


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Consecutive well-formed lines of a log, in their order.

    All vectors of one `Records` have the same n_embd: where a log changes it, the decoder starts a new one.
    The arrays may be views of buffers that the decoder reuses: they hold until the next `Records` is asked
    for.

    Attributes:
        layer: (n,) uint16, the layer of each expert row.
        experts: of these rows.
        gates: the gate lines among them.
        labels: what lines among these call the steps that begin from there on: for each such line how many of
            the expert rows and gate lines stand before it, ascending, and the name.
        drafts: layers that are of draft heads, as the line before these says.
        restarts: the server was started anew: these lines do not continue those before.
        marks: what lines among these tell of the steps that begin there.
        weights: of those expert rows that come with weights.
        counts: what is told without any row.
        expert_bytes: the bytes of an expert, by layer, as far as these lines tell it.
    """

    layer: NDArray[np.uint16]
    experts: Experts
    gates: GateRows = field(default_factory=GateRows.none)
    labels: tuple[tuple[int, str], ...] = ()
    drafts: tuple[int, ...] = ()
    restarts: bool = False
    marks: StepMarks = field(default_factory=StepMarks.none)
    weights: RowWeights = field(default_factory=RowWeights.none)
    counts: ExpertCounts = field(default_factory=ExpertCounts.none)
    expert_bytes: Mapping[int, int] = field(default_factory=dict)

    def of_layers(self, layers: Collection[int]) -> Records:
        """The lines of these layers."""
        kept = np.zeros(MAX_LAYERS, np.bool_)
        kept[list(layers)] = True
        rows, gate_lines = ~kept[self.layer], ~kept[self.gates.layer]
        records = self.without(rows, gate_lines) if rows.any() or gate_lines.any() else self
        return (
            replace(records, counts=self.counts.select(kept[self.counts.layer]))
            if len(self.counts)
            else records
        )

    def copy(self) -> Records:
        """The same in memory of its own."""

        def copied(columns: Columns) -> Columns:
            return replace(
                columns, **{column.name: getattr(columns, column.name).copy() for column in fields(columns)}
            )

        return replace(
            self,
            layer=self.layer.copy(),
            experts=self.experts.copy(),
            gates=copied(self.gates),
            marks=copied(self.marks),
            weights=copied(self.weights),
            counts=copied(self.counts),
        )

    def without(self, rows: NDArray[np.bool_], gate_lines: NDArray[np.bool_] | None = None) -> Records:
        """The same without some lines.

        Args:
            rows: (n,) True for the expert rows to leave out.
            gate_lines: (m,) True for the gate lines to leave out; None for none.
        """
        before = np.concatenate(([0], np.cumsum(rows)))  # of these, before each expert row
        gates, line = self.gates, self.gates.line
        left_out = np.zeros(len(rows) + len(line), np.bool_)
        left_out[np.delete(np.arange(len(left_out)), line)] = rows
        if gate_lines is not None:
            left_out[line] = gate_lines
            gates = gates.select(~gate_lines)
        lines_before = np.concatenate(([0], np.cumsum(left_out)))

        def moved(place: NDArray[np.int64]) -> NDArray[np.int64]:
            """How many expert rows and gate lines are left of so many."""
            return np.asarray(place - lines_before[place])

        weights = self.weights.select(~rows[self.weights.row])
        places = moved(np.array([place for place, _ in self.labels], np.int64)).tolist()
        return replace(
            self,
            layer=self.layer[~rows],
            experts=self.experts.select(~rows),
            gates=replace(gates, position=gates.position - before[gates.position]),
            labels=tuple(zip(places, (name for _, name in self.labels), strict=True)),
            marks=replace(self.marks, place=moved(self.marks.place)),
            weights=replace(weights, row=weights.row - before[weights.row]),
        )


@dataclass(frozen=True, slots=True)
class LineTally:
    """How many bytes and lines were read, and what could not be used.

    Attributes:
        bytes: all bytes fed, NUL bytes included.
        lines: complete lines (a newline was seen), headers and malformed ones included.
        header_lines: lines equal to the header of the format.
        label_lines: lines that name what follows; no server writes them, but who drives it may.
        comment_lines: other lines that begin with a `#`.
        dropped_steps: steps that are not in the log, as these lines say.
        empty_rows: rows that tell of no expert at all.
        empty_slots: places for an expert in which rows have none, those of empty rows included.
        malformed_lines: complete lines that are none of these nor well formed (over-long ones included).
        overlong_lines: those of them longer than the line limit.
        incomplete_bytes: bytes of unfinished last lines, dropped at a restart or at the end.
        incomplete_lines: how many such lines.
        nul_bytes: NUL bytes skipped at the start of a line (a hole in the file).
        samples: the first few malformed lines, cut to a bounded length, raw bytes.
        incomplete_head: the start of the first unfinished line, cut likewise. It counts nothing, so tallies
            that differ in it alone are equal.
    """

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
    samples: tuple[builtins.bytes, ...] = ()  # `bytes` is the field above
    incomplete_head: builtins.bytes = field(default=b"", compare=False)

    MAX_SAMPLES: ClassVar[int] = 5

    def __add__(self, other: LineTally) -> LineTally:
        """The tally of both inputs, this one first."""
        return LineTally(
            bytes=self.bytes + other.bytes,
            lines=self.lines + other.lines,
            header_lines=self.header_lines + other.header_lines,
            label_lines=self.label_lines + other.label_lines,
            comment_lines=self.comment_lines + other.comment_lines,
            dropped_steps=self.dropped_steps + other.dropped_steps,
            empty_rows=self.empty_rows + other.empty_rows,
            empty_slots=self.empty_slots + other.empty_slots,
            malformed_lines=self.malformed_lines + other.malformed_lines,
            overlong_lines=self.overlong_lines + other.overlong_lines,
            incomplete_bytes=self.incomplete_bytes + other.incomplete_bytes,
            incomplete_lines=self.incomplete_lines + other.incomplete_lines,
            nul_bytes=self.nul_bytes + other.nul_bytes,
            samples=(self.samples + other.samples)[: self.MAX_SAMPLES],
            incomplete_head=self.incomplete_head or other.incomplete_head,
        )
