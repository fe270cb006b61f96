"""Experts chosen together more, or less, often than chance would have it."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.numbers import number
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import ExpertPair, LayerPairs, Snapshot

PAIRS = 3
"""Strongest and weakest pairs shown of each layer."""


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.pairs:
        return
    yield ""
    yield "pairs: experts chosen together more (lift above) or less often than chance would have it"
    found = False
    for layer, pairs in snapshot.pairs.items():
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


def _keys(snapshot: Snapshot) -> Keys:
    if snapshot.pairs is None:
        return Keys()
    return Keys({"coactivation": [_pairs(layer, pairs) for layer, pairs in snapshot.pairs.items()]})


def _pairs(layer: int, pairs: LayerPairs) -> Json:
    return {
        "layer": layer,
        "rows": pairs.rows,
        "chance_lift": number(pairs.chance_lift),
        "tested": pairs.tested,
        "spread": number(pairs.spread),
        "z_needed": number(pairs.z_needed),
        "pairs": [_pair(pair) for pair in pairs.strongest],
        "weakest": [_pair(pair) for pair in pairs.weakest],
    }


def _pair(pair: ExpertPair) -> Json:
    return {
        "a": pair.a,
        "b": pair.b,
        "count": pair.count,
        "expected": number(pair.expected),
        "lift": number(pair.lift),
        "pmi": number(pair.pmi),
        "z": number(pair.z),
    }


SECTION = ReportSection("pairs", _lines, _keys)
