"""Steps along the texts they belong to, where the log tells which token is whose.

A forward pass may hold tokens of several sequences, some reading a prompt and others generating. Where the
log tells the position, the sequence and the output of each token, nothing is guessed: the pass is cut into
one step for each sequence and phase in it.

**Phase.** A token is of a prompt if the model's output is not computed for it, or if it follows a token of
its sequence for which that holds, or one that was not seen; else it was generated, or drafted and verified.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.records import StepMarks
from moe_live.routing.batch import ExpertRows, Kind, StepBatch, StepGates

MAX_TEXTS = 1024
"""Sequences whose tokens are remembered; of more, those that came last."""


@dataclass(frozen=True, slots=True)
class _Text:
    """What was seen of one sequence: positions `first` to `last`, the prompt up to `prompt_end`."""

    first: int
    last: int
    prompt_end: int


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """Tokens of passes, one after the other; a pass of which nothing is told is one of them.

    Attributes:
        start: (s,) int64, the first of each pass.
        step: (n,) int64, their passes.
        sequence: (n,) int64, -1 where it is not told.
        kind: (n,) int8.
        output: (n,) bool, whether output is known to be computed.
    """

    start: NDArray[np.int64]
    step: NDArray[np.int64]
    sequence: NDArray[np.int64]
    kind: NDArray[np.int8]
    output: NDArray[np.bool_]


class Texts:
    """Cuts forward passes into steps of one sequence and phase, and remembers what each sequence has read."""

    def __init__(self) -> None:
        self._texts: dict[int, _Text] = {}

    def forget(self) -> None:
        """What follows are other texts."""
        self._texts.clear()

    def cut(self, batch: StepBatch, marks: StepMarks, told: NDArray[np.bool_]) -> StepBatch:
        """The same rows in steps of one sequence and phase each; what only warms up is left out.

        Args:
            batch: whole passes.
            marks: of each of them (s,), what the log tells of its tokens.
            told: (s,) whether that fits the rows there are. Nothing is cut else.
        """
        tokens = self._tokens(batch, marks, told)
        # What reads a prompt comes first: it is what the pass is taken for.
        width = int(tokens.sequence.max(initial=0)) + 2
        key = (tokens.step * len(Kind) + tokens.kind) * width + tokens.sequence + 1
        _, head, part = np.unique(key, return_index=True, return_inverse=True)
        step, kind = tokens.step[head], tokens.kind[head]
        counts = np.where(told[step], np.bincount(part, minlength=len(head)), batch.tokens[step])
        kept = ~marks.warmup[step]
        place = np.where(kept, np.cumsum(kept) - 1, -1)[part]

        def moved(tables: Iterable[ExpertRows]) -> tuple[ExpertRows, ...]:
            found = [_moved(rows, place[_token_of(rows, tokens, told)]) for rows in tables]
            return tuple(rows for rows in found if len(rows))

        return replace(
            batch,
            kind=kind[kept],
            tokens=counts[kept],
            begins=(batch.begins[step] & np.append([True], step[1:] != step[:-1]))[kept],
            label=batch.label[step][kept],
            sequence=tokens.sequence[head][kept],
            single=moved(batch.single),
            proven=moved(batch.proven),
            written=moved(batch.written),
            repeating=moved(batch.repeating),
            verified=moved(batch.verified),
            gates=tuple(_moved_gates(gates, place[tokens.start[gates.step]]) for gates in batch.gates),
        )

    def _tokens(self, batch: StepBatch, marks: StepMarks, told: NDArray[np.bool_]) -> _Tokens:
        count = np.where(told, marks.tokens, 1)
        start = np.cumsum(count) - count
        step = np.repeat(np.arange(len(count)), count)
        is_told = told[step]
        mine = np.repeat(told, marks.tokens)
        sequence, output = np.full(len(step), -1), np.zeros(len(step), np.bool_)
        sequence[is_told] = marks.sequence[mine]
        output[is_told] = marks.output[mine] == 1
        kind = batch.kind[step]
        is_warmup = marks.warmup[step]
        known = is_told & (sequence >= 0) & ~is_warmup
        known[is_told] &= marks.output[mine] >= 0
        position = np.zeros(len(step), np.int64)
        position[is_told] = marks.position[mine]
        generated = self._generated(sequence[known], position[known], output[known])
        kind[known] = np.where(generated, Kind.DECODE, Kind.PREFILL)
        return _Tokens(start, step, sequence, kind, output)

    def _generated(
        self, sequence: NDArray[np.int64], position: NDArray[np.int64], output: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which tokens (n,) were generated, or drafted; they come after those of all calls before."""
        order = np.argsort(sequence, kind="stable")
        sequence, position, output = sequence[order], position[order], output[order]
        goes_on = (sequence[1:] == sequence[:-1]) & (position[1:] == position[:-1] + 1)
        generated = np.zeros(len(order), np.bool_)
        generated[1:] = goes_on & output[1:] & output[:-1]
        heads = np.flatnonzero(np.concatenate((np.ones(min(1, len(order)), np.bool_), ~goes_on)))
        if len(heads):
            ends = np.append(heads[1:], len(order)) - 1
            prompt_ends = np.maximum.reduceat(np.where(output, -1, position), heads)
            columns = (sequence[heads], position[heads], position[ends], prompt_ends, output[heads])
            generated[heads] = [
                self._follows(*run) for run in zip(*(column.tolist() for column in columns), strict=True)
            ]
        found = np.empty_like(generated)
        found[order] = generated
        return found

    def _follows(self, sequence: int, first: int, last: int, prompt_end: int, output: bool) -> bool:  # noqa: FBT001 - a column
        """Whether a run of tokens begins with a generated one; remembers the run."""
        text = self._texts.pop(sequence, None)
        if text is None or not text.first < first <= text.last + 1:
            self._texts[sequence] = _Text(first, last, prompt_end)
            follows = False
        else:
            follows = output and first - 1 > text.prompt_end
            before = min(text.prompt_end, first - 1)
            self._texts[sequence] = _Text(text.first, last, max(before, prompt_end))
        if len(self._texts) > MAX_TEXTS:
            del self._texts[next(iter(self._texts))]
        return follows


