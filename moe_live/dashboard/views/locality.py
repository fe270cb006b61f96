"""How soon experts are used again in decode, and what a cache of them would serve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from moe_live.dashboard.cache_size import cache_line, size_marks
from moe_live.dashboard.canvas import Column, Line, beside, flow, text
from moe_live.dashboard.graph import curve
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, COLD_BAR, FAINT, STRONG, TITLE
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent
from moe_live.formatting import percents, short, tenths, whole
from moe_live.judgement import HELPS, PAYS, Subject, median
from moe_live.snapshot import LayerLocality, Section, Snapshot
from moe_live.verdicts import CACHED, FEW_STEPS

_PARTS = {16: 7, 8: 4, CACHED: 0, 2: 2}
"""Caches shown, as parts of a layer's experts, and which of their columns go first where there is no room."""

_ROOMY = 12
"""With fewer lines than this the means make way for layers."""

_GAP = 3
NARROWEST_HITS, LOWEST_HITS = 40, 9
"""Columns and lines that the curve of hits needs."""

_WIDEST_CURVE, _HIGHEST_CURVE = 120, 24


def _steps(number: float) -> str:
    return ">1000" if number == math.inf else short(number)


def _cache(size: int, optional: int) -> Column[LayerLocality]:
    """Hit rates of a cache of the experts used last, and of the most used ones."""

    def cell(layer: LayerLocality) -> str:
        recent, fixed = (
            layer.of_caches(rates)[size - 1] for rates in (layer.lru_hit_rate, layer.static_hit_rate)
        )
        return f"{percents(recent):>6} {percents(fixed):>6}"

    return Column(f"{size} last|most", 13, cell, optional=optional)


