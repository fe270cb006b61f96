"""The most and the least used experts: of one layer, and of all layers together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Line, bar, beside, flow, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, COLD_BAR, FAINT, TITLE
from moe_live.dashboard.view import View, absent, chosen_layer, counts_of
from moe_live.formatting import percent, short, times
from moe_live.snapshot import Snapshot
from moe_live.verdicts import FEW

_FIGURES = 29
"""Columns of a line before its bar."""


def ranking(counts: NDArray[np.int64], width: int, height: int) -> list[Line]:
    """The most used experts and, under a rule, the least used among those used at all.

    Args:
        counts: (n_experts,) int64.
        width: columns, for the figures and a bar.
        height: lines.
    """
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    total = int(counts.sum())
    if not total:
        return [(text("nothing selected so far", FAINT),)]
    heading: Line = (text("expert" + "count".rjust(8) + "share".rjust(7) + "× unif.".rjust(8), FAINT),)
    room = height - 1
    if len(order) <= room:
        return [heading, *_lines(order, counts, width)]
    low = max(1, (room - 1) // 4) if room >= 4 else 0
    if not low:
        return [heading, *_lines(order[:room], counts, width)]
    left_out = len(order) - (room - 1)
    rule: Line = (text(f"{'…':>6} {left_out} more", FAINT),)
    top = _lines(order[: room - 1 - low], counts, width)
    return [heading, *top, rule, *_lines(order[len(order) - low :], counts, width, cold=True)]


def _lines(
    experts: Sequence[int], counts: NDArray[np.int64], width: int, *, cold: bool = False
) -> list[Line]:
    total, most = int(counts.sum()), int(counts.max())
    lines: list[Line] = []
    for expert in experts:
        count = int(counts[expert])
        share = count / total
        figures = (
            f"{'#' + str(expert):>6} {short(count):>7} {percent(share):>6} {times(share * len(counts)):>7}"
        )
        line: Line = (text(figures),)
        if width > _FIGURES + 6:
            line = (*line, text("  " + bar(count / most, width - _FIGURES - 2), COLD_BAR if cold else BAR))
        lines.append(line)
    return lines


def _summary(counts: NDArray[np.int64]) -> list[Line]:
    used = int(np.count_nonzero(counts))
    notes: list[Line] = [(text(f"{used} of {len(counts)} used"),)]
    if used < len(counts):
        notes.append((text(f"{len(counts) - used} never"),))
    if 0 < counts.sum() < FEW * len(counts):
        notes.append((text("few selections: noisy", CAUTION),))
    return notes


def _pane(title: str, counts: NDArray[np.int64], width: int, height: int) -> list[Line]:
    head = [(text(title, TITLE),), *flow(_summary(counts), width)]
    return [*head, *ranking(counts, width, height - len(head))]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The selected layer's experts beside those of all layers."""
    if not snapshot.layers:
        return absent(snapshot)
    chosen, title = chosen_layer(snapshot, state)
    entry = snapshot.layers[chosen]
    head = flow([title, (text(f"{state.phase.value} steps"),)], width)
    room = height - len(head)
    layer = counts_of(entry.usage, state.phase)
    overall = counts_of(snapshot.overall, state.phase)
    gap = 2 if width < 70 else 4
    half = (width - gap) // 2
    left = _pane(f"Experts of layer {entry.layer}", layer, half, room)
    right = _pane("All layers, by expert number", overall, half, room)
    return [*head, *beside(left, right, half, gap)]


VIEW = View(
    key="4",
    title="Experts",
    render=render,
    gist="Most used first, then the least used. 2×: twice as often as if all were alike.",
    reading=(
        "The least used are those among the experts used at all. Adding up layers by expert number "
        "follows the usual summary; expert 5 of one layer and expert 5 of another are different experts."
    ),
    scroll="choose a layer",
    phases=True,
)