def outputs(marks: StepMarks) -> NDArray[np.int64]:
    """(s,) How many tokens of each pass have output, as far as that is told."""
    step = np.repeat(np.arange(len(marks)), marks.tokens)
    return np.bincount(step[marks.output == 1], minlength=len(marks))


def _token_of(rows: ExpertRows, tokens: _Tokens, told: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) The token of each row. A block that is not whole has the tokens with output."""
    start = tokens.start[rows.step]
    found = np.where(told[rows.step], start + rows.token, start)
    partial = told[rows.step] & ~rows.whole
    if partial.any():
        with_output = np.flatnonzero(tokens.output)
        found[partial] = with_output[np.searchsorted(with_output, start[partial]) + rows.token[partial]]
    return found


def _moved(rows: ExpertRows, step: NDArray[np.int64]) -> ExpertRows:
    """Rows in other steps (n,), ascending; those in step -1 are left out."""
    rows = replace(rows, step=step)
    if (step < 0).any():
        rows = rows.select(step >= 0)
    if (rows.step[1:] >= rows.step[:-1]).all():
        return rows
    order = np.argsort(rows.step, kind="stable")
    return ExpertRows(
        rows.step[order],
        rows.layer[order],
        rows.token[order],
        rows.whole[order],
        np.take(rows.experts.T, order, axis=1).T,
        None if rows.weights is None else rows.weights[order],
    )


def _moved_gates(gates: StepGates, step: NDArray[np.int64]) -> StepGates:
    """The same of gate inputs."""
    kept = step >= 0
    return StepGates(step[kept], gates.layer[kept], gates.vectors[kept])
