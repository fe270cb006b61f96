"""The most used experts: how few of them serve how much, and which to keep in fast memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.tables import first_at_least

COVERED_PERCENT = (50, 80, 90, 95, 99)
"""Shares of the selections, in percent, for which coverage is given."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a number of resident experts serves, chosen with hindsight: a bound for what is placed in advance.

    Attributes:
        experts: resident experts over all layers.
        even: share of all selections served with as many in each layer, the most used ones. If the number
            does not divide, the layers that gain most have one more.
        best: share served by the best choice among all experts of all layers.
        slots: experts of each layer in the best choice.
    """

    experts: int
    even: float
    best: float
    slots: tuple[int, ...]

    @property
    def fewest(self) -> int:
        """Experts of a layer in the best choice, at least."""
        return min(self.slots)

    @property
    def most(self) -> int:
        """The same, at most."""
        return max(self.slots)


@dataclass(frozen=True, slots=True)
class HotExpert:
    """One resident expert.

    Attributes:
        layer: its layer.
        expert: its id.
        count: its selections.
        share: of the selections of its layer.
        rank: its place among the experts of its layer, 1 for the most used.
    """

    layer: int
    expert: int
    count: int
    share: float
    rank: int


def coverage(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest experts n(q) that serve a share q of a layer's selections.

    Args:
        counts: (layers, n_experts) selections.

    Returns:
        (layers, len(COVERED_PERCENT)) experts; 0 in a layer without selections.

    >>> coverage(np.array([[0, 60, 10, 30], [0, 0, 0, 0]])).tolist()
    [[1, 2, 2, 3, 3], [0, 0, 0, 0, 0]]
    """
    served = np.cumsum(_descending(counts), axis=1)
    wanted = counts.sum(axis=1)[:, None] * np.array(COVERED_PERCENT)
    served *= 100
    fewest: NDArray[np.int64] = first_at_least(served, wanted) + (wanted > 0)
    return fewest


def hot_set_curve(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share C(n) of a layer's selections that fall on its n most used experts.

    That is the hit rate of a cache that holds these n experts all the time, known with hindsight.

    Args:
        counts: (layers, n_experts) selections.

    Returns:
        (layers, n_experts) shares for n = 1 to n_experts; NaN in a layer without selections.

    >>> hot_set_curve(np.array([[0, 6, 1, 3]])).tolist()
    [[0.6, 0.9, 1.0, 1.0]]
    """
    total = counts.sum(axis=1, keepdims=True)
    return np.cumsum(_descending(counts), axis=1) / np.where(total > 0, total, np.nan)


def budgets(counts: NDArray[np.int64], experts: Sequence[int]) -> tuple[Budget, ...]:
    """What numbers of resident experts serve; nothing if nothing was selected.

    The best choice takes experts by descending count over all layers: no other serves more, as each adds
    its own count whatever else is resident.

    Args:
        counts: (layers, n_experts) selections.
        experts: the numbers, each from 0 to layers * n_experts.

    >>> budgets(np.array([[8, 1, 1], [4, 4, 2]]), [3])
    (Budget(experts=3, even=0.8, best=0.8, slots=(1, 2)),)
    """
    total = int(counts.sum())
    if not total:
        return ()
    descending = _descending(counts)
    order = _by_count(descending)
    lines = []
    for number in experts:
        each, more = divmod(number, len(counts))
        even = int(descending[:, :each].sum())
        if more:
            even += int(np.sort(descending[:, each])[-more:].sum())
        taken = np.bincount(order[:number] // counts.shape[1], minlength=len(counts))
        most = sum(int(row[:n].sum()) for row, n in zip(descending, taken.tolist(), strict=True))
        lines.append(Budget(number, even / total, most / total, tuple(taken.tolist())))
    return tuple(lines)


def hot_list(counts: NDArray[np.int64], layers: Sequence[int], n: int) -> tuple[HotExpert, ...]:
    """The best choice of n resident experts, as far as that many were selected at all.

    Args:
        counts: (layers, n_experts) selections.
        layers: the layer of each row of `counts`.
        n: experts wanted.

    Returns:
        The experts by descending count; of equal counts, the lower layer, then the lower id comes first.

    >>> [(hot.layer, hot.expert, hot.rank) for hot in hot_list(np.array([[8, 1, 1], [4, 4, 2]]), [3, 4], 3)]
    [(3, 0, 1), (4, 0, 1), (4, 1, 2)]
    """
    experts = np.argsort(-counts, axis=1, kind="stable")
    ranked = np.take_along_axis(counts, experts, axis=1)
    total = counts.sum(axis=1)
    hot = []
    for place in _by_count(ranked)[: max(n, 0)].tolist():
        row, rank = divmod(place, counts.shape[1])
        count = int(ranked[row, rank])
        if not count:
            break
        hot.append(HotExpert(layers[row], int(experts[row, rank]), count, count / int(total[row]), rank + 1))
    return tuple(hot)


def _descending(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts of each layer, largest first."""
    ordered = -counts
    ordered.sort(axis=1)
    return np.negative(ordered, out=ordered)


def _by_count(ranked: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices into the flattened counts by descending count, equal ones in their order."""
    return np.argsort(-ranked.reshape(-1), kind="stable")
