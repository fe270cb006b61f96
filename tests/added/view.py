"""First choices on the screen: what moe_live/dashboard/views would hold."""

from __future__ import annotations

from moe_live.dashboard.canvas import Line, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.view import View, absent
from moe_live.snapshot import Section, Snapshot


def _render(snapshot: Snapshot, _state: ViewState, _width: int, _height: int) -> list[Line]:
    found = snapshot.first_choices  # type: ignore[attr-defined]  # where it is added
    if found is None:
        return absent(snapshot)
    return [(text(f"{found.experts} first choices in {found.rows} rows"),)]


VIEW = View(
    key="f",
    title="First choices",
    brief="First",
    render=_render,
    gist="Which experts come first?",
    reading="The first expert of a row is the one with the largest weight.",
    sections=frozenset({Section.FIRST_CHOICES}),  # type: ignore[attr-defined]  # where it is added
)
