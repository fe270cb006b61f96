"""How what is chosen is changed: by arrows, by a number, by opening and going back."""

from __future__ import annotations

import re
from dataclasses import replace

from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.view import Axes, View, layer_index
from moe_live.dashboard.views import EXPERTS, VIEWS
from moe_live.formatting import ranges
from moe_live.snapshot import Snapshot

_PLACE = re.compile(
    r"(?:layer\s*)?(\d{1,9})?\s*(?:(?:[#/,\s]\s*(?:expert\s*)?#?|expert\s*#?)\s*(\d{1,9}))?", re.IGNORECASE
)
HOW_TO_GO = "26 a layer, #122 an expert, 26 #122 both"


def view_of(state: ViewState) -> View:
    """The present view."""
    return VIEWS[state.view]


def show(state: ViewState, index: int) -> None:
    """Go to a view by itself, not as one that is opened from another."""
    state.help = False
    state.view = index % len(VIEWS)
    state.back = ()


def move_rows(state: ViewState, snapshot: Snapshot, lines: int = 0, pages: int = 0) -> None:
    """Choose another row, or scroll where there is none to choose."""
    window = state.place.rows
    by = lines + pages * window.page
    axis = _axis(view_of(state).rows, state, snapshot)
    if axis is None:
        window.first = max(0, window.first + by)
    elif axis.count:
        state.selection = axis.moved(by)


def move_columns(state: ViewState, snapshot: Snapshot, cells: int = 0, pages: int = 0) -> None:
    """Choose what stands beside."""
    axis = _axis(view_of(state).columns, state, snapshot)
    if axis is not None and axis.count:
        state.selection = axis.moved(cells + pages * state.place.columns.page)


def scroll(state: ViewState, snapshot: Snapshot, lines: int) -> None:
    """Move what is visible. What was chosen comes along as far as it must to stay visible."""
    window = state.place.rows
    axis = _axis(view_of(state).rows, state, snapshot)
    if axis is None:
        window.first = max(0, window.first + lines)
        return
    visible = window.scrolled(lines, axis.count)
    at = max(visible.start, min(visible.stop - 1, axis.at))
    if at != axis.at and axis.moved(0) == state.selection:
        state.selection = window.shows = axis.choice(at)


def show_first(state: ViewState, snapshot: Snapshot) -> None:
    """Go to the beginning of a new order. What was chosen stays chosen.

    As long as nothing was, and more is told of the first row, that one is chosen now: another may become the
    first, and what is told must not change by itself.
    """
    rows, columns = state.place.rows, state.place.columns
    rows.first = columns.first = 0
    axis = _axis(view_of(state).rows, state, snapshot)
    if view_of(state).details and state.selection.layer is None and axis is not None and axis.count:
        state.selection = rows.shows = axis.choice(0)


def open_experts(state: ViewState, snapshot: Snapshot) -> None:
    """Look at the experts of what is chosen."""
    axis = _axis(view_of(state).rows, state, snapshot)
    if view_of(state).opens and axis is not None and axis.count:
        state.selection = axis.moved(0)
        _enter_experts(state)


def go_back(state: ViewState) -> None:
    """Return to the view that this one was opened from."""
    if state.back:
        state.view, *rest = state.back
        state.back = tuple(rest)


def go_to(state: ViewState, snapshot: Snapshot, typed: str) -> None:
    """Choose a layer, or an expert, by its number."""
    found = _PLACE.fullmatch(typed.strip())
    if found is None or not any(found.groups()):
        state.note = f"type {HOW_TO_GO}"
        return
    layers = [entry.layer for entry in snapshot.layers]
    if not layers:
        state.note = "no layers so far"
        return
    number, name = found.groups()
    layer = layers[layer_index(snapshot, state.selection)] if number is None else int(number)
    expert = None if name is None else int(name)
    n_experts = len(snapshot.overall.counts)
    if layer not in layers:
        state.note = f"no layer {layer}: there are {ranges(layers, '–')}"
    elif expert is not None and expert >= n_experts:
        state.note = f"no expert {expert}: there are 0–{n_experts - 1}"
    else:
        state.selection = replace(state.selection, layer=layer, expert=expert, partner=None)
        state.help = False
        view = view_of(state)
        if state.view != EXPERTS and not (view.zooms or (view.opens and expert is None)):
            _enter_experts(state)


def _enter_experts(state: ViewState) -> None:
    state.back = (state.view, *state.back)
    state.view = EXPERTS


def _axis(axes: Axes | None, state: ViewState, snapshot: Snapshot) -> Axis | None:
    """What the arrows move over now; None for nothing."""
    if axes is None or state.help:
        return None
    return axes(snapshot, state)
