"""What the figures come to, a line each: balance, hot set, cache."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.style import Style

from moe_live.dashboard.canvas import Line, line_width, text
from moe_live.dashboard.text import percent, short, whole
from moe_live.dashboard.theme import CAUTION, FAINT, GOOD, STRONG
from moe_live.dashboard.view import FEW
from moe_live.snapshot import COVERED_PERCENT, Snapshot

_NAME = 9

EVEN, UNEVEN = 0.75, 0.4
"""Share of the experts that are effective: from the first on a layer is even, below the second uneven."""

NARROW, WIDE = 0.4, 0.7
"""Share of the experts that carry 90 % of the selections: up to the first the load is concentrated, from the
second on spread out (it is 0.9 if all experts are used alike)."""

CACHED = 4
"""Caches are judged by what a fourth of a layer's experts serve."""

FEW_STEPS = 30
"""Decode steps below which nothing is said of caches: first uses are misses however well one pays."""

PAYS, HELPS = 0.5, 0.2
"""Share of the misses of experts drawn at random that a cache avoids: from which on it pays, and helps."""


def balance_verdict(snapshot: Snapshot, width: int) -> Line:
    """How evenly the experts are used."""
    figures = snapshot.balance
    n_experts = snapshot.counts.shape[1]
    effective = median([figure.effective_experts for figure in figures])
    dead = sum(figure.dead_experts for figure in figures)
    by_chance = expected(sum(figure.dead_expected for figure in figures))
    pieces = [
        f"entropy {fraction(median([figure.entropy_normalized for figure in figures]))} of 1",
        f"{whole(dead)} of {whole(snapshot.counts.size)} unused ({by_chance} by chance)",
        f"a layer is like {short(effective)} of {n_experts} experts used alike",
    ]
    share = effective / n_experts
    word, style = ("uneven", CAUTION) if share < UNEVEN else ("fair", STRONG)
    if share >= EVEN:
        word, style = "even", GOOD
    return _line("balance", word, style, pieces, width, early=few(snapshot))


def hot_set_verdict(snapshot: Snapshot, width: int) -> Line:
    """How many experts carry most of the load."""
    n_experts = snapshot.counts.shape[1]
    needed = snapshot.coverage[:, COVERED_PERCENT.index(90)]
    needed = needed[needed > 0]
    fewest, most = (int(needed.min()), int(needed.max())) if len(needed) else (0, 0)
    middle = median(needed.tolist())
    half = median(snapshot.coverage[:, COVERED_PERCENT.index(50)].tolist())
    pieces = [
        f"{short(middle)} of {n_experts} experts a layer carry 90 %",
        f"{fewest} to {most} by layer",
        f"{short(half)} carry 50 %",
    ]
    share = middle / n_experts
    word = "concentrated" if share <= NARROW else "spread out" if share >= WIDE else "moderate"
    return _line("hot set", word, STRONG, pieces, width, early=few(snapshot))


def cache_verdict(snapshot: Snapshot, width: int) -> Line:
    """Whether keeping some experts of each layer in fast memory would pay."""
    layers = snapshot.locality
    if layers is None:
        return (text("cache".ljust(_NAME), STRONG), text("one moment …", FAINT))
    uses = sum(layer.uses for layer in layers)
    if not uses:
        return (text("cache".ljust(_NAME), STRONG), text("no decode steps so far", FAINT))
    n_experts = len(layers[0].lru_hit_rate)
    size = max(1, n_experts // CACHED)
    weights = [layer.uses for layer in layers]
    recent = float(np.average([layer.lru_hit_rate[size - 1] for layer in layers], weights=weights))
    fixed = float(np.average([layer.static_hit_rate[size - 1] for layer in layers], weights=weights))
    chance = size / n_experts
    pieces = [
        f"{size} of {n_experts} a layer: LRU hits {percent(recent)}",
        f"hot set {percent(fixed)}",
        f"chance {percent(chance)}",
    ]
    early = max(layer.steps for layer in layers) < FEW_STEPS
    avoided = (max(recent, fixed) - chance) / (1 - chance) if chance < 1 else 0.0
    word, style = ("hardly pays", CAUTION)
    if avoided >= HELPS:
        word, style = ("pays", GOOD) if avoided >= PAYS else ("helps some", STRONG)
    return _line("cache", word, style, pieces, width, early=early)


def few(snapshot: Snapshot) -> bool:
    """Whether layers have so few selections that chance shows more than the model."""
    n_experts: int = snapshot.counts.shape[1]
    return median(snapshot.counts.sum(axis=1).tolist()) < FEW * n_experts


def median(values: Sequence[float]) -> float:
    """The median of those that are defined, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def expected(number: float) -> str:
    """How many things chance gives."""
    return "<0.1" if 0 < number < 0.05 else short(round(number, 1))


def fraction(value: float, digits: int = 2) -> str:
    """A figure with so many decimals; – where undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _line(name: str, word: str, style: Style, pieces: Sequence[str], width: int, *, early: bool) -> Line:
    """Name, verdict (none while it is early) and as many pieces as fit."""
    verdict = text("too early to say", CAUTION) if early else text(word, style)
    line: Line = (text(name.ljust(_NAME), STRONG), verdict)
    for i, piece in enumerate(pieces):
        separator = " · " if i else "  "
        if line_width(line) + len(separator) + len(piece) > width:
            break
        line = (*line, text(separator + piece))
    return line
