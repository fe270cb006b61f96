"""The heatmap: which expert stands where, the cursor on it, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem

from moe_live.dashboard.bindings import press
from moe_live.dashboard.canvas import line_width
from moe_live.dashboard.frame import compose
from moe_live.dashboard.heat import SHADES, HeatRow
from moe_live.dashboard.plan import SORTS, Plan
from moe_live.dashboard.readout import Standing, readout, standing
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import Phase, ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.view import relative_use
from moe_live.dashboard.views import VIEWS
from moe_live.reports.json_report import to_json
from moe_live.snapshot import LayerUsage, Snapshot, Usage
from tests.dashboard.factory import snapshot, status
from tests.dashboard.styles import halves

HEATMAP = [view.title for view in VIEWS].index("Heatmap")
SHOWN = snapshot()
GLYPHS = Look(None)


def heatmap(look: Look = GLYPHS, selection: Selection | None = None) -> ViewState:
    return ViewState(view=HEATMAP, look=look, selection=selection or Selection())


def see(state: ViewState, shown: Snapshot = SHOWN, width: int = 80, height: int = 24) -> list[str]:
    return compose(shown, status(), state, width, height).plain.splitlines()


def after(*keys: str, width: int = 80, look: Look = GLYPHS, selection: Selection | None = None) -> ViewState:
    state = heatmap(look, selection)
    for key in keys:
        see(state, width=width)
        press(state, key, SHOWN)
    see(state, width=width)
    return state


def said(line: str) -> dict[str, str]:
    """What the readout says, by the words around the figures."""
    found = {}
    for part in line.strip().split(" · "):
        if part.startswith(("layer ", "expert ")):
            name, number = part.split()
            found[name] = number
        elif part.endswith(" %"):
            found["share"] = part[:-2]
        elif part.endswith("×"):
            found["multiple"] = part[:-1]
        elif part.endswith("in layer"):
            found["rank"] = part.split()[0].rstrip("stndrh")
        elif "used" in part:
            found["used"] = part
        else:
            found["count"], found["selections"] = part.replace(",", "").split()[0:3:2]
    return found


@given(st.integers(3, 26), st.integers(0, 159))
def test_the_readout_equals_the_json(layer: int, expert: int) -> None:
    state = heatmap(selection=Selection(layer, expert))
    line = said(see(state, width=160)[-2])
    entry = next(entry for entry in to_json(SHOWN)["layers"] if entry["layer"] == layer)
    counts = entry["counts"]
    assert (line["layer"], line["expert"]) == (str(layer), str(expert))
    if not counts[expert]:
        assert line["used"] == "never used"
        return
    assert (int(line["count"]), int(line["selections"])) == (counts[expert], entry["selections"])
    share = counts[expert] / entry["selections"]
    if share >= 5e-5:
        assert float(line["share"]) == pytest.approx(100 * share, abs=0.0051 if share < 0.01 else 0.051)
    multiple = share * len(counts)
    assert float(line["multiple"]) == pytest.approx(multiple, abs=0.051 if multiple > 0.9 else 0.0051)
    by_use = sorted(range(len(counts)), key=lambda other: (-counts[other], other))
    assert int(line["rank"]) == by_use.index(expert) + 1
    if entry["decode_counts"][expert]:
        idle = entry["locality"]["idle_steps"][expert]
        ways = {None: "1000 or more steps ago", 1: "1 step ago"}
        ago = "used in the last step" if idle == 0 else f"last used {ways.get(idle, f'{idle} steps ago')}"
        assert line["used"] == ago.replace(".0 steps", " steps")


def test_the_readout_of_the_issue() -> None:
    found = Standing(26, 122, 231, 2040, 4, 18.1176, 3.0)
    line = readout(found, 80)
    shown = "".join(piece.text for piece in line)  # type: ignore[union-attr]  # text alone
    assert shown == "layer 26 · expert 122 · 11.3 % · 18.1× · 4th in layer · last used 3 steps ago"


@given(st.integers(20, 200))
def test_the_readout_leaves_out_what_does_not_fit(width: int) -> None:
    found = standing(SHOWN, SHOWN.layers[0], 3, Phase.ALL)
    assert line_width(readout(found, width)) <= max(width, len("layer 3"))


@pytest.mark.parametrize(
    ("rank", "shown"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (121, "121st")],
)
def test_ranks_are_said_as_people_say_them(rank: int, shown: str) -> None:
    line = readout(Standing(1, 2, 3, 4, rank, 1.0, math.nan), 200)
    assert f"{shown} in layer" in "".join(piece.text for piece in line)  # type: ignore[union-attr]  # text alone


def test_as_long_as_nothing_is_chosen_it_tells_of_the_hottest() -> None:
    ratio = relative_use(SHOWN.counts)
    row, expert = divmod(int(ratio.argmax()), ratio.shape[1])
    line = see(heatmap())[-2]
    assert line.startswith(f"layer {SHOWN.layers[row].layer} · expert {expert} · ")
    assert "hottest of all" in line


def test_the_mark_above_the_cells_is_where_the_expert_is() -> None:
    for expert in (0, 57, 159):
        lines = see(heatmap(selection=Selection(12, expert)), width=200, height=60)
        axis = next(line for line in lines if line.startswith("layer ") and "▼" in line)
        assert axis.index("▼") == 6 + expert


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_expert_can_be_reached_at_any_width(width: int) -> None:
    state = after(
        *["z"] * 12, "<", "<", "<", "<", "<", "<", "<", "<", "<", "<", width=width, selection=Selection(3, 0)
    )
    assert state.place.group == 1
    seen = set()
    for _ in range(160):
        assert f"expert {state.selection.expert} · " in see(state, width=width)[-2]
        seen.add(state.selection.expert)
        press(state, "right", SHOWN)
    assert seen == set(range(160))


def test_arrows_pick_the_hottest_of_each_cell() -> None:
    state = after("home", "down", "right", "right")
    group = state.place.group
    assert group > 1
    row = next(i for i, entry in enumerate(SHOWN.layers) if entry.layer == state.selection.layer)
    cell = (state.selection.expert or 0) // group
    counts = SHOWN.counts[row, cell * group : (cell + 1) * group]
    assert state.selection.expert == cell * group + int(counts.argmax())


def test_by_heat_each_row_falls_from_left_to_right() -> None:
    state = after("s", look=Look(ColorSystem.TRUECOLOR))
    frame = compose(SHOWN, status(), state, 200, 60)
    rows = [halves(piece)[0] for line in frame.lines for piece in line if isinstance(piece, HeatRow)]
    assert len(rows) >= 24
    assert all(list(row) == sorted(row, reverse=True) for row in rows)
    press(state, "r", SHOWN)
    frame = compose(SHOWN, status(), state, 200, 60)
    rows = [halves(piece)[0] for line in frame.lines for piece in line if isinstance(piece, HeatRow)]
    assert all(list(row) == sorted(row) for row in rows)


def plan(by_heat: bool, reverse: bool, selection: Selection | None = None) -> Plan:
    state = heatmap(selection=selection)
    state.place.sort, state.place.reverse = SORTS.index("by heat" if by_heat else "by number"), reverse
    return Plan.of(SHOWN, state)


@given(st.booleans(), st.booleans(), st.integers(0, 23))
def test_what_stands_at_a_place_is_what_is_drawn_there(by_heat: bool, reverse: bool, row: int) -> None:
    found = plan(by_heat, reverse)
    experts = found.experts(row)
    assert sorted(experts.tolist()) == list(range(160))
    assert (found.placed(range(row, row + 1))[0] == found.counts[row, experts]).all()
    if not by_heat:
        assert list(found.numbers) == experts.tolist()


@given(st.booleans(), st.booleans(), st.integers(1, 40), st.integers(0, 23), st.integers(0, 159))
def test_choosing_a_cell_puts_the_cursor_into_it(
    by_heat: bool, reverse: bool, group: int, row: int, place: int
) -> None:
    chosen = plan(by_heat, reverse).choice(row, place // group, group)
    there = plan(by_heat, reverse, chosen)
    assert there.cursor == (row, chosen.expert)
    assert there.cell(group) == place // group


@given(st.integers(60, 230), st.integers(16, 60), st.integers(0, 511), st.booleans())
def test_a_cell_never_hides_what_is_hot(width: int, height: int, hot: int, by_heat: bool) -> None:
    """One expert far above the others is seen at any size, in any order."""
    counts = np.full(512, 10)
    counts[hot] = 10_000
    layers = tuple(LayerUsage(layer, Usage(counts, counts)) for layer in range(4))
    shown = replace(snapshot(4, 512, first=0, pairs=0), layers=layers, overall=Usage(4 * counts, 4 * counts))
    state = heatmap(Look(), Selection(0, 0))
    state.place.sort = int(by_heat)
    frame = compose(shown, status(), state, width, height)
    cells = [piece for line in frame.lines for piece in line if isinstance(piece, HeatRow)]
    assert SHADES - 1 in {shade for piece in cells for shade in halves(piece)[0]}


def test_what_a_cell_shows_is_said() -> None:
    state = after()
    assert f"cell: hottest of {state.place.group}" in "".join(see(state))
    press(state, "c", SHOWN)
    assert f"cell: mean of {state.place.group}" in "".join(see(state))
    assert "cell: " not in "".join(see(state, width=200))


LOOKS = (Look(), Look(ColorSystem.STANDARD), Look(None), Look(ascii_only=True))
sizes = st.tuples(st.integers(60, 200), st.integers(16, 60))


@given(st.sampled_from(LOOKS), st.integers(3, 26), st.integers(0, 159), st.integers(0, 8), sizes)
def test_the_cursor_is_always_seen_and_cells_keep_their_width(
    look: Look, layer: int, expert: int, zoom: int, size: tuple[int, int]
) -> None:
    state = heatmap(look, Selection(layer, expert))
    state.place.zoom = zoom
    frame = compose(SHOWN, status(), state, *size)
    assert {line_width(line) for line in frame.lines} == {size[0]}
    axis = next(line for line in frame.plain.splitlines() if line.startswith("layer "))
    assert axis.count("v" if look.ascii_only else "▼") == 1
