"""Rows that a sound router does not produce, or that say little about one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows
from moe_live.statistics.members import Member
from moe_live.statistics.planes import Slots
from moe_live.statistics.statistic import Statistic

LONG_RUN = 32
"""Equal rows one after the other in a block that are called a run."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What was found.

    Attributes:
        identity_rows: by layer, rows that read 0 1 2 … k-1: the ranking of equal or NaN scores.
        run_rows: rows in runs of at least `LONG_RUN` equal rows of one block.
        longest_run: rows of the longest such run.
    """

    identity_rows: dict[int, int]
    run_rows: int
    longest_run: int

    def __add__(self, other: Anomalies) -> Anomalies:
        """Both together."""
        identity = Counter(self.identity_rows) + Counter(other.identity_rows)
        return Anomalies(
            dict(sorted(identity.items())),
            self.run_rows + other.run_rows,
            max(self.longest_run, other.longest_run),
        )


class AnomalyCounter:
    """Counts anomalous rows; exact, and independent of how rows are batched."""

    def __init__(self) -> None:
        self._slots = Slots()
        self._identity = np.zeros(0, np.int64)
        self._run_rows = self._longest_run = 0

    def update(self, tables: Iterable[ExpertRows]) -> None:
        """Look at the rows of whole blocks."""
        for rows in tables:
            experts = rows.experts.T
            identity = np.logical_and.reduce(experts == np.arange(len(experts))[:, None])
            if identity.any():
                slots = self._slots.of(rows.layer[identity])
                self._identity = _added(self._identity, np.bincount(slots, minlength=len(self._slots)))
            self._count_runs(rows)

    def _count_runs(self, rows: ExpertRows) -> None:
        experts = rows.experts.T
        repeats = np.logical_and.reduce(experts[:, 1:] == experts[:, :-1]) & (rows.token[1:] > 0)
        if np.count_nonzero(repeats) < LONG_RUN - 1:
            return
        begin = np.flatnonzero(np.concatenate(([True], ~repeats)))
        length = np.diff(begin, append=len(rows))
        self._run_rows += int(length[length >= LONG_RUN].sum())
        self._longest_run = max(self._longest_run, int(length.max()))

    def settle(self) -> None:
        """A higher layer was seen: rows count here whatever the kind of their step."""

    def __iadd__(self, other: AnomalyCounter) -> Self:
        """Add what was found in another log."""
        found = np.zeros(0, np.int64)
        if len(other._slots):
            slots = self._slots.of(np.array(other._slots.layers, np.uint16))
            found = np.bincount(slots, other._identity, len(self._slots)).astype(np.int64)
        self._identity = _added(self._identity, found)
        self._run_rows += other._run_rows
        self._longest_run = max(self._longest_run, other._longest_run)
        return self

    def found(self) -> Anomalies:
        """What was found so far."""
        identity = dict(sorted(zip(self._slots.layers, self._identity.tolist(), strict=True)))
        longest = self._longest_run if self._run_rows else 0
        return Anomalies(identity, self._run_rows, longest)


def _added(counts: NDArray[np.int64], more: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of two count vectors of which one may be shorter."""
    if len(counts) < len(more):
        counts, more = more.copy(), counts
    counts[: len(more)] += more
    return counts


ANOMALIES = Statistic(
    name="anomalies", rows=(Member(AnomalyCounter, lambda it, rows: it.update(rows.tables)),)
)
