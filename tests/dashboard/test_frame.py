"""Every view at fixed sizes against golden files, and what holds for any figures at any size.

Set MOE_LIVE_UPDATE_GOLDEN=1 to write the golden files anew; then look at every one.
"""

import io
import math
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment

from moe_live.dashboard import draw_static
from moe_live.dashboard.canvas import line_width
from moe_live.dashboard.frame import MIN_HEIGHT, MIN_WIDTH, compose
from moe_live.dashboard.listing import Order
from moe_live.dashboard.state import Phase, Place, ViewState
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.dashboard.views.over_time import heat_over_time
from moe_live.formats.records import LineTally
from moe_live.session import Status
from moe_live.snapshot import Labels, LayerUsage, Snapshot, Usage
from moe_live.sources.source import State
from tests.dashboard.factory import nothing, snapshot, status

GOLDEN = Path(__file__).parent / "golden"
NOISE = LineTally(
    bytes=4711, lines=90, malformed_lines=90, samples=(b"llama_server: \x1b[31mhello\xff", b"3,1 2 3 x 4")
)
WARNINGS = ("most prompt rows in this log are not real selections", "the model's last layer is not known yet")

FULL = snapshot(tally=replace(NOISE, lines=1234567), warnings=WARNINGS)
BIG = snapshot(94, 512, first=0, pairs=0, strided=False)
SMALL = snapshot(8, 8, first=0, pairs=0, strided=None)
FEW = snapshot(1, 64, first=5, scale=5, pairs=1, strided=None)

CASES: dict[str, tuple[Snapshot, Status]] = {
    "full": (FULL, status()),
    "big": (BIG, status(State.READING, size=987654321, seconds_left=73.0)),
    "small": (SMALL, status()),
    "few": (FEW, status()),
    "bare": (snapshot(24, 160, pairs=0, sections=False), status(label="code")),
    "unlabelled": (replace(FULL, labels=Labels((), ())), status()),
    "gates": (snapshot(0, 0, pairs=2, strided=None), status()),
    "waiting": (nothing(), status(State.WAITING, position=0, size=None, detail="no such file: /var/log")),
    "silent": (nothing(), status(position=0, size=0)),
    "noise": (nothing(NOISE), status(position=4711, size=4711)),
}
TITLES = [view.title for view in VIEWS]
ANALYSIS = ("Balance", "Hot set", "Locality", "Pairs", "Next layer", "Time", "Labels")
DRAWN = [
    *[("full", title, 80, 24) for title in TITLES],
    *[("full", title, 120, 40) for title in TITLES],
    *[("big", title, 200, 60) for title in TITLES if title not in ("Experts", "Distances", "Input")],
    ("big", "Heatmap", 80, 24),
    *[("small", title, 80, 24) for title in ("Overview", "Heatmap", "Experts", *ANALYSIS)],
    *[("few", title, 80, 24) for title in ("Overview", "Layers", "Distances", *ANALYSIS)],
    *[("gates", title, 80, 24) for title in ("Overview", "Heatmap", "Distances")],
    *[(case, "Overview", 80, 24) for case in ("waiting", "silent", "noise")],
    *[("bare", title, 80, 24) for title in ("Overview", "Pairs")],
    ("gates", "Balance", 80, 24),
    ("unlabelled", "Labels", 80, 24),
    ("full", "Overview", MIN_WIDTH, MIN_HEIGHT),
]


@pytest.mark.parametrize(("case", "view", "width", "height"), DRAWN)
def test_golden(case: str, view: str, width: int, height: int) -> None:
    frame = draw_static(*CASES[case], width=width, height=height, view=view, colour=False)
    golden = GOLDEN / f"{case}-{view.lower().replace(' ', '-')}-{width}x{height}.txt"
    if os.environ.get("MOE_LIVE_UPDATE_GOLDEN"):
        golden.write_text(frame.plain, encoding="utf-8")
    assert frame.plain == golden.read_text(encoding="utf-8")


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


@st.composite
def states(draw: st.DrawFn) -> ViewState:
    view = draw(st.integers(0, len(VIEWS) - 1))
    sorts = max(1, len(VIEWS[view].sorts))
    place = Place(draw(st.integers(0, 2000)), 1, draw(st.integers(0, sorts - 1)), draw(st.booleans()))
    return ViewState(
        view,
        draw(st.sampled_from(Phase)),
        paused=draw(st.booleans()),
        help=draw(st.booleans()),
        confirming=draw(st.booleans()),
        entry=draw(st.none() | st.text(st.characters(exclude_categories=("C", "Z")), max_size=64)),
        colour=draw(st.booleans()),
        places=defaultdict(Place, {view: place}),
    )


