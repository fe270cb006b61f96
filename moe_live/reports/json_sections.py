"""The sections of a snapshot as objects for JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.snapshot import (
    COVERED_PERCENT,
    Balance,
    Drift,
    Labels,
    LayerLocality,
    LayerPairs,
    LayerTransition,
    Snapshot,
)

Json = dict[str, Any]


def number(value: float) -> float | None:
    """The value, or None where it is undefined."""
    return float(value) if math.isfinite(value) else None


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """The same of each."""
    return [number(value) for value in values.tolist()]


def balance(figures: Balance) -> Json:
    """Load balance under the names of its attributes."""
    fields = dataclasses.asdict(figures)
    return {name: value if isinstance(value, int) else number(value) for name, value in fields.items()}


def coverage(experts: NDArray[np.int64]) -> Json:
    """Experts (len(COVERED_PERCENT),) that serve a share of the selections, by that share."""
    return {
        f"{percent / 100:g}": count for percent, count in zip(COVERED_PERCENT, experts.tolist(), strict=True)
    }


def locality(layer: LayerLocality) -> Json:
    """Locality of one layer."""
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
    }


def sections(snapshot: Snapshot) -> Json:
    """What was asked for beyond the locality of each layer, under the names of the schema."""
    found: Json = {}
    if snapshot.pairs is not None:
        found["coactivation"] = [_pairs(layer, pairs) for layer, pairs in snapshot.pairs.items()]
    if snapshot.transitions is not None:
        found["transitions"] = [_transition(transition) for transition in snapshot.transitions]
    if snapshot.drift is not None:
        found["drift"] = _drift(snapshot, snapshot.drift)
    if snapshot.labels is not None:
        found |= _labels(snapshot, snapshot.labels)
    return found


def _pairs(layer: int, pairs: LayerPairs) -> Json:
    return {
        "layer": layer,
        "rows": pairs.rows,
        "chance_lift": number(pairs.chance_lift),
        "tested": pairs.tested,
        "z_needed": number(pairs.z_needed),
        "pairs": [_pair(pair) for pair in pairs.strongest],
        "weakest": [_pair(pair) for pair in pairs.weakest],
    }


def _pair(pair: Any) -> Json:
    counts = {"a": pair.a, "b": pair.b, "count": pair.count}
    return counts | {name: number(getattr(pair, name)) for name in ("expected", "lift", "pmi", "z")}


def _transition(transition: LayerTransition) -> Json:
    return {
        "from": transition.from_layer,
        "to": transition.to_layer,
        "tokens": transition.tokens,
        "tested": transition.tested,
        "hit_rate": number(transition.hit_rate),
        "static_hit_rate": number(transition.static_hit_rate),
        "chance": number(transition.chance),
    }


def _drift(snapshot: Snapshot, drift: Drift) -> Json:
    divergence = drift.divergence
    return {
        "window": drift.window,
        "steps": drift.steps,
        "layers": [
            {
                "layer": entry.layer,
                "js": number(divergence.js[i]),
                "js_expected": number(divergence.expected[i]),
                "js_limit": number(divergence.limit[i]),
                "drifted": bool(divergence.real[i]),
            }
            for i, entry in enumerate(snapshot.layers)
        ],
    }


def _labels(snapshot: Snapshot, labels: Labels) -> Json:
    layers = [entry.layer for entry in snapshot.layers]
    return {
        "labels": [
            {
                "label": usage.label,
                "tokens": usage.tokens,
                "layers": [
                    {"layer": layer, "counts": counts.tolist()}
                    for layer, counts in zip(layers, usage.counts, strict=True)
                ],
                "specific": [
                    {
                        "layer": expert.layer,
                        "expert": expert.expert,
                        "count": expert.count,
                        "share": number(expert.share),
                        "share_elsewhere": number(expert.share_elsewhere),
                        "log_odds": number(expert.log_odds),
                        "z": number(expert.z),
                    }
                    for expert in usage.specific
                ],
            }
            for usage in labels.usages
        ],
        "label_divergences": [
            {
                "a": divergence.a,
                "b": divergence.b,
                "js": number(divergence.js),
                "js_expected": number(divergence.expected),
                "real_layers": divergence.real_layers,
            }
            for divergence in labels.divergences
        ],
    }
