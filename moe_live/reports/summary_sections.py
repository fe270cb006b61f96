"""The analysis in the final summary: balance, hot sets, locality, structure, time and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from moe_live.errors import printable
from moe_live.snapshot import COVERED_PERCENT, Drift, Labels, LayerLocality, LayerPairs, Snapshot

CAPACITIES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Cache sizes shown, as shares of a layer's experts."""

PAIRS = 3
"""Strongest and weakest pairs shown of each layer."""


def section_lines(snapshot: Snapshot) -> Iterator[str]:
    """All sections the snapshot has, each after an empty line."""
    if snapshot.layers:
        yield from _balance(snapshot)
        yield from _hot_set(snapshot)
    if snapshot.locality:
        yield from _locality(snapshot.locality)
    if snapshot.transitions:
        yield ""
        yield "next layer: share of the next layer's experts among the k predicted from this layer's"
        yield "next layer  layers   hit rate  always the same k   chance   tokens tested"
        for pair in snapshot.transitions:
            layers = f"{pair.from_layer}-{pair.to_layer}"
            yield (
                f"next layer {layers:>7}   {_percent(pair.hit_rate):>8}  {_percent(pair.static_hit_rate):>17}"
                f"  {_percent(pair.chance):>7}   {pair.tokens} ({pair.tested})"
            )
    if snapshot.pairs:
        yield from _pairs(snapshot.pairs)
    if snapshot.drift is not None and snapshot.drift.steps:
        yield from _drift(snapshot, snapshot.drift)
    if snapshot.labels is not None and snapshot.labels.usages:
        yield from _labels(snapshot.labels)


def _balance(snapshot: Snapshot) -> Iterator[str]:
    yield ""
    yield "balance: entropy over its maximum, 2^entropy, Gini, MaxVio, unused (expected by chance)"
    rows = [
        (f"layer {entry.layer}", figures)
        for entry, figures in zip(snapshot.layers, snapshot.balance, strict=True)
    ]
    for name, figures in [*rows, ("overall", snapshot.overall_balance)]:
        yield (
            f"balance {name:<11} entropy {_figure(figures.entropy_normalized)}"
            f"  effective {figures.effective_experts:6.1f}  gini {_figure(figures.gini)}"
            f"  maxvio {figures.max_violation:6.2f}"
            f"  unused {figures.dead_experts} ({figures.dead_expected:.1f})"
        )


def _hot_set(snapshot: Snapshot) -> Iterator[str]:
    yield ""
    shares = "".join(f"{percent:>6} %" for percent in COVERED_PERCENT)
    yield f"hot set: fewest experts that serve {shares}"
    for entry, experts in zip(snapshot.layers, snapshot.coverage.tolist(), strict=True):
        yield f"hot set layer {entry.layer:<20} " + "".join(f"{count:>8}" for count in experts)
    yield ""
    yield "budget: share of selections that experts held in fast memory serve, chosen with hindsight"
    yield "budget    experts   of all   as many a layer   best choice   a layer then"
    total = snapshot.counts.size
    for budget in snapshot.budgets:
        yield (
            f"budget {budget.experts:>10} {budget.experts / total:>8.0%} {budget.even:>17.1%}"
            f" {budget.best:>13.1%}   {budget.fewest} to {budget.most}"
        )


def _locality(layers: tuple[LayerLocality, ...]) -> Iterator[str]:
    yield ""
    yield "locality: share of a step's experts that were used g steps before; steps to the next use"
    for layer in layers:
        overlaps = "  ".join(f"{lag}: {_percent(value)}" for lag, value in layer.overlap.items())
        yield (
            f"locality layer {layer.layer}: steps {layer.steps}, overlap {overlaps} (chance "
            f"{_percent(layer.overlap_chance)}), reuse median {_steps(layer.reuse_median)}, 90 % "
            f"{_steps(layer.reuse_p90)}"
        )
        working = ", ".join(
            f"{steps} steps {_figure(value, 1)}" for steps, value in layer.working_set.items()
        )
        yield f"locality layer {layer.layer}: working set {working}"
    yield ""
    yield "cache: share of uses found in a cache of n experts a layer: least recently used / the n most used"
    n_experts = len(layers[0].lru_hit_rate)
    sizes = sorted({max(1, round(share * n_experts)) for share in CAPACITIES})
    yield "cache                " + "".join(f"{f'n = {size}':>18}" for size in sizes)
    for layer in layers:
        yield f"cache layer {layer.layer:<8} " + "".join(
            f"{_percent(layer.lru_hit_rate[size - 1]):>9} /{_percent(layer.static_hit_rate[size - 1]):>7}"
            for size in sizes
        )


def _pairs(layers: Mapping[int, LayerPairs]) -> Iterator[str]:
    yield ""
    yield "pairs: experts chosen together more (lift above) or less often than chance would have it"
    found = False
    for layer, pairs in layers.items():
        for name, chosen in (("together", pairs.strongest), ("apart", pairs.weakest)):
            for pair in chosen[:PAIRS]:
                found = True
                yield (
                    f"pairs layer {layer} {name}: {pair.a} and {pair.b}, {pair.count} of {pairs.rows} rows "
                    f"(expected {pair.expected:.1f}), lift {pair.lift:.2f} (chance {pairs.chance_lift:.2f}), "
                    f"z {pair.z:.1f}"
                )
    if not found:
        yield "pairs: none stands out from chance"


def _drift(snapshot: Snapshot, drift: Drift) -> Iterator[str]:
    drifted = [
        entry.layer for entry, real in zip(snapshot.layers, drift.divergence.real, strict=True) if real
    ]
    yield ""
    yield (
        f"drift: the last {drift.steps} decode steps against all, Jensen-Shannon in bits "
        f"(by chance alone): {len(drifted)} of {len(snapshot.layers)} layers beyond chance"
    )
    for i, entry in enumerate(snapshot.layers):
        mark = "  beyond chance" if drift.divergence.real[i] else ""
        yield (
            f"drift layer {entry.layer}: {_figure(drift.divergence.js[i])} "
            f"({_figure(drift.divergence.expected[i])}){mark}"
        )


def _labels(labels: Labels) -> Iterator[str]:
    yield ""
    for usage in labels.usages:
        name = printable(usage.label)
        yield f"label {name}: {usage.tokens} tokens"
        for expert in usage.specific:
            yield (
                f"label {name}: layer {expert.layer} expert {expert.expert}, in "
                f"{_percent(expert.share)} of its tokens, {_percent(expert.share_elsewhere)} of others, "
                f"z {expert.z:.1f}"
            )
    for divergence in labels.divergences:
        yield (
            f"labels {printable(divergence.a)} and {printable(divergence.b)}: Jensen-Shannon "
            f"{_figure(divergence.js)} bits, {_figure(divergence.expected)} by chance; "
            f"{divergence.real_layers} layers beyond chance"
        )


def _percent(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "n/a"


def _figure(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "n/a"


def _steps(value: float) -> str:
    return "n/a" if np.isnan(value) else "over 1000" if np.isinf(value) else f"{value:g}"
