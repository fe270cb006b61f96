"""What holds for the views of any figures at any size."""

import io
import math
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment

from moe_live.dashboard import draw_static
from moe_live.dashboard.canvas import Line, line_width
from moe_live.dashboard.frame import MIN_HEIGHT, MIN_WIDTH, compose
from moe_live.dashboard.listing import Order
from moe_live.dashboard.selection import Selection, Window
from moe_live.dashboard.state import Asking, CellOf, Phase, Place, Prompt, ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.dashboard.views.over_time import heat_over_time
from moe_live.formats.records import LineTally
from moe_live.plans.given import Given
from moe_live.plans.live import LivePlans
from moe_live.routing.evidence import Verdict
from moe_live.running import Status
from moe_live.settings import RowMode
from moe_live.snapshot import LayerUsage, PhaseCount, Snapshot, Usage
from moe_live.sources.source import State
from moe_live.statistics.replay import Served
from tests.analysis import snapshot_of
from tests.dashboard.factory import snapshot, status
from tests.dashboard.test_golden import CASES, FULL, TITLES

BIG, FEW = CASES["big"][0], CASES["few"][0]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    layers = draw(st.integers(0, 100))
    return snapshot(
        layers,
        draw(st.integers(1, 600)) if layers else 0,
        first=draw(st.integers(0, 900)),
        scale=draw(st.sampled_from([0, 1, 20, 10**4, 10**12])),
        pairs=draw(st.integers(0, 12)),
        strided=draw(st.sampled_from([True, False, None])),
        path=draw(st.text(max_size=300)),
        tally=LineTally(
            bytes=draw(st.integers(0, 10**15)),
            lines=draw(st.integers(0, 10**12)),
            malformed_lines=draw(st.integers(0, 10**12)),
            samples=tuple(draw(st.lists(st.binary(max_size=200), max_size=5))),
        ),
        warnings=tuple(draw(st.lists(st.text(max_size=400), max_size=9))),
        sections=draw(st.booleans()),
    )


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    return status(
        draw(st.sampled_from(State)),
        name=draw(st.text(max_size=200)),
        position=draw(st.integers(0, 10**14)),
        size=draw(st.none() | st.integers(0, 10**14)),
        detail=draw(st.text(max_size=300)),
        seconds_left=draw(st.none() | st.floats(0, 1e9)),
        label=draw(st.text(max_size=80)),
    )


windows = st.builds(Window, st.integers(0, 2000), st.integers(1, 90))
selections = st.builds(
    Selection,
    st.none() | st.integers(0, 1023),
    st.none() | st.integers(0, 2047),
    st.none() | st.integers(0, 2047),
    st.none() | st.text(max_size=9),
)
looks = st.builds(
    Look,
    st.none() | st.sampled_from([ColorSystem.STANDARD, ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR]),
    light=st.booleans(),
    ascii_only=st.booleans(),
    block_halves=st.booleans(),
)
prompts = st.builds(
    Prompt, st.sampled_from(Asking), st.text(st.characters(exclude_categories=("C", "Z")), max_size=64)
)


@st.composite
def states(draw: st.DrawFn) -> ViewState:
    view = draw(st.integers(0, len(VIEWS) - 1))
    sorts = max(1, len(VIEWS[view].sorts))
    place = Place(
        draw(windows),
        draw(windows),
        group=1,
        zoom=draw(st.integers(0, 20)),
        sort=draw(st.integers(0, sorts - 1)),
        reverse=draw(st.booleans()),
    )
    return ViewState(
        view,
        draw(selections),
        phase=draw(st.sampled_from(Phase)),
        cell_of=draw(st.sampled_from(CellOf)),
        paused=draw(st.booleans()),
        help=draw(st.booleans()),
        folded=draw(st.booleans()),
        mouse=draw(st.booleans()),
        confirming=draw(st.booleans()),
        prompt=draw(st.none() | prompts),
        note=draw(st.text(st.characters(exclude_categories=("C", "Z")), max_size=99)),
        look=draw(looks),
        places=defaultdict(Place, {view: place}),
    )


@given(snapshots(), statuses(), states(), st.integers(1, 230), st.integers(1, 80))
def test_a_frame_fills_the_terminal_exactly_and_holds_nothing_that_acts_on_it(
    shown: Snapshot, how: Status, state: ViewState, width: int, height: int
) -> None:
    frame = compose(shown, how, state, width, height)
    assert [line_width(line) for line in frame.lines] == [width] * height
    assert all(character.isprintable() or character == "\n" for character in frame.plain)
    assert frame.plain.isascii() or not state.look.ascii_only