@given(snapshots(), statuses(), states(), st.integers(1, 230), st.integers(1, 80))
def test_a_frame_fills_the_terminal_exactly_and_holds_nothing_that_acts_on_it(
    shown: Snapshot, how: Status, state: ViewState, width: int, height: int
) -> None:
    frame = compose(shown, how, state, width, height)
    assert [line_width(line) for line in frame.lines] == [width] * height
    assert all(character.isprintable() or character == "\n" for character in frame.plain)


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
        state.place.offset = offset
        seen += compose(BIG, status(), state, 80, 24).plain
    assert {f"{layer:>6} " in seen for layer in range(94)} == {True}


def test_what_is_left_out_is_said() -> None:
    plain = draw_static(BIG, status(), width=60, height=24, view="Heatmap", colour=False).plain
    assert "of 94 ↓" in plain
    assert "one cell = 10 experts" in plain
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
        row = next(r for r in compose(FULL, status(), state, 80, 40).plain.splitlines() if r[:7] == "     3 ")
        used = f"{np.count_nonzero(counts)}/160"
        assert row.split()[1:3] == [f"{counts.sum():,}", used]


def test_verdicts_are_those_of_the_phase() -> None:
    usage = Usage(np.full(160, 2000), np.where(np.arange(160) < 40, 1000, 0))
    one = replace(FULL, layers=(LayerUsage(3, usage),), overall=usage)
    state = ViewState()
    for phase, unused in ((Phase.ALL, 0), (Phase.DECODE, 120), (Phase.PREFILL, 0)):
        state.phase = phase
        for state.view in (TITLES.index("Overview"), TITLES.index("Balance")):
            assert f"{unused} of 160 unused" in compose(one, status(), state, 120, 40).plain
    state.view, state.phase = TITLES.index("Hot set"), Phase.DECODE
    assert "36 of 160 experts a layer carry 90 %" in compose(one, status(), state, 120, 40).plain


def test_sorting_by_top_expert_puts_the_largest_share_first_and_reverse_last() -> None:
    state = ViewState(view=TITLES.index("Layers"))
    state.place.sort = VIEWS[state.view].sorts.index("top expert")
    best = max(FULL.layers, key=lambda entry: entry.usage.counts.max() / entry.usage.counts.sum()).layer

    def rows() -> list[str]:
        lines = compose(FULL, status(), state, 120, 50).plain.splitlines()
        first = next(i for i, line in enumerate(lines) if "layer" in line[:6])
        return [line.split()[0] for line in lines[first + 1 :] if line[:6].strip().isdigit()]

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
def test_the_order_of_the_rows_is_marked(view: View) -> None:
    state = ViewState(view=VIEWS.index(view))
    frames = set()
    for state.place.sort, title in enumerate(view.sorts):
        for state.place.reverse in (False, True):
            plain = compose(FULL, status(), state, 160, 50).plain
            frames.add(plain)
            assert view.title == "Distances" or f"{title}▲" in plain or f"{title}▼" in plain
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


@given(st.integers(0, len(VIEWS) - 1), st.integers(MIN_WIDTH, 230))
def test_every_tab_can_be_seen_at_any_width(view: int, width: int) -> None:
    tabs = next(
        line
        for line in compose(FULL, status(), ViewState(view=view), width, 40).plain.splitlines()
        if line.startswith(" 1 ")
    )
    assert f" {VIEWS[view].key} {VIEWS[view].title} " in tabs
    keys = [word for word in tabs.split() if word in {other.key for other in VIEWS}]
    assert keys[: len(VIEWS)] == [other.key for other in VIEWS]


def test_what_a_layer_did_over_time_is_kept_apart() -> None:
    """A layer that uses expert 3 in the first half and expert 60 in the second."""
    counts = np.zeros((32, 64), np.int64)
    counts[:16, 3] = counts[16:, 60] = 100
    lines = heat_over_time(counts, 1000, (), 80, 30, colour=False)
    plain = ["".join(piece.text for piece in line if isinstance(piece, Segment)) for line in lines]
    rows = [line[5:] for line in plain if line[3:4] == "%"]
    assert [row.find("█") for row in rows] == [3] * 8 + [60] * 8
