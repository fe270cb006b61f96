"""All accumulators of a run, fed and merged together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.isolation import Failures
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.statistics.frequency import Frequency
from moe_live.statistics.gate_mass import GateMass
from moe_live.statistics.latest import LatestSteps, LatestUses
from moe_live.statistics.pending import ENOUGH
from moe_live.statistics.planes import settle
from moe_live.statistics.registry import OfBatches, RowStatistics, StepStatistics

MAX_CELLS = 1 << 16
"""Layers times experts of a log that is analyzed: 32 layers of 2,048 experts, or 128 of 512. No model has as
many; what has is counted, and nothing else, so that no log takes more memory than the largest models do."""

_MAX_WIDTHS = 64  # different n_embd that are told apart; more of them is noise, not a model


GATE_MASS = "gate mass"


class RowCounts:
    """How many rows there are in one of the three sets of a `StepBatch`, and what they chose; adds up."""

    def __init__(self) -> None:
        self.frequency = Frequency()
        self.top_k: Counter[int] = Counter()

    def update(self, tables: Sequence[ExpertRows], kind: NDArray[np.int8]) -> None:
        """Add rows; their `step` indexes `kind`."""
        self.frequency.update(tables, kind)
        for table in tables:
            self.top_k[table.experts.shape[1]] += len(table)

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.frequency.settle()

    def __iadd__(self, other: RowCounts) -> Self:
        """Add the rows of another log."""
        self.frequency += other.frequency
        self.top_k.update(other.top_k)
        return self


class Chosen(NamedTuple):
    """What was found in the rows that count.

    Attributes:
        rows: accumulators whose rows together are those that count.
        steps: what depends on the order of steps, over the same rows.
        latest: the uses of the latest steps, over the same rows; None if they were not wanted.
    """

    rows: tuple[RowStatistics, RowStatistics]
    steps: StepStatistics
    latest: LatestUses | None


class Analysis:
    """All that is more than counting.

    What depends on the order of steps is kept over `single` + `written` and over `single` + `verified` rows:
    in one and the same object for as long as no step tells them apart.

    Attributes:
        single, written, verified: over the sets of rows of that name; see `StepBatch`.
        as_logged: over the steps with all their rows but these.
        as_verified: over the steps with the rows that hold in a strided log.
        others: what takes whole batches. A statistic is a line in `OfBatches`.

    Args:
        window: decode steps that are called the latest.
        latest_uses: how many uses of the latest steps to keep, 0 for none.
        failures: takes what fails, by the name of the section it is for; one object for all of these.
    """

    def __init__(self, window: int, latest_uses: int, failures: Failures) -> None:
        self.failures = failures
        self.single = RowStatistics(self.failures)
        self.written = RowStatistics(self.failures)
        self.verified = RowStatistics(self.failures)
        self.as_logged = self.as_verified = StepStatistics(window, self.failures)
        self.others = OfBatches(self.failures, {LatestSteps: LatestSteps(latest_uses)})

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        kind = batch.kind
        if sum(map(len, (*batch.single, *batch.written, *batch.verified))) > ENOUGH:
            self.flush()  # what waits would be joined to what is enough by itself
        # The arrays of a batch are used again for the next one; what is put off is kept by several.
        single, written, verified = (
            tuple(rows.copy() for rows in tables) for tables in (batch.single, batch.written, batch.verified)
        )
        self.single.update(single, batch)
        self.written.update(written, batch)
        self.verified.update(verified, batch)
        self.others.feed(batch)
        if any((kind[rows.step] != Kind.PREFILL).any() for rows in (*written, *batch.repeating)):
            self._tell_apart()
        self.as_logged.update((*single, *written), batch)
        if self.as_verified is not self.as_logged:
            self.as_verified.update((*single, *verified), batch)
        self._keep_up()

    def chosen(self, *, verified: bool) -> Chosen:
        """What was found in `single` and `written` rows, or in `single` and `verified` ones."""
        latest = self.others[LatestSteps]
        uses = (latest.verified if verified else latest.logged) if latest.wanted else None
        if verified:
            return Chosen((self.single, self.verified), self.as_verified, uses)
        return Chosen((self.single, self.written), self.as_logged, uses)

    def _of_rows(self) -> tuple[RowStatistics, ...]:
        return self.single, self.written, self.verified

    def _of_steps(self) -> tuple[StepStatistics, ...]:
        """One or two, see above."""
        told_apart = self.as_verified is not self.as_logged
        return (self.as_logged, self.as_verified) if told_apart else (self.as_logged,)

    def _with_pending(self) -> tuple[RowStatistics | StepStatistics, ...]:
        return (*self._of_rows(), *self._of_steps())

    def _keep_up(self) -> None:
        """Count where most was put off, once it is much in all."""
        groups: tuple[tuple[RowStatistics | StepStatistics, ...], ...] = (self._of_rows(), self._of_steps())
        for group in groups:
            while sum(statistic.pending.size for statistic in group) >= ENOUGH:
                max(group, key=lambda statistic: statistic.pending.size).flush()

    def flush(self) -> None:
        """Count what was put off."""
        for statistic in self._with_pending():
            statistic.flush()

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.others.settle()
        for statistic in self._with_pending():
            statistic.settle()

    def pieces(self) -> Iterator[Any]:
        """What was found, in the pieces that `merge` takes."""
        yield self.as_verified is not self.as_logged
        yield from (*self._of_rows(), self.others, *self._of_steps())

    def merge(self, pieces: Iterator[Any]) -> None:
        """Add what was found in another log, which comes after this one and was counted alike."""
        is_told_apart: bool = next(pieces)
        for rows in self._of_rows():
            rows.__iadd__(next(pieces))
        self.others += next(pieces)
        steps: StepStatistics = next(pieces)
        if is_told_apart:
            self._tell_apart()
        self.as_logged += steps
        if self.as_verified is not self.as_logged:
            self.as_verified += next(pieces) if is_told_apart else steps

    def _tell_apart(self) -> None:
        """From now on rows as logged and as verified differ in steps whose order counts."""
        if self.as_verified is self.as_logged:
            self.as_verified = deepcopy(self.as_logged, {id(self.failures): self.failures})


class Statistics:
    """All accumulators.

    Args:
        window: decode steps that are called the latest.
        counts_only: there is to be no `analysis`.
        latest_uses: how many uses of the latest steps to keep, 0 for none.

    Attributes:
        steps: (kinds,) int64, steps of each kind.
        tokens: (kinds,) int64, their tokens.
        single, written, repeating, verified: over the sets of rows of that name; see `StepBatch`.
        impossible: how many rows of each k no logger writes.
        recovered: verified rows of multi-row blocks other than row 0.
        n_embd: how many gate inputs had which width.
        gate_layers: layers with gate lines.
        gate_mass: of the rows that come with weights.
        counts_only: there was to be no `analysis`.
        analysis: all that is more than counting; None if that was not wanted, or is too much.
        failures: what failed, by the name of the section it is for.
    """

    def __init__(self, window: int, *, counts_only: bool = False, latest_uses: int = 0) -> None:
        self.steps = np.zeros(len(Kind), np.int64)
        self.tokens = np.zeros(len(Kind), np.int64)
        self.single = RowCounts()
        self.written = RowCounts()
        self.repeating = RowCounts()
        self.verified = RowCounts()
        self.impossible: Counter[int] = Counter()
        self.recovered = 0
        self.n_embd: Counter[int] = Counter()
        self.gate_layers: set[int] = set()
        self.gate_mass = GateMass()
        self.failures = Failures()
        self.counts_only = counts_only
        self.analysis = None if counts_only else Analysis(window, latest_uses, self.failures)

    @property
    def too_large(self) -> bool:
        """Whether the analysis was given up: there are more layers and experts than `MAX_CELLS`."""
        return self.analysis is None and not self.counts_only

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        np.add.at(self.steps, batch.kind, batch.begins)
        np.add.at(self.tokens, batch.kind, batch.tokens)
        self.failures.attempt("usage", lambda: self._count(batch), None)
        self.impossible.update(batch.impossible)
        self.recovered += sum(int(np.count_nonzero(table.token)) for table in batch.verified)
        for gates in batch.gates:
            width = gates.vectors.shape[1]
            if width in self.n_embd or len(self.n_embd) < _MAX_WIDTHS:
                self.n_embd[width] += len(gates.layer)
        self._keep_bounded()
        if self.analysis is not None:
            self.analysis.update(batch)

    def _count(self, batch: StepBatch) -> None:
        self.single.update(batch.single, batch.kind)
        self.written.update(batch.written, batch.kind)
        self.repeating.update(batch.repeating, batch.kind)
        self.verified.update(batch.verified, batch.kind)

    def _keep_bounded(self) -> None:
        """Give the analysis up if it would be too large: that depends on nothing but what was seen in all."""
        frequencies = self.single.frequency, self.written.frequency
        n_experts = max(frequency.n_experts for frequency in frequencies)
        if sum(len(frequency.layers) for frequency in frequencies) * n_experts <= MAX_CELLS:
            return  # some layers may be there twice
        if len({layer for frequency in frequencies for layer in frequency.layers}) * n_experts > MAX_CELLS:
            self.analysis = None

    def flush(self) -> None:
        """Count what was put off."""
        if self.analysis is not None:
            self.analysis.flush()

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        settle(self.steps)
        settle(self.tokens)
        for counts in (self.single, self.written, self.repeating, self.verified):
            self.failures.attempt("usage", counts.settle, None)
        if self.analysis is not None:
            self.analysis.settle()

    def pieces(self) -> Iterator[Any]:
        """What was counted, in the pieces that `merge` takes."""
        counted = copy(self)
        counted.analysis = None
        found = [] if self.analysis is None else list(self.analysis.pieces())
        yield counted, len(found)
        yield from found

    def merge(self, pieces: Iterator[Any]) -> None:
        """Add another log, which comes after this one and was counted alike."""
        counted: Statistics
        counted, found = next(pieces)
        self.steps += counted.steps
        self.tokens += counted.tokens
        self.failures |= counted.failures
        self.failures.attempt("usage", lambda: self._add(counted), None)
        self.impossible.update(counted.impossible)
        self.recovered += counted.recovered
        self.n_embd.update(counted.n_embd)
        self.gate_layers |= counted.gate_layers
        self.failures.attempt(GATE_MASS, lambda: self.gate_mass.__iadd__(counted.gate_mass), None)
        self._keep_bounded()
        if not found:
            self.analysis = None
        if self.analysis is not None:
            self.analysis.merge(pieces)
            return
        for _ in range(found):  # whoever hands it over expects it to be taken
            next(pieces)

    def _add(self, counted: Statistics) -> None:
        self.single += counted.single
        self.written += counted.written
        self.repeating += counted.repeating
        self.verified += counted.verified
