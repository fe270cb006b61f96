"""A great many counts of which few grow large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 1 << 22  # counts that are a byte each to begin with: of so many most are small
_APART = 16  # bytes of a count that is kept apart, which are not to be more than wider counts would take
_TOGETHER = 1 << 20  # counts that are looked through at a time
_TYPES: tuple[type[np.integer], ...] = (np.uint8, np.uint16, np.uint32, np.int64)


class Cells:
    """Counts of 16 bits each, or of 8 if they are many, as long as few outgrow them: most of those is apart.

    Memory: 1 or 2 bytes a count, and 16 more for each that was large; twice as much once those are many.

    Args:
        size: how many there are, all 0.
        like: for counts of as many bits as those need.

    Attributes:
        low: (size,) uint8, uint16 or wider: what is not kept apart. Others may add to it as far as they have
            asked `make_room` for.
    """

    def __init__(self, size: int = 0, like: Cells | None = None) -> None:
        largest = int(like.low.max(initial=0)) if like else 0
        self.low: NDArray[Any] = np.zeros(size, _fitting(largest, 1 if size >= _MANY else 2))
        self._place = np.zeros(0, np.int64)  # which counts are kept apart, ascending
        self._apart = np.zeros(0, np.int64)  # how much of each

    @property
    def half(self) -> int:
        """Half of what a count can grow to."""
        return int(np.iinfo(self.low.dtype).max) // 2 + 1

    def make_room(self, more: int) -> None:
        """Let each of `low` grow by so many more."""
        while int(self.low.max(initial=0)) + more > np.iinfo(self.low.dtype).max:
            if more > self.half or not self._lower():
                self.low = self.low.astype(_fitting(0, 2 * self.low.itemsize))

    def counts(self, begin: int, size: int) -> NDArray[np.integer]:
        """The counts (size,) from `begin` on, not to be written to: in as many bits as they need, or more."""
        counts = self.low[begin : begin + size]
        first, last = np.searchsorted(self._place, (begin, begin + size))
        if first < last:
            place = self._place[first:last] - begin
            large = counts[place] + self._apart[first:last]
            counts = counts.astype(_fitting(int(large.max()), counts.itemsize))
            counts[place] = large
        return counts

    def add(self, places: NDArray[np.int64], other: Cells, source: int) -> None:
        """Add other counts, those from `source` on, to these (n,), all different; there is room."""
        self.low[places] += other.low[source : source + len(places)].astype(self.low.dtype, copy=False)
        first, last = np.searchsorted(other._place, (source, source + len(places)))
        if first < last:
            self._keep_apart(places[other._place[first:last] - source], other._apart[first:last])

    def make_room_for(self, other: Cells) -> None:
        """Let other counts be added, each to one of these."""
        other.make_room(other.half)
        self.make_room(int(other.low.max(initial=0)))

    def _lower(self) -> bool:
        """Keep apart what can grow by half of that at most, unless those are too many."""
        begins = range(0, len(self.low), _TOGETHER)
        found = [begin + np.flatnonzero(self.low[begin : begin + _TOGETHER] >= self.half) for begin in begins]
        large = np.concatenate(found)
        if _APART * len(np.union1d(self._place, large)) > self.low.nbytes:
            return False
        self._keep_apart(large, self.low[large].astype(np.int64))
        self.low[large] = 0
        return True

    def _keep_apart(self, place: NDArray[np.int64], apart: NDArray[np.int64]) -> None:
        """Add so much (m,) to the counts at these places (m,), all different."""
        places = np.union1d(self._place, place)
        sums = np.zeros(len(places), np.int64)
        sums[np.searchsorted(places, self._place)] = self._apart
        sums[np.searchsorted(places, place)] += apart
        self._place, self._apart = places, sums


def _fitting(largest: int, least: int) -> type[np.integer]:
    """The narrowest type of at least so many bytes that holds such counts."""
    return next(each for each in _TYPES if np.iinfo(each).bits >= 8 * least and largest <= np.iinfo(each).max)
