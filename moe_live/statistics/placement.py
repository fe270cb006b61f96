"""Which expert on which device: placements, and how even they make the load.

Engines with expert parallelism give each device equally many places for experts of each layer. An expert may
have several places (replicas), which share its tokens. Place j belongs to device j // (places / devices).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import Gain, gain_of_layers


def contiguous(n_layers: int, n_experts: int) -> NDArray[np.int64]:
    """Experts by number, a place each, as engines do by themselves: (n_layers, n_experts)."""
    return np.tile(np.arange(n_experts), (n_layers, 1))


def balanced(counts: NDArray[np.int64], devices: int, places: int) -> NDArray[np.int64]:
    """Experts so that the load of the devices is as even as a simple rule makes it.

    As in DeepSeek's EPLB (https://github.com/deepseek-ai/EPLB) without groups and nodes: the places beyond
    one for each expert go, one after the other, to the expert with most load a place; then the most loaded
    places come first, each to the device with the least load that has room, and does not have the expert
    yet: two places of an expert on one device would be of no use.

    Args:
        counts: (layers, n_experts) selections.
        devices: how many.
        places: of a layer, over all devices; a multiple of `devices`, from n_experts to n_experts * devices.

    Returns:
        (layers, places) the expert of each place, those of a device ascending.

    >>> balanced(np.array([[8, 1, 1, 4]]), 2, 4).tolist()
    [[0, 2, 1, 3]]
    >>> balanced(np.array([[8, 1, 1, 4]]), 2, 6).tolist()
    [[0, 1, 3, 0, 2, 3]]
    """
    return np.array([_balanced(of_layer.tolist(), devices, places) for of_layer in counts], np.int64)


def _balanced(counts: list[int], devices: int, places: int) -> list[int]:
    replicas = [1] * len(counts)
    heap = [(-float(count), expert) for expert, count in enumerate(counts)]
    heapq.heapify(heap)
    for _ in range(places - len(counts)):
        _, expert = heapq.heappop(heap)
        replicas[expert] += 1
        if replicas[expert] < devices:
            heapq.heappush(heap, (-counts[expert] / replicas[expert], expert))
    shares = [(-counts[expert] / replicas[expert], expert) for expert in range(len(counts))]
    room = places // devices
    held: list[set[int]] = [set() for _ in range(devices)]
    free = [(0.0, device) for device in range(devices)]  # those that have room, by load
    for share, expert in sorted(pair for pair in shares for _ in range(replicas[pair[1]])):
        passed = []
        while free and expert in held[free[0][1]]:
            passed.append(heapq.heappop(free))
        load, device = heapq.heappop(free) if free else passed.pop(0)
        for entry in passed:
            heapq.heappush(free, entry)
        added = -share
        if expert in held[device]:
            # A device that lacks it is full, so it has one that this device lacks: they change places.
            other = next(number for number in range(devices) if expert not in held[number])
            moved = min(held[other] - held[device])
            held[other].remove(moved)
            held[other].add(expert)
            expert, added = moved, -shares[moved][0]  # noqa: PLW2901 - it is placed in its stead
        held[device].add(expert)
        if len(held[device]) < room:
            heapq.heappush(free, (load + added, device))
    return [expert for device in held for expert in sorted(device)]


def balancedness(
    placement: NDArray[np.int64], counts: NDArray[np.int64], devices: int
) -> NDArray[np.float64]:
    """The mean load of a device over that of the most loaded one, of each layer; NaN in one without load.

    Args:
        placement: (layers, places) the expert of each place.
        counts: (layers, n_experts) selections; places of one expert share them evenly.
        devices: how many.
    """
    return _evenness(device_loads(placement, counts, devices))


def _evenness(load: NDArray[np.float64]) -> NDArray[np.float64]:
    most = load.max(axis=1)
    even: NDArray[np.float64] = load.mean(axis=1) / np.where(most > 0, most, np.nan)
    return even


def device_loads(
    placement: NDArray[np.int64], counts: NDArray[np.int64], devices: int
) -> NDArray[np.float64]:
    """The load (layers, devices) of each device, in selections."""
    replicas = np.zeros(counts.shape, np.int64)
    np.add.at(replicas, (np.arange(len(counts))[:, None], placement), 1)
    share = counts / np.maximum(replicas, 1)
    of_places = np.take_along_axis(share, placement, axis=1)
    load: NDArray[np.float64] = of_places.reshape(len(counts), devices, -1).sum(axis=2)
    return load


@dataclass(frozen=True, slots=True, eq=False)
class UnseenLoad:
    """How even a rule makes the load of steps that it has not seen.

    Attributes:
        by_layer: (layers,) balancedness on one half of the decode steps of what was learned on the other,
            the mean of both ways; NaN in a layer without load.
        beside: the rule that has as many places and knows nothing of the load; "" for such a rule itself.
        gain: how much more even than under that one; None for such a rule itself.
        by_device: (devices,) share of the load of all layers that each device has there.
    """

    by_layer: NDArray[np.float64]
    by_device: NDArray[np.float64]
    beside: str = ""
    gain: Gain | None = None

    @property
    def gains(self) -> bool | None:
        """Whether it is certainly more even; None for a rule without another, and where it cannot be told."""
        return None if self.gain is None else self.gain.certain

    @property
    def mean(self) -> float:
        """Of the layers with load; NaN without any."""
        known = self.by_layer[np.isfinite(self.by_layer)]
        return float(known.mean()) if len(known) else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class Placements:
    """Where the experts of each layer would go, and what that rests on.

    Attributes:
        layers: numbers of the layers, ascending.
        n_experts: experts a layer.
        devices: how many.
        steps: decode steps it was learned and tested on.
        rules: how even each rule makes the load of steps that it has not seen.
        experts: (layers, places) the expert of each place, learned on all steps.
    """

    layers: tuple[int, ...]
    n_experts: int
    devices: int
    steps: int
    rules: Mapping[str, UnseenLoad]
    experts: NDArray[np.int64]

    @property
    def replicas(self) -> int:
        """Places of a layer beyond one an expert."""
        return int(self.experts.shape[1]) - self.n_experts

    @property
    def rule(self) -> UnseenLoad:
        """The one by which the experts are placed: the last."""
        return list(self.rules.values())[-1]


def on_unseen(
    halves: tuple[NDArray[np.int64], NDArray[np.int64]], devices: int, places: int
) -> dict[str, UnseenLoad]:
    """How even the load is on steps that were not seen, by rule.

    Args:
        halves: selections (layers, n_experts) of the two halves of the steps.
        devices: how many.
        places: of a layer, a multiple of `devices`; more than n_experts for replicas.

    Returns:
        `contiguous` and `greedy` (both with one place an expert) if these divide by the devices; `any
        replicas` and `replicated` if there are any.
    """
    shape = halves[0].shape
    found: dict[str, UnseenLoad] = {}
    if shape[1] % devices == 0:
        blind = contiguous(*shape)
        found["contiguous"] = UnseenLoad(*_both_ways((blind, blind), halves, devices))
        found["greedy"] = _learned(halves, devices, shape[1], "contiguous", found["contiguous"])
    if places > shape[1]:
        # Replicas make any load more even, as they share its chances: what is learned must do better.
        blind = balanced(np.ones(shape, np.int64), devices, places)
        found["any replicas"] = UnseenLoad(*_both_ways((blind, blind), halves, devices))
        found["replicated"] = _learned(halves, devices, places, "any replicas", found["any replicas"])
    return found


def _learned(
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    devices: int,
    places: int,
    beside: str,
    blind: UnseenLoad,
) -> UnseenLoad:
    """What `balanced` does with so many places, beside the rule that knows nothing."""
    first, second = (balanced(counts, devices, places) for counts in halves)
    by_layer, by_device = _both_ways((first, second), halves, devices)
    return UnseenLoad(by_layer, by_device, beside, gain_of_layers(by_layer - blind.by_layer))


def _both_ways(
    learned: tuple[NDArray[np.int64], NDArray[np.int64]],
    halves: tuple[NDArray[np.int64], NDArray[np.int64]],
    devices: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of what was learned on each half, in the other: balancedness (layers,), shares of load (devices,)."""
    loads = device_loads(learned[0], halves[1], devices), device_loads(learned[1], halves[0], devices)
    every = (loads[0] + loads[1]).sum(axis=0)
    return (_evenness(loads[0]) + _evenness(loads[1])) / 2, every / max(every.sum(), 1.0)
