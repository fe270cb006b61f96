"""The least used experts of each layer, and what would be lost with them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import Gain, gain_of_layers
from moe_live.statistics.latest import Uses


@dataclass(frozen=True, slots=True)
class Pruning:
    """What may go.

    Attributes:
        drop: share of each layer's experts.
        unseen: the test on unseen steps; None without two decode steps.
    """

    drop: float
    unseen: Unseen | None


@dataclass(frozen=True, slots=True)
class Unseen:
    """What the least used experts of one half of the decode steps lose in the other, both ways.

    Attributes:
        steps: decode steps.
        lost: share of all selections.
        by_layer: share of each layer's.
        gain: how much less of each layer's selections than with as many experts at random.
    """

    steps: int
    lost: float
    by_layer: Mapping[int, float]
    gain: Gain

    @property
    def holds(self) -> bool | None:
        """Whether it is certainly less than with experts at random; None if that cannot be told."""
        return self.gain.certain


def lost_unseen(uses: Uses, drop: float) -> Unseen | None:
    """The test on unseen steps; None if there are no two decode steps.

    Args:
        uses: of the latest steps.
        drop: share of each layer's experts that goes.
    """
    if uses.steps < 2:
        return None
    first, second = uses.halves()
    gone = least_used(second, drop), least_used(first, drop)  # in the first half, in the second
    lost = (first * gone[0] + second * gone[1]).sum(axis=1)
    every = (first + second).sum(axis=1)
    by_layer = lost / np.where(every > 0, every, np.nan)
    return Unseen(
        uses.steps,
        float(lost.sum() / every.sum()),
        dict(zip(uses.layers, by_layer.tolist(), strict=True)),
        gain_of_layers(float(np.mean(gone)) - by_layer),
    )


def least_used(counts: NDArray[np.integer | np.floating], drop: float) -> NDArray[np.bool_]:
    """Which experts (layers, n_experts) are the least used of each layer; of equals those of higher ids.

    Args:
        counts: (layers, n_experts) how much each is used.
        drop: share of each layer's experts.
    """
    many = round(drop * counts.shape[1])
    if not many:
        return np.zeros(counts.shape, np.bool_)
    most = np.partition(counts, many - 1, axis=1)[:, many - 1, None]
    less = counts < most
    alike = ~(less | (counts > most))
    left = many - np.count_nonzero(less, axis=1, keepdims=True)
    last: NDArray[np.bool_] = np.cumsum(alike[:, ::-1], axis=1)[:, ::-1] <= left
    return less | (alike & last)


def share_lost(counts: NDArray[np.integer | np.floating], dropped: NDArray[np.bool_]) -> float:
    """The share of what is counted that goes with those that are dropped; NaN of nothing."""
    return float(counts[dropped].sum() / counts.sum()) if counts.sum() else math.nan
