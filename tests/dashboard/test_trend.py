"""The last minutes of decode: each point is what came between two moments, as if that had been all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.dashboard import draw_static
from moe_live.dashboard.frame import compose
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.trend import PERIOD, POINTS, Trend, TrendRecorder
from moe_live.dashboard.views import VIEWS
from moe_live.judgement import median
from moe_live.share import SourceShare
from moe_live.snapshot import Section, Snapshot
from moe_live.statistics.balance import balance
from tests.dashboard.factory import snapshot, status

LAYERS, EXPERTS, TOP_K = 3, 16, 4
TIME = next(i for i, view in enumerate(VIEWS) if view.title == "Time")


def steps(experts: list[int], number: int, seed: int) -> bytes:
    """Decode steps of one token that choose among these experts."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(number):
        for layer in range(LAYERS):
            chosen = rng.permutation(experts)[:TOP_K].tolist()
            lines.append(f"{layer},{' '.join(map(str, chosen))}\n")
    return "".join(lines).encode()


def taken(analyzer: Analyzer, section: Section = Section.LOCALITY) -> Snapshot:
    return analyzer.snapshot({section})


def test_it_is_the_same_from_what_all_layers_come_to() -> None:
    trends = {}
    for section in (Section.LOCALITY, Section.REUSE):
        recorder, analyzer = TrendRecorder(), Analyzer()
        for second in range(4):
            analyzer.feed(steps(list(range(EXPERTS - 4 * second)), 100, second))
            trends[section] = recorder.note(second * PERIOD, taken(analyzer, section), older=False)
    one, other = trends.values()
    assert len(one.hits) == 3
    assert other.hits == pytest.approx(one.hits)
    assert other.overlap == pytest.approx(one.overlap)
    assert other.effective == one.effective


def test_points_are_of_what_came_in_between() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    few, all_of_them = list(range(4)), list(range(EXPERTS))
    analyzer.feed(steps(all_of_them, 200, 1))
    recorder.note(0.0, taken(analyzer), older=False)
    before = taken(analyzer).counts
    analyzer.feed(steps(few, 100, 2))
    trend = recorder.note(PERIOD, taken(analyzer), older=False)
    assert trend.hits[-1] > 0.97  # always the same four, and a cache of four
    assert trend.overlap[-1] > 0.97
    since = balance(taken(analyzer).counts - before, TOP_K)
    assert trend.effective[-1] == pytest.approx(median([layer.effective_experts for layer in since]))
    analyzer.feed(steps(all_of_them, 200, 3))
    trend = recorder.note(2 * PERIOD, taken(analyzer), older=False)
    assert len(trend.hits) == 2
    assert trend.hits[-1] == pytest.approx(0.25, abs=0.1)
    assert trend.overlap[-1] == pytest.approx(0.25, abs=0.1)
    assert trend.effective[-1] > 0.9 * EXPERTS


def test_a_point_waits_for_locality_that_was_made_since_the_last_one() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    analyzer.feed(steps(list(range(EXPERTS)), 200, 1))
    shown = taken(analyzer)
    recorder.note(0.0, shown, older=False)
    analyzer.feed(steps(list(range(EXPERTS)), 200, 2))
    later = analyzer.snapshot(set()).having(locality=shown.locality)
    assert recorder.note(1.2 * PERIOD, later, older=False) == Trend()
    (hits,) = recorder.note(1.4 * PERIOD, taken(analyzer), older=False).hits
    assert 0 < hits < 1


def test_of_several_sources_there_is_no_trend() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    for second in range(3):
        analyzer.feed(steps(list(range(EXPERTS)), 100, second))
        shown = taken(analyzer)
        shares = tuple(SourceShare(name, steps=50) for name in ("a.log", "b.log"))
        several = replace(shown, input=replace(shown.input, sources=shares))
        assert recorder.note(second * PERIOD, several, older=False) == Trend()


def test_nothing_new_is_nothing_to_tell() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    analyzer.feed(steps(list(range(EXPERTS)), 50, 1))
    recorder.note(0.0, taken(analyzer), older=False)
    trend = recorder.note(PERIOD, taken(analyzer), older=False)
    assert math.isnan(trend.hits[-1])
    assert math.isnan(trend.overlap[-1])
    assert recorder.note(1.5 * PERIOD, taken(analyzer), older=False) == trend  # that is too soon


def test_what_was_there_before_tells_nothing() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    for second in range(10):
        analyzer.feed(steps(list(range(EXPERTS)), 50, second))
        assert not recorder.note(second * PERIOD, taken(analyzer), older=True).hits


def test_nor_does_the_rest_of_it() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    found = []
    for second, older in enumerate([True, False, False]):
        analyzer.feed(steps(list(range(EXPERTS)), 50, second))
        found.append(len(recorder.note(second * PERIOD, taken(analyzer), older=older).hits))
    assert found == [0, 0, 1]


def test_time_that_was_not_looked_at_has_its_mean_and_nothing_grows() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    for now in (0.0, 7 * PERIOD, 1000 * PERIOD):
        analyzer.feed(steps(list(range(EXPERTS)), 50, 1))
        trend = recorder.note(now, taken(analyzer), older=False)
    assert len(trend.hits) == POINTS
    assert len(set(trend.hits)) == 1
    assert recorder.note(1e9, analyzer.snapshot(()), older=False) == trend  # without its locality


def test_statistics_that_begin_anew_are_no_step_back() -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    analyzer.feed(steps(list(range(EXPERTS)), 200, 1))
    recorder.note(0.0, taken(analyzer), older=False)
    analyzer.reset()
    analyzer.feed(steps(list(range(EXPERTS)), 100, 2))
    trend = recorder.note(PERIOD, taken(analyzer), older=False)
    assert math.isnan(trend.hits[-1])
    assert math.isnan(trend.effective[-1])


@pytest.mark.parametrize(("width", "graph"), [(60, False), (80, False), (120, True), (200, True)])
def test_the_view_shows_it_at_any_width(width: int, graph: bool) -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    state = ViewState(view=TIME)
    for second in range(40):
        analyzer.feed(steps(list(range(EXPERTS)), 20, second))
        state.trend = recorder.note(second * PERIOD, taken(analyzer), older=False)
    frame = compose(analyzer.snapshot(), status(), state, width, 30).plain
    assert "cache hits" in frame
    assert f"{100 * state.trend.hits[-1]:.1f}%" in frame
    line = next(line for line in frame.splitlines() if "cache hits" in line)
    assert any(mark in line for mark in "▁▂▃▄▅▆▇█") is graph
    assert (f"%→{100 * state.trend.hits[-1]:.1f}%" in line) is not graph


@pytest.mark.parametrize(("height", "shown"), [(24, False), (40, True)])
def test_a_tall_overview_shows_it_too(height: int, shown: bool) -> None:
    recorder, analyzer = TrendRecorder(), Analyzer()
    state = ViewState()
    for second in range(3):
        analyzer.feed(steps(list(range(EXPERTS)), 20, second))
        state.trend = recorder.note(second * PERIOD, taken(analyzer), older=False)
    frame = compose(analyzer.snapshot(), status(), state, 120, height).plain
    assert ("cache hits" in frame) is shown


def test_without_one_nothing_is_said() -> None:
    assert "cache hits" not in draw_static(snapshot(4, 16), status(), width=100, height=30, view="Time").plain