@given(st.tuples(snapshots(), snapshots()), statuses(), states(), st.integers(1, 230), st.integers(1, 80))
def test_what_is_below_the_header_stays_where_it_may_and_fits(
    snapshots: tuple[Snapshot, Snapshot], how: Status, state: ViewState, width: int, height: int
) -> None:
    shown, later = snapshots
    before = compose(shown, how, state, width, height)
    anew = compose(later, how, state, width, height)
    frame = compose(later, how, state, width, height, before=before)
    assert [line_width(line) for line in frame.lines] == [width] * height
    assert (frame.top, frame.lines[: frame.top]) == (anew.top, anew.lines[: anew.top])
    below = before if before.top == anew.top else anew
    assert frame.lines[frame.top :] == below.lines[below.top :]
    other = compose(later, how, state, width + 1, height, before=before)
    assert other.lines == compose(later, how, state, width + 1, height).lines


@given(snapshots(), states(), st.integers(MIN_WIDTH, 230), st.integers(MIN_HEIGHT - 9, 80))
def test_a_view_keeps_to_its_room_by_itself(
    shown: Snapshot, state: ViewState, width: int, height: int
) -> None:
    view = VIEWS[state.view]
    if not (view.always or shown.layers or shown.model.gate_layers):
        return
    lines = view.render(shown, state, width, height)
    assert max(map(line_width, lines), default=0) <= width
    assert len(lines) <= height


