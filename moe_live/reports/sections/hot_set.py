"""How few experts serve how much: of each layer, and resident ones of all layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import COVERED_PERCENT, Snapshot


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.layers:
        return
    yield ""
    shares = "".join(f"{percent:>6} %" for percent in COVERED_PERCENT)
    yield f"hot set: fewest experts that serve {shares}"
    for entry, experts in zip(snapshot.layers, snapshot.coverage.tolist(), strict=True):
        yield f"hot set layer {entry.layer:<20} " + "".join(f"{count:>8}" for count in experts)
    yield ""
    yield "budget: share of selections that experts held in fast memory serve, chosen with hindsight"
    if note := snapshot.resident_note:
        yield f"budget: {note}"
    yield "budget    experts   of all   as many a layer   best choice   a layer then"
    total = sum(snapshot.layer_sizes)
    for budget in snapshot.budgets:
        yield (
            f"budget {budget.experts:>10} {budget.experts / total:>8.0%} {budget.even:>17.1%}"
            f" {budget.best:>13.1%}   {budget.fewest} to {budget.most}"
        )


def _keys(snapshot: Snapshot) -> Keys:
    return Keys(
        layers=[{"coverage": _coverage(experts)} for experts in snapshot.coverage],
        overall={"coverage": _coverage(snapshot.overall_coverage)},
    )


def _coverage(experts: NDArray[np.int64]) -> Json:
    """Experts (len(COVERED_PERCENT),) that serve a share of the selections, by that share."""
    return {
        f"{percent / 100:g}": count for percent, count in zip(COVERED_PERCENT, experts.tolist(), strict=True)
    }


SECTION = ReportSection("hot set", _lines, _keys)
