"""Complete steps as arrays: what every statistic is fed with."""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.evidence import StrideEvidence


class Kind(IntEnum):
    """What a step did. Statistics keep one plane of counts for each."""

    PREFILL = 0
    DECODE = 1
    UNDECIDED = 2
    """Several rows in every layer, up to the highest layer seen: decode of several sequences if that is the
    model's last layer, else a piece of a prompt (whose rows are not computed in the last layer)."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpertRows:
    """Expert rows of some steps, all with the same k, in the order of the log.

    Attributes:
        step: (n,) int64, index into the steps of the batch.
        layer: (n,) uint16.
        token: (n,) int64, index of the row in its block.
        whole: (n,) bool, whether the block has a row for every token of the step, so that row j of it and row
            j of another whole block of the step belong to one token. The last layer leaves out rows in a
            prompt.
        experts: (n, k) uint16, best first; usually the transposed view of a contiguous (k, n), which has the
            name `by_rank` where it is handed on.
        weights: (n, k) float64, what the experts are multiplied with, NaN where that is not told; None where
            it is told of none of the rows, or nobody asked for it.
    """

    step: NDArray[np.int64]
    layer: NDArray[np.uint16]
    token: NDArray[np.int64]
    whole: NDArray[np.bool_]
    experts: NDArray[np.uint16]
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.layer)

    def copy(self) -> ExpertRows:
        """The same in memory of its own."""
        return ExpertRows(
            self.step.copy(),
            self.layer.copy(),
            self.token.copy(),
            self.whole.copy(),
            self.experts.T.copy().T,
            None if self.weights is None else self.weights.copy(),
        )

    def select(self, rows: NDArray[np.bool_]) -> ExpertRows:
        """The rows at which the (n,) mask is True."""
        if rows.all():
            return self
        return ExpertRows(
            self.step[rows],
            self.layer[rows],
            self.token[rows],
            self.whole[rows],
            # Indexing would leave the rows contiguous, with an inner axis of k; so do not.
            np.compress(rows, self.experts.T, axis=1).T,
            None if self.weights is None else self.weights[rows],
        )


def repeats(by_rank: NDArray[np.uint16]) -> NDArray[np.bool_] | None:
    """Which rows, experts by rank (k, n), name an expert twice; None if none does, as in every sound log."""
    if by_rank.shape[1] < len(by_rank) ** 2:  # few rows, or long ones
        ordered = np.sort(by_rank, axis=0)
        repeating: NDArray[np.bool_] = (ordered[1:] == ordered[:-1]).any(axis=0)
        return repeating if repeating.any() else None
    shifts = range(1, len(by_rank))
    if not any((by_rank[shift:] == by_rank[:-shift]).any() for shift in shifts):
        return None
    found = [(by_rank[shift:] == by_rank[:-shift]).any(axis=0) for shift in shifts]
    return np.asarray(np.logical_or.reduce(found))


@dataclass(frozen=True, slots=True, eq=False)
class StepGates:
    """Gate inputs of row 0 of some steps, all with the same n_embd, layers ascending in each step.

    Attributes:
        step: (m,) int64, index into the steps of the batch.
        layer: (m,) int64.
        vectors: (m, n_embd) float64, C-contiguous.
    """

    step: NDArray[np.int64]
    layer: NDArray[np.int64]
    vectors: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StepBatch:
    """Complete steps, or parts of a very long one, in the order of the log.

    The rows come in several sets. `single` are the rows of one-row blocks, right however the logger strides;
    `proven` those of steps whose blocks of several rows no strided logger writes.
    The rows of other blocks with several rows come twice: as the log has them, and `verified` as far as they
    can be believed in a strided log (row 0 of each block, and rows recovered from the others). As the log has
    them, they are `written`, but those that name an expert twice `repeating`: a strided logger writes such
    where a row takes in the end of one ranking and the beginning of the next, and no sound one does.
    `certain` are the first two. They and `written` hold if the log is sound, they and `verified` if it is
    strided, and they, `written` and `repeating` are every row that the one or the other may have written.
    Rows that neither writes are `impossible`: they name an expert twice, and they stand alone or first in
    their block, or in a block whose first row does so too, or where rows differ in k.
    Each set is a tuple with one entry for each k that occurs: nearly always one.

    Attributes:
        kind: (s,) int8, values of `Kind`.
        tokens: (s,) int64, tokens of the step (its T), or as many of them as this part adds.
        begins: (s,) bool, False where the step continues one of an earlier batch.
        labels: what the user called the times in which these steps began, "" for nothing.
        label: (s,) int64, which of `labels` each step has.
        sequence: (s,) int64, the text that all tokens of the step belong to; -1 if that is not told. Where it
            is, a forward pass is several steps, one for each of its sequences; the first of them `begins`.
        highest: highest layer with expert rows seen so far, -1 for none.
        single: rows of one-row blocks.
        proven: rows of sound steps.
        written: rows of other blocks as logged, but for those that name an expert twice.
        repeating: those of them.
        impossible: how many rows of each k neither kind of logger writes.
        verified: rows of other blocks that hold in a strided log.
        gates: gate inputs of row 0, one entry for each run of equal n_embd.
        evidence: how the blocks of several rows look.
    """

    kind: NDArray[np.int8]
    tokens: NDArray[np.int64]
    begins: NDArray[np.bool_]
    labels: tuple[str, ...]
    label: NDArray[np.int64]
    sequence: NDArray[np.int64]
    highest: int
    single: tuple[ExpertRows, ...]
    written: tuple[ExpertRows, ...]
    repeating: tuple[ExpertRows, ...]
    impossible: Counter[int]
    verified: tuple[ExpertRows, ...]
    gates: tuple[StepGates, ...]
    proven: tuple[ExpertRows, ...] = ()
    evidence: StrideEvidence = field(default_factory=StrideEvidence)

    @property
    def certain(self) -> tuple[ExpertRows, ...]:
        """The rows that are real whatever the logger does with others."""
        return (*self.single, *self.proven)
