"""For each use of an expert: how many steps ago it was used before, and how many others were used since.

These are its reuse distance and its stack depth. Steps list experts of a layer, in the order of their use:

    >>> def distance_and_depth(steps, t, expert):
    ...     before = max(s for s in range(t) if expert in steps[s])
    ...     used = [other for step in steps[:t] for other in step]
    ...     since = used[::-1][: used[::-1].index(expert)]
    ...     return t - before, len(set(since))
    >>> steps = [[0, 1], [1, 2], [0, 1]]
    >>> distance_and_depth(steps, 2, 0), distance_and_depth(steps, 2, 1)
    ((2, 2), (1, 1))

That looks back over all steps for every use. `Run` finds the same for many steps of many layers at once: it
gives every use a place in the order of use and counts, with bits, the places between that still hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.memory import Scratch

MAX_STEPS = 1 << 10
"""Steps of a run at most, so that ages fit 16 bits."""

NEVER = 30_000
"""Age of an expert that was never used: far above those of the others."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Rows of experts, all with the same k.

    Attributes:
        time: (n,) int64, steps of the row's layer before this one, counted from the first of the run.
        slot: (n,) int64, index of the layer.
        step: (n,) int64, number of the row's step among those of all layers.
        place: (n,) int64, where in its step and layer the row's first expert stands: higher is later.
        by_rank: (k, n) uint16, the experts that the rows list first, second, …
    """

    time: NDArray[np.int64]
    slot: NDArray[np.int64]
    step: NDArray[np.int64]
    place: NDArray[np.int64]
    by_rank: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Uses:
    """What was found for the experts of one `Listing`.

    Attributes:
        distance: (k, n) int64, steps since the use before; at least `NEVER` for a first use.
        depth: (k, n) int64, other experts of the layer used since, before this step; -1 for a first use.
        weight: (k * n,) int64, 0 for an expert that its step lists again at a later place, else 1; or just 1.
    """

    distance: NDArray[np.int64]
    depth: NDArray[np.int64]
    weight: NDArray[np.int64] | int


class Run:
    """A run of steps, and the order of use of each layer's experts before and after it.

    An expert takes a place when it is used and leaves it when it is used again. Places are in the order of
    use: first the experts as they stand before the run, then as many places for each step as any step lists.
    The depth of an expert at a step is the number of places above its own that earlier steps took and none
    of them left. Places left are bits, so that 64 of them are counted at a time. Places of a step that no
    expert takes count as left from the next step on.

    A step uses an expert once however often it lists it; the last place counts.

    Args:
        age: (layers, experts) int16, steps from the last use of each expert to the first step of the run: far
            below `NEVER`, or that.
        depth: (layers, experts) int64, place of each expert in the order of use, 0 for the latest: a
            permutation with those never used at the end.
        n_steps: steps of the run, at most `MAX_STEPS`.
        listings: their rows.
        scratch: memory that the run uses until the next one does.

    Attributes:
        used: (n_steps, layers, experts) bool, which experts each step of each layer uses.
    """

    def __init__(
        self,
        age: NDArray[np.int16],
        depth: NDArray[np.int64],
        n_steps: int,
        listings: Sequence[Listing],
        scratch: Scratch,
    ) -> None:
        self._n_layers, self._n_experts = depth.shape
        self._n_steps = n_steps
        self._listings = listings
        self._per_step = max(int(rows.place.max()) + len(rows.by_rank) for rows in listings)
        self._n_places = self._n_experts + n_steps * self._per_step
        # Small numbers: the time goes into moving them through the caches.
        self._latest = scratch.zeros("latest", (n_steps + 1, depth.size), np.min_scalar_type(self._n_places))
        self._latest[0] = self._n_experts - 1 - depth.reshape(-1)
        self._age = scratch.empty("age", (self._n_layers, self._n_places), np.int16)
        self._age.reshape(-1)[self._in_layer(self._n_experts - 1 - depth)] = age
        self._age[:, self._n_experts :] = -(np.arange(n_steps * self._per_step) // self._per_step)

        cells = [self._cells(rows) for rows in listings]
        listed = self._latest[1:].reshape(-1)
        for rows, cell in zip(listings, cells, strict=True):
            places = self._places(rows).astype(listed.dtype).reshape(-1)
            if len(rows.by_rank) == self._per_step:  # one row a step and layer: its last place comes last
                listed[cell] = places
            else:
                np.maximum.at(listed, cell, places)
        self.used = scratch.empty("used", (n_steps, self._n_layers, self._n_experts), np.bool_)
        np.not_equal(listed, 0, out=self.used.reshape(-1))
        words = -(-self._n_places // 64)
        self._left = scratch.zeros("left", (n_steps + 1, words, self._n_layers), np.uint64)
        small = np.int16 if self._n_places < 1 << 15 else np.int32
        self._above: NDArray[np.signedinteger] = scratch.zeros("above", self._left.shape, small)
        self._weights: list[NDArray[np.int64] | int] = [1] * len(listings)
        if np.count_nonzero(self.used) < n_steps * self._n_layers * self._per_step:
            self._weights = [
                (listed[cell] == self._places(rows).reshape(-1)).astype(np.int64)
                for rows, cell in zip(listings, cells, strict=True)
            ]
            self._leave_vacant()
        for before, after in zip(self._latest[:-1], self._latest[1:], strict=True):
            np.maximum(before, after, out=after)
        # `listed` is `_latest` from its second row on: at the index of a use, `_latest` has the place before.
        flat = self._latest.reshape(-1)
        self._before = [
            flat.take(cell).astype(np.int64).reshape(rows.by_rank.shape)
            for rows, cell in zip(listings, cells, strict=True)
        ]
        self._words = [
            self._word(rows.time, rows.slot, place)
            for rows, place in zip(listings, self._before, strict=True)
        ]
        a_step = words * self._n_layers
        for place, word, weight in zip(self._before, self._words, self._weights, strict=True):
            self._leave(word + a_step, place, weight)
        for t in range(n_steps):
            np.bitwise_or(self._left[t], self._left[t + 1], out=self._left[t + 1])
        count = np.bitwise_count(self._left)
        for w in range(words - 1, 0, -1):
            np.add(self._above[:, w], count[:, w], out=self._above[:, w - 1])

    def uses(self) -> list[Uses]:
        """What was found, for each listing."""
        found = []
        for i, (rows, weight) in enumerate(zip(self._listings, self._weights, strict=True)):
            place = self._before[i]
            depth = self._depth(rows.time, place, self._words[i])
            distance = rows.time + self._age.reshape(-1).take(place + rows.slot * self._n_places)
            depth.reshape(-1)[np.flatnonzero(distance >= NEVER)] = -1
            found.append(Uses(distance, depth, weight))
        return found

    def after(self) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """`age` (at the first step of this run: 0 or negative if the run uses the expert) and `depth`."""
        place = self._latest[-1].astype(np.int64).reshape(self._n_layers, self._n_experts)
        end = np.array(self._n_steps)
        depth = self._depth(end, place, self._word(end, np.arange(self._n_layers)[:, None], place))
        return self._age.reshape(-1).take(self._in_layer(place)), depth

    def _cells(self, rows: Listing) -> NDArray[np.int64]:
        """Flat indices (k * n,) of experts in (n_steps, layers, experts)."""
        cell: NDArray[np.int64] = rows.by_rank + (rows.time * self._n_layers + rows.slot) * self._n_experts
        return cell.reshape(-1)

    def _places(self, rows: Listing) -> NDArray[np.int64]:
        """The places (k, n) that the rows take."""
        first = rows.place + (rows.time * self._per_step + self._n_experts)
        places: NDArray[np.int64] = first + np.arange(len(rows.by_rank))[:, None]
        return places

    def _in_layer(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Flat indices of places (layers, m) in an array (layers, n_places)."""
        index: NDArray[np.int64] = place + np.arange(self._n_layers)[:, None] * self._n_places
        return index

    def _leave_vacant(self) -> None:
        """Count places that no expert takes as left."""
        vacant = np.ones((self._n_layers, self._n_places), np.bool_)
        vacant[:, : self._n_experts] = False
        for rows, weight in zip(self._listings, self._weights, strict=True):
            taken = np.broadcast_to(rows.slot * self._n_places, rows.by_rank.shape) + self._places(rows)
            vacant.reshape(-1)[taken.reshape(-1)[weight != 0]] = False
        slot, place = np.nonzero(vacant)
        next_step = (place - self._n_experts) // self._per_step + 1
        self._leave(self._word(next_step, slot, place), place, 1)

    def _leave(
        self, word: NDArray[np.int64], place: NDArray[np.int64], weight: NDArray[np.int64] | int
    ) -> None:
        """Set the bits of places, in these words."""
        bit = np.array(weight).view(np.uint64) << (place & 63).view(np.uint64).reshape(-1)
        # Each bit is added once: a place is left once.
        np.add.at(self._left.reshape(-1), word.reshape(-1), bit)

    def _word(
        self, time: NDArray[np.int64], slot: NDArray[np.int64], place: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Flat indices of the words with the bits of places (..., n) before steps (n,) of layers (n,)."""
        _, words, n_layers = self._left.shape
        index = place >> 6
        index *= n_layers
        index += time * (words * n_layers) + slot
        return index

    def _depth(
        self, time: NDArray[np.int64], place: NDArray[np.int64], word: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How many places above `place`, itself taken, are taken before step `time`."""
        left = self._left.reshape(-1).take(word)
        left >>= (place & 63).view(np.uint64)
        depth: NDArray[np.int64] = (self._n_experts - 1 + time * self._per_step) - place
        depth -= self._above.reshape(-1).take(word)
        depth -= np.bitwise_count(left)
        return depth
