"""What the mouse does to what is seen."""

from __future__ import annotations

from moe_live.dashboard.bindings import Request, press
from moe_live.dashboard.frame import Frame
from moe_live.dashboard.keys import Mouse, Pointing
from moe_live.dashboard.moves import move_columns, scroll
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import ViewState
from moe_live.snapshot import Snapshot

_WHEEL_LINES = 3
_LINES = {Pointing.WHEEL_UP: -_WHEEL_LINES, Pointing.WHEEL_DOWN: _WHEEL_LINES}
_CELLS = {Pointing.WHEEL_LEFT: -_WHEEL_LINES, Pointing.WHEEL_RIGHT: _WHEEL_LINES}


def point(state: ViewState, mouse: Mouse, snapshot: Snapshot, frame: Frame) -> Request | None:
    """Do what the mouse asks for: choose, scroll, or press the key that stands there.

    Args:
        state: what is seen.
        mouse: what it did.
        snapshot: the figures that are seen.
        frame: how they were drawn.
    """
    if not state.mouse or state.prompt is not None:
        return None
    if mouse.what in _LINES:
        scroll(state, snapshot, _LINES[mouse.what])
        return None
    if mouse.what in _CELLS:
        move_columns(state, snapshot, _CELLS[mouse.what])
        return None
    found = frame.target(mouse.column, mouse.row)
    if isinstance(found, Selection):
        state.selection = found
    elif found is not None and mouse.what is Pointing.PRESS:
        return press(state, found, snapshot)
    return None
