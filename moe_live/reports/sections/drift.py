"""The latest decode steps beside all of them."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.numbers import decimals, number
from moe_live.reports.section import Keys, ReportSection
from moe_live.snapshot import TOPIC, WINDOWS, Snapshot


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    drift = snapshot.drift
    if drift is None or not drift.steps:
        return
    drifted = sum(drift.divergence.real.tolist())
    yield ""
    if drift.is_whole_run:
        yield f"drift: the last {drift.steps} decode steps are the whole run: nothing to compare"
        return
    yield (
        f"drift: the last {drift.steps} decode steps against all, Jensen-Shannon in bits: "
        + (
            f"{drifted} of {len(snapshot.layers)} layers beyond chance"
            if drift.told
            else f"what a text has apart in as many is known from {WINDOWS * TOPIC:,} tokens on"
        )
    )
    yield "drift             found  chance"
    for i, entry in enumerate(snapshot.layers):
        mark = "  beyond chance" if drift.divergence.real[i] else ""
        yield (
            f"drift layer {entry.layer:<4}{decimals(drift.divergence.js[i]):>8}"
            f"{decimals(drift.divergence.expected[i]):>8}{mark}"
        )


def _keys(snapshot: Snapshot) -> Keys:
    drift = snapshot.drift
    if drift is None:
        return Keys()
    divergence = drift.divergence
    layers = [
        {
            "layer": entry.layer,
            "js": number(divergence.js[i]),
            "js_expected": number(divergence.expected[i]),
            "js_limit": number(divergence.limit[i]),
            "drifted": bool(divergence.real[i]),
        }
        for i, entry in enumerate(snapshot.layers)
    ]
    return Keys(
        {"drift": {"window": drift.window, "steps": drift.steps, "told": drift.told, "layers": layers}}
    )


SECTION = ReportSection("drift", _lines, _keys)
