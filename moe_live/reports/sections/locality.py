"""How soon experts are used again in decode, and what a cache of them would serve."""

from __future__ import annotations

import math
from collections.abc import Iterator

from moe_live.reports.numbers import decimals, number, numbers, percent
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import LayerLocality, Snapshot

CAPACITIES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Cache sizes shown, as shares of a layer's experts."""


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    layers = snapshot.locality
    if not layers:
        return
    yield ""
    yield "locality: share of a step's experts that were used g steps before; steps to the next use"
    for layer in layers:
        overlaps = "  ".join(f"{lag}: {percent(value)}" for lag, value in layer.overlap.items())
        yield (
            f"locality layer {layer.layer}: steps {layer.steps}, overlap {overlaps} (chance "
            f"{percent(layer.overlap_chance)}), reuse median {_steps(layer.reuse_median)}, 90 % "
            f"{_steps(layer.reuse_p90)}"
        )
        working = ", ".join(
            f"{steps} steps {decimals(value, 1)}" for steps, value in layer.working_set.items()
        )
        yield f"locality layer {layer.layer}: working set {working}"
    yield ""
    yield "cache: share of uses found in a cache of n experts a layer: least recently used / the n most used"
    n_experts = len(layers[0].lru_hit_rate)
    sizes = sorted({max(1, round(share * n_experts)) for share in CAPACITIES})
    yield "cache                " + "".join(f"{f'n = {size}':>18}" for size in sizes)
    for layer in layers:
        yield f"cache layer {layer.layer:<8} " + "".join(
            f"{percent(layer.lru_hit_rate[size - 1]):>9} /{percent(layer.static_hit_rate[size - 1]):>7}"
            for size in sizes
        )


def _steps(number_of: float) -> str:
    return "n/a" if math.isnan(number_of) else "over 1000" if math.isinf(number_of) else f"{number_of:g}"


def _keys(snapshot: Snapshot) -> Keys:
    """Layers without decode steps have none."""
    of_layer = {layer.layer: {"locality": _locality(layer)} for layer in snapshot.locality or ()}
    return Keys(layers=[of_layer.get(entry.layer, {}) for entry in snapshot.layers])


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
        "lru_hit_rate": numbers(layer.lru_hit_rate),
        "static_hit_rate": numbers(layer.static_hit_rate),
        "idle_steps": numbers(layer.idle_steps),
    }


SECTION = ReportSection("locality", _lines, _keys)
