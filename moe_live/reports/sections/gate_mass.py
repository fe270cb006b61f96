"""What experts are weighted with: their share of all weights, and how the weights of a row fall off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe_live.reports.numbers import decimals, number, numbers, percent
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import LayerGateMass, Snapshot

_EXPERTS = 5
_RANKS = 8


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.gate_mass:
        return
    yield ""
    yield "gate mass: experts' shares of all weights; mean weight of a row's first, second, ... expert"
    for layer in snapshot.gate_mass:
        heaviest = np.argsort(-layer.mass, kind="stable")[:_EXPERTS].tolist()
        shares = "".join(f"{expert:>6}={percent(layer.mass[expert])}" for expert in heaviest)
        yield f"gate mass layer {layer.layer}: rows {layer.rows}, heaviest{shares}"
        ranks = " ".join(decimals(weight) for weight in layer.by_rank[:_RANKS].tolist())
        more = " ..." if len(layer.by_rank) > _RANKS else ""
        yield (
            f"gate mass layer {layer.layer}: top-1 share {percent(layer.top1_share)}, "
            f"margin {decimals(layer.margin)}, by rank {ranks}{more}"
        )
        if layer.undefined:
            yield f"gate mass layer {layer.layer}: {layer.undefined} rows with undefined weights left out"


def _keys(snapshot: Snapshot) -> Keys:
    if not snapshot.gate_mass:
        return Keys()
    by_layer = {layer.layer: layer for layer in snapshot.gate_mass}
    return Keys(layers=[{"gate_mass": _mass(by_layer.get(entry.layer))} for entry in snapshot.layers])


def _mass(layer: LayerGateMass | None) -> Json | None:
    if layer is None:
        return None
    return {
        "rows": layer.rows,
        "undefined_rows": layer.undefined,
        "share": numbers(layer.mass),
        "weight_by_rank": numbers(layer.by_rank),
        "top1_share": number(layer.top1_share),
        "margin": number(layer.margin),
    }


SECTION = ReportSection("gate mass", _lines, _keys)
