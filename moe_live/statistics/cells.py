"""A great many counts of which few grow large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEW = 8  # one count of so many may be kept apart: it takes as much there as wider counts would in all


class Cells:
    """Counts of 16 bits each, as long as few outgrow them: of those, most is kept apart.

    Memory: 2 bytes a count, and 16 more for each that was large; 4 bytes once those are many.

    Args:
        size: how many there are, all 0.
        like: for counts of as many bits as those have.

    Attributes:
        low: (size,) uint16, or wider: what is not kept apart. Others may add to it as far as they have asked
            `make_room` for.
    """

    def __init__(self, size: int = 0, like: Cells | None = None) -> None:
        self.low: NDArray[Any] = np.zeros(size, like.low.dtype if like else np.uint16)
        self._place = np.zeros(0, np.int64)  # which counts are kept apart, ascending
        self._apart = np.zeros(0, np.int64)  # how much of each

    def make_room(self, more: int) -> None:
        """Let each of `low` grow by so many more."""
        if int(self.low.max(initial=0)) + more <= np.iinfo(self.low.dtype).max:
            return
        large = np.flatnonzero(self.low >= self._half)
        if more <= self._half and _FEW * len(np.union1d(self._place, large)) <= len(self.low):
            self._keep_apart(large, self.low[large].astype(np.int64))
            self.low[large] = 0
        else:
            self.low = self.low.astype(np.uint32 if self.low.dtype == np.uint16 else np.int64)
            self.make_room(more)

    def counts(self, begin: int, size: int) -> NDArray[np.int64]:
        """The counts (size,) from `begin` on."""
        counts = self.low[begin : begin + size].astype(np.int64)
        first, last = np.searchsorted(self._place, (begin, begin + size))
        counts[self._place[first:last] - begin] += self._apart[first:last]
        return counts

    def add(self, places: NDArray[np.int64], other: Cells, source: int) -> None:
        """Add other counts, those from `source` on, to these (n,), all different; there is room."""
        self.low[places] += other.low[source : source + len(places)].astype(self.low.dtype, copy=False)
        first, last = np.searchsorted(other._place, (source, source + len(places)))
        if first < last:
            self._keep_apart(places[other._place[first:last] - source], other._apart[first:last])

    def make_room_for(self, other: Cells) -> None:
        """Let other counts be added, each to one of these."""
        other.make_room(other._half)
        self.make_room(int(other.low.max(initial=0)))

    @property
    def _half(self) -> int:
        """Half of what a count can grow to."""
        return int(np.iinfo(self.low.dtype).max) // 2 + 1

    def _keep_apart(self, place: NDArray[np.int64], apart: NDArray[np.int64]) -> None:
        """Add so much (m,) to the counts at these places (m,), all different."""
        places = np.union1d(self._place, place)
        sums = np.zeros(len(places), np.int64)
        sums[np.searchsorted(places, self._place)] = self._apart
        sums[np.searchsorted(places, place)] += apart
        self._place, self._apart = places, sums
