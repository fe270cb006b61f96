"""What locality comes to over all layers: sums, which take a twentieth of the time that its figures take."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.reuse import LAGS, Reuse


@dataclass(frozen=True, slots=True, eq=False)
class ReuseTotals:
    """Uses of experts in decode steps, of all layers together; see `LayerLocality`.

    Attributes:
        uses: how many.
        hits: (n_experts,) int64, those of them that are found in caches of 1 to n_experts experts, one in
            each layer, which keep those used last.
        pairs: steps that have one before them, over all layers.
        overlap: the shares of their experts that the step before used too, added up.
    """

    uses: int
    hits: NDArray[np.int64]
    pairs: int
    overlap: float

    @classmethod
    def of(cls, reuse: Reuse, slots: list[int], n_experts: int) -> ReuseTotals:
        """Those of the layers in these slots."""
        hits = np.zeros(n_experts, np.int64)
        by_depth = reuse.depths[slots, 1 : 1 + n_experts].sum(axis=0)
        hits[: len(by_depth)] = by_depth
        # Whole numbers first, then exactly: the sum must not depend on the order in which layers showed.
        shared = reuse.shared[LAGS.index(1), slots].sum(axis=0)
        sizes = np.flatnonzero(shared)
        return cls(
            int(reuse.uses[slots].sum()),
            np.cumsum(hits),
            int(np.maximum(reuse.steps[slots] - 1, 0).sum()),
            math.fsum((shared[sizes] / np.maximum(sizes, 1)).tolist()),
        )
