"""Coverage, hot-set curve and residency budgets against plain searches."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from moe_live.statistics.hot_set import COVERED_PERCENT, budgets, coverage, hot_list, hot_set_curve
from tests.reference import read_steps
from tests.trace import trace_log

tables = arrays.arrays(
    np.int64,
    st.tuples(st.integers(1, 4), st.integers(1, 6)),
    elements=st.integers(0, 5) | st.integers(0, 10**9),
)


@given(tables)
def test_coverage_is_the_fewest_experts_that_reach_the_share(counts: NDArray[np.int64]) -> None:
    for row, found in zip(counts.tolist(), coverage(counts).tolist(), strict=True):
        descending = sorted(row, reverse=True)
        for percent, n in zip(COVERED_PERCENT, found, strict=True):
            if not sum(row):
                assert n == 0
                continue
            assert 100 * sum(descending[:n]) >= percent * sum(row)
            assert 100 * sum(descending[: n - 1]) < percent * sum(row)


def test_coverage_of_equal_experts_is_not_off_by_rounding() -> None:
    assert coverage(np.full((1, 100), 7)).tolist() == [list(COVERED_PERCENT)]


@given(tables)
def test_curve_is_what_the_most_used_experts_serve(counts: NDArray[np.int64]) -> None:
    for row, curve in zip(counts.tolist(), hot_set_curve(counts).tolist(), strict=True):
        descending = sorted(row, reverse=True)
        total = sum(row)
        wanted = [sum(descending[: n + 1]) / total if total else np.nan for n in range(len(row))]
        np.testing.assert_array_equal(curve, wanted)


@given(tables)
def test_budgets_equal_a_search_through_all_splits(counts: NDArray[np.int64]) -> None:
    counts = counts[:2, :4]
    cells = [int(count) for count in counts.reshape(-1)]
    n_layers, n_experts = counts.shape
    found = budgets(counts, range(len(cells) + 1))
    if not sum(cells):
        assert found == ()
        return
    for number, budget in enumerate(found):
        choices = [
            (
                sum(cells[cell] for cell in choice),
                np.bincount([c // n_experts for c in choice], minlength=n_layers),
            )
            for choice in combinations(range(len(cells)), number)
        ]
        assert budget.experts == number
        assert budget.best == max(served for served, _ in choices) / sum(cells)
        even = [served for served, taken in choices if np.ptp(taken) <= 1]
        assert budget.even == max(even) / sum(cells)
        assert (max(choices, key=lambda choice: choice[0])[0], budget.fewest, budget.most) in [
            (served, taken.min(), taken.max()) for served, taken in choices
        ]


@given(tables, st.integers(0, 30))
def test_hot_list_is_the_best_choice(counts: NDArray[np.int64], n: int) -> None:
    layers = [3 * row + 1 for row in range(len(counts))]
    found = hot_list(counts, layers, n)
    wanted = sorted(
        (-int(counts[row, expert]), layers[row], expert)
        for row in range(len(counts))
        for expert in range(counts.shape[1])
        if counts[row, expert]
    )
    assert [(-hot.count, hot.layer, hot.expert) for hot in found] == wanted[:n]
    for hot in found:
        row = counts[layers.index(hot.layer)]
        better = sum((-count, expert) < (-hot.count, hot.expert) for expert, count in enumerate(row.tolist()))
        assert (hot.rank, hot.share) == (better + 1, hot.count / row.sum())


def test_the_best_split_beats_the_even_one_where_layers_differ_and_only_there() -> None:
    narrow, wide = [97, 1, 1, 1, 0, 0, 0, 0], [13, 13, 13, 13, 12, 12, 12, 12]
    (unlike,) = budgets(np.array([narrow, wide]), [8])
    assert (unlike.fewest, unlike.most) == (1, 7)
    assert unlike.best > unlike.even
    (alike,) = budgets(np.array([wide, wide]), [8])
    assert alike.best == alike.even
    assert alike.fewest + alike.most == 8


def test_no_layers_and_no_experts_give_no_warning() -> None:
    for shape in ((0, 4), (3, 0), (0, 0)):
        counts = np.zeros(shape, np.int64)
        assert coverage(counts).shape == (shape[0], len(COVERED_PERCENT))
        assert hot_set_curve(counts).shape == shape
        assert budgets(counts, [0, 1]) == ()
        assert hot_list(counts, range(shape[0]), 5) == ()


def test_published_figures_of_a_trace(real_logs: Path) -> None:
    counts = np.zeros((48, 128), np.int64)
    for step in read_steps(trace_log(real_logs / "qwen3-30b-a3b.route.csv.gz", 1)):
        for layer, rows in step.blocks.items():
            counts[layer, list(rows[0])] += 1
    top8 = hot_set_curve(counts)[:, 7]
    assert [round(100 * float(share), 1) for share in (top8[0], top8[5], top8.mean())] == [21.5, 43.2, 44.5]
    (budget,) = budgets(counts, [8 * 48])
    assert budget.even == pytest.approx(top8.mean())
    assert budget.best > budget.even
    hot = hot_list(counts, range(48), 8 * 48)
    assert sum(entry.count for entry in hot) / counts.sum() == pytest.approx(budget.best)
