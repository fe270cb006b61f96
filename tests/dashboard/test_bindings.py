"""What keys do to what is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.bindings import BINDINGS, Request
from moe_live.dashboard.bindings import press as pressed
from moe_live.dashboard.frame import compose
from moe_live.dashboard.state import Asking, CellOf, Kept, Phase, Prompt, ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.formats.comments import MAX_LABEL
from tests.dashboard.factory import nothing, snapshot, status

KEYS = [key for binding in BINDINGS for key in binding.keys]
SHOWN = snapshot()


def press(state: ViewState, *keys: str) -> Request | None:
    """Press them one after the other; what the last one asks for."""
    request = None
    for key in keys:
        request = pressed(state, key, SHOWN)
    return request


def footer(state: ViewState, width: int = 120) -> str:
    return compose(SHOWN, status(), state, width, 40).plain.splitlines()[-1]


@pytest.mark.parametrize(
    ("keys", "kept"), [("wj", Kept.JSON), ("wxt", Kept.TABLES), ("wh", Kept.PAGE), ("w wp", Kept.PICTURE)]
)
def test_w_asks_what_to_write(keys: str, kept: Kept) -> None:
    state = ViewState()
    first, last = keys[:-1], keys[-1]
    for key in first:
        assert press(state, key) is None
        assert state.prompt == Prompt(Asking.WRITE)
    assert press(state, last) is Request.WRITE
    assert (state.kept, state.prompt) == (kept, None)
    press(state, "w")
    assert press(state, "esc") is None
    assert state.prompt is None


def test_no_key_is_bound_twice() -> None:
    assert len(KEYS) == len(set(KEYS))


def test_the_footer_and_the_help_list_what_is_bound() -> None:
    state = ViewState(view=2)
    for shown in ("q quit", "? help", "space pause", "Enter open", "s sort", "r reverse", "p phase", "/ go"):
        assert shown in footer(state)
    press(state, "?")
    overlay = compose(SHOWN, status(), state, 120, 200).plain
    for binding in BINDINGS:
        assert binding.help in overlay


@pytest.mark.parametrize("view", range(len(VIEWS)))
def test_the_footer_offers_a_new_beginning_at_80_columns(view: int) -> None:
    assert " R reset" in footer(ViewState(view=view, mouse=True), 80)


@pytest.mark.parametrize("view", range(len(VIEWS)))
def test_its_key_and_tab_lead_to_every_view(view: int) -> None:
    state = ViewState()
    press(state, VIEWS[view].key)
    assert state.view == view
    press(state, "tab")
    assert state.view == (view + 1) % len(VIEWS)
    press(state, "shift-tab", "shift-tab")
    assert state.view == (view - 1) % len(VIEWS)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
def test_the_help_opens_at_the_present_view(view: View) -> None:
    state = ViewState(view=VIEWS.index(view))
    press(state, "?", "G", "?", "?")
    lines = compose(SHOWN, status(), state, 80, 24).plain.splitlines()
    first = next(line for line in lines if "How to read" in line)
    assert first.strip() == f"How to read: {VIEWS[state.view].title}"


def test_starting_anew_takes_two_presses_in_a_row() -> None:
    state = ViewState()
    assert press(state, "R") is None
    assert "Press R again" in footer(state, 80)
    assert press(state, "x") is None
    assert press(state, "R") is None
    assert press(state, "R") is Request.RESET
    assert press(state, "R") is None


def test_space_p_c_b_and_the_help_toggle() -> None:
    state = ViewState()
    press(state, "space")
    assert state.paused
    assert " PAUSED " in compose(SHOWN, status(), state, 80, 24).plain
    for phase in (Phase.PREFILL, Phase.DECODE, Phase.ALL):
        press(state, "p")
        assert state.phase is phase
    for cell_of in (CellOf.MEAN, CellOf.HOTTEST):
        press(state, "c")
        assert state.cell_of is cell_of
        assert f"cell: {cell_of.value} of" in compose(SHOWN, status(), state, 80, 24).plain
    press(state, "?")
    assert state.help
    press(state, "esc")
    assert not state.help


def test_the_warnings_at_the_top_can_be_folded_away() -> None:
    warned = snapshot(warnings=(SHOWN.rows.verdict, "the model's last layer is not known yet"))
    state = ViewState()
    for folded in (False, True, False):
        plain = compose(warned, status(), state, 80, 24).plain
        assert ("71.8% of rows left out: most prompt rows are not real selections" in plain) is not folded
        assert ("the model's last layer is not known yet" in plain) is not folded
        assert " 2!" in plain
        press(state, "b")


def test_m_asks_the_terminal_and_says_so() -> None:
    state = ViewState(mouse=True)
    assert press(state, "m") is Request.MOUSE
    assert not state.mouse
    assert "the terminal's" in footer(state)
    assert press(state, "j") is None
    assert "the terminal's" not in footer(state)


def test_l_takes_a_label_and_says_what_it_is_so_far() -> None:
    state = ViewState()
    assert press(state, "l", "q", "space", "R", "漢", "x", "backspace") is None
    assert state.prompt is not None
    assert state.prompt.typed == "q R漢"
    assert footer(state, 60).startswith(" Label  q R漢")
    assert "Enter sets it, Esc cancels" in footer(state, 60)
    assert press(state, "enter") is Request.LABEL
    assert state.label == "q R漢"
    assert press(state, "q") is Request.QUIT


def test_esc_calls_a_label_off_and_ctrl_u_begins_it_anew() -> None:
    state = ViewState(label="before")
    press(state, "l", "a", "ctrl-u", "b", "up", "tab", "alt-x")
    assert state.prompt is not None
    assert state.prompt.typed == "b"
    press(state, "esc")
    assert state.label == "before"
    assert press(state, "q") is Request.QUIT


@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=200))
def test_a_label_keeps_to_the_length_that_logs_keep(typed: str) -> None:
    state = ViewState()
    press(state, "l", *typed, "enter")
    assert state.label == typed[:MAX_LABEL]


@given(
    keys=st.lists(st.sampled_from([*KEYS, "x", "1", "6", "alt-q", "漢"]), max_size=40), empty=st.booleans()
)
def test_no_keys_break_a_frame(keys: list[str], *, empty: bool) -> None:
    state = ViewState(look=Look(None))
    shown = nothing() if empty else snapshot(30, 20)
    for key in keys:
        pressed(state, key, shown)
        compose(shown, status(), state, 70, 20)
