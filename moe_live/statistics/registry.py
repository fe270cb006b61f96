"""Which statistics there are: a line in a table each, and what feeds the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Self

from moe_live.isolation import Failures
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.statistics.anomalies import AnomalyCounter
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.distances import GateDistances
from moe_live.statistics.drift import RecentSteps
from moe_live.statistics.labels import LabelCounts
from moe_live.statistics.latest import LatestSteps
from moe_live.statistics.members import Member, Members
from moe_live.statistics.pending import PendingRows
from moe_live.statistics.periods import Periods
from moe_live.statistics.rows import MAX_TOGETHER, RowsByLayer
from moe_live.statistics.sampling import SAMPLED_SELECTIONS, TokenSample
from moe_live.statistics.sequences import LocalityBySequence
from moe_live.statistics.transitions import LayerTransition, Pair, Transitions

SAMPLE = "history, transitions"
"""What the sample of tokens is for, should it fail."""

LATEST = "latest steps"
"""What the uses of the latest steps are called, should they fail."""


class _Rows(NamedTuple):
    """Rows of whole blocks, which index the arrays of the batch they came with."""

    tables: Sequence[ExpertRows]
    batch: StepBatch


class _Portion:
    """Rows that were put off.

    Attributes:
        tables: the rows, in few tables; their `step` indexes `kind`.
        kind: (s,) int8, of their steps.
        sequence: (s,) int64, of their steps.
    """

    def __init__(self, pending: PendingRows) -> None:
        self.tables, self.kind, self.sequence = pending.take()

    @cached_property
    def by_layer(self) -> list[RowsByLayer]:
        """The same, layer by layer, without rows of more experts than `MAX_TOGETHER`."""
        return [RowsByLayer(rows) for rows in self.tables if rows.experts.shape[1] <= MAX_TOGETHER]


class RowsAtOnce(Members[_Rows]):
    """Statistics of rows, which take them as they come."""

    TABLE = (
        Member("anomalies", AnomalyCounter, lambda it, rows: it.update(rows.tables)),
        Member(
            "labels",
            LabelCounts,
            lambda it, rows: it.update(rows.tables, rows.batch.kind, rows.batch.label, rows.batch.labels),
        ),
    )


class RowsPutOff(Members[_Portion]):
    """Statistics of rows, which count better in large portions."""

    TABLE = (
        Member(
            SAMPLE,
            TokenSample,
            lambda it, portion: it.update(portion.tables, portion.kind),
            join=TokenSample.add_rows,
        ),
        Member("pairs", Coactivation, lambda it, portion: it.update(portion.by_layer)),
        Member("transitions", Transitions, lambda it, portion: it.update(portion.by_layer)),
    )


class StepsPutOff(Members[_Portion]):
    """Statistics of the order of steps, likewise."""

    TABLE = (
        Member("drift", RecentSteps, lambda it, portion: it.update(portion.tables, portion.kind)),
        Member(
            "locality",
            LocalityBySequence,
            lambda it, portion: it.update(portion.tables, portion.kind, portion.sequence),
        ),
    )


class OfBatches(Members[StepBatch]):
    """Statistics that take whole batches."""

    TABLE = (
        Member("distances", GateDistances, lambda it, batch: it.update(batch.gates, batch.kind)),
        # Use by label in the rows that name an expert twice; nothing else can be told of them.
        Member(
            "labels",
            LabelCounts,
            lambda it, batch: it.update(batch.repeating, batch.kind, batch.label, batch.labels),
        ),
        Member("labels", Periods, lambda it, batch: it.update(batch.label, batch.labels)),
        Member(LATEST, LatestSteps, lambda it, batch: it.update(batch)),
    )


class RowStatistics:
    """What else is found in the rows of one of the three sets of a `StepBatch`; adds up over sets.

    A statistic is a line in `RowsAtOnce`, or in `RowsPutOff` if it counts better in large portions: `flush`
    brings those up to date before they are looked at. What was found in the transitions then is kept in
    `known_transitions`.

    Args:
        failures: takes what fails, by the name of the section it is for.
        steps: steps of the log before the first row.
    """

    def __init__(self, failures: Failures, *, steps: int = 0) -> None:
        self.at_once = RowsAtOnce(failures)
        self.put_off = RowsPutOff(failures, {TokenSample: TokenSample(SAMPLED_SELECTIONS, steps=steps)})
        self.known_transitions: Mapping[Pair, LayerTransition] = {}
        self.pending = PendingRows()

    def update(self, tables: Sequence[ExpertRows], batch: StepBatch) -> None:
        """Add rows of whole blocks of the steps of a batch."""
        self.at_once.feed(_Rows(tables, batch))
        self.pending.add(tables, batch.kind, batch.sequence)

    def flush(self) -> None:
        """Count what was put off."""
        self.put_off.feed(_Portion(self.pending))

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.flush()
        self.at_once.settle()
        self.put_off.settle()

    def join(self, other: RowStatistics) -> None:
        """Add other rows of the same steps."""
        self.flush()
        other.flush()
        self.at_once.join(other.at_once)
        self.put_off.join(other.put_off)

    def __iadd__(self, other: RowStatistics) -> Self:
        """Add the rows of another log."""
        self.flush()
        other.flush()
        self.at_once += other.at_once
        self.put_off += other.put_off
        return self


class StepStatistics:
    """What depends on the order of steps, over all rows of each; counted in large portions as well.

    A statistic is a line in `StepsPutOff`.

    Args:
        window: decode steps that are called the latest.
        failures: takes what fails, by the name of the section it is for.
    """

    def __init__(self, window: int, failures: Failures) -> None:
        self.put_off = StepsPutOff(failures, {RecentSteps: RecentSteps(window)})
        self.pending = PendingRows()

    def update(self, tables: Sequence[ExpertRows], batch: StepBatch) -> None:
        """Add rows of the steps of a batch."""
        counts = batch.kind != Kind.PREFILL  # what there is of prefill would be left out later
        counted = [rows.select(counts[rows.step]) for rows in tables]
        self.pending.add(counted, batch.kind, batch.sequence)

    def flush(self) -> None:
        """Count what was put off."""
        self.put_off.feed(_Portion(self.pending))

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.flush()
        self.put_off.settle()

    def __iadd__(self, other: StepStatistics) -> Self:
        """Add the steps of another log, which come after these."""
        self.flush()
        other.flush()
        self.put_off += other.put_off
        return self
