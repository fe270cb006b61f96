"""How alike two usages of the experts are, where rows do not belong together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.divergence import jensen_shannon

HOT_SHARE = 8
"""The hot set is the E / `HOT_SHARE` most used experts of a layer."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How alike selections of two sides are, by layer (layers,), NaN in a layer without some on both sides.

    Attributes:
        common: share of the selections in common: the sum of the lesser shares, 1 for the same usage.
        hot: share of the hot set that is hot on both sides.
        js: Jensen-Shannon divergence in bits.
        between: the same of a half of the steps of one side and a half of the other's, mean of the four.
        within: (2, layers) the same of the two halves of each side: what usage differs by in one text. NaN
            where halves are not known.
    """

    common: NDArray[np.float64]
    hot: NDArray[np.float64]
    js: NDArray[np.float64]
    between: NDArray[np.float64]
    within: NDArray[np.float64]


def likeness(
    a: Counts, b: Counts, halves: tuple[tuple[Counts, Counts], tuple[Counts, Counts]] | None = None
) -> Likeness:
    """Compare selections (layers, n_experts) of two sides.

    Args:
        a: those of one side.
        b: those of the other.
        halves: those of the two halves of each side's steps.
    """
    shares = [
        counts / np.where(counts.sum(axis=1) > 0, counts.sum(axis=1), np.nan)[:, None] for counts in (a, b)
    ]
    nothing = np.full(len(a), math.nan)
    between, within = nothing, np.stack((nothing, nothing))
    if halves is not None:
        between = np.mean([jensen_shannon(x, y) for x in halves[0] for y in halves[1]], axis=0)
        within = np.stack([jensen_shannon(*half) for half in halves])
    n_hot = max(1, a.shape[1] // HOT_SHARE) if a.size else 0
    hot = [np.argsort(-counts, axis=1, kind="stable")[:, :n_hot] for counts in (a, b)]
    both = (hot[0][:, :, None] == hot[1][:, None, :]).any(axis=2).sum(axis=1) / max(1, n_hot)
    common = np.minimum(*shares).sum(axis=1)
    return Likeness(common, np.where(np.isnan(common), np.nan, both), jensen_shannon(a, b), between, within)
