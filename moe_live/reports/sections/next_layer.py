"""How well the experts of one layer foretell those of the next."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.numbers import number, percent
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import LayerTransition, Snapshot


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.transitions:
        return
    yield ""
    yield "next layer: share of the next layer's experts among the k predicted from this layer's"
    yield "next layer  layers   hit rate  always the same k   chance   tokens tested"
    for pair in snapshot.transitions:
        layers = f"{pair.from_layer}-{pair.to_layer}"
        yield (
            f"next layer {layers:>7}   {percent(pair.hit_rate):>8}  {percent(pair.static_hit_rate):>17}"
            f"  {percent(pair.chance):>7}   {pair.tokens} ({pair.tested})"
        )


def _keys(snapshot: Snapshot) -> Keys:
    if snapshot.transitions is None:
        return Keys()
    return Keys({"transitions": [_transition(transition) for transition in snapshot.transitions]})


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


SECTION = ReportSection("next layer", _lines, _keys)
