"""What the mouse does to what is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.bindings import Request
from moe_live.dashboard.frame import Frame, compose
from moe_live.dashboard.keys import Mouse, Pointing
from moe_live.dashboard.pointer import point
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import Asking, Prompt, ViewState
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from tests.dashboard.factory import snapshot, status

SHOWN = snapshot(warnings=(snapshot().rows.verdict,))
TITLES = [view.title for view in VIEWS]


def at(title: str, selection: Selection | None = None) -> ViewState:
    return ViewState(view=TITLES.index(title), selection=selection or Selection(), mouse=True)


def see(state: ViewState, width: int = 120, height: int = 40) -> Frame:
    return compose(SHOWN, status(), state, width, height)


def click(state: ViewState, text: str, what: Pointing = Pointing.PRESS, column: int = 0) -> Request | None:
    """On the first place that shows the text, so many columns from its beginning."""
    frame = see(state)
    row, line = next((i, line) for i, line in enumerate(frame.plain.splitlines()) if text in line)
    return point(state, Mouse(what, line.index(text) + column, row), SHOWN, frame)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
def test_a_click_on_a_tab_goes_there(view: View) -> None:
    state = at("Input")
    joined = view.brief[1:] if view.brief[0].lower() == view.key.lower() else view.brief
    click(state, f" {view.key}{joined}", column=2)
    assert VIEWS[state.view] is view


@pytest.mark.parametrize(
    "title", ["Layers", "Balance", "Hot set", "Locality", "Next layer", "Time", "Distances"]
)
def test_a_click_on_a_row_chooses_its_layer(title: str) -> None:
    state = at(title)
    frame = see(state)
    for row, line in enumerate(frame.plain.splitlines()):
        found = frame.target(5, row)
        if isinstance(found, Selection):
            point(state, Mouse(Pointing.PRESS, 5, row), SHOWN, frame)
            assert state.selection == found
            assert str(found.layer) == line[1:].split()[0]


def test_a_click_in_the_heatmap_chooses_the_expert_under_it() -> None:
    state = at("Heatmap")
    frame = see(state, 200, 60)
    lines = frame.plain.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("   12 "))
    point(state, Mouse(Pointing.PRESS, 6 + 57, row), SHOWN, frame)
    assert state.selection == Selection(12, 57)
    point(state, Mouse(Pointing.DRAG, 6 + 58, row), SHOWN, frame)
    assert state.selection == Selection(12, 58)


def test_the_hottest_experts_can_be_clicked_on() -> None:
    state = at("Overview")
    frame = see(state)
    row, line = next((i, line) for i, line in enumerate(frame.plain.splitlines()) if "Hot in decode" in line)
    column = line.index("Hot in decode")
    name = frame.plain.splitlines()[row + 1][column:].split()
    point(state, Mouse(Pointing.PRESS, column + 3, row + 1), SHOWN, frame)
    assert [str(state.selection.layer), f"#{state.selection.expert}"] == name[1:3]


def test_the_keys_in_the_footer_can_be_clicked_on_but_for_those_that_end_things() -> None:
    state = at("Layers")
    click(state, " s sort", column=1)
    assert state.place.sort == 1
    assert click(state, " q quit", column=1) is None
    assert click(state, " R reset", column=1) is None
    assert not state.confirming


def test_a_click_on_a_warning_tells_of_it() -> None:
    state = at("Layers")
    click(state, "71.8% of rows")
    assert VIEWS[state.view].title == "Input"


def test_the_wheel_scrolls() -> None:
    state = at("Layers")
    see(state, 80, 24)
    point(state, Mouse(Pointing.WHEEL_DOWN, 40, 12), SHOWN, see(state, 80, 24))
    assert state.place.rows.first == 3
    point(state, Mouse(Pointing.WHEEL_UP, 40, 12), SHOWN, see(state, 80, 24))
    assert state.place.rows.first == 0
    state = at("Heatmap", Selection(12, 57))
    see(state)
    point(state, Mouse(Pointing.WHEEL_RIGHT, 40, 12), SHOWN, see(state, 200, 60))
    assert state.selection == Selection(12, 60)


def test_where_nothing_is_a_click_does_nothing() -> None:
    state = at("Balance")
    frame = see(state)
    assert frame.target(60, 0) is None
    assert frame.target(3, 999) is None
    assert point(state, Mouse(Pointing.PRESS, 60, 0), SHOWN, frame) is None
    assert (state.view, state.selection) == (TITLES.index("Balance"), Selection())


def test_what_is_left_to_the_terminal_or_typed_meanwhile_is_not_pointed_at() -> None:
    state = at("Layers")
    state.mouse = False
    click(state, " s sort", column=1)
    state.mouse, state.prompt = True, Prompt(Asking.LABEL)
    point(state, Mouse(Pointing.WHEEL_DOWN, 1, 1), SHOWN, see(state))
    assert (state.place.sort, state.place.rows.first) == (0, 0)


mice = st.builds(Mouse, st.sampled_from(Pointing), st.integers(-1, 130), st.integers(-1, 45))


@given(st.sampled_from(TITLES), st.lists(mice, max_size=20))
def test_no_pointing_breaks_a_frame(title: str, mice: list[Mouse]) -> None:
    state = at(title)
    for mouse in mice:
        point(state, mouse, SHOWN, see(state))
    see(state)
