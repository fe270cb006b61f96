"""What keys do to what is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.bindings import BINDINGS, Request, press
from moe_live.dashboard.frame import compose
from moe_live.dashboard.state import Phase, ViewState
from moe_live.dashboard.views import VIEWS
from moe_live.formats.llama_server import MAX_LABEL
from tests.dashboard.factory import snapshot, status

KEYS = [key for binding in BINDINGS for key in binding.keys]


def test_no_key_is_bound_twice() -> None:
    assert len(KEYS) == len(set(KEYS))


def test_the_footer_and_the_help_list_what_is_bound() -> None:
    state = ViewState(view=2)
    footer = compose(snapshot(), status(), state, 120, 40).plain.splitlines()[-1]
    for shown in ("q quit", "? help", "space pause", "s sort", "r reverse", "p phase", "R start anew"):
        assert shown in footer
    press(state, "?")
    overlay = compose(snapshot(), status(), state, 120, 80).plain
    for binding in BINDINGS:
        assert binding.help in overlay


@pytest.mark.parametrize("view", range(len(VIEWS)))
def test_its_key_and_tab_lead_to_every_view(view: int) -> None:
    state = ViewState()
    press(state, VIEWS[view].key)
    assert state.view == view
    press(state, "tab")
    assert state.view == (view + 1) % len(VIEWS)
    press(state, "shift-tab")
    press(state, "shift-tab")
    assert state.view == (view - 1) % len(VIEWS)


def test_starting_anew_takes_two_presses_in_a_row() -> None:
    state = ViewState()
    assert press(state, "R") is None
    assert "Press R again" in compose(snapshot(), status(), state, 80, 24).plain
    assert press(state, "x") is None
    assert press(state, "R") is None
    assert press(state, "R") is Request.RESET
    assert press(state, "R") is None


def test_scrolling_past_the_end_does_not_have_to_be_undone() -> None:
    state = ViewState(view=2)

    def first() -> str:
        lines = compose(snapshot(), status(), state, 80, 24).plain.splitlines()
        return next(line for line in lines if "all steps" in line)

    assert "rows 1–15 of 24" in first()
    for key in ("end", *["pgdn"] * 9, *["down"] * 9):
        press(state, key)
    assert "of 24 ↑" in first()
    end = first()
    press(state, "up")
    assert first() != end
    press(state, "g")
    assert "rows 1–15 of 24" in first()


def test_each_view_keeps_its_place() -> None:
    state = ViewState(view=2)
    press(state, "s")
    press(state, "down")
    press(state, "tab")
    assert state.place.offset == 0
    press(state, "shift-tab")
    assert (state.place.sort, state.place.offset) == (1, 1)


def test_space_p_and_the_help_toggle() -> None:
    state = ViewState()
    press(state, "space")
    assert state.paused
    assert " PAUSED " in compose(snapshot(), status(), state, 80, 24).plain
    for phase in (Phase.PREFILL, Phase.DECODE, Phase.ALL):
        press(state, "p")
        assert state.phase is phase
    press(state, "?")
    assert state.help
    press(state, "esc")
    assert not state.help


def test_l_takes_a_label_and_says_what_it_is_so_far() -> None:
    state = ViewState()
    for key in ("l", "q", "space", "R", "漢", "x", "backspace"):
        assert press(state, key) is None
    assert state.entry == "q R漢"
    footer = compose(snapshot(), status(), state, 60, 20).plain.splitlines()[-1]
    assert footer.startswith(" Label  q R漢")
    assert "Enter sets it, Esc cancels" in footer
    assert press(state, "enter") is Request.LABEL
    assert state.label == "q R漢"
    assert press(state, "q") is Request.QUIT


def test_esc_calls_a_label_off_and_ctrl_u_begins_it_anew() -> None:
    state = ViewState(label="before")
    for key in ("l", "a", "ctrl-u", "b", "up", "tab", "alt-x"):
        press(state, key)
    assert state.entry == "b"
    press(state, "esc")
    assert state.label == "before"
    assert press(state, "q") is Request.QUIT


@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=200))
def test_a_label_keeps_to_the_length_that_logs_keep(typed: str) -> None:
    state = ViewState()
    for key in ("l", *typed, "enter"):
        press(state, key)
    assert state.label == typed[:MAX_LABEL]


@given(st.lists(st.sampled_from([*KEYS, "x", "alt-q", "漢"]), max_size=40))
def test_no_keys_break_a_frame(keys: list[str]) -> None:
    state = ViewState(colour=False)
    for key in keys:
        press(state, key)
        compose(snapshot(30, 20), status(), state, 70, 20)
