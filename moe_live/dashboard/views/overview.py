"""A little of everything: the heatmap, the leading experts, the distances."""

from __future__ import annotations

import numpy as np

from moe_live.dashboard.canvas import Line, beside, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import FAINT, TITLE
from moe_live.dashboard.verdict import verdict_line
from moe_live.dashboard.view import View, absent, counts_of, layer_counts, of_phase, relative_use
from moe_live.dashboard.views.distances import recent
from moe_live.dashboard.views.experts import ranking
from moe_live.dashboard.views.heatmap import heatmap, heatmap_width
from moe_live.formatting import figure, percent, times
from moe_live.judgement import Subject
from moe_live.snapshot import Section, Snapshot

_GAP = 3
_NARROWEST = 26
"""Columns the heatmap takes at least, for its title and legend."""

_SUMMARY = 31
"""Columns the figures take at least."""

_WIDEST_SUMMARY = 70
_LOWEST = 7
"""Lines the heatmap takes at least; with fewer the hottest experts stand there."""


def _hottest(snapshot: Snapshot, state: ViewState, height: int) -> list[Line]:
    """The experts used most, relative to their own layer."""
    counts = layer_counts(snapshot, state.phase)
    ratio = relative_use(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    flat = ratio.ravel()
    n = min(height - 1, flat.size)
    if n < 1:
        return []
    best = np.argpartition(-flat, n - 1)[:n]
    best = best[np.lexsort((best, -flat[best]))]
    lines: list[Line] = [(text("Hottest experts", TITLE), text("share".rjust(6) + "× unif.".rjust(8), FAINT))]
    for index in best.tolist():
        if flat[index] == 0:
            break
        row, expert = divmod(index, counts.shape[1])
        name = f"layer {snapshot.layers[row].layer} #{expert}"
        share, multiple = percent(float(shares[row, expert])), times(float(flat[index]))
        lines.append((text(f"{name:<15}{share:>6}{multiple:>8}"),))
    return lines


def _distances(snapshot: Snapshot, width: int, height: int) -> list[Line]:
    pairs = snapshot.distances.pairs
    if not pairs:
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
    distances = min(len(snapshot.distances.pairs) + 2, max(4, height // 3)) if snapshot.distances.pairs else 0
    lines: list[Line] = []
    if snapshot.layers:
        room = height - distances
        hot = min(9, max(4, room // 3))
        lines += [*_hottest(snapshot, state, hot), ()]
        title: Line = (text("All layers, by expert number", TITLE),)
        overall = counts_of(snapshot.overall, state.phase)
        lines += [title, *ranking(overall, width, min(room - len(lines) - 2, 18)), ()]
    if distances:
        lines += _distances(snapshot, width, height - len(lines))
    return lines[:height]


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
    height -= len(verdicts)
    if height < _LOWEST:
        return [*verdicts, *_hottest(snapshot, state, height)]
    experts = len(snapshot.overall.counts)
    left = max(_NARROWEST, heatmap_width(experts, width - _GAP - max(_SUMMARY, width * 3 // 10)))
    right = min(_WIDEST_SUMMARY, width - left - _GAP)
    return [
        *verdicts,
        *beside(heatmap(snapshot, state, left, height), _summary(snapshot, state, right, height), left, _GAP),
    ]


VIEW = View(
    key="1",
    title="Overview",
    render=render,
    gist="",
    reading=(
        "First what the figures come to: is the load balanced (view Balance), how many experts carry it "
        "(Hot set), would a cache of a fourth of each layer's experts pay (Locality). Then the heatmap "
        "in small beside the experts that stand out most in their own layer, the experts of all layers "
        "added up by number, and how similar the router inputs of consecutive layers are."
    ),
    sections=frozenset({Section.LOCALITY}),
    scroll="scroll",
    phases=True,
)
