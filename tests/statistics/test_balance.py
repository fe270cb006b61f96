"""Load balance against its known answers and against formulas written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from moe_live.statistics.balance import balance
from tests.reference import read_steps
from tests.trace import trace_log

vectors = arrays.arrays(np.int64, st.integers(2, 20), elements=st.integers(0, 1 << 40))


@given(st.integers(2, 512), st.integers(1, 1 << 40))
def test_equal_counts_are_perfectly_balanced(n_experts: int, count: int) -> None:
    (result,) = balance(np.full((1, n_experts), count), 1)
    assert result.entropy == pytest.approx(math.log2(n_experts))
    assert result.entropy_normalized == pytest.approx(1)
    assert result.effective_experts == pytest.approx(n_experts)
    assert (result.gini, result.cv, result.jain, result.max_violation) == (0, 0, 1, 0)
    assert (result.balancedness, result.dead_experts) == (1, 0)
    assert result.kl_uniform == pytest.approx(0, abs=1e-12)


@given(st.integers(2, 512), st.integers(1, 1 << 40), st.data())
def test_one_expert_alone_is_the_other_extreme(n_experts: int, count: int, data: st.DataObject) -> None:
    counts = np.zeros((1, n_experts), np.int64)
    counts[0, data.draw(st.integers(0, n_experts - 1))] = count
    (result,) = balance(counts, 1)
    assert (result.entropy, result.entropy_normalized, result.effective_experts) == (0, 0, 1)
    assert math.copysign(1, result.entropy) == 1
    assert result.gini == pytest.approx(1 - 1 / n_experts)
    assert result.cv == pytest.approx(math.sqrt(n_experts - 1))
    assert result.jain == pytest.approx(1 / n_experts)
    assert result.max_violation == pytest.approx(n_experts - 1) == result.max_violation_bound
    assert result.balancedness == pytest.approx(1 / n_experts)
    assert result.kl_uniform == pytest.approx(math.log2(n_experts))
    assert result.dead_experts == n_experts - 1


@given(vectors.filter(np.any))
def test_formulas_written_out(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    (result,) = balance(counts[None], 2)
    c = sorted(counts.tolist())
    n, total = len(c), sum(c)
    mean = total / n
    entropy = sum(x / total * math.log2(total / x) for x in c if x)
    assert result.entropy == pytest.approx(entropy, abs=1e-9)
    assert result.entropy_normalized == pytest.approx(entropy / math.log2(n), abs=1e-9)
    assert result.effective_experts == pytest.approx(2**entropy)
    assert result.kl_uniform == pytest.approx(math.log2(n) - entropy, abs=1e-9)
    differences = sum(abs(a - b) for a in c for b in c)
    assert result.gini == pytest.approx(differences / (2 * n * total), abs=1e-9)
    assert result.cv == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in c) / n) / mean, abs=1e-9)
    assert result.jain == pytest.approx(total**2 / (n * sum(x * x for x in c)))
    assert result.max_violation == pytest.approx(c[-1] / mean - 1)
    assert result.balancedness == pytest.approx(mean / c[-1])
    assert result.dead_experts == c.count(0)


def test_dead_experts_expected_by_chance_are_those_seen_under_a_uniform_router() -> None:
    rng = np.random.default_rng(1)
    n_experts, top_k, n_rows = 40, 4, 20
    chosen = rng.permuted(np.tile(np.arange(n_experts), (2000, n_rows, 1)), axis=2)[:, :, :top_k]
    counts = np.stack([np.bincount(run.reshape(-1), minlength=n_experts) for run in chosen])
    results = balance(counts, top_k)
    expected = n_experts * (1 - top_k / n_experts) ** n_rows
    assert results[0].dead_expected == pytest.approx(expected)
    assert np.mean([result.dead_experts for result in results]) == pytest.approx(expected, rel=0.03)


def test_layers_are_independent() -> None:
    counts = np.random.default_rng(2).integers(0, 50, (6, 12))
    assert balance(counts, 3) == tuple(balance(row[None], 3)[0] for row in counts)


def test_nothing_selected_is_defined() -> None:
    (result,) = balance(np.zeros((1, 8), np.int64), 2)
    assert (result.dead_experts, result.dead_expected, result.max_violation_bound) == (8, 8.0, 3.0)
    ratios = [value for name, value in result._asdict().items() if name not in DEFINED]
    assert all(math.isnan(value) for value in ratios)


DEFINED = {"dead_experts", "dead_expected", "max_violation_bound"}


def test_shapes_at_the_edge_give_no_warning() -> None:
    assert balance(np.zeros((0, 8), np.int64), 2) == ()
    (empty,) = balance(np.zeros((1, 0), np.int64), None)
    assert math.isnan(empty.entropy)
    (single,) = balance(np.array([[7]]), 1)
    assert (single.entropy, single.gini, single.max_violation) == (0, 0, 0)
    assert math.isnan(single.entropy_normalized)
    (unknown,) = balance(np.array([[7, 1]]), None)
    assert math.isnan(unknown.dead_expected)
    assert math.isnan(unknown.max_violation_bound)
    (too_large,) = balance(np.array([[7, 1]]), 3)
    assert too_large.dead_expected == 0


def test_published_figures_of_a_trace(real_logs: Path) -> None:
    counts = np.zeros((48, 128), np.int64)
    for step in read_steps(trace_log(real_logs / "qwen3-30b-a3b.route.csv.gz", 1)):
        for layer, rows in step.blocks.items():
            counts[layer, list(rows[0])] += 1
    results = balance(counts, 6)
    distinct = [128 - result.dead_experts for result in results]
    assert (round(float(np.mean(distinct)), 1), min(distinct), max(distinct)) == (63.7, 33, 107)
    assert distinct[0] == 107
    normalized = [result.entropy_normalized for result in results]
    assert (round(normalized[0], 3), round(float(np.mean(normalized)), 3)) == (0.909, 0.743)
