"""Runs of the server: each has a logger of its own, and so a verdict of its own on its rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import field, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.isolation import Failures
from moe_live.routing.batch import ExpertRows, StepBatch
from moe_live.routing.evidence import StrideEvidence, Verdict
from moe_live.settings import MAX_LAYERS, RowMode

LATEST_RUNS = 16
"""Runs that are told one by one: the latest."""

STRIDE_TEST = "test for strided rows"
"""What the verdict is called, should making it fail."""


class Choice(NamedTuple):
    """Which rows of blocks with several rows count: as `written`, or as `verified`; see `StepBatch`.

    Attributes:
        verified: those that hold in a strided log.
        repeating: with those that are written, also such as name an expert twice.
    """

    verified: bool
    repeating: bool


def choice(verdict: Verdict, mode: RowMode) -> Choice:
    """Which rows of a run count."""
    if verdict is Verdict.SOUND:
        return Choice(verified=False, repeating=False)
    proven = verdict in (Verdict.STRIDED, Verdict.MIXED)
    verified = mode is RowMode.VERIFIED or (mode is RowMode.AUTO and proven)
    return Choice(verified, repeating=not verified)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the server, as far as it is known.

    Rows that no logger writes, and those that were set aside, are in none of these numbers; those of draft
    heads are in all.

    Attributes:
        number: 1 for the first in the input.
        soundness: what its blocks of several rows show.
        logged: rows as written.
        counted: rows behind the figures.
        recovered: verified rows of blocks of several rows other than row 0.
        unrecoverable: logged rows that have no verified counterpart.
        impossible: logged rows that name an expert twice, though the others are sound: they are in no figure.
        repeating: rows counted that name an expert twice.
        single: rows that stand alone in their block, which are right whatever the logger does.
        verified: whether only rows count that hold in a strided log.
        log: path of the log that it wrote; "" if that is not known.
    """

    number: int
    soundness: Verdict
    logged: int
    counted: int
    recovered: int
    unrecoverable: int
    impossible: int
    repeating: int
    single: int
    verified: bool
    log: str = ""

    @property
    def either_way(self) -> bool:
        """Whether every row stands alone in its block."""
        return self.single == self.logged


@dataclass(slots=True, eq=False)
class RunRows:
    """The rows of a run that goes on, set by set; see `StepBatch`.

    Attributes:
        by_layer: (6, MAX_LAYERS) int64, how many there are of each layer: single, proven, written, repeating,
            verified, and those of these that were recovered: not the first of their block.
        n_experts: the highest expert seen, plus one.
        lowest, highest: layers seen; -1 for none.
        steps: they stand in.
        evidence: how the blocks of several rows look.
    """

    by_layer: NDArray[np.int64] = field(default_factory=lambda: np.zeros((6, MAX_LAYERS), np.int64))
    n_experts: int = 0
    lowest: int = -1
    highest: int = -1
    steps: int = 0
    evidence: StrideEvidence = field(default_factory=StrideEvidence)

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        for rows in (*batch.certain, *batch.written, *batch.repeating):
            self._span(int(rows.layer.min()), int(rows.layer.max()))
            self.n_experts = max(self.n_experts, int(rows.experts.max()) + 1)
        sets = batch.single, batch.proven, batch.written, batch.repeating, batch.verified
        for of_set, tables in enumerate(sets):
            for rows in tables:
                self.by_layer[of_set] += np.bincount(rows.layer, minlength=MAX_LAYERS)
        for rows in batch.verified:
            self.by_layer[-1] += np.bincount(rows.layer[rows.token > 0], minlength=MAX_LAYERS)
        self.evidence.add(batch.evidence, self.steps)
        for where, tables in (("alone", batch.single), ("first", (*batch.proven, *batch.verified))):
            for k in {rows.experts.shape[1] for rows in tables}:
                if self.evidence.wants(where, k):
                    first = [each.select(each.token == 0) for each in tables if each.experts.shape[1] == k]
                    self._lay(where, first)
        self.steps += len(batch.kind)

    def _lay(self, where: str, tables: Sequence[ExpertRows]) -> None:
        """Lay rows with one k side by side, in the order of their steps."""
        step, layer, experts = (
            np.concatenate(parts)
            for parts in zip(*((rows.step, rows.layer, rows.experts) for rows in tables), strict=True)
        )
        order = np.lexsort((layer, step))
        self.evidence.lay(where, step[order] + self.steps, layer[order], experts[order])

    def _span(self, lowest: int, highest: int) -> None:
        if lowest >= 0:
            self.lowest = lowest if self.lowest < 0 else min(self.lowest, lowest)
            self.highest = max(self.highest, highest)

    def __iadd__(self, other: RunRows) -> Self:
        """Add rows of the same run."""
        self.by_layer += other.by_layer
        self.n_experts = max(self.n_experts, other.n_experts)
        self._span(other.lowest, other.highest)
        self.evidence.add(other.evidence, self.steps)
        self.steps += other.steps
        return self

    def verdict(self, n_experts: int) -> Verdict:
        """What is known of its blocks of several rows.

        Args:
            n_experts: experts of a layer at least.
        """
        if self.lowest == self.highest:  # blocks of a single layer run together: they cannot be told apart
            return Verdict.UNKNOWN
        return self.evidence.verdict(max(self.n_experts, n_experts))

    def totals(self, verdict: Verdict, chosen: Choice) -> NDArray[np.int64]:
        """(6, MAX_LAYERS) int64, what `Totals` are made of, by layer.

        Args:
            verdict: on this run.
            chosen: which of its rows count.
        """
        single, proven, written, repeating, verified, recovered = self.by_layer
        several = verified if chosen.verified else written + repeating * chosen.repeating
        is_sound = verdict is Verdict.SOUND
        return np.stack(
            (
                single + proven + written + repeating,
                single + proven + several,
                recovered * (not is_sound),
                (written + repeating - verified) * (not is_sound),
                repeating * is_sound,
                repeating * chosen.repeating,
            )
        )


