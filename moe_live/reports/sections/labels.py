"""Use of the experts by label: what sets a label apart, and how far labels differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moe_live.errors import printable
from moe_live.reports.numbers import decimals, number, percent
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import PERIODS, LabelDivergence, LabelUsage, Snapshot, SpecificExpert


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    labels = snapshot.labels
    if labels is None or not labels.usages:
        return
    yield ""
    for usage in labels.usages:
        name = printable(usage.label)
        yield f"label {name}: {usage.tokens} tokens, periods {labels.periods.get(usage.label, 0)}"
        for expert in usage.specific:
            yield (
                f"label {name}: layer {expert.layer} expert {expert.expert}, in "
                f"{percent(expert.share)} of its tokens, {percent(expert.share_elsewhere)} of others, "
                f"z {expert.z:.1f}"
            )
    for divergence in labels.divergences:
        yield (
            f"labels {printable(divergence.a)} and {printable(divergence.b)}: Jensen-Shannon "
            f"{decimals(divergence.js)} bits, {decimals(divergence.expected)} by chance; "
            f"{_beyond(divergence, labels.periods)}"
        )


def _beyond(divergence: LabelDivergence, periods: Mapping[str, int]) -> str:
    """In how many layers two labels differ, or why that cannot be told."""
    if divergence.real_layers is not None:
        return f"{divergence.real_layers} layers beyond chance"
    if min(periods.get(label, 0) for label in (divergence.a, divergence.b)) < PERIODS:
        return f"cannot be told from the time before {PERIODS} periods of each"
    return "cannot be told of so few tokens"


def _keys(snapshot: Snapshot) -> Keys:
    labels = snapshot.labels
    if labels is None:
        return Keys()
    layers = [entry.layer for entry in snapshot.layers]
    return Keys(
        {
            "labels": [_usage(usage, labels.periods, layers) for usage in labels.usages],
            "label_divergences": [_divergence(divergence) for divergence in labels.divergences],
        }
    )


def _usage(usage: LabelUsage, periods: Mapping[str, int], layers: list[int]) -> Json:
    return {
        "label": usage.label,
        "tokens": usage.tokens,
        "periods": periods.get(usage.label, 0),
        "layers": [
            {"layer": layer, "counts": counts.tolist()}
            for layer, counts in zip(layers, usage.counts, strict=True)
        ],
        "specific": [_specific(expert) for expert in usage.specific],
    }


def _specific(expert: SpecificExpert) -> Json:
    return {
        "layer": expert.layer,
        "expert": expert.expert,
        "count": expert.count,
        "share": number(expert.share),
        "share_elsewhere": number(expert.share_elsewhere),
        "log_odds": number(expert.log_odds),
        "z": number(expert.z),
    }


def _divergence(divergence: LabelDivergence) -> Json:
    return {
        "a": divergence.a,
        "b": divergence.b,
        "js": number(divergence.js),
        "js_expected": number(divergence.expected),
        "real_layers": divergence.real_layers,
    }


SECTION = ReportSection("labels", _lines, _keys)
