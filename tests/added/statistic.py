"""How often the first expert of a row is the one of the row before: what moe_live/statistics would hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from moe_live.routing.batch import ExpertRows
from moe_live.statistics.members import Member
from moe_live.statistics.statistic import Counted, OnDemand


@dataclass(frozen=True, slots=True)
class FirstChoices:
    """What was found.

    Attributes:
        rows: all rows.
        experts: how many experts of any layer are a first choice.
    """

    rows: int
    experts: int


class FirstChoiceCounter:
    """Counts the first choices of rows, by layer and expert."""

    def __init__(self) -> None:
        self.rows = 0
        self.seen: set[tuple[int, int]] = set()

    def update(self, tables: Sequence[ExpertRows]) -> None:
        for table in tables:
            self.rows += len(table)
            found = np.unique(np.stack([table.layer, table.experts[:, 0]]), axis=1)
            self.seen.update(zip(*found.tolist(), strict=True))

    def settle(self) -> None:
        """Rows count whatever the kind of their step."""

    def __iadd__(self, other: Self) -> Self:
        self.rows += other.rows
        self.seen |= other.seen
        return self


def _make(counted: Counted) -> FirstChoices:
    counters = counted.of_rows(FirstChoiceCounter)
    seen = set().union(*(counter.seen for counter in counters))
    return FirstChoices(sum(counter.rows for counter in counters), len(seen))


FIRST_CHOICES = OnDemand(
    name="first choices",
    rows_put_off=(Member(FirstChoiceCounter, lambda it, portion: it.update(portion.tables)),),
    make=_make,
)
