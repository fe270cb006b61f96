"""Sums over all uses of experts: reuse distances, depths in the order of use, experts that steps share.

What a cache that gives up the least recently used expert serves follows from the depths alone:

    >>> def lru_hits(steps, size):
    ...     order, hits = [], 0  # of use, the latest first: what the cache holds stands in front
    ...     for step in steps:
    ...         hits += len(set(step) & set(order[:size]))  # all are looked up before any enters
    ...         for expert in step:
    ...             order = [expert, *(other for other in order if other != expert)]
    ...     return hits
    >>> [lru_hits([[0, 1], [1, 2], [0, 1], [0, 1]], size) for size in (1, 2, 3, 4)]
    [2, 4, 5, 5]

A use is a hit in every cache of more experts than its depth. So `Reuse` counts the uses by depth, once for
all sizes; by the steps since the use before; and the experts that each step shares with earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.memory import Scratch, unique
from moe_live.statistics.recency import MAX_STEPS, NEVER, Listing, Run, Uses
from moe_live.statistics.tables import grown

LAGS = (1, 2, 4, 8)
"""Steps apart at which the overlap of two steps is measured."""

MAX_DISTANCE = 1000
"""Reuse distances up to this one are told apart."""

MEASURED = 1 << 11
"""Steps, the first, whose hits are known one by one: parts of them tell how certain a hit rate is."""

_FAR = MAX_DISTANCE + 1
_KEPT = max(LAGS)
_CELLS = 1 << 21  # experts x layers x steps handled at a time, and
_PLACES = 1 << 9  # places in the order of use: what a processor's cache holds
_ORDERED = 1 << 16  # experts x layers at a time, so that many steps of them are


class Reuse:
    """Sums over the uses of the experts of each layer.

    A layer's time counts the steps in which it has rows. A step uses an expert once however often it lists
    it. All sums are integers: they do not depend on how steps are grouped or merged.

    A use at depth d of the order of use (d other experts were used since) is a hit in a cache of more than d
    experts that gives up the least recently used one, and a miss in a smaller one (R. L. Mattson et al., IBM
    Systems Journal 9, 1970). The depths of all uses of a step are taken before any of them changes the order.

    Memory: 74 bytes a layer and expert, 8 KB a layer, and 2 bytes an expert and step of the `MEASURED` first.

    Attributes:
        passed: steps so far, whatever layers have rows in them.
        steps: (layers,) int64, those of each layer.
        uses: (layers, experts) int64, steps that used the expert.
        depths: (layers, 1 + experts) int64, uses at depth d at index 1 + d, first uses at index 0.
        distances: (layers, 2 + MAX_DISTANCE) int64, uses by steps since the use before; the last index has
            longer distances and first uses.
        shared: (len(LAGS), layers, 1 + experts) int64, experts that a step shares with that so many steps
            before, summed over the steps that use as many experts as the last index says.
        first: (layers, experts) int64, time of the first use, -1 for never.
        age: (layers, experts) int16, steps since the last use at the step to come, 1 + MAX_DISTANCE for more
            than MAX_DISTANCE, more than that for never.
        depth: (layers, experts) int64, place in the order of use: 0 for the latest, those never used last.
        head: (experts / 32, n, layers) uint32, experts of a layer's first steps as bits; zeros for no step.
        tail: the same of its latest steps, the last one last.
        early: (n, experts) uint16, uses at each depth, without first ones, in each of the n first steps, at
            most `MEASURED`, of all layers together: a layer has one use at each depth and step at most.
        early_uses: (n,) int64, uses in these steps.
        early_first: (layers, experts) int16, the step, of these, that used the expert first, -1 for none.
    """

    def __init__(self) -> None:
        self.passed = 0
        self.steps = np.zeros(0, np.int64)
        self.uses = np.zeros((0, 0), np.int64)
        self.depths = np.zeros((0, 1), np.int64)
        self.distances = np.zeros((0, _FAR + 1), np.int64)
        self.shared = np.zeros((len(LAGS), 0, 1), np.int64)
        self.first = np.zeros((0, 0), np.int64)
        self.age = np.zeros((0, 0), np.int16)
        self.depth = np.zeros((0, 0), np.int64)
        self.head = np.zeros((0, _KEPT, 0), np.uint32)
        self.tail = np.zeros((0, _KEPT, 0), np.uint32)
        self.early = np.zeros((0, 0), np.uint16)
        self.early_uses = np.zeros(0, np.int64)
        self.early_first = np.zeros((0, 0), np.int16)

    def reserve(self, n_layers: int, n_experts: int, where: NDArray[np.int64] | None = None) -> None:
        """Make room for so many layers and experts.

        Args:
            n_layers: how many.
            n_experts: a multiple of 32.
            where: (experts,) the numbers that the experts so far are to have, ascending and 32 by 32; None if
                they stay as they are.
        """
        layers, experts = self.uses.shape
        if n_layers <= layers and n_experts <= experts:
            return
        old = slice(layers)
        where = np.arange(experts) if where is None else where
        new = np.delete(np.arange(n_experts), where)
        layers, experts = max(layers, n_layers), max(experts, n_experts)
        depth = np.tile(np.arange(experts), (layers, 1))
        depth[old, where] = self.depth
        depth[old, new] = np.arange(len(where), experts)
        self.depth = depth
        self.steps = grown(self.steps, (layers,))
        self.uses = grown(self.uses, (layers, experts), (old, where))
        self.depths = grown(self.depths, (layers, 1 + experts))
        self.distances = grown(self.distances, (layers, _FAR + 1))
        self.shared = grown(self.shared, (len(LAGS), layers, 1 + experts))
        self.first = grown(self.first, (layers, experts), (old, where), fill=-1)
        self.age = grown(self.age, (layers, experts), (old, where), fill=NEVER)
        self.early = grown(self.early, (len(self.early), experts))
        self.early_first = grown(self.early_first, (layers, experts), (old, where), fill=-1)
        words, place = (experts // 32, _KEPT, layers), (where[::32] // 32, slice(None), old)
        self.head, self.tail = grown(self.head, words, place), grown(self.tail, words, place)

    def batch_layers(self) -> int:
        """How many layers `update` takes best at a time."""
        return max(1, _ORDERED // self.uses.shape[1])

    def batch_size(self, n_layers: int, per_step: int) -> int:
        """How many steps of so many layers `update` takes best at a time, if one lists so many experts."""
        cells = n_layers * self.uses.shape[1]
        return max(1, min(_CELLS // cells, _PLACES // per_step, MAX_STEPS))

    def update(
        self, slots: NDArray[np.int64], n_steps: int, listings: Sequence[Listing], scratch: Scratch
    ) -> None:
        """Add steps, for whose layers and experts there is room, before they have `passed`.

        Args:
            slots: (l,) the layers, in any order.
            n_steps: how many steps of each.
            listings: their rows, some in each step of each of these layers; `slot` is an index of `slots`.
            scratch: memory to work in.
        """
        run = Run(self.age[slots], self.depth[slots], n_steps, listings, scratch)
        self._count_shared(slots, run.used)
        self.uses[slots] += run.used.view(np.uint8).sum(axis=0, dtype=np.min_scalar_type(n_steps))
        width = self.uses.shape[1]
        for rows, uses in zip(listings, run.uses(), strict=True):
            slot = slots[rows.slot]
            first = np.flatnonzero(uses.depth < 0)
            nth = first % len(slot)
            expert = slot[nth] * width + rows.by_rank.reshape(-1)[first]
            self.first.reshape(-1)[expert] = self.steps[slot[nth]] + rows.time[nth]
            if self.passed < MEASURED:
                step = self.passed + rows.step
                self.early_first.reshape(-1)[expert] = np.where(step < MEASURED, step, -1)[nth]
                self._measure(step, uses)
            place = np.minimum(uses.distance, _FAR)
            place += slot * (_FAR + 1)
            np.add.at(self.distances.reshape(-1), place.reshape(-1), uses.weight)
            place = uses.depth + (slot * (width + 1) + 1)
            np.add.at(self.depths.reshape(-1), place.reshape(-1), uses.weight)
        age, self.depth[slots] = run.after()
        self.age[slots] = _aged(age, np.full(len(slots), n_steps))
        self.steps[slots] += n_steps

    def count(self, step: NDArray[np.int64], slot: NDArray[np.int64], by_rank: NDArray[np.uint16]) -> None:
        """Add steps as `update` does, before they have `passed`: see `kernels.count_uses`."""
        if self.passed < MEASURED:
            self._make_room(min(MEASURED, self.passed + int(step.max()) + 1))
        kernels.count_uses(self, step, slot, by_rank, far=_FAR, never=NEVER)

    def merge(self, other: Reuse, slots: NDArray[np.int64], where: NDArray[np.int64]) -> None:
        """Add steps that come after these.

        Args:
            other: the sums of these steps.
            slots: (layers,) for each of its layers the index here. There is room for its layers and experts.
            where: (experts,) for each of its experts the number here, as `reserve` takes it.
        """
        if not len(slots):
            return
        other = deepcopy(other)
        passed = self.passed
        self.passed += other.passed
        other.reserve(len(slots), self.uses.shape[1], where)
        steps, age, depth = self.steps[slots, None], self.age[slots], self.depth[slots]
        here, there = age < NEVER, other.first >= 0

        slot, expert = np.nonzero(here & there)  # first uses there, but not any more
        distance = np.minimum((age + other.first)[slot, expert], _FAR)
        np.add.at(other.distances, (slot, distance), 1)
        np.add.at(other.distances[:, _FAR], slot, -1)
        for layer in unique(slot).tolist():
            again = expert[slot == layer]
            step = other.early_first[layer, again]
            since = there[layer] & (other.first[layer] < other.first[layer, again, None])
            since |= depth[layer] < depth[layer, again, None]
            found = np.count_nonzero(since, axis=1)
            np.add.at(other.depths[layer], 1 + found, 1)
            np.add.at(other.early, (step[step >= 0], found[step >= 0]), np.uint16(1))
            other.depths[layer, 0] -= len(again)

        tail = self.tail[:, :, slots]
        sizes = np.bitwise_count(other.head).sum(axis=0, dtype=np.int64)
        layers = np.arange(len(slots))
        for lag, shared in zip(LAGS, other.shared, strict=True):
            both = np.bitwise_count(other.head[:, :lag] & tail[:, _KEPT - lag :]).sum(axis=0, dtype=np.int64)
            np.add.at(shared, (layers, sizes[:lag]), both)
        _continue(self.head, slots, self.steps[slots], other.head)
        latest = _latest(np.concatenate((tail, other.head), axis=1), np.minimum(other.steps, _KEPT))
        self.tail[:, :, slots] = np.where(other.steps < _KEPT, latest, other.tail)

        order = np.argsort(np.where(there, other.depth, depth + depth.shape[1]), axis=1)
        self.depth[slots] = np.argsort(order, axis=1)
        self.age[slots] = np.where(there, other.age, _aged(age, other.steps))
        self._add_early(other, passed)
        later = other.early_first + np.int64(passed)  # of more steps than its own type can count
        early = np.where(later < MEASURED, later, -1)
        early[(other.early_first < 0) | here] = -1
        self.early_first[slots] = np.maximum(self.early_first[slots], early.astype(np.int16))
        self.first[slots] = np.where(there & ~here, steps + other.first, self.first[slots])
        self.steps[slots] += other.steps
        self.uses[slots] += other.uses
        self.depths[slots] += other.depths
        self.distances[slots] += other.distances
        self.shared[:, slots] += other.shared

    def _measure(self, step: NDArray[np.int64], uses: Uses) -> None:
        """Count the uses of rows (n,) in those of their steps that are known one by one."""
        k, n = uses.depth.shape
        counts = np.broadcast_to(np.reshape(uses.weight, (-1, n) if np.ndim(uses.weight) else (1, 1)), (k, n))
        counts = (counts != 0) & (step < MEASURED)
        self._make_room(min(MEASURED, int(step.max()) + 1))
        used = np.broadcast_to(step, (k, n))[counts]
        self.early_uses += np.bincount(used, minlength=len(self.early_uses))
        place = (uses.depth + step * self.early.shape[1])[counts & (uses.depth >= 0)]
        np.add.at(self.early.reshape(-1), place, np.uint16(1))

    def _make_room(self, n_steps: int) -> None:
        """Room for the hits of so many of the first steps."""
        if n_steps > len(self.early):
            self.early = grown(self.early, (n_steps, self.early.shape[1]))
            self.early_uses = grown(self.early_uses, (n_steps,))

    def _add_early(self, other: Reuse, passed: int) -> None:
        """Add the hits of steps that come after so many."""
        n_steps = min(len(other.early), MEASURED - passed)
        if n_steps > 0:
            self._make_room(passed + n_steps)
            self.early[passed : passed + n_steps] += other.early[:n_steps]
            self.early_uses[passed : passed + n_steps] += other.early_uses[:n_steps]

    def _count_shared(self, slots: NDArray[np.int64], used: NDArray[np.bool_]) -> None:
        """Count what steps share with those before, and keep the first and the latest ones."""
        n_steps, n_layers, n_experts = used.shape
        words = np.empty((n_experts // 32, _KEPT + n_steps, n_layers), np.uint32)
        words[:, :_KEPT] = self.tail[:, :, slots]
        new = words[:, _KEPT:]
        packed = np.packbits(used, bitorder="little").view(np.uint32).reshape(n_steps, n_layers, -1)
        new[:] = packed.transpose(2, 0, 1)
        sizes = np.bitwise_count(new).sum(axis=0, dtype=np.int64)
        place = (sizes + slots * (n_experts + 1)).reshape(-1)
        for lag, shared in zip(LAGS, self.shared, strict=True):
            both = np.bitwise_count(new & words[:, _KEPT - lag : -lag]).sum(axis=0, dtype=np.int64)
            np.add.at(shared.reshape(-1), place, both.reshape(-1))
        _continue(self.head, slots, self.steps[slots], new)
        self.tail[:, :, slots] = words[:, n_steps:]


def _continue(
    head: NDArray[np.uint32],
    slots: NDArray[np.int64],
    steps: NDArray[np.int64],
    more: NDArray[np.uint32],
) -> None:
    """Put the steps `more` (words, n, l) into `head` at `slots` (l,), after the `steps` (l,) it has."""
    for index in np.flatnonzero(steps < _KEPT).tolist():
        begun = int(steps[index])
        following = more[:, : _KEPT - begun, index]
        head[:, begun : begun + following.shape[1], slots[index]] = following


def _aged(age: NDArray[np.int16], passed: NDArray[np.int64]) -> NDArray[np.int16]:
    """The ages (layers, experts) so many steps (layers,) later."""
    most = np.where(age < NEVER, np.int16(_FAR), np.int16(NEVER))
    later: NDArray[np.int16] = np.minimum(age + np.minimum(passed, _FAR).astype(np.int16)[:, None], most)
    return later


def _latest(words: NDArray[np.uint32], passed: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The `_KEPT` steps of each layer from `passed` (layers,) on."""
    return words[:, np.arange(_KEPT)[:, None] + passed, np.arange(len(passed))]
