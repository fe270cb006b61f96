"""Which experts are hardly used, and what would be lost with them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moe_live.errors import printable
from moe_live.reports.numbers import decimals, number, percent
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import Snapshot
from moe_live.statistics.pruning import Unseen, least_used, share_lost

_SHOWN = 12  # experts of a layer that are named in the text

_SENTENCES = {
    True: "the experts that one half uses least the other uses less than others too",
    False: "the experts that one half uses least the other does not certainly use less: this may be chance",
    None: "whether the other half uses them less cannot be told from so few layers",
}


def mass_of(snapshot: Snapshot) -> NDArray[np.float64] | None:
    """The share of each layer's gate mass that its experts have (layers, n_experts); None without weights."""
    if not snapshot.gate_mass:
        return None
    mass = np.zeros(snapshot.counts.shape)
    for layer in snapshot.gate_mass:
        if layer.layer in snapshot.model.layers:
            mass[snapshot.model.layers.index(layer.layer), : len(layer.mass)] = layer.mass
    return mass


def prune_lines(snapshot: Snapshot, dropped: NDArray[np.bool_], unseen: Unseen | None) -> Iterator[str]:
    """The plan for people.

    Args:
        snapshot: of the log.
        dropped: (layers, n_experts) which experts go.
        unseen: the test on unseen steps, if there is one.
    """
    counts, mass = snapshot.counts, mass_of(snapshot)
    expected = sum(balance.dead_expected for balance in snapshot.balance)
    unused, chance = counts == 0, float(dropped.mean())
    yield (
        f"prune: {int(unused.sum())} of {counts.size} experts are never chosen in {snapshot.rows.counted} "
        f"rows; even use would leave {expected:.1f}"
    )
    yield f"prune: share of selections lost with {int(dropped.sum())} of the least used experts of the layers"
    yield f"prune {'':<15}    lost     mass   unseen   random   unused   experts, the least used first"
    for row, layer in enumerate(snapshot.model.layers):
        named = np.flatnonzero(dropped[row])
        named = named[np.argsort(counts[row, named], kind="stable")]
        shown = " ".join(map(str, named[:_SHOWN].tolist())) + (" …" if len(named) > _SHOWN else "")
        elsewhere = "-" if unseen is None else percent(unseen.by_layer.get(layer, math.nan))
        yield (
            f"prune layer {layer:<9} {percent(share_lost(counts[row], dropped[row])):>7} "
            f"{'-' if mass is None else percent(share_lost(mass[row], dropped[row])):>8} {elsewhere:>8}"
            f" {percent(float(dropped[row].mean())):>8} {int(unused[row].sum()):>8}   {shown}"
        )
    elsewhere = "-" if unseen is None else percent(unseen.lost)
    of_mass = "-" if mass is None else percent(share_lost(mass, dropped))
    yield (
        f"prune all layers      {percent(share_lost(counts, dropped)):>7} {of_mass:>8} {elsewhere:>8} "
        f"{percent(chance):>8}"
    )
    for usage in snapshot.labels.usages if snapshot.labels else ():
        yield f"prune label {printable(usage.label)}: {percent(share_lost(usage.counts, dropped))} lost"
    if unseen is not None:
        yield (
            f"prune: unseen: chosen in one half of the latest {unseen.steps} decode steps, lost in the "
            "other, both ways"
        )
        yield f"prune: {_SENTENCES[unseen.holds]}"
        gain = f"{decimals(100 * unseen.gain.mean, 1)} ± {decimals(100 * unseen.gain.error, 1)}"
        yield f"prune: {gain} points less are lost there than with experts at random, mean of layers"
    yield "prune: usage alone does not prove that an expert is useless: what is rare here may be needed"
    yield "prune: elsewhere; try the smaller model before you rely on it"


def prune_json(snapshot: Snapshot, dropped: NDArray[np.bool_], unseen: Unseen | None) -> Json:
    """The same as values."""
    counts, mass = snapshot.counts, mass_of(snapshot)
    expected = sum(balance.dead_expected for balance in snapshot.balance)
    labels = snapshot.labels.usages if snapshot.labels else ()
    return {
        "rows": snapshot.rows.counted,
        "unused": {"experts": int((counts == 0).sum()), "expected": number(expected)},
        "dropped": {
            "experts": int(dropped.sum()),
            "lost": number(share_lost(counts, dropped)),
            "mass_lost": None if mass is None else number(share_lost(mass, dropped)),
            "lost_unseen": None if unseen is None else number(unseen.lost),
            "at_random": float(dropped.mean()),
            "gain": None if unseen is None else number(unseen.gain.mean),
            "gain_error": None if unseen is None else number(unseen.gain.error),
            "holds": None if unseen is None else unseen.holds,
        },
        "layers": [
            {
                "layer": layer,
                "unused": np.flatnonzero(counts[row] == 0).tolist(),
                "dropped": np.flatnonzero(dropped[row]).tolist(),
                "lost": number(share_lost(counts[row], dropped[row])),
                "mass_lost": None if mass is None else number(share_lost(mass[row], dropped[row])),
                "lost_unseen": None if unseen is None else number(unseen.by_layer.get(layer, math.nan)),
            }
            for row, layer in enumerate(snapshot.model.layers)
        ],
        "labels": [
            {"label": usage.label, "lost": number(share_lost(usage.counts, dropped))} for usage in labels
        ],
    }


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    found, counts = snapshot.prune, snapshot.counts
    if found is not None and counts.any():
        yield ""
        yield from prune_lines(snapshot, least_used(counts, found.drop), found.unseen)


def _keys(snapshot: Snapshot) -> Keys:
    found, counts = snapshot.prune, snapshot.counts
    if found is None or not counts.any():
        return Keys()
    return Keys({"prune": prune_json(snapshot, least_used(counts, found.drop), found.unseen)})


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    found, counts = snapshot.prune, snapshot.counts
    if found is not None and counts.any():
        dropped = least_used(counts, found.drop)
        facts = [f"{percent(share_lost(counts, dropped))} lost with the {found.drop:.0%} least used"]
        if found.unseen is not None:
            facts.append(f"{percent(found.unseen.lost)} on unseen steps")
        yield Gist("prune", [*facts, f"{percent(float(dropped.mean()))} at random"])


SECTION = ReportSection("prune", _lines, _keys, _gists)
