"""How soon each layer's experts are used again in decode, and what a cache of n of them would serve.

Each figure is a mean over the steps, which are sets of experts:

    >>> def overlap(steps, lag):
    ...     return np.mean([len(a & b) / len(b) for a, b in zip(steps, steps[lag:])])
    >>> def working_set(steps, window):
    ...     return np.mean([len(set().union(*steps[t - window : t])) for t in range(window, len(steps) + 1)])
    >>> steps = [{0, 1}, {1, 2}, {0, 1}, {0, 1}]
    >>> overlap(steps, 1).round(3).item(), overlap(steps, 2).item(), working_set(steps, 2).round(3).item()
    (0.667, 0.75, 2.667)

Hit rates are the hits of `reuse` over all uses. A `Reuse` keeps sums from which all of them follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import Share, errors, in_blocks
from moe_live.statistics.hot_set import hot_set_curve
from moe_live.statistics.reuse import LAGS, MAX_DISTANCE, Reuse
from moe_live.statistics.tables import BLOCK, first_at_least

WINDOWS = (10, 100, 1000)
"""Steps of the working sets."""

UNIONS = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)
"""Steps of the unions: tokens of a draft, or of a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerLocality:
    """Locality of one layer over decode steps. A step uses the experts of all its rows, each once.

    All of it rests on `steps` steps that belong to whatever sequences were decoded one after the other.

    Attributes:
        layer: its number.
        steps: decode steps with rows of the layer.
        uses: experts used, summed over the steps.
        overlap: for each of `LAGS`, the share of a step's experts that the step so many steps before used
            too: mean over the steps that have such a step before them, NaN if none has.
        overlap_chance: the overlap to expect if experts were drawn anew each time: the mean share of the
            layer's experts that a step uses, k / E with one sequence.
        reuse_median: steps from a use of an expert to its next use: the fewest that cover half of the reuses.
            NaN without any reuse, inf where more than `MAX_DISTANCE`.
        reuse_p90: the same for 90 % of them.
        never_again: share of the uses that no later one of the same expert has followed so far.
        working_set: for each of `WINDOWS`, the mean number of experts that so many steps in a row use; NaN
            before that many steps.
        lru_hit_rate: (n_experts,) float64, share of the uses found in a cache that keeps the n experts used
            last, n = 1 to n_experts, empty at first: the first use of an expert is a miss. All experts of a
            step are looked up before any enters, in the order of the log. NaN without uses.
        static_hit_rate: (n_experts,) float64, share of the uses found in a cache that holds the n experts
            with the most uses all the time, known with hindsight.
        idle_steps: (n_experts,) float64, steps since the latest one that used the expert, 0 for the last step
            itself, inf where at least `MAX_DISTANCE`. NaN for an expert never used.
        union: for each of `UNIONS`, likewise: with steps of one token the different experts of so many
            successive tokens, what a draft or a batch of that size reads.
        lru_error: (n_experts,) float64, the standard error of what `lru_hit_rate` is on average over all
            layers: the same in each of them. From how parts of the first `MEASURED` steps differ, however
            many follow; NaN while there are few.
    """

    layer: int
    steps: int
    uses: int
    overlap: Mapping[int, float]
    overlap_chance: float
    reuse_median: float
    reuse_p90: float
    never_again: float
    working_set: Mapping[int, float]
    lru_hit_rate: NDArray[np.float64]
    static_hit_rate: NDArray[np.float64]
    idle_steps: NDArray[np.float64]
    union: Mapping[int, float]
    lru_error: NDArray[np.float64]

    @property
    def held(self) -> int:
        """Experts that a step uses, on average and rounded up: a cache must hold these at once."""
        return min(len(self.lru_hit_rate), max(1, -(-self.uses // max(1, self.steps))))

    def of_caches(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rates (n_experts,) by size, NaN for sizes that cannot hold a step's experts."""
        return np.where(np.arange(1, len(rates) + 1) < self.held, np.nan, rates)


@dataclass(frozen=True, slots=True)
class CacheGain:
    """What caches of one size serve, one in each layer, beside experts drawn at random.

    Attributes:
        experts: that each holds.
        n_experts: experts of a layer.
        lru: share of the uses of all layers found in caches that keep the experts used last, with its error.
        fixed: share found in caches of the experts with the most uses, known with hindsight.
        never_again: share of the uses that no later one of the same expert has followed so far.
        uses: how many.
    """

    experts: int
    n_experts: int
    lru: Share
    fixed: float
    never_again: float
    uses: int

    @property
    def chance(self) -> float:
        """Share that as many experts drawn at random serve."""
        return self.experts / self.n_experts

    @property
    def gain(self) -> float:
        """What `lru` has beyond chance."""
        return self.lru.rate - self.chance

    @property
    def margin(self) -> float:
        """By how much it may be off, almost certainly; NaN while that is unknown."""
        return self.lru.margin(self.chance, self.uses)


def cache_gain(layers: Sequence[LayerLocality], part: int) -> CacheGain | None:
    """What caches of so great a part of each layer's experts serve, or of a step's if these are more.

    None without uses.
    """
    layers = [layer for layer in layers if layer.uses]
    if not layers:
        return None
    n_experts, uses = len(layers[0].lru_hit_rate), [layer.uses for layer in layers]
    size = max(n_experts // part, *(layer.held for layer in layers), 1)
    recent, fixed, first = (
        float(np.average(values, weights=uses))
        for values in (
            [layer.lru_hit_rate[size - 1] for layer in layers],
            [layer.static_hit_rate[size - 1] for layer in layers],
            [layer.never_again for layer in layers],
        )
    )
    lru = Share(recent, float(layers[0].lru_error[size - 1]))
    return CacheGain(size, n_experts, lru, fixed, first, sum(uses))


def summarize(
    reuse: Reuse, layers: list[int], experts: NDArray[np.int64], n_experts: int
) -> tuple[LayerLocality, ...]:
    """The figures of every layer with steps.

    Args:
        reuse: the sums.
        layers: of its slots.
        experts: of its columns.
        n_experts: experts of a layer.
    """
    slots = [slot for slot in np.argsort(layers).tolist() if slot < len(reuse.steps) and reuse.steps[slot]]
    if not slots:
        return ()
    steps = reuse.steps[slots]
    there = experts[experts < n_experts]
    used = np.zeros((len(slots), n_experts), np.int64)
    used[:, there] = reuse.uses[slots, : len(there)]
    depths = _padded(reuse.depths[slots], n_experts + 1)
    uses, first = used.sum(axis=1), depths[:, 0]
    shared = _padded(reuse.shared[:, slots], 1 + -(-n_experts // BLOCK) * BLOCK)
    with_step_before = steps - np.array(LAGS)[:, None]
    overlaps = (shared / np.maximum(np.arange(shared.shape[2]), 1)).sum(axis=2)
    overlaps /= np.where(with_step_before > 0, with_step_before, np.nan)
    reuses = reuse.distances[slots]
    reuses[:, -1] -= first
    covered = np.cumsum(reuses, axis=1)
    sets = _working_sets(reuse, slots, covered, (*WINDOWS, *UNIONS))
    working_sets, unions = (
        [dict(zip(windows, sizes, strict=True)) for sizes in of_windows.tolist()]
        for windows, of_windows in zip((WINDOWS, UNIONS), np.split(sets, [len(WINDOWS)], axis=1), strict=True)
    )
    early = np.cumsum(_padded(in_blocks(reuse.early), n_experts), axis=1)
    lru = np.cumsum(depths[:, 1:], axis=1) / uses[:, None]
    columns = (
        [layers[slot] for slot in slots],
        steps.tolist(),
        uses.tolist(),
        [dict(zip(LAGS, overlap, strict=True)) for overlap in overlaps.T.tolist()],
        (uses / (steps * n_experts)).tolist(),
        *_quantiles(covered, (50, 90)).T.tolist(),
        (first / uses).tolist(),
        working_sets,
        lru,
        hot_set_curve(used),
        _idle_steps(reuse.age[slots, : len(there)], reuse.first[slots, : len(there)] >= 0, there, n_experts),
        unions,
        repeat(errors(early, in_blocks(reuse.early_uses))),
    )
    return tuple(map(LayerLocality, *columns))


def _quantiles(covered: NDArray[np.int64], percents: Sequence[int]) -> NDArray[np.float64]:
    """The fewest steps (layers, percents) that cover so much of the reuses.

    Args:
        covered: (layers, 2 + MAX_DISTANCE) reuses after at most so many steps.
        percents: how much of them.
    """
    total = covered[:, -1:]
    distance = first_at_least(covered, -(-total * np.array(percents) // 100))
    return np.where(total == 0, np.nan, np.where(distance > MAX_DISTANCE, np.inf, distance))


def _working_sets(
    reuse: Reuse, slots: list[int], covered: NDArray[np.int64], windows: Sequence[int]
) -> NDArray[np.float64]:
    """The mean number of experts in so many successive steps (layers, windows).

    An expert is in the windows that end at its use and up to `window` - 1 steps later, or until its next use,
    from where on they count for that one. Windows that begin before the first step are taken off again.
    """
    steps, first = reuse.steps[slots], reuse.first[slots]
    there = first >= 0
    # Both are looked at once for each window: as small numbers they are looked at in half the time.
    age = np.where(there, reuse.age[slots], 0).astype(np.int32)
    until_first = np.where(there, np.minimum(first, max(windows)), max(windows)).astype(np.int32)
    # The distances of all reuses, each at most `window`: how many are longer than 0, 1, … steps.
    order = sorted(windows)
    parts = np.add.reduceat(covered[:, : order[-1]], [0, *order[:-1]], axis=1)
    shorter = dict(zip(order, np.cumsum(parts, axis=1).T, strict=True))
    found = np.empty((len(slots), len(windows)))
    for i, window in enumerate(windows):
        inside = window * covered[:, -1] - shorter[window]
        inside += np.minimum(age, np.int32(window)).sum(axis=1, dtype=np.int32)
        inside -= np.maximum(np.int32(window - 1) - until_first, 0).sum(axis=1, dtype=np.int32)
        number = steps - window + 1
        found[:, i] = inside / np.where(number > 0, number, np.nan)
    return found


def _idle_steps(
    age: NDArray[np.int16], used: NDArray[np.bool_], experts: NDArray[np.int64], n_experts: int
) -> NDArray[np.float64]:
    """Steps after the last use (layers, n_experts) of those `experts` (m,) that were `used` (layers, m)."""
    idle = np.full((len(age), n_experts), np.nan)
    idle[:, experts] = np.where(used, np.where(age > MAX_DISTANCE, np.inf, age - 1.0), np.nan)
    return idle


def _padded(array: NDArray[np.integer], width: int) -> NDArray[np.int64]:
    """`array` (..., n) cut or filled up with zeros to `width` columns."""
    padded = np.zeros((*array.shape[:-1], width), np.int64)
    part = array[..., :width]
    padded[..., : part.shape[-1]] = part
    return padded