def _columns(n_experts: int) -> list[Column[LayerLocality]]:
    sizes = {max(1, n_experts // part): optional for part, optional in _PARTS.items()}
    return [
        Column("layer", 5, lambda layer: str(layer.layer)),
        Column("again", 6, lambda layer: percents(layer.overlap[1])),
        Column("2 ago", 6, lambda layer: percents(layer.overlap[2]), optional=10),
        Column("4 ago", 6, lambda layer: percents(layer.overlap[4]), optional=10),
        Column("8 ago", 6, lambda layer: percents(layer.overlap[8]), optional=5),
        Column("chance", 6, lambda layer: percents(layer.overlap_chance)),
        Column("in 10", 5, lambda layer: tenths(layer.working_set[10]), optional=6),
        Column("in 100", 6, lambda layer: tenths(layer.working_set[100]), optional=3),
        Column("in 1000", 7, lambda layer: tenths(layer.working_set[1000]), optional=9),
        *[_cache(size, optional) for size, optional in sizes.items()],
        Column("reused", 7, lambda layer: _steps(layer.reuse_median), optional=8),
        Column("90%", 5, lambda layer: _steps(layer.reuse_p90), optional=8),
    ]


_LISTING: Listing[LayerLocality] = Listing(
    lambda layer: layer.layer,
    (
        Order("again", lambda layer: layer.overlap[1]),
        Order("layer", lambda layer: layer.layer, ascending=True),
        Order("in 100", lambda layer: layer.working_set[100], ascending=True),
        Order("reused", lambda layer: layer.reuse_median, ascending=True),
    ),
)


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(snapshot.locality or (), state)


def _means(layers: Sequence[LayerLocality], width: int) -> list[Line]:
    """What the layers show on average."""

    def mean(figures: Iterable[float]) -> float:
        known = [value for value in figures if math.isfinite(value)]
        return sum(known) / len(known) if known else math.nan

    overlap = [percents(mean(layer.overlap[lag] for layer in layers)) for lag in layers[0].overlap]
    sets = [tenths(mean(layer.working_set[window] for layer in layers)) for window in layers[0].working_set]
    chance = percents(mean(layer.overlap_chance for layer in layers))
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


def hits(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """Hits by the size of the cache: of the chosen layer, or of all together as long as none is.

    Nothing if that is not known, or if there is too little room.
    """
    layers = snapshot.locality or ()
    chosen = [layer for layer in layers if layer.layer == state.selection.layer and layer.uses]
    counted = chosen or [layer for layer in layers if layer.uses]
    if not counted or height < LOWEST_HITS or width < NARROWEST_HITS:
        return []
    width, height = min(width, _WIDEST_CURVE), min(height, _HIGHEST_CURVE)
    uses = [layer.uses for layer in counted]
    recent = np.average([layer.lru_hit_rate for layer in counted], axis=0, weights=uses)
    fixed = np.average([layer.static_hit_rate for layer in counted], axis=0, weights=uses)
    n_experts = len(recent)
    whose = f"layer {chosen[0].layer}" if chosen else "all layers"
    key: Line = (
        text("█", BAR),
        text(" used last  "),
        text("•", STRONG),
        text(" most used  "),
        text("█", COLD_BAR),
        text(" chance"),
    )
    head = flow([(text(f"Hits by experts in the cache, {whose}", TITLE),), key], width)
    chance = np.arange(1, n_experts + 1) / n_experts
    sizes = [max(1, n_experts * part // 4) for part in range(5)]
    marks = list(map(str, sizes)) if chosen else size_marks(snapshot, sizes)
    return [
        *head,
        *curve(
            recent, np.minimum(chance, recent), fixed, width=width, height=height - len(head), marks=marks
        ),
    ]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The verdict, a row a layer, and where there is room the hits by size."""
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
    used = [layer for layer in layers if layer.uses]
    if used and (state.cache or snapshot.model.expert_bytes or height >= _ROOMY):
        head += cache_line(snapshot, used, state, width)
    if height >= _ROOMY:
        head += _means(layers, width)
    columns = _columns(len(layers[0].lru_hit_rate))
    needed = GUTTER + sum(column.width + 2 for column in columns) - 2
    room = height - len(head)
    beneath, at_right = room - len(layers) - 4, width - needed - _GAP
    if beneath >= LOWEST_HITS:
        graph = hits(snapshot, state, width, beneath)
        table = _LISTING.lines(layers, columns, state, width=width, height=room - len(graph) - 1, title=title)
        return [*head, *table, (), *graph]
    if at_right >= NARROWEST_HITS:
        table = _LISTING.lines(layers, columns, state, width=needed, height=room, title=title)
        return [*head, *beside(table, hits(snapshot, state, at_right, room), needed, _GAP)]
    return [*head, *_LISTING.lines(layers, columns, state, width=width, height=room, title=title)]


VIEW = View(
    key="8",
    title="Locality",
    brief="Loc",
    render=render,
    gist="Again: experts the step before used too. last|most: LRU hits, and in hindsight.",
    reading=(
        "Overlap: the share of a step's experts that the step 1, 2, 4 or 8 before used too, beside what "
        "drawing experts anew would give. In 10, 100, 1000: different experts that so many steps in a "
        "row use, on average. Caches: how many of the experts a step needs are among the n used last "
        "(LRU, empty at first) and among the n most used (known with hindsight), – where n cannot hold "
        "the experts of a step: all of a step are looked up before any is given up; + and - ask about "
        "another size, in GiB of all layers too where the log, --model or --expert-bytes tells those of an "
        "expert. Knee: the size that is farthest above chance. Reused: steps until an expert is used "
        "again, half of them and 90 % of them. A cache of a fourth of the experts is said to pay if it "
        f"avoids at least {PAYS:.0%} of the misses of as many experts drawn at random, to help from "
        f"{HELPS:.0%} on. The graph, where there is room, has the hits by size: the area is the cache of "
        "those used last, its dark part what chance gives, the dots are the most used ones."
    ),
    sections=frozenset({Section.LOCALITY}),
    rows=_axis,
    opens=True,
    caches=True,
    sorts=_LISTING.sorts,
)
