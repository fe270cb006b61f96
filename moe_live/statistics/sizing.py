"""How large a cache of experts should be: what sizes would have served, and what each layer would get."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import Share
from moe_live.statistics.latest import Uses
from moe_live.statistics.replay import CacheRates, Served, Stream, most_used, replay


@dataclass(frozen=True, slots=True, eq=False)
class CacheSize:
    """A cache of one size.

    Attributes:
        rates: what it would have served.
        chance: share of the uses that as many bytes of experts drawn at random would serve.
        best: the policy of `rates` that serves most of those that learn as they go.
        gains: whether it serves more than chance, for certain; None if that cannot be told: too few decode
            steps, or a cache that does not hold what a layer needs at once.
        slots: (len(layers),) int64, experts of each layer among the most used ones that fit.
        best_share: share of the uses that these serve, known with hindsight.
        even_share: the same of the most used ones of each layer, where each layer has as many bytes.
    """

    rates: CacheRates
    chance: float
    best: str
    gains: bool | None
    slots: NDArray[np.int64]
    best_share: float
    even_share: float

    @property
    def served(self) -> Served:
        """What `best` serves."""
        policy: Served = getattr(self.rates, self.best)
        return policy


@dataclass(frozen=True, slots=True, eq=False)
class CacheSizing:
    """Caches of several sizes, replayed over the latest steps.

    Attributes:
        layers: numbers of the layers, ascending.
        expert_bytes: (len(layers),) int64, bytes of an expert of each.
        total: bytes of all experts.
        steps: decode steps that were replayed.
        prefill: prefill steps among them, which pass through the caches and are not counted.
        token_bytes: bytes of the experts that a decode token uses; NaN without any.
        sizes: what each size serves, as asked for.
        knee: bytes at which the curve of LRU is farthest above the line from nothing to everything, so that
            beyond it a byte gains less than the average one (Satopaa et al. 2011); None without a curve.
        knee_rate: what LRU serves there.
    """

    layers: tuple[int, ...]
    expert_bytes: NDArray[np.int64]
    total: int
    steps: int
    prefill: int
    token_bytes: float
    sizes: tuple[CacheSize, ...]
    knee: int | None
    knee_rate: float


def total_bytes(uses: Uses, expert_bytes: NDArray[np.int64]) -> int:
    """Bytes of all experts: each layer has as many as its highest id tells."""
    n_experts = np.zeros(len(uses.layers), np.int64)
    np.maximum.at(n_experts, uses.slot, uses.expert + 1)
    return int((n_experts * expert_bytes).sum())


def size_up(
    uses: Uses,
    expert_bytes: NDArray[np.int64],
    capacities: Sequence[int],
    progress: Callable[[float], object] = lambda _: None,
) -> CacheSizing:
    """Try caches of some sizes.

    Args:
        uses: of some steps.
        expert_bytes: (len(uses.layers),) bytes of an expert of each layer, 1 or more.
        capacities: bytes of each cache.
        progress: is told the share that is done, 0 to 1, every second or so.
    """
    rates, seen, depth = replay(uses, expert_bytes, capacities, progress)
    decode = seen.block >= 0
    total = total_bytes(uses, expert_bytes)
    knee, knee_rate = _knee(depth[decode], total)
    counts = np.bincount(seen.item[decode], minlength=len(uses.layers) * uses.n_experts)
    by_layer = counts.reshape(len(uses.layers), uses.n_experts)
    return CacheSizing(
        layers=uses.layers,
        expert_bytes=expert_bytes,
        total=total,
        steps=uses.steps,
        prefill=len(uses.decode) - uses.steps,
        token_bytes=int(seen.size[decode].sum()) / uses.decode_tokens if uses.decode_tokens else math.nan,
        sizes=tuple(_judged(rate, seen, by_layer, expert_bytes, total) for rate in rates),
        knee=knee,
        knee_rate=knee_rate,
    )


def _judged(
    rates: CacheRates, seen: Stream, counts: NDArray[np.int64], expert_bytes: NDArray[np.int64], total: int
) -> CacheSize:
    """The rates with the best of them, whether it gains, and what stays best in a cache of that size.

    Args:
        rates: of one size.
        seen: the uses.
        counts: (layers, n_experts) those in decode steps.
        expert_bytes: (layers,) bytes of an expert of each layer.
        total: bytes of all experts.
    """
    chance = min(1.0, rates.bytes / total) if total else math.nan
    n_layers, n_experts = counts.shape
    at_once = int(np.add.reduceat(seen.size, seen.begins[:-1]).max()) if len(seen) else 0
    together, apart = ("lru", "lfu"), ("layer_lru", "layer_lfu")
    # A cache that is smaller than what is needed at once holds more than it says.
    policies = together if rates.bytes < at_once * n_layers else together + apart
    best = max(policies, key=lambda name: getattr(rates, name).rate)
    served: Served = getattr(rates, best)
    uses = int(counts.sum())
    gains = Share(served.rate, served.error).beyond(chance, uses) if rates.bytes >= at_once else None
    resident = most_used(counts.reshape(-1), np.repeat(expert_bytes, n_experts), rates.bytes)
    slots = resident.reshape(counts.shape).sum(axis=1)
    each = rates.bytes // max(1, n_layers) // expert_bytes
    even = np.where(np.arange(n_experts) < each[:, None], -np.sort(-counts, axis=1), 0).sum()
    return CacheSize(
        rates=rates,
        chance=chance,
        best=best,
        gains=gains,
        slots=slots,
        best_share=float(counts.reshape(-1)[resident].sum() / uses) if uses else math.nan,
        even_share=float(even / uses) if uses else math.nan,
    )


def _knee(depths: NDArray[np.int64], total: int) -> tuple[int | None, float]:
    """Where the curve of LRU over some uses (n,) bends most, and what it serves there."""
    found = np.sort(depths[depths >= 0])
    if not len(found):
        return None, math.nan
    served = np.arange(1, len(found) + 1)
    best = int(np.argmax(served / len(found) - found / total))
    return int(found[best]), float(served[best] / len(depths))
