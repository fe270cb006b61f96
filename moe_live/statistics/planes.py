"""Accumulators that keep one plane for each kind of step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.settings import MAX_LAYERS


def settle(planes: NDArray[Any]) -> None:
    """Turn what is undecided into prefill, in place: a layer above its highest one was seen.

    Args:
        planes: (len(Kind), ...) sums, one plane for each kind.
    """
    planes[Kind.PREFILL] += planes[Kind.UNDECIDED]
    planes[Kind.UNDECIDED] = 0


class Slots:
    """Dense indices for the layer numbers that occur, in the order of their first appearance."""

    def __init__(self) -> None:
        self.layers: list[int] = []
        self._slot = np.full(MAX_LAYERS, -1)

    def __len__(self) -> int:
        return len(self.layers)

    def of(self, layers: NDArray[np.uint16]) -> NDArray[np.int64]:
        """The slots of `layers` (n,); new layers get the next ones."""
        slots = self._slot.take(layers)
        if slots.min(initial=0) < 0:
            for layer in sorted(set(layers[slots < 0].tolist())):
                self._slot[layer] = len(self.layers)
                self.layers.append(layer)
            slots = self._slot.take(layers)
        return slots
