"""The experts of one layer by their use, beside those of all layers added up by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Line, bar, beside, choosing, flow, text
from moe_live.dashboard.listing import GUTTER, marked
from moe_live.dashboard.readout import readout, standing
from moe_live.dashboard.selection import NO_AXIS, Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, COLD_BAR, FAINT, STRONG, TITLE
from moe_live.dashboard.view import (
    View,
    absent,
    counts_of,
    excerpt,
    layer_axis,
    layer_index,
    layer_title,
    longest_excerpt,
)
from moe_live.formatting import fraction, percent, short, times
from moe_live.snapshot import LayerGateMass, Section, Snapshot
from moe_live.verdicts import FEW

_HEADING = "expert" + "count".rjust(8) + "share".rjust(7) + "× unif.".rjust(8)
_FIGURES = len(_HEADING)
"""Columns of a line before its bar."""

_GAP = 3
_RANKS = 8
_NARROWEST = _FIGURES + GUTTER


def expert_line(
    expert: int,
    counts: NDArray[np.int64],
    width: int,
    *,
    cold: bool = False,
    mass: NDArray[np.float64] | None = None,
) -> Line:
    """An expert's count and share, and a bar if there is room.

    Args:
        expert: its number.
        counts: (n_experts,) selections of its layer.
        width: columns.
        cold: whether it is one of those used least.
        mass: (n_experts,) shares of the layer's weights, to be shown too; None for none.
    """
    total, most, count = int(counts.sum()), int(counts.max()), int(counts[expert])
    share = count / max(1, total)
    figures = f"{'#' + str(expert):>6} {short(count):>7} {percent(share):>6} {times(share * len(counts)):>7}"
    if mass is not None:
        figures += f" {percent(float(mass[expert])):>6}"
    if width <= len(figures) + 6:
        return (text(figures),)
    length = width - len(figures) - 2
    return (text(figures + "  "), text(bar(count / max(1, most), length), COLD_BAR if cold else BAR))


def by_use(counts: NDArray[np.int64]) -> list[int]:
    """All experts, the most used first; of those used alike the one with the lowest number."""
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    return order


def _of_layer(snapshot: Snapshot, state: ViewState) -> NDArray[np.int64]:
    """(n_experts,) the selections of the chosen layer."""
    entry = snapshot.layers[layer_index(snapshot, state.selection)]
    return counts_of(entry.usage, state.phase)


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """Up and down: the experts of the chosen layer, by their use."""
    if not snapshot.layers:
        return NO_AXIS
    layer = snapshot.layers[layer_index(snapshot, state.selection)].layer
    order = by_use(_of_layer(snapshot, state))
    expert = state.selection.expert
    return Axis(
        len(order),
        order.index(expert) if expert in order else 0,
        lambda i: replace(state.selection, layer=layer, expert=order[i], partner=None),
    )


def _summary(counts: NDArray[np.int64]) -> list[Line]:
    used = int(np.count_nonzero(counts))
    notes: list[Line] = [(text(f"{used} of {len(counts)} used"),)]
    if 0 < counts.sum() < FEW * len(counts):
        notes.append((text("few selections: noisy", CAUTION),))
    return notes


def _gate_mass(snapshot: Snapshot, state: ViewState) -> LayerGateMass | None:
    """The weights of the chosen layer, if the log has any."""
    layer = snapshot.layers[layer_index(snapshot, state.selection)].layer
    return next((found for found in snapshot.gate_mass if found.layer == layer), None)


def _weights(mass: LayerGateMass | None) -> list[Line]:
    """How the weights of a row fall off."""
    if mass is None:
        return []
    ranks = " ".join(fraction(weight) for weight in mass.by_rank[:_RANKS].tolist())
    more = " …" if len(mass.by_rank) > _RANKS else ""
    return [
        (text("weights by rank "), text(ranks + more, STRONG)),
        (text("top-1 "), text(percent(mass.top1_share), STRONG)),
        (text("margin "), text(fraction(mass.margin), STRONG)),
    ]


def _listed(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The experts of the chosen layer that are visible, with the chosen one."""
    counts = _of_layer(snapshot, state)
    order, axis = by_use(counts), _axis(snapshot, state)
    notes = [*_summary(counts), (text(longest_excerpt(len(order), "ranks"), STRONG),)]
    visible = state.place.rows.around(
        len(order), height - len(flow(notes, width)) - 1, state.selection, axis.at
    )
    notes[-1] = (text(excerpt(visible, len(order), "ranks"), STRONG),)
    found = _gate_mass(snapshot, state)
    mass = None if found is None else found.mass
    heading = _HEADING if mass is None else _HEADING + "weight".rjust(7)
    lines = [*flow(notes, width), (text(" " + heading, TITLE),)]
    for i in visible:
        line = expert_line(order[i], counts, width - GUTTER, mass=mass)
        lines.append((choosing(axis.choice(i)), *marked(line, width, chosen=i == axis.at)))
    return lines


