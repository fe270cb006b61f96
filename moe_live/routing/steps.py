"""Records to steps: where forward passes begin, what kind they are, and which blocks their rows form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field, replace

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.records import Experts, Records, StepMarks
from moe_live.memory import unique
from moe_live.routing.batch import ExpertRows, Kind, StepBatch, StepGates, repeats
from moe_live.routing.evidence import StrideEvidence
from moe_live.routing.heads import Heads, apart, reads_prompt
from moe_live.routing.lines import Lines, joined
from moe_live.routing.strided import examine
from moe_live.routing.texts import Texts, outputs
from moe_live.settings import DEFAULT_MAX_SLOTS

MAX_HELD_LINES = 1 << 18
"""Lines of an open step that are held at most: as many as a span of a log can have. A longer step is a
prompt (every decode step is far shorter), or a log that has no steps to cut; it is passed on in parts."""

MAX_HELD_VALUES = 1 << 23
"""Numbers of gate inputs (64 MB) held for an open step at most; the gate inputs beyond it are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Blocks of expert rows: (b,) int64 each."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    step: NDArray[np.int64]
    layer: NDArray[np.int64]


class StepAssembler:
    """Cuts records into steps.

    A step begins where the log says so, where the layer number goes down, and with a gate line that cannot
    belong to the open step: one of the same layer whose ROW does not go up, or that follows the layer's
    expert rows. Where the log tells what its tokens are, it is cut into one step for each text; see `Texts`.

    The kind of a step with several rows in every layer depends on whether its highest layer is the model's
    last, which may be learned later: such steps are `Kind.UNDECIDED` while their highest layer is the highest
    seen, and `last_layer_known` tells whether that layer is known to be the last. It is, once a step of one
    token reached it (such a step has all layers), or a step has fewer rows there than tokens (only the last
    layer leaves rows out). Where a draft head comes apart from a step, as the highest layer, the step is of
    the kind that its other layers show. Nothing here depends on how the log is cut into records.

    Args:
        max_slots: tokens a decode step has at most.
        weights: whether rows keep their weights.

    Attributes:
        heads: which layers come in steps of their own.
        highest: highest layer with expert rows seen so far, -1 for none.
        label: of the steps that begin from now on.
    """

    def __init__(self, *, max_slots: int = DEFAULT_MAX_SLOTS, weights: bool = False) -> None:
        self.heads = Heads()
        self.highest = -1
        self.label = ""
        self._open_label = ""
        self._shown_last = -1
        self._max_slots = max_slots
        self._weights = weights
        self._held: list[Lines] = []
        self._held_lines = self._held_values = 0
        self._first_layer: int | None = None  # of a step whose beginning was passed on already
        self._texts = Texts()
        self._open_mark = _UNTOLD
        self._next_mark: StepMarks | None = None  # of the step that begins with the next line

    @property
    def last_layer_known(self) -> bool:
        """Whether the highest layer seen is known to be the model's last."""
        return self._shown_last == self.highest >= 0

    def feed(self, records: Records) -> Iterator[StepBatch]:
        """The steps that `records` complete.

        Args:
            records: the next lines, one more than `MAX_HELD_LINES` at most.
        """
        if self._weights:
            records = replace(records, experts=records.experts.weighted(records.weights))
        lines = Lines.of(records)
        places = [place for place, _ in records.labels]
        names = [self.label, *(name for _, name in records.labels)]
        self.label = names[-1]
        marks = self._marks(records.marks, len(lines))
        if not len(lines):
            return
        begins = self._begins(lines)
        if len(marks):
            begins = unique(np.concatenate((begins, marks.place)))
        marks = marks.at(begins)
        if not self._held:
            self._open_label, self._open_mark = names[places.count(0)], _UNTOLD
            if len(begins) and not begins[0]:
                self._open_mark = marks.part(0, 1, begins[:1])
                begins, marks = begins[1:], marks.part(1, len(begins), begins[1:])
        yield from self._take(lines, begins, names, np.searchsorted(places, begins, "right"), marks)

    def interrupt(self, *, goes_on: bool = False) -> Iterator[StepBatch]:
        """Close the open step: the lines that follow do not belong to it.

        Args:
            goes_on: they may belong to the same texts.
        """
        self._next_mark = None
        if self._held:
            nothing = self._held[-1].part(0, 0)
            none = np.empty(0, np.int64)
            yield self._close(nothing, none, (), none, StepMarks.none())
        if not goes_on:
            self._texts.forget()

    def absorb(self, other: StepAssembler) -> None:
        """Take over what another assembler learned. Both have no open step."""
        self.heads += other.heads
        self.highest = max(self.highest, other.highest)
        self._shown_last = max(self._shown_last, other._shown_last)

    def show_last(self, layer: int) -> None:
        """A step that has rows of all layers ends with this one."""
        self.highest = max(self.highest, layer)
        self._shown_last = max(self._shown_last, layer)

    def _marks(self, marks: StepMarks, n_lines: int) -> StepMarks:
        """Those at the next lines, the last one of each line; one behind the last line waits for more."""
        if self._next_mark is not None:
            marks, self._next_mark = StepMarks.joined([self._next_mark, marks]), None
        if not len(marks):
            return marks
        last = np.append(marks.place[1:] != marks.place[:-1], [True])
        marks = _selected(marks, last)
        if marks.place[-1] == n_lines:
            self._next_mark = marks.part(len(marks) - 1, len(marks), np.zeros(1, np.int64))
            marks = marks.part(0, len(marks) - 1, marks.place[:-1])
        return marks

    def _take(
        self,
        lines: Lines,
        begins: NDArray[np.intp],
        names: Sequence[str],
        label: NDArray[np.intp],
        marks: StepMarks,
    ) -> Iterator[StepBatch]:
        """The steps that `lines` complete.

        Args:
            lines: the next ones.
            begins: (b,) where new steps begin.
            names: labels, and
            label: (b,) which of them these steps have.
            marks: of these steps (b,).
        """
        if not len(begins):
            yield from self._hold(lines)
            return
        first, last = int(begins[0]), int(begins[-1])
        if first:
            yield from self._hold(lines.part(0, first))
        last_mark = len(marks) - 1
        complete = marks.part(0, last_mark, marks.place[:-1])
        yield self._close(lines.part(first, last), begins[:-1] - first, names, label[:-1], complete)
        self._open_label = names[label[-1]]
        self._open_mark = marks.part(last_mark, len(marks), marks.place[-1:])
        yield from self._hold(lines.part(last, len(lines)))

    def _begins(self, lines: Lines) -> NDArray[np.intp]:
        """Indices of the lines that begin a step, seen from the line before; the very first line does not."""
        before = self._held[-1] if self._held else None
        layer = np.concatenate((before.layer[-1:] if before else lines.layer[:1], lines.layer))
        begins = layer[1:] < layer[:-1]
        if not lines.only_rows:
            row = np.concatenate((before.row[-1:] if before else [-2], lines.row))
            again = (row[1:] >= 0) & ((row[:-1] == -1) | (row[1:] <= row[:-1]))
            begins |= again & (layer[1:] == layer[:-1])
        return np.flatnonzero(begins)

    def _hold(self, lines: Lines) -> Iterator[StepBatch]:
        """Keep lines of the open step; pass it on in parts when it grows too long."""
        if self._held_values + lines.values > MAX_HELD_VALUES:
            lines = lines.first_vectors(MAX_HELD_VALUES - self._held_values)
        self._held.append(lines.copy())
        self._held_lines += len(lines)
        self._held_values += lines.values
        while self._held_lines > MAX_HELD_LINES:
            held = joined(self._held)
            # The cut depends on the log alone: before the last layer that starts within the limit.
            layer = held.layer[:MAX_HELD_LINES]
            changes = np.flatnonzero(layer[1:] != layer[:-1])
            cut = int(changes[-1]) + 1 if len(changes) else MAX_HELD_LINES
            self._held = [held.part(cut, len(held)).copy()]
            self._held_lines = len(held) - cut
            start = np.zeros(1, np.int64)
            self._open_mark = _UNTOLD
            yield self._batch(held.part(0, cut), start, (self._open_label,), start, _UNTOLD, unfinished=True)

    def _close(
        self,
        following: Lines,
        begins: NDArray[np.intp],
        names: Sequence[str],
        label: NDArray[np.intp],
        marks: StepMarks,
    ) -> StepBatch:
        """The open step and the complete steps `following` it, which begin at `begins`; see `_take`."""
        length = self._held_lines
        lines = joined([*self._held, following])
        self._held = []
        self._held_lines = self._held_values = 0
        return self._batch(
            lines,
            np.concatenate(([0], begins + length)),
            (self._open_label, *names),
            np.concatenate(([0], label + 1)),
            StepMarks.joined([self._open_mark, marks]),
        )

    def _batch(
        self,
        lines: Lines,
        begins: NDArray[np.intp],
        names: tuple[str, ...],
        label: NDArray[np.intp],
        marks: StepMarks,
        *,
        unfinished: bool = False,
    ) -> StepBatch:
        """Steps that begin at the lines `begins`; the first is the continuation of one, if one is open."""
        n_steps = len(begins)
        step = np.repeat(np.arange(n_steps), np.diff(begins, append=len(lines)))
        row_step, row_layer = step, lines.layer
        if not lines.only_rows:
            is_row = lines.row < 0
            row_step, row_layer = step[is_row], lines.layer[is_row]
        blocks = _blocks(row_step, row_layer)
        in_parts = unfinished or self._first_layer is not None
        tokens, kind, of_head = self._kinds(lines, begins, blocks, in_parts=in_parts)
        kind = np.where(marks.kind >= 0, marks.kind, kind)
        steps_begin = np.ones(n_steps, np.bool_)
        if in_parts:
            if self._first_layer is None:
                self._first_layer = int(lines.layer[0])
            else:
                steps_begin[0] = False
            of_first = blocks.layer[blocks.step == 0] == self._first_layer
            tokens[0] = int(blocks.length[blocks.step == 0][of_first].sum())
            kind[0] = Kind.PREFILL
            if not unfinished:
                self._first_layer = None
        sets, evidence = _RowSets(), StrideEvidence()
        for table, is_single, is_uniform, is_apart in _tables(
            lines, row_step, row_layer, blocks, tokens, of_head=of_head
        ):
            sets.add(table, is_single, is_uniform, is_apart, evidence)
        batch = StepBatch(
            kind=kind,
            tokens=tokens,
            begins=steps_begin,
            labels=names,
            label=label,
            sequence=np.full(n_steps, -1),
            highest=self.highest,
            single=_filled(sets.single),
            proven=_filled(sets.proven),
            written=_filled(sets.written),
            repeating=_filled(sets.repeating),
            impossible=sets.impossible,
            verified=_filled(sets.verified),
            gates=_gates(lines, step),
            evidence=evidence,
        )
        if not len(marks.position) and not marks.warmup.any():
            return batch
        told = _fits(marks, tokens, blocks)
        has_output = blocks.layer[told[blocks.step] & (outputs(marks) > 0)[blocks.step]]
        self._shown_last = max(self._shown_last, int(has_output.max(initial=-1)))
        return self._texts.cut(batch, marks, told)

    def _kinds(
        self, lines: Lines, begins: NDArray[np.intp], blocks: _Blocks, *, in_parts: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.bool_]]:
        """Tokens (s,) and kind (s,) of steps, and which blocks (b,) are of a draft head, as they show.

        Learns which layer is the last, and which are of draft heads.

        Args:
            lines: of the steps.
            begins: (s,) where they begin.
            blocks: of their rows.
            in_parts: the first step is not there as a whole.
        """
        if len(blocks.start) == len(lines):  # a row a block, no gate lines: every step is of one token
            self.highest = max(self.highest, int(lines.layer.max()))
            self._shown_last = max(self._shown_last, int(lines.layer.max()))
            none = np.zeros(len(blocks.start), np.bool_)
            return np.ones(len(begins), np.int64), np.full(len(begins), Kind.DECODE, np.int8), none
        steps = np.arange(len(begins))
        first = np.searchsorted(blocks.step, steps)
        top = np.searchsorted(blocks.step, steps, side="right") - 1
        has_rows = top >= first
        tokens = np.ones(len(begins), np.int64)
        tokens[has_rows] = blocks.length[first[has_rows]]
        for index in np.flatnonzero(~has_rows).tolist():
            layer = lines.layer[begins[index] : begins[index + 1] if index + 1 < len(begins) else None]
            tokens[index] = np.count_nonzero(layer == layer[0])
        top_rows = np.where(has_rows, blocks.length[top], 0) if len(blocks.step) else np.zeros_like(tokens)
        top_layer = (
            np.where(has_rows, blocks.layer[top], -1) if len(blocks.step) else np.full_like(tokens, -1)
        )
        self.highest = max(self.highest, int(top_layer.max()))
        of_head = self._of_heads(blocks, tokens, whole=1 if in_parts else 0)
        with_head = np.zeros(len(begins), np.bool_)
        with_head[blocks.step[of_head]] = True
        reaches_last = has_rows & ((tokens == 1) | (top_rows < tokens) | with_head)
        self._shown_last = max(self._shown_last, int(top_layer[reaches_last].max(initial=-1)))
        kind = np.full(len(begins), Kind.PREFILL, np.int8)
        seems_decode = top_rows == tokens
        two = np.flatnonzero(top > first)  # the last layer alone leaves rows out: one above it is no layer
        seems_decode[two] &= blocks.length[top[two] - 1] >= tokens[two]
        seems_decode |= with_head & ~reads_prompt(tokens, top_rows - tokens)
        undecided = seems_decode & (tokens <= self._max_slots) & (top_layer == self.highest)
        kind[has_rows & undecided] = Kind.UNDECIDED
        kind[tokens == 1] = Kind.DECODE
        return tokens, kind, of_head

    def _of_heads(self, blocks: _Blocks, tokens: NDArray[np.int64], *, whole: int) -> NDArray[np.bool_]:
        """Which blocks (b,) are of a draft head, as they show; of the steps from the first `whole` one on."""
        begin = int(np.searchsorted(blocks.step, whole))
        found = np.zeros(len(blocks.step), np.bool_)
        found[begin:], irregular = apart(blocks.step[begin:], blocks.length[begin:], tokens)
        self.heads.see(blocks.layer[found], irregular)
        return found