class Totals(NamedTuple):
    """Of all runs together, as `Run` has them."""

    logged: int
    counted: int
    recovered: int
    unrecoverable: int
    impossible: int
    repeating: int


class Runs:
    """The runs of a log: what became of those that have ended, the latest one by one, and that which goes on.

    Memory does not grow with the number of runs.

    Args:
        mode: which rows the user wants to be counted.
        n_experts: experts of a layer at least.

    Attributes:
        ended: runs that have ended, by what their blocks of several rows show; None for such as have none.
        has_verified: whether of any of these only rows count that hold in a strided log.
        latest: those of them that ended last, in their order.
        last: the rows of the run that goes on.
        mode: which rows the user wants to be counted.
        log: path of the log of the run that goes on; "" if that is not known.
    """

    def __init__(self, mode: RowMode, n_experts: int) -> None:
        self.ended: Counter[Verdict | None] = Counter()
        self.last = RunRows()
        self._totals = np.zeros((6, MAX_LAYERS), np.int64)
        self.has_verified = False
        self.latest: deque[Run] = deque(maxlen=LATEST_RUNS)
        self.mode = mode
        self.log = ""
        self._n_experts = n_experts

    @property
    def soundness(self) -> Verdict:
        """What the blocks of several rows of all runs that have ended show together."""
        found = {verdict for verdict, runs in self.ended.items() if runs and verdict is not None}
        if len(found) == 1:
            return found.pop()
        wrong = not found.isdisjoint({Verdict.STRIDED, Verdict.MIXED})
        return Verdict.MIXED if wrong else Verdict.UNKNOWN

    @property
    def number(self) -> int:
        """Of the run that goes on."""
        return self.ended.total() + 1

    def run(self, failures: Failures) -> Run:
        """The run that goes on, judged by all that was seen of it; undecided if that fails."""
        rows = self.last
        single, _, _, _, verified, _ = rows.by_layer.sum(axis=1).tolist()
        verdict = failures.attempt(STRIDE_TEST, lambda: rows.verdict(self._n_experts), Verdict.UNKNOWN)
        chosen = choice(verdict, self.mode)
        found = Totals(*rows.totals(verdict, chosen).sum(axis=1).tolist())
        return Run(
            number=self.number,
            soundness=verdict,
            single=single,
            verified=chosen.verified and verified > 0,
            log=self.log,
            **found._asdict(),
        )

    def totals(self, *, outside: Collection[int] = ()) -> Totals:
        """Of the runs that have ended, over all layers but those `outside`."""
        every = self._totals.sum(axis=1)
        if outside:
            every -= self._totals[:, list(outside)].sum(axis=1)
        return Totals(*every.tolist())

    def end(self, run: Run) -> None:
        """What comes now is of another run than this, which went on until now; without rows it was none."""
        rows, self.last = self.last, RunRows()
        if not run.logged:
            return
        self.ended[None if run.either_way else run.soundness] += 1
        self._totals = self._totals + rows.totals(run.soundness, choice(run.soundness, self.mode))
        self.has_verified |= run.verified
        self.latest.append(run)

    def __iadd__(self, other: Runs) -> Self:
        """Add the runs of another log, which comes after this one; its first goes on with our last."""
        before = self.ended.total()
        for run in other.latest:
            self.latest.append(replace(run, number=run.number + before))
        self.ended.update(other.ended)
        self._totals = self._totals + other._totals
        self.has_verified |= other.has_verified
        self.last += other.last
        if other.last.steps:
            self.log = other.log
        return self

    def with_last(self, run: Run) -> Runs:
        """All runs, if the one that goes on ended now."""
        every = copy(self)
        every.ended, every.latest = self.ended.copy(), self.latest.copy()
        every.end(run)
        return every
