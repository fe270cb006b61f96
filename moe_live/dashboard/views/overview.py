"""A little of everything: the verdicts, the heatmap, the hottest experts, the chosen layer, the distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe_live.dashboard.canvas import Line, bar, beside, choosing, fill, flow, text
from moe_live.dashboard.plan import SORTS, Plan, experts_axis, layers_axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, FAINT, TITLE
from moe_live.dashboard.trend_line import trend_line
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent, counts_of, of_phase, relative_use
from moe_live.dashboard.views.distances import recent
from moe_live.dashboard.views.experts import ends
from moe_live.dashboard.views.heatmap import cursor_line, heatmap, heatmap_width
from moe_live.dashboard.views.locality import hits
from moe_live.formatting import figure, percent, times
from moe_live.judgement import Subject
from moe_live.settings import Phase
from moe_live.snapshot import Section, Snapshot
from moe_live.verdicts import FEW

_GAP = 3
_NARROWEST = 26
"""Columns the heatmap takes at least, for its title and legend."""

_SUMMARY = 31
"""Columns the figures take at least."""

_LOWEST = 8
"""Lines the heatmap takes at least, with the line below it; with fewer the hottest experts stand there."""

_LOWEST_LAYER, _LOWEST_DISTANCES = 13, 12
"""Lines from which on there is room for the experts of the chosen layer, and for distances."""

_FOR_ROWS = 15
"""Lines from which on it is said whether rows are right, where no warning says that they are not."""

_ROOMY = 28
"""Lines from which on the last minutes have one."""

_MOST_BARS = 24


_HOTTEST = {
    Phase.ALL: "Hottest experts",
    Phase.DECODE: "Hot in decode",
    Phase.PREFILL: "Hot in prompts",
}


def _hottest(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The experts used most, relative to their own layer: of decode, where nothing else is chosen."""
    shown = of_phase(snapshot, state.phase)
    counts = shown.resident_counts
    ratio = relative_use(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    enough = counts.sum(axis=1) >= FEW * counts.shape[1]
    noisy = not enough.any()
    flat = (ratio if noisy else np.where(enough[:, np.newaxis], ratio, 0.0)).ravel()
    n = min(height - 1 - noisy, flat.size)
    if n < 1:
        return []
    best = np.argpartition(-flat, n - 1)[:n]
    best = best[np.lexsort((best, -flat[best]))]
    title = f"{_HOTTEST[shown.resident_phase]:<15}"
    lines: list[Line] = [(text(title, TITLE), text("share".rjust(6) + "× unif.".rjust(8), FAINT))]
    if noisy:
        lines.append((text("few tokens: noisy", CAUTION),))
    room = min(_MOST_BARS, width - _SUMMARY)
    for index in best.tolist():
        if flat[index] == 0:
            break
        row, expert = divmod(index, counts.shape[1])
        layer = snapshot.layers[row].layer
        name = f"layer {layer} #{expert}"
        share, multiple = percent(float(shares[row, expert])), times(float(flat[index]))
        chosen = replace(state.selection, layer=layer, expert=expert, partner=None)
        line: Line = (choosing(chosen), text(f"{name:<15}{share:>6}{multiple:>8}"))
        if room >= 6:
            line = (*line, text("  " + bar(float(flat[index] / flat[best[0]]), room), BAR))
        lines.append(line)
    return lines


def _distances(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    pairs = snapshot.distances.pairs
    if not pairs or height < 2:
        return []
    lines: list[Line] = [
        (text("Cosine similarity", TITLE), text(" mean, latest steps" if width >= 38 else " mean", FAINT))
    ]
    room = height - 1
    shown = pairs if len(pairs) <= room else pairs[: max(0, room - 1)]
    for pair in shown:
        mean = pair.metrics["cosine_similarity"].mean
        head = f"{pair.from_layer} → {pair.to_layer}"
        line: Line = (text(f"{head:<9} {figure(mean):>7} "),)
        spare = width - 18
        lines.append((*line, *(recent(pair, spare) if spare >= 20 else ())))
    if len(shown) < len(pairs):
        lines.append((text(f"… {len(pairs) - len(shown)} more pairs: view Distances", FAINT),))
    return lines


def _summary(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The hottest experts, those of the layer under the cursor, and distances, as far as there is room."""
    pairs = len(snapshot.distances.pairs)
    distances = min(pairs + 2, height // 3) if pairs and height >= _LOWEST_DISTANCES else 0
    room = height - distances
    if room < _LOWEST_LAYER:
        lines = fill(_hottest(snapshot, state, width, room), room)
    else:
        lines = [*_hottest(snapshot, state, width, room // 2), ()]
        entry = snapshot.layers[Plan.of(snapshot, state).cursor[0]]
        title = text(f"Layer {entry.layer} · {state.phase.value} steps", TITLE)
        head = flow([(title,), (text("Enter: all of it", FAINT),)], width, "  ")[:1]
        counts = counts_of(entry.usage, state.phase)
        lines += fill([*head, *ends(counts, width, room - len(lines) - 2)], room - len(lines))
    return [*lines, *_distances(snapshot, width, distances)]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """What the figures come to; below it the heatmap at the left, figures at the right."""
    if not snapshot.layers:
        return [*absent(snapshot), (), *_distances(snapshot, width, height - 2)]
    shown = of_phase(snapshot, state.phase)
    verdicts = [
        verdict_line(Subject.BALANCE, shown, width),
        verdict_line(Subject.HOT_SET, shown, width),
        verdict_line(Subject.CACHE, snapshot, width),
    ]
    warned = snapshot.rows.verdict in snapshot.warnings and not state.folded
    if height >= _FOR_ROWS and not warned:
        verdicts.insert(0, verdict_line(Subject.ROWS, snapshot, width))
    if height >= _ROOMY:
        verdicts += trend_line(state.trend, width)
    height -= len(verdicts)
    if height < _LOWEST:
        return [*verdicts, *_hottest(snapshot, state, width, height)]
    experts = len(snapshot.overall.counts)
    left = max(_NARROWEST, heatmap_width(experts, width - _GAP - _SUMMARY))
    right = width - left - _GAP
    height -= 1
    picture = heatmap(snapshot, state, left, height)
    if below := hits(snapshot, state, left, height - len(picture) - 1):
        picture += [(), *below]
    return [
        *verdicts,
        *fill(beside(picture, _summary(snapshot, state, right, height), left, _GAP), height),
        cursor_line(snapshot, state, width, f"{state.phase.value} steps"),
    ]


VIEW = View(
    key="1",
    title="Overview",
    brief="Over",
    render=render,
    gist="",
    reading=(
        "First what the figures come to: can the rows be believed (view Input; a warning says it where they "
        "cannot), is the load balanced (Balance), how many experts carry it (Hot set), would a cache of a "
        "fourth of each layer's experts pay (Locality). Then the heatmap "
        "in small beside the experts that stand out most in their own layer (of decode, unless another "
        "phase is chosen; layers with few selections are left out), the experts of the layer "
        "under the cursor, and how similar the router inputs of consecutive layers are. The last line "
        "tells of the expert under the cursor: arrows move it, and what is chosen is so in every view."
    ),
    sections=frozenset({Section.LOCALITY}),
    rows=layers_axis,
    columns=experts_axis,
    opens=True,
    zooms=True,
    sorts=SORTS,
    phases=True,
)