_UNTOLD = StepMarks.none().at(np.zeros(1, np.int64))


def _selected(marks: StepMarks, which: NDArray[np.bool_]) -> StepMarks:
    """Those at which the mask (m,) is True."""
    if which.all():
        return marks
    tokens = np.repeat(which, marks.tokens)
    return StepMarks(
        marks.place[which],
        marks.warmup[which],
        marks.kind[which],
        marks.tokens[which],
        marks.position[tokens],
        marks.sequence[tokens],
        marks.output[tokens],
    )


def _fits(marks: StepMarks, tokens: NDArray[np.int64], blocks: _Blocks) -> NDArray[np.bool_]:
    """(s,) Whether what is told of a step's tokens fits its blocks: a row for each token, or with output."""
    fits: NDArray[np.bool_] = (marks.tokens == tokens) & (tokens > 0)
    n_rows, step = blocks.length, blocks.step
    fits[step[(n_rows != tokens[step]) & (n_rows != outputs(marks)[step])]] = False
    return fits


@dataclass(slots=True, eq=False)
class _RowSets:
    """The sets of rows of a `StepBatch`, as they are filled."""

    single: list[ExpertRows] = field(default_factory=list)
    proven: list[ExpertRows] = field(default_factory=list)
    written: list[ExpertRows] = field(default_factory=list)
    repeating: list[ExpertRows] = field(default_factory=list)
    verified: list[ExpertRows] = field(default_factory=list)
    impossible: Counter[int] = field(default_factory=Counter)

    def add(
        self,
        table: ExpertRows,
        is_single: NDArray[np.bool_],
        is_uniform: NDArray[np.bool_],
        is_apart: NDArray[np.bool_],
        evidence: StrideEvidence,
    ) -> None:
        """Sort the rows of one k.

        Args:
            table: whole blocks, as far as they have this k.
            is_single: (n,) whether a row stands alone in its block.
            is_uniform: (n,) whether all rows of its block have the same k.
            is_apart: (n,) whether its block is several, of a draft head, whose bounds are not known.
            evidence: is shown the blocks that tell how the logger strides.
        """
        repeating = repeats(table.experts.T)
        if repeating is None:
            distinct, explained = None, is_uniform
        else:
            head = np.maximum.accumulate(np.where(table.token == 0, np.arange(len(table)), 0))
            distinct, explained = ~repeating, is_uniform & ~repeating[head]
            impossible = repeating & (is_single | ~explained)
            self.impossible[table.experts.shape[1]] += int(np.count_nonzero(impossible))
        if is_single.all():
            self.single.append(table if distinct is None else table.select(distinct))
            return
        several, stays = table.select(~is_single), ~is_single
        explained, tested = explained[stays], (explained & ~is_apart)[stays]
        self.single.append(table.select(is_single if distinct is None else is_single & distinct))
        # Where a step has rows that no sound logger writes, or that tell nothing, it is not proven sound.
        doubtful = ~tested if distinct is None else ~(tested & distinct[stays])
        is_sound, verified = examine(several.select(tested), evidence, several.step[doubtful])
        self.verified.append(verified)
        if is_sound.any():
            self.proven.append(several.select(tested).select(is_sound))
            left = ~tested
            left[tested] = ~is_sound
            stays[stays] = left
            several, tested, explained = several.select(left), tested[left], explained[left]
        if distinct is not None:
            self.repeating.append(several.select(~distinct[stays] & explained))
            several, tested = several.select(distinct[stays]), tested[distinct[stays]]
        self.written.append(several)
        self.verified.append(several.select(~tested & (several.token == 0)))


