"""How what is chosen changes: by arrows, by a number, by opening and going back; one choice for all views."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.bindings import press
from moe_live.dashboard.frame import compose
from moe_live.dashboard.moves import scroll
from moe_live.dashboard.selection import Selection, Window
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.view import View
from moe_live.dashboard.views import EXPERTS, VIEWS
from tests.dashboard.factory import snapshot, status

SHOWN = snapshot()
TITLES = [view.title for view in VIEWS]
TABLES = [view for view in VIEWS if view.rows is not None and not view.zooms]
OF_LAYERS = [view for view in TABLES if view.opens and view.title != "Pairs"]


def see(state: ViewState, width: int = 80, height: int = 24) -> str:
    return compose(SHOWN, status(), state, width, height).plain


def after(title: str, *keys: str, height: int = 24) -> ViewState:
    """A view, drawn before each key as it would be."""
    state = ViewState(view=TITLES.index(title))
    for key in keys:
        see(state, height=height)
        press(state, key, SHOWN)
    see(state, height=height)
    return state


def marked(state: ViewState, height: int = 24) -> list[str]:
    """The rows with the cursor."""
    return [line for line in see(state, height=height).splitlines() if line.startswith("▶")]


@pytest.mark.parametrize("view", TABLES, ids=lambda view: view.title)
@pytest.mark.parametrize("keys", [(), ("down",), ("end",)], ids=str)
def test_every_table_has_a_row_with_the_cursor(view: View, keys: tuple[str, ...]) -> None:
    assert len(marked(after(view.title, *keys), 40)) == 1


@pytest.mark.parametrize("view", OF_LAYERS, ids=lambda view: view.title)
@pytest.mark.parametrize("other", OF_LAYERS, ids=lambda view: view.title)
def test_a_layer_chosen_in_one_view_is_chosen_in_all(view: View, other: View) -> None:
    state = after(view.title, "/", "2", "1", "enter")
    see(state)
    press(state, other.key, SHOWN)
    (row,) = marked(state)
    assert row[1:].split()[0] == "21"
    press(state, "enter", SHOWN)
    assert "Layer 21 (" in see(state)


def test_arrows_go_over_the_rows_in_the_order_in_which_they_stand() -> None:
    state = after("Balance", "home")
    seen = [state.selection.layer]
    for _ in range(23):
        press(state, "down", SHOWN)
        seen.append(state.selection.layer)
    entropy = {
        entry.layer: figures.entropy_normalized
        for entry, figures in zip(SHOWN.layers, SHOWN.balance, strict=True)
    }
    assert seen == sorted(entropy, key=lambda layer: entropy[layer])
    press(state, "down", SHOWN)
    assert state.selection.layer == seen[-1]


def test_enter_opens_the_experts_and_esc_goes_back_the_way_it_came() -> None:
    state = after("Balance", "end", "enter")
    assert state.view == EXPERTS
    assert f"Layer {state.selection.layer} (" in see(state)
    assert "Esc back" in see(state)
    press(state, "esc", SHOWN)
    assert VIEWS[state.view].title == "Balance"
    press(state, "esc", SHOWN)
    assert VIEWS[state.view].title == "Balance"
    press(state, "enter", SHOWN)
    press(state, "2", SHOWN)
    press(state, "esc", SHOWN)
    assert VIEWS[state.view].title == "Heatmap"


def test_in_the_experts_arrows_choose_experts_and_layers() -> None:
    state = after("Experts", "home", "down", "down")
    ranked = SHOWN.layers[0].usage.top(3)
    assert state.selection == Selection(3, ranked[2].expert)
    press(state, "right", SHOWN)
    assert state.selection == Selection(4)
    press(state, "left", SHOWN)
    assert state.selection == Selection(3)


def test_the_pairs_of_a_layer_are_gone_over_one_by_one() -> None:
    state = after("Pairs", "down")
    pairs = (SHOWN.pairs or {})[3]
    assert state.selection == Selection(3, pairs.strongest[1].a, pairs.strongest[1].b)
    press(state, "end", SHOWN)
    assert state.selection.expert == (*pairs.strongest, *pairs.weakest)[-1].a
    press(state, "enter", SHOWN)
    (row,) = marked(state)
    assert f"#{state.selection.expert} " in row


@pytest.mark.parametrize(
    ("typed", "selection"),
    [
        ("12", Selection(12)),
        ("#57", Selection(3, 57)),
        ("12 57", Selection(12, 57)),
        ("12#57", Selection(12, 57)),
        ("12 #57", Selection(12, 57)),
        ("12/57", Selection(12, 57)),
        (" layer 12, expert 57 ", Selection(12, 57)),
        ("Layer 12", Selection(12)),
        ("expert 57", Selection(3, 57)),
    ],
)
def test_slash_goes_to_a_layer_or_an_expert(typed: str, selection: Selection) -> None:
    state = after("Layers", "/", *typed, "enter")
    assert state.selection == selection
    assert VIEWS[state.view].title == ("Layers" if selection.expert is None else "Experts")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("99", "no layer 99: there are 3–26"),
        ("3 160", "no expert 160: there are 0–159"),
        ("twelve", "type 26 a layer, #122 an expert, 26 #122 both"),
        ("", "type 26 a layer"),
    ],
)
def test_what_is_not_there_is_said_and_changes_nothing(typed: str, says: str) -> None:
    state = after("Layers", "down", "/", *typed, "enter")
    assert says in see(state).splitlines()[-1]
    assert state.selection == Selection(4)


def test_while_it_is_typed_it_is_said_how() -> None:
    last = see(after("Layers", "/", "1", "2")).splitlines()[-1]
    assert last.startswith(" Go to  12")
    assert "#122 an expert" in last


def test_a_new_order_is_seen_from_its_beginning_and_the_choice_stays() -> None:
    state = after("Layers", "end", "s")
    assert state.selection == Selection(26)
    assert "rows 1–" in see(state)
    press(state, "up", SHOWN)
    assert marked(state)


@pytest.mark.parametrize("title", ["Time", "Distances"])
def test_what_is_told_of_the_first_row_of_a_new_order_does_not_change_by_itself(title: str) -> None:
    state = after(title, "s")
    (row,) = marked(state)
    first = state.selection.layer
    assert row[1:].split()[0] == str(first)
    other = snapshot(scale=9000)
    assert f"ayer {first} over time" in see(state) or f"ayers {first} → " in see(state)
    compose(other, status(), state, 80, 24)
    assert state.selection.layer == first


def test_what_is_seen_does_not_move_by_itself() -> None:
    """Layers change their order while figures come in: the window stays, and so does the choice."""
    state = after("Balance", "down", "down")
    first, chosen = state.place.rows.first, state.selection
    for scale in (4001, 4500, 7000):
        compose(snapshot(scale=scale), status(), state, 80, 24)
        assert (state.place.rows.first, state.selection) == (first, chosen)


def test_scrolling_past_the_end_does_not_have_to_be_undone() -> None:
    state = after("Input", *["down"] * 99)
    end = see(state)
    press(state, "up", SHOWN)
    assert see(state) != end


def test_the_wheel_moves_what_is_seen_and_the_choice_only_as_far_as_it_must() -> None:
    state = after("Layers", "down")
    scroll(state, SHOWN, 1)
    assert (state.place.rows.first, state.selection.layer) == (1, 4)
    scroll(state, SHOWN, 3)
    assert (state.place.rows.first, state.selection.layer) == (4, 7)
    see(state)
    assert state.place.rows.first == 4


def test_looking_closer_keeps_the_choice_in_the_middle() -> None:
    state = after("Heatmap", "/", *"12#80", "enter", "z", "z")
    cells = state.place.columns
    assert cells.first + cells.page // 2 == 80 // state.place.group


def test_views_keep_their_order_and_zoom_apart() -> None:
    state = after("Layers", "s", "2", "z", "3")
    assert state.place.sort == 1
    press(state, "2", SHOWN)
    assert (state.place.sort, state.place.zoom) == (0, 1)
    press(state, "1", SHOWN)
    assert state.place.zoom == 0


@given(st.integers(0, 300), st.integers(1, 60), st.lists(st.integers(0, 299), max_size=9))
def test_a_window_always_shows_what_was_chosen(total: int, visible: int, chosen: list[int]) -> None:
    window = Window()
    for at in chosen:
        rows = window.around(total, visible, Selection(at), min(at, max(0, total - 1)))
        assert len(rows) == min(total, visible)
        assert total == 0 or min(at, total - 1) in rows
