"""All accumulators of a run, fed and merged together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from moe_live.formats.records import ExpertCounts, Records
from moe_live.isolation import Failures
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.settings import Settings
from moe_live.statistics.beginnings import Beginnings
from moe_live.statistics.frequency import Frequency
from moe_live.statistics.gate_mass import GateMass
from moe_live.statistics.labels import LabelCounts
from moe_live.statistics.latest import LatestSteps
from moe_live.statistics.pending import ENOUGH
from moe_live.statistics.planes import settle
from moe_live.statistics.registry import OfBatches, RowStatistics, StepStatistics
from moe_live.statistics.rises import Rises
from moe_live.statistics.runs import Choice, Runs, choice

MAX_CELLS = 1 << 16
"""Layers times experts of a log that is analyzed: 32 layers of 2,048 experts, or 128 of 512. No model has as
many; what has is counted, and nothing else, so that no log takes more memory than the largest models do."""

_MAX_WIDTHS = 64  # different n_embd that are told apart; more of them is noise, not a model


GATE_MASS = "gate mass"


class Chosen(NamedTuple):
    """What was found in the rows that count.

    Attributes:
        rows: accumulators whose rows together are those that count.
        steps: what depends on the order of steps, over the same rows.
    """

    rows: tuple[RowStatistics, RowStatistics]
    steps: StepStatistics


class Analysis:
    """All that is more than counting.

    What depends on the order of steps is kept over `certain` + `written` and over `certain` + `verified`
    rows: in one and the same object for as long as no step tells them apart.

    Attributes:
        certain: over the rows that count in any case: the `certain` ones, and of the others of earlier runs
            those that count.
        written, verified: over the sets of rows of that name of the run that goes on; see `StepBatch`.
        as_logged: over the steps with `certain` and `written` rows.
        as_verified: over the steps with `certain` and `verified` rows.
        others: what takes whole batches.

    Args:
        settings: what is to be counted.
        failures: takes what fails, by the name of the section it is for; one object for all of these.
    """

    def __init__(self, settings: Settings, failures: Failures) -> None:
        self.failures = failures
        self.certain = RowStatistics(settings, self.failures)
        self.written = RowStatistics(settings, self.failures)
        self.verified = RowStatistics(settings, self.failures)
        self.as_logged = self.as_verified = StepStatistics(settings, self.failures)
        self.others = OfBatches(settings, self.failures)
        self._settings = settings

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        kind = batch.kind
        if sum(map(len, (*batch.certain, *batch.written, *batch.verified))) > ENOUGH:
            self.flush()  # what waits would be joined to what is enough by itself
        # The arrays of a batch are used again for the next one; what is put off is kept by several.
        certain, written, verified = (
            tuple(rows.copy() for rows in tables) for tables in (batch.certain, batch.written, batch.verified)
        )
        self.certain.update(certain, batch)
        self.written.update(written, batch)
        self.verified.update(verified, batch)
        self.others.feed(replace(batch, single=certain, proven=(), written=written, verified=verified))
        if any((kind[rows.step] != Kind.PREFILL).any() for rows in (*written, *batch.repeating)):
            self._tell_apart()
        self.as_logged.update((*certain, *written), batch)
        if self.as_verified is not self.as_logged:
            self.as_verified.update((*certain, *verified), batch)
        self._keep_up()

    def chosen(self, *, verified: bool) -> Chosen:
        """What was found in `certain` and `written` rows, or in `certain` and `verified` ones."""
        if verified:
            return Chosen((self.certain, self.verified), self.as_verified)
        return Chosen((self.certain, self.written), self.as_logged)

    def end_run(self, chosen: Choice) -> None:
        """What comes now is of another run of the server; of the last one these rows count."""
        self.certain.join(self.verified if chosen.verified else self.written)
        repeating = self.others.take(LabelCounts)
        if chosen.repeating:
            add = partial(self.certain.at_once[LabelCounts].__iadd__, repeating)
            self.failures.attempt("labels", add, None)
        steps = self.certain.steps
        self.written, self.verified = (
            RowStatistics(self._settings, self.failures, steps=steps) for _ in range(2)
        )
        self.as_logged = self.as_verified = self.as_verified if chosen.verified else self.as_logged
        self.others[LatestSteps].end_run(verified=chosen.verified)

    def _of_rows(self) -> tuple[RowStatistics, ...]:
        return self.certain, self.written, self.verified

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
            self.as_verified = self.as_logged.copy()


class Statistics:
    """All accumulators.

    Args:
        settings: what is to be counted.

    Attributes:
        steps: (kinds,) int64, steps of each kind.
        tokens: (kinds,) int64, their tokens.
        rises: where these become more from one decode step to the next.
        drafts: over the rows that the log tells to be of draft heads, which are in nothing else, and
        draft_rows: how many there are of each layer.
        beginnings: the layers with which they begin.
        runs: of the server, each with its verdict.
        certain: over the rows that count in any case: the `certain` ones, and of the others of earlier runs
            those that count.
        written, repeating, verified: over the sets of rows of that name of the run that goes on.
        earlier_layers: in rows of runs that have ended, and
        earlier_experts: the highest expert in these, plus one.
        top_k: how many rows, as they are written, have which k.
        expert_bytes: the bytes of an expert, by layer, as far as the input tells it.
        impossible: how many rows of each k no logger writes.
        n_embd: how many gate inputs had which width.
        gate_layers: layers with gate lines.
        gate_mass: of the rows that come with weights.
        counts_only: there was to be no `analysis`.
        analysis: all that is more than counting; None if that was not wanted, or is too much.
        failures: what failed, by the name of the section it is for.
    """

    def __init__(self, settings: Settings) -> None:
        self.steps = np.zeros(len(Kind), np.int64)
        self.tokens = np.zeros(len(Kind), np.int64)
        self.rises = Rises()
        self.drafts = Frequency()
        self.draft_rows: Counter[int] = Counter()
        self.beginnings = Beginnings()
        self.runs = Runs(settings.rows, settings.n_experts or 0)
        self.certain, self.written, self.repeating, self.verified = (Frequency() for _ in range(4))
        self.top_k: Counter[int] = Counter()
        self.expert_bytes: dict[int, int] = {}
        self.impossible: Counter[int] = Counter()
        self.n_embd: Counter[int] = Counter()
        self.gate_layers: set[int] = set()
        self.gate_mass = GateMass()
        self.failures = Failures()
        self.counts_only = settings.counts_only
        self.analysis = None if settings.counts_only else Analysis(settings, self.failures)
        self.earlier_layers: set[int] = set()
        self.earlier_experts = 0

    @property
    def layers(self) -> set[int]:
        """Layers with rows."""
        return self.earlier_layers.union(*(rows.layers for rows in self._as_written()))

    @property
    def n_experts(self) -> int:
        """The highest expert in any row, plus one."""
        return max(self.earlier_experts, *(rows.n_experts for rows in self._as_written()))

    def _as_written(self) -> tuple[Frequency, ...]:
        return self.certain, self.written, self.repeating

    @property
    def too_large(self) -> bool:
        """Whether the analysis was given up: there are more layers and experts than `MAX_CELLS`."""
        return self.analysis is None and not self.counts_only

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        self.steps += np.bincount(batch.kind[batch.begins], minlength=len(Kind))
        np.add.at(self.tokens, batch.kind, batch.tokens)
        self.rises.update(batch.kind, batch.tokens)
        self.beginnings.update(batch)
        self.failures.attempt("usage", lambda: self._count(batch), None)
        self.runs.last.update(batch)
        for rows in (*batch.certain, *batch.written, *batch.repeating):
            self.top_k[rows.experts.shape[1]] += len(rows)
        self.impossible.update(batch.impossible)
        for gates in batch.gates:
            width = gates.vectors.shape[1]
            if width in self.n_embd or len(self.n_embd) < _MAX_WIDTHS:
                self.n_embd[width] += len(gates.layer)
        self._keep_bounded()
        if self.analysis is not None:
            self.analysis.update(batch)

    def add_counts(self, counts: ExpertCounts) -> None:
        """Add selections that no row tells of; as of decode, which resident experts are for."""
        add = partial(self.certain.add, counts.layer, counts.expert, counts.count, Kind.DECODE)
        self.failures.attempt("usage", add, None)

    def count_drafts(self, records: Records) -> None:
        """Add rows that the log tells to be of draft heads."""
        self.draft_rows.update(records.layer.tolist())
        width, kind = records.experts.widths(), np.array([Kind.DECODE], np.int8)
        for table in records.experts.tables:
            layer = records.layer[width == table.shape[1]]
            zero = np.zeros(len(layer), np.int64)
            self.drafts.update([ExpertRows(zero, layer, zero, zero == 0, table)], kind)

    def _count(self, batch: StepBatch) -> None:
        self.certain.update(batch.certain, batch.kind)
        self.written.update(batch.written, batch.kind)
        self.repeating.update(batch.repeating, batch.kind)
        self.verified.update(batch.verified, batch.kind)

    def _keep_bounded(self) -> None:
        """Give the analysis up if it would be too large: that depends on nothing but what was seen in all."""
        if len(self.layers) * self.n_experts > MAX_CELLS:
            self.analysis = None

    def flush(self) -> None:
        """Count what was put off."""
        if self.analysis is not None:
            self.analysis.flush()

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        settle(self.steps)
        settle(self.tokens)
        self.rises.settle()
        self.beginnings.settle()
        for counts in (self.certain, self.written, self.repeating, self.verified):
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

    def end_run(self) -> None:
        """What comes now is of another run of the server: the rows of the last one count by what it shows."""
        run = self.runs.run(self.failures)
        if run.single < run.logged:
            chosen = choice(run.soundness, self.runs.mode)
            self.earlier_layers, self.earlier_experts = self.layers, self.n_experts
            self.failures.attempt("usage", partial(self._add_chosen, chosen), None)
            self.written, self.repeating, self.verified = (Frequency() for _ in range(3))
            if self.analysis is not None:
                self.analysis.end_run(chosen)
        self.runs.end(run)

    def _add_chosen(self, chosen: Choice) -> None:
        self.certain += self.verified if chosen.verified else self.written
        if chosen.repeating:
            self.certain += self.repeating

    def merge(self, pieces: Iterator[Any], *, goes_on: bool) -> None:
        """Add another log, which comes after this one and was counted alike.

        Args:
            pieces: what was counted.
            goes_on: it is a single run of the server, that which goes on here.
        """
        counted: Statistics
        counted, found = next(pieces)
        if not goes_on and counted.steps.any():
            self.end_run()
        self.runs += counted.runs
        self.earlier_layers |= counted.earlier_layers
        self.earlier_experts = max(self.earlier_experts, counted.earlier_experts)
        self.top_k.update(counted.top_k)
        self.steps += counted.steps
        self.tokens += counted.tokens
        self.rises += counted.rises
        self.draft_rows.update(counted.draft_rows)
        self.beginnings += counted.beginnings
        self.failures |= counted.failures
        self.failures.attempt("usage", lambda: self._add(counted), None)
        self.impossible.update(counted.impossible)
        self.n_embd.update(counted.n_embd)
        self.gate_layers |= counted.gate_layers
        self.expert_bytes |= counted.expert_bytes
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
        self.certain += counted.certain
        self.drafts += counted.drafts
        self.written += counted.written
        self.repeating += counted.repeating
        self.verified += counted.verified