def _tables(
    lines: Lines,
    step: NDArray[np.int64],
    layer: NDArray[np.uint16],
    blocks: _Blocks,
    tokens: NDArray[np.int64],
    *,
    of_head: NDArray[np.bool_],
) -> Iterator[tuple[ExpertRows, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """The rows of each k, with what `_RowSets.add` takes of each: alone, of one k, apart, (n,) each."""
    if len(blocks.start) == len(step):
        token, alone = np.zeros(len(step), np.int64), np.ones(len(step), np.bool_)
        whole = alone if tokens.max() == 1 else tokens[step] == 1
        is_apart = ~alone
    else:
        whole = blocks.length == tokens[blocks.step]
        token = np.arange(len(step)) - np.repeat(blocks.start, blocks.length)
        alone = np.repeat(blocks.length == 1, blocks.length)
        whole = np.repeat(whole, blocks.length)
        is_apart = np.repeat(of_head, blocks.length)
    experts = lines.experts
    table, weights = (experts.tables or (_NO_ROW,))[0], (experts.weights or (None,))[0]
    rows = ExpertRows(step, layer, token, whole, table, weights)
    if experts.width is None:
        yield rows, alone, np.ones(len(rows), np.bool_), is_apart
    else:
        yield from _by_width(rows, alone, is_apart, blocks, experts)


_NO_ROW = np.empty((0, 1), np.uint16)


def _filled(tables: list[ExpertRows]) -> tuple[ExpertRows, ...]:
    return tuple(table for table in tables if len(table))


def _by_width(
    rows: ExpertRows,
    alone: NDArray[np.bool_],
    is_apart: NDArray[np.bool_],
    blocks: _Blocks,
    experts: Experts,
) -> Iterator[tuple[ExpertRows, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Sort rows of several k by k: each table with its part of `alone` and `is_apart`; see `_tables`."""
    width = experts.widths()
    uniform = np.minimum.reduceat(width, blocks.start) == np.maximum.reduceat(width, blocks.start)
    uniform = np.repeat(uniform, blocks.length)
    for place, table in enumerate(experts.tables):
        mine = np.flatnonzero(width == table.shape[1])
        weights = experts.weights[place] if experts.weights else None
        rows_of_k = ExpertRows(
            rows.step[mine], rows.layer[mine], rows.token[mine], rows.whole[mine], table, weights
        )
        yield rows_of_k, alone[mine], uniform[mine], is_apart[mine]


def _blocks(step: NDArray[np.int64], layer: NDArray[np.uint16]) -> _Blocks:
    """Blocks of rows: runs of equal step and layer."""
    begins = layer[1:] != layer[:-1]
    if begins.all():
        rows = np.arange(len(step))
        return _Blocks(rows, np.ones_like(rows), step, layer.astype(np.int64))
    begins |= step[1:] != step[:-1]
    start = np.flatnonzero(np.concatenate(([True], begins)))
    return _Blocks(start, np.diff(start, append=len(step)), step[start], layer[start].astype(np.int64))


def _gates(lines: Lines, step: NDArray[np.int64]) -> tuple[StepGates, ...]:
    """The parsed gate inputs with their steps and layers."""
    if not lines.vectors:
        return ()
    gates = []
    index = np.flatnonzero(lines.has_vector)
    for vectors in lines.vectors:
        mine, index = index[: len(vectors)], index[len(vectors) :]
        gates.append(StepGates(step[mine], lines.layer[mine].astype(np.int64), vectors))
    return tuple(gates)