@given(st.integers(1, MIN_WIDTH - 1), st.integers(1, 60))
@example(width=9, height=2)
def test_too_small_says_what_is_needed(width: int, height: int) -> None:
    plain = compose(FULL, status(), ViewState(), width, height).plain
    assert "".join(plain.split()).startswith(f"{width}x{height}istoosmall"[: width * height // 2])


def test_every_layer_can_be_reached_by_scrolling() -> None:
    state = ViewState(view=TITLES.index("Layers"))
    seen = ""
    for offset in range(0, 94, 5):
        state.place.rows.first = offset
        seen += compose(BIG, status(), state, 80, 24).plain
    assert {f"{layer:>5}  " in seen for layer in range(94)} == {True}


def test_what_is_left_out_is_said() -> None:
    plain = draw_static(BIG, status(), width=60, height=24, view="Heatmap", look=Look(None)).plain
    assert "of 94 ↓" in plain
    assert "cell: hottest of 10" in plain
    assert "too narrow for 4 columns" in draw_static(BIG, status(), width=60, height=24, view="Layers").plain


def test_few_selections_are_called_noisy_and_many_are_not() -> None:
    assert "noisy" in draw_static(FEW, status(), width=120, height=40, view="Heatmap").plain
    assert "noisy" not in draw_static(FULL, status(), width=120, height=40, view="Heatmap").plain


def test_the_phase_decides_what_is_counted() -> None:
    state = ViewState(view=TITLES.index("Layers"))
    for phase, counts in (
        (Phase.ALL, FULL.layers[0].usage.counts),
        (Phase.PREFILL, FULL.layers[0].usage.prefill),
        (Phase.DECODE, FULL.layers[0].usage.decode),
    ):
        state.phase = phase
        row = next(r for r in compose(FULL, status(), state, 80, 40).plain.splitlines() if r[:7] == "▶    3 ")
        used = f"{np.count_nonzero(counts)}/160"
        assert row.split()[2:4] == [f"{counts.sum():,}", used]


def test_verdicts_are_those_of_the_phase() -> None:
    usage = Usage(np.full(160, 2000), np.where(np.arange(160) < 40, 1000, 0))
    one = replace(FULL, layers=(LayerUsage(3, usage),), overall=usage)
    state = ViewState()
    for phase, unused in ((Phase.ALL, 0), (Phase.DECODE, 120), (Phase.PREFILL, 0)):
        state.phase = phase
        for state.view in (TITLES.index("Overview"), TITLES.index("Balance")):
            assert f"{unused} of 160 unused" in compose(one, status(), state, 200, 40).plain
    state.view, state.phase = TITLES.index("Hot set"), Phase.DECODE
    assert "36 of 160 experts carry 90 %" in compose(one, status(), state, 120, 40).plain


def test_the_hottest_experts_are_those_of_decode_in_layers_with_enough_selections() -> None:
    decode = np.where(np.arange(160) == 7, 5000, 100)
    thin = Usage(np.full(160, 2000), np.where(np.arange(160) == 9, 60, 0))
    usual = Usage(decode + np.where(np.arange(160) == 5, 90_000, 0), decode)
    both = replace(FULL, layers=(LayerUsage(3, thin), LayerUsage(4, usual)))
    state = ViewState()
    for phase, title, hottest in (
        (Phase.ALL, "Hot in decode", "layer 4 #7"),
        (Phase.DECODE, "Hot in decode", "layer 4 #7"),
        (Phase.PREFILL, "Hot in prompts", "layer 4 #5"),
    ):
        state.phase = phase
        lines = compose(both, status(), state, 120, 40).plain.splitlines()
        row = next(i for i, line in enumerate(lines) if title in line)
        assert hottest in lines[row + 1]
        assert not any("layer 3 #9" in line for line in lines[row + 1 : row + 4])
    few = replace(FULL, layers=(LayerUsage(3, thin),))
    state.phase = Phase.DECODE
    lines = compose(few, status(), state, 120, 40).plain.splitlines()
    row = next(i for i, line in enumerate(lines) if "Hot in decode" in line)
    assert "few tokens: noisy" in lines[row + 1]
    assert "layer 3 #9" in lines[row + 2]


def test_sorting_by_top_expert_puts_the_largest_share_first_and_reverse_last() -> None:
    state = ViewState(view=TITLES.index("Layers"))
    state.place.sort = VIEWS[state.view].sorts.index("top expert")
    best = max(FULL.layers, key=lambda entry: entry.usage.counts.max() / entry.usage.counts.sum()).layer

    def rows() -> list[str]:
        lines = compose(FULL, status(), state, 120, 50).plain.splitlines()
        first = next(i for i, line in enumerate(lines) if "layer" in line[:6])
        return [line[1:].split()[0] for line in lines[first + 1 :] if line[1:6].strip().isdigit()]

    assert rows()[0] == str(best)
    state.place.reverse = True
    assert rows()[-1] == str(best)


def test_a_frame_exports_to_text_and_svg() -> None:
    frame = draw_static(FULL, status(), width=120, height=40, view="Heatmap")
    console = Console(
        width=120, file=io.StringIO(), record=True, force_terminal=True, color_system="truecolor"
    )
    console.print(frame, end="", crop=False)
    assert console.export_text(clear=False) == frame.plain
    assert "#fdf7aa" in console.export_svg()


def test_a_view_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="not in list"):
        draw_static(FULL, status(), width=80, height=24, view="Nonsense")


@pytest.mark.parametrize("view", [view for view in VIEWS if view.sorts], ids=lambda view: view.title)
def test_the_order_is_marked(view: View) -> None:
    state = ViewState(view=VIEWS.index(view))
    frames = set()
    for state.place.sort, title in enumerate(view.sorts):
        for state.place.reverse in (False, True):
            plain = compose(FULL, status(), state, 160, 50).plain
            frames.add(plain)
            assert view.zooms or f"{title}▲" in plain or f"{title}▼" in plain
    assert len(frames) == 2 * len(view.sorts)


def test_undefined_figures_come_last_in_any_order() -> None:
    order: Order[float] = Order("", lambda number: number)
    rows = [2.0, math.nan, 3.0, 1.0]
    assert order.sort(rows, reverse=False)[:3] == [3, 2, 1]
    assert order.sort(rows, reverse=True)[:3] == [1, 2, 3]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
def test_how_to_read_a_view_is_said_in_one_line(view: View) -> None:
    assert len(view.gist) <= 80
    assert view.reading
    assert view.gist in draw_static(FULL, status(), width=80, height=24, view=view.title).plain


@given(st.integers(0, len(VIEWS) - 1), st.integers(MIN_WIDTH, 230), st.sampled_from((20, 23, 24, 40)))
def test_every_tab_can_be_seen_at_any_size_and_has_its_name_from_80_columns_and_24_lines_on(
    view: int, width: int, height: int
) -> None:
    frame = compose(FULL, status(), ViewState(view=view), width, height)
    shown = frame.plain.splitlines()
    first = next(i for i, line in enumerate(shown) if line.startswith(" 1"))
    views = [other.key for other in VIEWS]
    rows = range(first, first + 1 + (frame.target(1, first + 1) in views))
    keys = [frame.target(i, row) for row in rows for i in range(width) if shown[row][i] != " "]
    assert list(dict.fromkeys(keys)) == views
    tabs = "".join(shown[row] for row in rows)
    for other in VIEWS:
        long, short = (
            name[1:] if name[0].lower() == other.key.lower() else name for name in (other.title, other.brief)
        )
        in_full = f" {other.key}{long} " in tabs or f" {other.key} {other.title} " in tabs
        if width >= 80 and height >= 24:
            assert in_full
        elif width >= 80 or other is VIEWS[view]:
            assert in_full or f" {other.key}{short}" in tabs


def test_what_a_layer_did_over_time_is_kept_apart() -> None:
    """A layer that uses expert 3 in the first half and expert 60 in the second."""
    counts = np.zeros((32, 64), np.int64)
    counts[:16, 3] = counts[16:, 60] = 100
    lines: list[Line] = heat_over_time(counts, 1000, (), ViewState(look=Look(None)), width=80, height=30)
    plain = ["".join(piece.text for piece in line if isinstance(piece, Segment)) for line in lines]
    rows = [line[5:] for line in plain if line[3:4] == "%"]
    assert [row.find("█") for row in rows] == [3] * 8 + [60] * 8


@pytest.mark.parametrize("title", ["Distances", "Locality", "Pairs", "Next layer", "Time", "Labels"])
def test_views_of_a_log_that_is_only_counted_say_so(title: str) -> None:
    counted = replace(snapshot(sections=False), counts_only=True)
    shown = compose(counted, status(), ViewState(view=TITLES.index(title)), 100, 30).plain
    assert "Left out: more layers and experts than any model has." in shown


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
def test_of_counts_alone_every_view_has_something_to_say(view: View) -> None:
    counts = "".join(f"{layer},{expert},{expert * 7 % 50}\n" for layer in (3, 4) for expert in range(16))
    known = snapshot_of(f"layer_id,expert_id,count\n{counts}".encode())
    known = LivePlans(Given()).add_to(known, {view.plan} - {""})
    shown = compose(known, status(), ViewState(view=VIEWS.index(view)), 100, 40).plain
    has_figures = view.title in {
        "Overview",
        "Layers",
        "Heatmap",
        "Experts",
        "Balance",
        "Hot set",
        "Prune",
        "A and B",
        "Input",
    }
    assert ("No rows in this input" in shown) is not has_figures


@pytest.mark.parametrize(
    ("hits", "gains", "said"),
    [
        (0.70, True, "yes"),
        (0.69, True, "some"),
        (0.52, True, "some"),
        (0.51, True, "no"),
        (0.70, False, "no"),
        (0.70, None, "early"),
    ],
)
def test_a_size_of_a_cache_pays_as_the_verdict_has_it(hits: float, gains: bool | None, said: str) -> None:
    """Half of the misses of 40 % of the experts at random are avoided from 70 % on, a fifth from 52 %."""
    assert FULL.cache is not None
    usual = FULL.cache.sizes[4]
    served = Served(hits + 1e-9, 0.01, 1e8)
    one = replace(usual, chance=0.4, best="lru", gains=gains, rates=replace(usual.rates, lru=served))
    known = replace(FULL, cache=replace(FULL.cache, sizes=(one,)))
    shown = compose(known, status(), ViewState(view=TITLES.index("Cache")), 80, 24).plain.splitlines()
    heads, row = next((line, shown[i + 1]) for i, line in enumerate(shown) if " of all " in line)
    end = heads.index("pays") + len("pays")
    assert row[:end].split()[-1] == said


def strided() -> Snapshot:
    """A log with a prompt of 90 tokens, of which 20 count in the first layer."""
    usage = Usage(np.full(160, 3), np.full(160, 2))
    rows = replace(FULL.rows, soundness=Verdict.STRIDED, unrecoverable=70, verdict="rows are wrong")
    return replace(
        snapshot(2, 160),
        layers=(LayerUsage(3, usage), LayerUsage(4, Usage(usage.decode, usage.decode))),
        tokens=PhaseCount(90, 500),
        rows=rows,
        warnings=("rows are wrong",),
    )


@pytest.mark.parametrize("width", [80, 120])
def test_of_a_strided_log_it_is_said_how_many_prompt_tokens_count(width: int) -> None:
    found = strided()
    assert "20 of 90 prefill" in compose(found, status(), ViewState(), width, 40).plain
    asked = replace(found, rows=replace(found.rows, mode=RowMode.LOGGED))
    sound = replace(found, rows=replace(found.rows, unrecoverable=0))
    for other in (asked, sound):
        assert " of 90 prefill" not in compose(other, status(), ViewState(), width, 40).plain


def test_without_its_banner_the_verdict_on_the_rows_is_still_there() -> None:
    for folded in (False, True):
        lines = compose(strided(), status(), ViewState(folded=folded), 80, 24).plain.splitlines()
        assert any(line.startswith("rows     strided") for line in lines) is folded


def test_a_share_on_the_overview_says_of_which_steps_it_is() -> None:
    state = ViewState()
    for phase in Phase:
        state.phase = phase
        lines = compose(FULL, status(), state, 120, 40).plain.splitlines()
        found = re.match(rf"layer (\d+) · .* % of {phase.value} steps · ", lines[-2])
        assert found is not None
        assert any(f"Layer {found[1]} · {phase.value} steps" in line for line in lines)
