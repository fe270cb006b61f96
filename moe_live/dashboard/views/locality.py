"""How soon experts are used again in decode, and what a cache of them would serve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from moe_live.dashboard.canvas import Column, Line, flow, text
from moe_live.dashboard.listing import Order, listing, titles
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent
from moe_live.formatting import percent, short, whole
from moe_live.judgement import Subject
from moe_live.snapshot import LayerLocality, Section, Snapshot
from moe_live.verdicts import CACHED, FEW_STEPS, HELPS, PAYS, median

_PARTS = {16: 7, 8: 4, CACHED: 0, 2: 2}
"""Caches shown, as parts of a layer's experts, and which of their columns go first where there is no room."""


_ROOMY = 12
"""With fewer lines than this the means make way for layers."""


def _steps(number: float) -> str:
    return ">1000" if number == math.inf else short(number)


def _cache(size: int, optional: int) -> Column[LayerLocality]:
    """Hit rates of a cache of the experts used last, and of the most used ones."""

    def cell(layer: LayerLocality) -> str:
        recent, fixed = layer.lru_hit_rate[size - 1], layer.static_hit_rate[size - 1]
        return f"{percent(recent):>5} {percent(fixed):>6}"

    return Column(f"{size} last|most", 13, cell, optional=optional)


def _columns(n_experts: int) -> list[Column[LayerLocality]]:
    sizes = {max(1, n_experts // part): optional for part, optional in _PARTS.items()}
    return [
        Column("layer", 6, lambda layer: str(layer.layer)),
        Column("again", 6, lambda layer: percent(layer.overlap[1])),
        Column("2 ago", 5, lambda layer: percent(layer.overlap[2]), optional=10),
        Column("4 ago", 5, lambda layer: percent(layer.overlap[4]), optional=10),
        Column("8 ago", 5, lambda layer: percent(layer.overlap[8]), optional=5),
        Column("chance", 6, lambda layer: percent(layer.overlap_chance)),
        Column("in 10", 5, lambda layer: short(layer.working_set[10]), optional=6),
        Column("in 100", 7, lambda layer: short(layer.working_set[100]), optional=3),
        Column("in 1000", 7, lambda layer: short(layer.working_set[1000]), optional=9),
        *[_cache(size, optional) for size, optional in sizes.items()],
        Column("reused", 7, lambda layer: _steps(layer.reuse_median), optional=8),
        Column("90%", 5, lambda layer: _steps(layer.reuse_p90), optional=8),
    ]


_ORDERS: tuple[Order[LayerLocality], ...] = (
    Order("again", lambda layer: layer.overlap[1]),
    Order("layer", lambda layer: layer.layer, ascending=True),
    Order("in 100", lambda layer: layer.working_set[100], ascending=True),
    Order("reused", lambda layer: layer.reuse_median, ascending=True),
)


def _means(layers: Sequence[LayerLocality], width: int) -> list[Line]:
    """What the layers show on average."""

    def mean(figures: Iterable[float]) -> float:
        known = [value for value in figures if math.isfinite(value)]
        return sum(known) / len(known) if known else math.nan

    overlap = [percent(mean(layer.overlap[lag] for layer in layers)) for lag in layers[0].overlap]
    sets = [short(mean(layer.working_set[window] for layer in layers)) for window in layers[0].working_set]
    chance = percent(mean(layer.overlap_chance for layer in layers))
    reused = _steps(median([layer.reuse_median for layer in layers]))
    lags, windows = ("/".join(map(str, each)) for each in (layers[0].overlap, layers[0].working_set))
    return flow(
        [
            (text(f"repeated from {lags} steps ago ", FAINT), text(" ".join(overlap))),
            (text("by chance ", FAINT), text(chance)),
            (text(f"experts in {windows} steps ", FAINT), text(" ".join(sets))),
            (text("reused after ", FAINT), text(f"{reused} steps")),
        ],
        width,
    )


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The verdict and a row a layer."""
    layers = snapshot.locality
    if layers is None:
        return absent(snapshot)
    if not layers:
        return [
            (text("No decode steps so far: caches matter in decode, one token after the other.", CAUTION),)
        ]
    steps = max(layer.steps for layer in layers)
    title: list[Line] = [(text(f"{whole(steps)} decode steps"),)]
    if steps < FEW_STEPS:
        title.append((text("few steps", CAUTION),))
    head = [verdict_line(Subject.CACHE, snapshot, width)]
    if height >= _ROOMY:
        head += _means(layers, width)
    table = listing(
        layers,
        _columns(len(layers[0].lru_hit_rate)),
        _ORDERS,
        state,
        width=width,
        height=height - len(head),
        title=title,
    )
    return [*head, *table]


VIEW = View(
    key="8",
    title="Locality",
    render=render,
    gist="Again: experts the step before used too. last|most: hits of two such caches.",
    reading=(
        "Overlap: the share of a step's experts that the step 1, 2, 4 or 8 before used too, beside what "
        "drawing experts anew would give. In 10, 100, 1000: different experts that so many steps in a "
        "row use, on average. Caches: how many of the experts a step needs are among the n used last "
        "(LRU, empty at first) and among the n most used (known with hindsight). Reused: steps until an "
        "expert is used again, half of them and 90 % of them. A cache of a fourth of the experts is said "
        f"to pay if it avoids at least {PAYS:.0%} of the misses of as many experts drawn at random, to "
        f"help from {HELPS:.0%} on."
    ),
    sections=frozenset({Section.LOCALITY}),
    scroll="scroll",
    sorts=titles(_ORDERS),
)
