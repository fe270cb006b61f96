"""How soon experts are used again in decode, and what a cache of them would serve."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from moe_live.formatting import percents
from moe_live.reports.numbers import decimals, number, numbers, percent
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import LayerLocality, Snapshot
from moe_live.statistics.layer_locality import CacheGain, cache_gain
from moe_live.verdicts import CACHED, FEW_STEPS

CAPACITIES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Cache sizes shown, as shares of a layer's experts."""


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    layers = snapshot.locality
    if not layers:
        return
    lags, windows = list(layers[0].overlap), list(layers[0].working_set)
    yield ""
    yield "locality: percent of a step's experts that a step before used too, and by chance; steps until an"
    yield "locality: expert is used again, half of the times and 90 %; experts that so many steps use"
    yield (
        "locality           steps"
        + "".join(f"{f'{lag} ago':>7}" for lag in lags)
        + "  chance  reused   90 %"
        + "".join(f"{f'in {steps}':>8}" for steps in windows)
    )
    for layer in layers:
        yield (
            f"locality layer {layer.layer:<4}{layer.steps:>5}"
            + "".join(f"{decimals(100 * value, 1):>7}" for value in layer.overlap.values())
            + f"{decimals(100 * layer.overlap_chance, 1):>8}"
            + f"{_steps(layer.reuse_median):>8}{_steps(layer.reuse_p90):>7}"
            + "".join(f"{decimals(value, 1):>8}" for value in layer.working_set.values())
        )
    yield ""
    yield "cache: share of uses found in a cache of n experts a layer: least recently used / the n most used"
    sizes = _sizes(len(layers[0].lru_hit_rate))
    yield "cache                " + "".join(f"{f'n = {size}':>18}" for size in sizes)
    yield "cache: n/a where it cannot hold the experts of a step, which are looked up before any is given up"
    for layer in layers:
        recent, fixed = map(layer.of_caches, (layer.lru_hit_rate, layer.static_hit_rate))
        yield f"cache layer {layer.layer:<8} " + "".join(
            f"{percent(recent[size - 1]):>9} /{percent(fixed[size - 1]):>7}" for size in sizes
        )


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    layers = [layer for layer in snapshot.locality or () if layer.uses]
    if not layers or max(layer.steps for layer in layers) < FEW_STEPS:
        return
    hits = np.average(
        [layer.of_caches(layer.lru_hit_rate) for layer in layers],
        axis=0,
        weights=[layer.uses for layer in layers],
    )
    first, *others = [size for size in _sizes(len(hits)) if math.isfinite(hits[size - 1])] or [len(hits)]
    facts = [f"LRU hits with {first} experts a layer {percents(hits[first - 1])}"]
    yield Gist("caches", [*facts, *(f"{size} {percents(hits[size - 1])}" for size in others)])


def _sizes(n_experts: int) -> list[int]:
    return sorted({max(1, round(share * n_experts)) for share in CAPACITIES})


def _steps(number_of: float) -> str:
    return "n/a" if math.isnan(number_of) else ">1000" if math.isinf(number_of) else f"{number_of:g}"


def _keys(snapshot: Snapshot) -> Keys:
    """Layers without decode steps have none."""
    if snapshot.locality is None:
        return Keys()
    found = cache_gain(snapshot.locality, CACHED)
    of_layer = {
        layer.layer: {
            "locality": _locality(layer),
            "union": {str(tokens): number(experts) for tokens, experts in layer.union.items()},
        }
        for layer in snapshot.locality
    }
    return Keys(
        {"cache_gain": None if found is None else _gain(found)},
        layers=[of_layer.get(entry.layer, {}) for entry in snapshot.layers],
    )


def _gain(found: CacheGain) -> Json:
    return {
        "experts": found.experts,
        "lru_hit_rate": number(found.lru.rate),
        "chance": number(found.chance),
        "gain": number(found.gain),
        "gain_error": number(found.lru.error),
    }


def _locality(layer: LayerLocality) -> Json:
    return {
        "steps": layer.steps,
        "uses": layer.uses,
        "overlap": {str(lag): number(value) for lag, value in layer.overlap.items()},
        "overlap_chance": number(layer.overlap_chance),
        "reuse_median": number(layer.reuse_median),
        "reuse_p90": number(layer.reuse_p90),
        "never_again": number(layer.never_again),
        "working_set": {str(steps): number(value) for steps, value in layer.working_set.items()},
        "lru_hit_rate": numbers(layer.of_caches(layer.lru_hit_rate)),
        "static_hit_rate": numbers(layer.of_caches(layer.static_hit_rate)),
        "idle_steps": numbers(layer.idle_steps),
    }


SECTION = ReportSection("locality", _lines, _keys, _gists)
