"""Distances between the gate inputs of consecutive layers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from moe_live.formatting import fraction, whole
from moe_live.reports.numbers import number, numbers, significant
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import Moments, PairDistance, Snapshot

_METRIC_WIDTH = len("cosine_similarity")
_FIGURES = ("mean", "std", "min", "max", "last")


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    distances = snapshot.distances
    if not distances.pairs:
        return
    kind = "prefill and decode" if distances.include_prompt else "decode"
    yield ""
    yield f"distances: {distances.steps} steps ({kind})"
    for pair in distances.pairs:
        yield from _pair_lines(pair)


def _pair_lines(pair: PairDistance) -> Iterator[str]:
    name = f"distance {pair.from_layer}-{pair.to_layer}"
    undefined = [f"{metric} {m.undefined}" for metric, m in pair.metrics.items() if m.undefined]
    yield f"{name}: steps {pair.steps}, undefined {', '.join(undefined) or 0}"
    yield f"{name} {'':{_METRIC_WIDTH}}" + "".join(f" {figure:>8}" for figure in _FIGURES)
    for metric, moments in pair.metrics.items():
        figures = (moments.mean, moments.std, moments.min, moments.max, moments.last)
        yield f"{name} {metric:{_METRIC_WIDTH}}" + "".join(f" {significant(value):>8}" for value in figures)


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    distances = snapshot.distances
    means = [pair.metrics["cosine_similarity"].mean for pair in distances.pairs]
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return
    span = (
        fraction(min(known), 3)
        if len(known) == 1
        else f"{fraction(min(known), 3)} to {fraction(max(known), 3)}"
    )
    first, last = distances.pairs[0].from_layer, distances.pairs[-1].to_layer
    yield Gist(
        "distances",
        (
            f"gate inputs of layers {first}-{last}: mean cosine similarity {span}",
            f"{whole(distances.steps)} steps",
        ),
    )


def _keys(snapshot: Snapshot) -> Keys:
    if snapshot.counts_only or "distances" in snapshot.left_out:
        return Keys()
    distances = snapshot.distances
    return Keys(
        {
            "distances": {
                "steps": distances.steps,
                "include_prompt": distances.include_prompt,
                "pairs": [_pair(pair) for pair in distances.pairs],
            }
        }
    )


def _pair(pair: PairDistance) -> Json:
    metrics: Json = {metric: _moments(moments) for metric, moments in pair.metrics.items()}
    ends: Json = {"from": pair.from_layer, "to": pair.to_layer, "steps": pair.steps}
    return ends | metrics | {"recent": numbers(pair.recent)}


def _moments(moments: Moments) -> Json:
    return {
        "mean": number(moments.mean),
        "std": number(moments.std),
        "min": number(moments.min),
        "max": number(moments.max),
        "last": number(moments.last),
        "count": moments.count,
        "undefined": moments.undefined,
    }


SECTION = ReportSection("distances", _lines, _keys, _gists)