def ends(counts: NDArray[np.int64], width: int, height: int) -> list[Line]:
    """The most used experts and, under a rule, the least used among those used at all.

    Args:
        counts: (n_experts,) int64.
        width: columns, for the figures and a bar.
        height: lines.
    """
    used = by_use(counts)[: np.count_nonzero(counts)]
    if not used:
        return [(text("nothing selected so far", FAINT),)]
    heading: Line = (text(_HEADING, TITLE),)

    def drawn(experts: Sequence[int], *, cold: bool = False) -> list[Line]:
        return [expert_line(expert, counts, width, cold=cold) for expert in experts]

    room = height - 1
    low = max(1, (room - 1) // 4) if room >= 4 else 0
    if len(used) <= room or not low:
        return [heading, *drawn(used[:room])]
    rule: Line = (text(f"{'…':>6} {len(used) - (room - 1)} more", FAINT),)
    return [heading, *drawn(used[: room - 1 - low]), rule, *drawn(used[-low:], cold=True)]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The chosen layer's experts beside those of all layers, and what is known of the chosen one."""
    if not snapshot.layers:
        return absent(snapshot)
    chosen, title = layer_title(snapshot, state)
    axis = _axis(snapshot, state)
    found = standing(snapshot, snapshot.layers[chosen], axis.moved(0).expert or 0, state.phase)
    weights = _weights(_gate_mass(snapshot, state))
    head = flow([title, (text(f"{state.phase.value} steps"),), *weights], width)
    room = height - len(head) - 1
    right = max(_NARROWEST, min(60, (width - _GAP) * 2 // 5))
    left = width - _GAP - right
    overall = counts_of(snapshot.overall, state.phase)
    together: list[Line] = [
        (text("All layers, by expert number", FAINT),),
        (text("unrelated experts, added up", CAUTION),),
        *ends(overall, right, room - 2),
    ]
    return [
        *head,
        *beside(_listed(snapshot, state, left, room), together, left, _GAP),
        readout(found, width),
    ]


VIEW = View(
    key="4",
    title="Experts",
    brief="Exp",
    render=render,
    gist="A layer's experts, most used first. 2×: twice as often as if all were alike.",
    reading=(
        "Left all experts of the chosen layer, by their use. Right the sums over all layers by expert "
        "number, as the usual summary adds them up, the most and the least used ones: expert 5 of one "
        "layer and expert 5 of another are different experts, so the sums look more even than any layer "
        "is. The last line tells of the chosen expert. Where the log has weights, weight is the expert's "
        "share of the sum of all weights of the layer, prompts included; above stand the mean weight of the "
        "first, second, … expert of a row, the share that the first ones have (top-1), and by how much the "
        "first exceeds the second (margin)."
    ),
    sections=frozenset({Section.LOCALITY}),
    rows=_axis,
    columns=layer_axis,
    phases=True,
)
