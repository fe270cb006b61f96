"""Which statistics there are, and what feeds them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Self

from moe_live.isolation import Failures
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.settings import Settings
from moe_live.statistics.anomalies import ANOMALIES
from moe_live.statistics.distances import DISTANCES
from moe_live.statistics.members import Kept, Members
from moe_live.statistics.pending import PendingRows
from moe_live.statistics.sampling import TokenSample
from moe_live.statistics.sections import Section
from moe_live.statistics.statistic import SAMPLE, Portion, Rows, Statistic

STATISTICS: tuple[Statistic, ...] = (
    ANOMALIES,
    DISTANCES,
    SAMPLE,
    *(section.statistic for section in Section),
)


class RowsAtOnce(Members[Rows]):
    """What takes rows as they come."""

    TABLE = tuple((statistic.name, member) for statistic in STATISTICS for member in statistic.rows)


class RowsPutOff(Members[Portion]):
    """What counts rows better in large portions."""

    TABLE = tuple((statistic.name, member) for statistic in STATISTICS for member in statistic.rows_put_off)


class StepsPutOff(Members[Portion]):
    """What depends on the order of steps, likewise."""

    TABLE = tuple((statistic.name, member) for statistic in STATISTICS for member in statistic.steps_put_off)


class OfBatches(Members[StepBatch]):
    """What takes whole batches."""

    TABLE = tuple((statistic.name, member) for statistic in STATISTICS for member in statistic.batches)


class RowStatistics:
    """What else is found in the rows of one of the three sets of a `StepBatch`; adds up over sets.

    Args:
        settings: what is to be counted.
        failures: takes what fails, by the name of the section it is for.
        steps: steps of the log before the first row.
    """

    def __init__(self, settings: Settings, failures: Failures, *, steps: int = 0) -> None:
        self.at_once = RowsAtOnce(settings, failures)
        self.put_off = RowsPutOff(settings, failures)
        self.at_once[TokenSample].steps = steps
        self.pending = PendingRows()
        self.has_counted = False

    @property
    def steps(self) -> int:
        """Steps of the log so far."""
        return self.at_once[TokenSample].steps

    def __getitem__(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind, with all it was fed counted."""
        if kind in self.at_once:
            return self.at_once[kind]
        self.flush()
        return self.put_off[kind]

    def update(self, tables: Sequence[ExpertRows], batch: StepBatch) -> None:
        """Add rows of whole blocks of the steps of a batch."""
        self.at_once.feed(Rows(tables, batch))
        self.pending.add(tables, batch.kind, batch.sequence)

    def flush(self) -> None:
        """Count what was put off."""
        self.has_counted |= bool(self.pending)
        self.put_off.feed(Portion(self.pending))

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.flush()
        self.at_once.settle()
        self.put_off.settle()

    def join(self, other: RowStatistics) -> None:
        """Add other rows of the same steps."""
        before = other.steps - self.steps + self.pending.steps - other.pending.steps
        self.at_once.join(other.at_once)
        if not other.has_counted and before >= 0:  # a short run: what is put off stays so
            self.pending.add_rows(other.pending, before)
            return
        self.flush()
        other.flush()
        self.put_off.join(other.put_off)

    def __iadd__(self, other: RowStatistics) -> Self:
        """Add the rows of another log."""
        self.flush()
        other.flush()
        self.at_once += other.at_once
        self.put_off += other.put_off
        self.has_counted |= other.has_counted
        return self


class StepStatistics:
    """What depends on the order of steps, over all rows of each; counted in large portions as well.

    What two have in common is one object for as long as neither counts.

    Args:
        settings: what is to be counted.
        failures: takes what fails, by the name of the section it is for.
    """

    def __init__(self, settings: Settings, failures: Failures) -> None:
        self.put_off = StepsPutOff(settings, failures)
        self.pending = PendingRows()
        self._shares = False

    def __getitem__(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind, with all it was fed counted."""
        self.flush()
        return self.put_off[kind]

    def copy(self) -> StepStatistics:
        """The same, which goes on by itself."""
        self._shares = True
        same = copy(self)
        same.pending = self.pending.copy()
        return same

    def _own(self) -> None:
        """From now on what is changed here changes nowhere else."""
        if self._shares:
            failures = self.put_off.failures
            self.put_off, self._shares = deepcopy(self.put_off, {id(failures): failures}), False

    def update(self, tables: Sequence[ExpertRows], batch: StepBatch) -> None:
        """Add rows of the steps of a batch."""
        counts = batch.kind != Kind.PREFILL  # what there is of prefill would be left out later
        counted = [rows.select(counts[rows.step]) for rows in tables]
        self.pending.add(counted, batch.kind, batch.sequence)

    def flush(self) -> None:
        """Count what was put off."""
        if self.pending:
            self._own()
            self.put_off.feed(Portion(self.pending))

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.flush()
        self._own()
        self.put_off.settle()

    def __iadd__(self, other: StepStatistics) -> Self:
        """Add the steps of another log, which come after these."""
        self.flush()
        other.flush()
        self._own()
        self.put_off += other.put_off
        return self
