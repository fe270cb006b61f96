"""What is said of caches of experts: the names of the policies, whether a size gains, and slots by layer."""

from __future__ import annotations

from itertools import groupby

from moe_live.formatting import chosen_size, percents
from moe_live.judgement import worth
from moe_live.statistics.sizing import CacheSize

POLICIES = {
    "optimum": "optimum",
    "lru": "LRU",
    "lfu": "LFU",
    "layer_lru": "LRU*",
    "layer_lfu": "LFU*",
    "static_unseen": "static",
}
"""Policies, as in `CacheRates`, with what they are called in the head of a table."""


def gain_sentence(entry: CacheSize) -> str:
    """Whether a cache of this size pays."""
    chance = f"experts drawn at random {percents(entry.chance)}"
    if entry.gains is None:
        return f"too early to say whether it gains over {chance}"
    if entry.gains:
        served = f"{percents(entry.served.rate)} ± {100 * entry.served.error:.1f}"
        return f"{worth(entry.served.rate, entry.chance)}: {POLICIES[entry.best]} serves {served}, {chance}"
    return f"nothing certain is gained over {chance}"


def slots_sentence(entry: CacheSize, layers: tuple[int, ...]) -> str:
    """How many experts of each layer are among the most used ones that fit, and what such a choice served."""
    runs = []
    counted = zip(layers, entry.slots.tolist(), strict=True)
    for slots, run in groupby(counted, key=lambda pair: pair[1]):
        of = [layer for layer, _ in run]
        runs.append(f"{of[0]}-{of[-1]}: {slots}" if len(of) > 1 else f"{of[0]}: {slots}")
    static = percents(entry.rates.static_unseen.rate)
    size = chosen_size(entry.rates.bytes)
    return f"slots at {size} in hindsight (static, {static} if unseen), by layer: {', '.join(runs)}"
