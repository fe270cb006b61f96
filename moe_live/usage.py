"""How often the experts of a layer, or of all, were selected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.settings import MAX_EXPERTS, Phase

_NUMBERS = tuple(range(MAX_EXPERTS))  # of experts: lists of these take no more than their places


@dataclass(frozen=True, slots=True)
class ExpertCount:
    """One expert's use: its selections and their share of all selections considered."""

    expert: int
    count: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Selections per expert, of one layer or of all layers together.

    Attributes:
        every: (n_experts,) int64, prefill and decode together.
        decode: (n_experts,) int64, those in decode steps.
        phase: of which steps those are that count: of all, unless the user says otherwise.
    """

    every: NDArray[np.int64]
    decode: NDArray[np.int64]
    phase: Phase = Phase.ALL

    @classmethod
    def none(cls, n_experts: int, phase: Phase = Phase.ALL) -> Usage:
        """No selections at all."""
        zeros = np.zeros(n_experts, np.int64)
        return cls(zeros, zeros, phase)

    @property
    def prefill(self) -> NDArray[np.int64]:
        """(n_experts,) int64, the selections in prefill steps."""
        return self.every - self.decode

    @property
    def counts(self) -> NDArray[np.int64]:
        """(n_experts,) int64, those that count."""
        return self.of(self.phase)

    def of(self, phase: Phase) -> NDArray[np.int64]:
        """(n_experts,) int64, those in the steps of a phase."""
        if phase is Phase.ALL:
            return self.every
        return self.decode if phase is Phase.DECODE else self.prefill

    @property
    def selections(self) -> int:
        """All that count."""
        return int(self.counts.sum())

    @property
    def experts_used(self) -> int:
        """Experts selected at least once, as far as that counts."""
        return int(np.count_nonzero(self.counts))

    @property
    def unused(self) -> list[int]:
        """Experts that were never selected, ascending."""
        return list(compress(_NUMBERS, (self.counts == 0).tolist()))

    def top(self, n: int) -> tuple[ExpertCount, ...]:
        """The n most selected experts among those used: higher count first, then lower id."""
        order = np.argsort(-self.counts, kind="stable")
        return self._counted(order[: min(n, self.experts_used)])

    def bottom(self, n: int) -> tuple[ExpertCount, ...]:
        """The n least selected experts among those used, in the same order as `top`: the least is last."""
        order = np.argsort(-self.counts, kind="stable")[: self.experts_used]
        return self._counted(order[max(0, len(order) - n) :])

    def _counted(self, experts: NDArray[np.intp]) -> tuple[ExpertCount, ...]:
        total = self.selections
        return tuple(
            ExpertCount(expert, count, count / total)
            for expert, count in zip(experts.tolist(), self.counts[experts].tolist(), strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class LayerUsage:
    """The use of one layer's experts."""

    layer: int
    usage: Usage


def total(usages: Sequence[Usage], n_experts: int, phase: Phase) -> Usage:
    """All layers together, each of so many experts."""
    if not usages:
        return Usage.none(n_experts, phase)
    every, decode = (
        table_of([getattr(usage, name) for usage in usages]).sum(axis=0) for name in ("every", "decode")
    )
    return Usage(every, decode, phase)


def table_of(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Rows (n,) as (rows, n), which `np.stack` takes several times as long for; (0, 0) of none."""
    return np.concatenate(rows).reshape(len(rows), -1) if rows else np.zeros((0, 0), np.int64)
