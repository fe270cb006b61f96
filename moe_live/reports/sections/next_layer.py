"""How well the experts of one layer foretell those of the next."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.numbers import decimals, number, percent
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import LayerTransition, Snapshot


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.transitions:
        return
    yield ""
    yield "next layer: share of the next layer's experts among the k predicted from this layer's; gain: in"
    yield "next layer: points over the same k, learned on one half and tested on the other, ± its error"
    yield "next layer  layers   hit rate  always the same k   chance          gain   tokens tested"
    for pair in snapshot.transitions:
        layers = f"{pair.from_layer}-{pair.to_layer}"
        yield (
            f"next layer {layers:>7}   {percent(pair.hit_rate):>8}  {percent(pair.static_hit_rate):>17}"
            f"  {percent(pair.chance):>7}  {_gain(pair):>12}   {pair.tokens} ({pair.tested})"
        )


def _gain(pair: LayerTransition) -> str:
    return f"{decimals(100 * pair.gain, 1)} ± {decimals(100 * pair.gain_error, 1)}"


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
        "gain": number(transition.gain),
        "gain_error": number(transition.gain_error),
    }


SECTION = ReportSection("next layer", _lines, _keys)
