"""Which expert on which device: how even each rule makes the load of steps that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe_live.formatting import percents
from moe_live.reports.numbers import decimals, number, numbers
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import Placements, Snapshot

_SENTENCES = {
    True: "{} is more even than {} on steps that it has not seen",
    False: "{} is not certainly more even than {} on steps that it has not seen",
    None: "whether {} is more even than {} cannot be told from so few layers",
}


_DEVICES = 16
"""So many are named."""


def placement_lines(found: Placements) -> Iterator[str]:
    """The plan for people."""
    yield (
        f"placement: {found.n_experts} experts a layer and {found.replicas} replicas on {found.devices} "
        f"devices, {found.experts.shape[1] // found.devices} on each"
    )
    yield (
        f"placement: learned on one half of the latest {found.steps} decode steps, tested on the other, "
        "both ways"
    )
    yield "placement            mean load / largest, mean of layers   worst layer"
    for name, rule in found.rules.items():
        known = np.flatnonzero(np.isfinite(rule.by_layer))
        worst = ""
        if len(known):
            at = int(known[np.argmin(rule.by_layer[known])])
            worst = f"{decimals(float(rule.by_layer[at]), 3)} (layer {found.layers[at]})"
        yield f"placement {name:<12} {decimals(rule.mean, 3):>32}   {worst}"
    shares = ", ".join(map(percents, found.rule.by_device[:_DEVICES].tolist()))
    more = ", …" if found.devices > _DEVICES else ""
    yield f"placement: load of the devices, of all layers, by {list(found.rules)[-1]}: {shares}{more}"
    for name, rule in found.rules.items():
        if rule.gain is not None:
            gain = f"{decimals(rule.gain.mean, 3)} ± {decimals(rule.gain.error, 3)}"
            yield f"placement: {_SENTENCES[rule.gains].format(name, rule.beside)} ({gain})"


def placement_json(found: Placements) -> Json:
    """The same as values."""
    return {
        "steps": found.steps,
        "devices": found.devices,
        "places": found.experts.shape[1],
        "layers": list(found.layers),
        "rules": [
            {
                "rule": name,
                "beside": rule.beside or None,
                "balancedness": number(rule.mean),
                "by_layer": numbers(rule.by_layer),
                "by_device": numbers(rule.by_device),
                "gain": None if rule.gain is None else number(rule.gain.mean),
                "gain_error": None if rule.gain is None else number(rule.gain.error),
                "gains": rule.gains,
            }
            for name, rule in found.rules.items()
        ],
        "placement": found.experts.tolist(),
    }


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if snapshot.placement is not None:
        yield ""
        yield from placement_lines(snapshot.placement)


def _keys(snapshot: Snapshot) -> Keys:
    found = snapshot.placement
    return Keys() if found is None else Keys({"placement": placement_json(found)})


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    found = snapshot.placement
    if found is not None:
        yield Gist(
            "placement",
            [f"{name} {decimals(rule.mean, 3)}" for name, rule in found.rules.items()]
            + [f"mean load of {found.devices} devices over the largest, on unseen steps"],
            lines=2,
        )


SECTION = ReportSection("placement", _lines, _keys, _gists)
