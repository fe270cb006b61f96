"""What a view is, and what several views need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Line, Spot, text
from moe_live.dashboard.selection import Axis, Selection
from moe_live.dashboard.state import Phase, ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, STRONG, TITLE
from moe_live.dataclass import dataclass
from moe_live.snapshot import LayerUsage, Section, Snapshot, Usage
from moe_live.wrapping import wrap

Axes = Callable[[Snapshot, ViewState], Axis]


@dataclass(frozen=True, slots=True)
class View:
    """One screen of figures.

    Attributes:
        key: the key that leads to it.
        title: its name in the list of views.
        brief: its name where there is little room.
        render: (snapshot, state, width, height) to at most `height` lines of at most `width` columns.
        gist: how to read it in one line, shown above the figures; "" if they speak for themselves.
        reading: how to read the figures at length, for the help.
        sections: the sections of the snapshot it needs.
        of_trend: those of them that it needs for the trend alone.
        plan: the plan it shows, which is made only for it; "" for none.
        rows: what the arrows up and down move over; None where they scroll lines, if there is more.
        columns: what the arrows left and right move over; None for nothing.
        details: whether it tells more of the chosen row than stands in it.
        opens: whether Enter opens the experts of what is chosen.
        zooms: whether it has columns to look at more closely.
        sorts: orders to choose from; none if there is no choice.
        caches: whether it tells of a cache of a size to choose.
        phases: whether prefill and decode can be shown apart.
        always: whether it has something to show before any MoE line was found.
    """

    key: str
    title: str
    brief: str
    render: Callable[[Snapshot, ViewState, int, int], list[Line]]
    gist: str
    reading: str
    sections: frozenset[Section] = frozenset()
    of_trend: frozenset[Section] = frozenset()
    plan: str = ""
    rows: Axes | None = None
    columns: Axes | None = None
    details: bool = False
    opens: bool = False
    zooms: bool = False
    sorts: tuple[str, ...] = ()
    caches: bool = False
    phases: bool = False
    always: bool = False


def absent(snapshot: Snapshot) -> list[Line]:
    """Instead of figures that rest on expert lines: there are none, or the figures are being made."""
    if not snapshot.layers:
        return [(text("No expert lines in this log, only gate inputs.", CAUTION),)]
    if snapshot.lacks_rows:
        return [(text("No rows in this input: it tells how often each expert was chosen.", CAUTION),)]
    if snapshot.left_out:
        names = ", ".join(sorted(snapshot.left_out))
        return [(text(f"Left out, making it failed: {names}. The summary at the end says why.", CAUTION),)]
    if snapshot.counts_only:
        return [(text("Left out: more layers and experts than any model has.", CAUTION),)]
    return [(text("One moment …", FAINT),)]


def unplanned(name: str, snapshot: Snapshot, width: int) -> list[Line]:
    """Instead of the figures of a plan: why there are none."""
    reason = snapshot.unplanned.get(name)
    if reason is None or not snapshot.layers or snapshot.lacks_rows:
        return absent(snapshot)
    return [(text(part, CAUTION),) for part in wrap(f"{reason[0].upper()}{reason[1:]}.", width, 3)]


def counts_of(usage: Usage, phase: Phase) -> NDArray[np.int64]:
    """(n_experts,) int64, the selections in the steps of a phase."""
    return usage.of(phase.of_log)


def phase_of(snapshot: Snapshot) -> Phase:
    """What is shown of a snapshot unless another phase is chosen."""
    return Phase(snapshot.phase or Phase.ALL.value)


def layer_counts(snapshot: Snapshot, phase: Phase) -> NDArray[np.int64]:
    """(layers, n_experts) int64, the selections in the steps of a phase."""
    return snapshot.of(phase.of_log)


def of_phase(snapshot: Snapshot, phase: Phase) -> Snapshot:
    """The snapshot with the selections in the steps of a phase only; sections stay as they are."""
    if phase is Phase.ALL is phase_of(snapshot):
        return snapshot
    chosen = phase.of_log

    def use(usage: Usage) -> Usage:
        return replace(usage, phase=chosen)

    layers = tuple(LayerUsage(entry.layer, use(entry.usage)) for entry in snapshot.layers)
    return replace(snapshot, layers=layers, overall=use(snapshot.overall), phase=chosen)


def relative_use(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts over those under uniform use, along the last axis; 0 where nothing was selected."""
    return counts / uniform_use(counts)


def uniform_use(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each count along the last axis (of length 1) would be under uniform use; 1 for none at all."""
    uniform: NDArray[np.float64] = counts.sum(axis=-1, keepdims=True) / counts.shape[-1]
    uniform[uniform == 0] = 1.0
    return uniform


def layer_index(snapshot: Snapshot, selection: Selection) -> int:
    """Index of the chosen layer, or of the nearest there is; the first if none is chosen."""
    if selection.layer is None or not snapshot.layers:
        return 0
    chosen = selection.layer
    return min(range(len(snapshot.layers)), key=lambda i: abs(snapshot.layers[i].layer - chosen))


def of_layer(selection: Selection, layer: int) -> Selection:
    """The selection with this layer; one of its experts only if it was chosen already."""
    if selection.layer == layer:
        return selection
    return replace(selection, layer=layer, expert=None, partner=None)


def choosing_layer(selection: Selection, layer: int) -> Spot:
    """A click from here on chooses this layer."""
    return Spot(lambda _: of_layer(selection, layer))


def layer_axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """All layers, in their order."""
    return Axis(
        len(snapshot.layers),
        layer_index(snapshot, state.selection),
        lambda i: of_layer(state.selection, snapshot.layers[i].layer),
    )


def layer_title(snapshot: Snapshot, state: ViewState) -> tuple[int, Line]:
    """Index of the chosen layer, and a title that says which it is and how to choose another."""
    chosen = layer_index(snapshot, state.selection)
    name = f"Layer {snapshot.layers[chosen].layer} ({chosen + 1} of {len(snapshot.layers)})"
    return chosen, (text(name, TITLE), text("  ←→", STRONG), text(" choose", FAINT))


def excerpt(rows: range, total: int, what: str) -> str:
    """Which rows are shown: "layers 1–20 of 48 ↓", or "" if all are."""
    if len(rows) == total:
        return ""
    arrows = ("↑" if rows.start > 0 else "") + ("↓" if rows.stop < total else "")
    return f"{what} {rows.start + 1}–{rows.stop} of {total} {arrows}".strip()


def longest_excerpt(total: int, what: str) -> str:
    """An excerpt of these rows at its longest, to know how much room it may take."""
    return f"{what} {total}–{total} of {total} ↑↓".strip()
