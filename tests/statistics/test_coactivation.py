"""Pairs of experts in a row, counted and judged."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.statistics import coactivation
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.pairs import _bins, _settle_ties, expected_together, factors, notable_pairs
from moe_live.statistics.rows import RowsByLayer
from tests.statistics.drawn_steps import DrawnStep, by_layer, chosen, cut, decode_rows, drawn_steps

pytestmark = pytest.mark.usefixtures("each_way")

PLACES = st.lists(st.integers(0, 8), max_size=3)


def counted(*pieces: list[DrawnStep]) -> Coactivation:
    pairs = Coactivation()
    for piece in pieces:
        pairs.update(by_layer(piece))
    return pairs


def content(pairs: Coactivation) -> dict[int, tuple[int, list[list[int]]]]:
    return {layer: (pairs.rows(layer), pairs.counts(layer, np.arange(40)).tolist()) for layer in pairs.layers}


def counts_of(experts: NDArray[np.uint16], n_experts: int) -> tuple[NDArray[np.int64], int]:
    """Counts and rows of a layer with rows (n, k)."""
    pairs = Coactivation()
    pairs.update([RowsByLayer(decode_rows(experts[:, None]))])
    return pairs.counts(0, np.arange(n_experts)).astype(np.int64), pairs.rows(0)


@given(drawn_steps())
def test_counts_equal_a_plain_count_at_every_prefix(steps: list[DrawnStep]) -> None:
    pairs = Coactivation()
    together: Counter[tuple[int, int, int]] = Counter()
    rows: Counter[int] = Counter()
    for step in steps:
        pairs.update(by_layer([step]))
        for layer, block in step.blocks.items():
            for row in block:
                if len(set(row)) == len(row):
                    rows[layer] += 1
                    together.update((layer, a, b) for a in row for b in row)
        for layer in pairs.layers:
            counts = pairs.counts(layer, np.arange(40))
            assert pairs.rows(layer) == rows[layer]
            assert pairs.single(layer, np.arange(40)).tolist() == np.diagonal(counts).tolist()
            found = {
                (layer, int(a), int(b)): int(counts[a, b]) for a, b in zip(*np.nonzero(counts), strict=True)
            }
            assert found == {key: count for key, count in together.items() if key[0] == layer}


@given(drawn_steps(), PLACES)
def test_batching_does_not_matter_and_merging_equals_one_pass(
    steps: list[DrawnStep], places: list[int]
) -> None:
    pieces = cut(steps, places)
    merged = Coactivation()
    for piece in pieces:
        merged += counted(piece)
    assert content(counted(*pieces)) == content(counted(steps)) == content(merged)


def test_without_rows_there_is_nothing() -> None:
    pairs = Coactivation()
    assert pairs.layers == []
    assert pairs.rows(3) == pairs.counts(3, np.arange(4)).sum() == 0
    found = notable_pairs(pairs.counts(3, np.arange(4)), 0)
    assert (found.tested, found.strongest, found.weakest) == (0, (), ())


@pytest.mark.parametrize("bits", [16, 32])
def test_counts_that_outgrow_their_type_are_exact(bits: int) -> None:
    pairs = counted([DrawnStep(Kind.DECODE, {3: [(0, 1)]})])
    pairs._rows[:] = 2**bits - 1
    pairs._counts.low = np.where(pairs._counts.low > 0, 2**bits - 1, 0).astype(f"uint{bits}")
    doubled = counted([DrawnStep(Kind.DECODE, {3: [(0, 1)]})])
    pairs += doubled
    assert pairs.rows(3) == 2**bits
    assert pairs.counts(3, np.arange(2)).tolist() == [[2**bits] * 2] * 2
    pairs.update(by_layer([DrawnStep(Kind.DECODE, {3: [(0, 1)]})]))
    assert pairs.counts(3, np.arange(2)).tolist() == [[2**bits + 1] * 2] * 2
    doubled += pairs
    assert doubled.counts(3, np.arange(2)).tolist() == [[2**bits + 2] * 2] * 2


@given(drawn_steps(), PLACES)
def test_a_model_too_large_is_given_up_however_it_is_cut(steps: list[DrawnStep], places: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coactivation, "MAX_CELLS", 600)
        whole, pieces = counted(steps), cut(steps, places)
        merged = Coactivation()
        for piece in pieces:
            merged += counted(piece)
        assert whole.too_large == counted(*pieces).too_large == merged.too_large
        assert content(whole) == content(counted(*pieces)) == content(merged)


def expected_of(counts: NDArray[np.int64], rows: int) -> NDArray[np.float64]:
    single = np.diagonal(counts)
    return expected_together(single, rows, factors(single / rows), np.arange(len(single)))


def test_factors_of_many_layers_are_those_of_each() -> None:
    share = np.random.default_rng(0).dirichlet(np.ones(24), size=5) * 4
    np.testing.assert_array_equal(factors(share), [factors(layer) for layer in share])


def test_alike_experts_have_the_baseline_lift_and_are_expected_as_counted() -> None:
    n_experts, k = 7, 3
    rows = np.array(list(combinations(range(n_experts), k)), np.uint16)
    counts, total = counts_of(rows, n_experts)
    found = notable_pairs(counts, total)
    assert found.chance_lift == pytest.approx((k - 1) * n_experts / (k * (n_experts - 1)))
    off = ~np.eye(n_experts, dtype=bool)
    np.testing.assert_allclose(expected_of(counts, total)[off], counts[off])
    lift = counts * total / np.outer(np.diagonal(counts), np.diagonal(counts))
    np.testing.assert_allclose(lift[off], found.chance_lift)


def test_expectation_keeps_the_pairs_of_each_expert() -> None:
    rng = np.random.default_rng(1)
    counts, rows = counts_of(chosen(rng, rng.normal(size=20), 4, (2000,)), 20)
    together = counts.sum(axis=1) - np.diagonal(counts)
    np.testing.assert_allclose(expected_of(counts, rows).sum(axis=1), together, rtol=1e-6)


def test_planted_pairs_are_found_and_their_figures_are_right() -> None:
    rng = np.random.default_rng(2)
    rows = chosen(rng, np.zeros(64), 4, (20000,))
    friends = rng.random(20000) < 0.01
    rows[friends] = [7, 9, 21, 30]
    apart = (rows == 3).any(axis=1) & (rows == 5).any(axis=1)
    counts, total = counts_of(rows[~apart], 64)
    found = notable_pairs(counts, total, n=6)
    assert {(pair.a, pair.b) for pair in found.strongest} == set(combinations((7, 9, 21, 30), 2))
    for pair in found.strongest:
        n_a, n_b = counts[pair.a, pair.a], counts[pair.b, pair.b]
        assert pair.count == counts[pair.a, pair.b]
        assert pair.lift == pytest.approx(pair.count * total / (n_a * n_b))
        assert 2**pair.pmi == pytest.approx(pair.lift)
        assert (pair.b_given_a, pair.a_given_b) == (pair.count / n_a, pair.count / n_b)
        assert pair.z >= found.z_needed
    assert [pair.lift for pair in found.strongest] == sorted((p.lift for p in found.strongest), reverse=True)
    weakest = found.weakest[0]
    assert (weakest.a, weakest.b, weakest.count, weakest.pmi) == (3, 5, 0, -np.inf)


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_independent_choices_show_no_pairs(skew: float) -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(100):
        counts, rows = counts_of(chosen(rng, skew * rng.normal(size=48), 6, (1500,)), 48)
        found = notable_pairs(counts, rows)
        assert found.tested > 500
        alarms += bool(found.strongest or found.weakest)
    assert alarms <= 1  # 0.1 are expected


@pytest.mark.parametrize("times", [2, 8])
def test_rows_that_come_many_times_over_do_not_pass_for_evidence(times: int) -> None:
    rng = np.random.default_rng(4)
    counts, rows = counts_of(np.repeat(chosen(rng, np.zeros(48), 6, (1500,)), times, axis=0), 48)
    found = notable_pairs(counts, rows)
    assert found.spread == pytest.approx(times, rel=0.5)
    assert not found.strongest
    assert not found.weakest


def test_nothing_is_expected_more_often_than_it_can_be() -> None:
    """One expert in every row: each other is beside it as often as it occurs."""
    rng = np.random.default_rng(5)
    rows = chosen(rng, np.where(np.arange(16) == 0, 30.0, 2 * rng.normal(size=16)), 4, (1000,))
    counts, total = counts_of(rows, 16)
    expected, single = expected_of(counts, total), np.diagonal(counts)
    assert (expected <= np.minimum.outer(single, single)).all()
    np.testing.assert_allclose(expected[0, 1:], single[1:], atol=1e-6)
    found = notable_pairs(counts, total)
    assert not found.strongest
    assert not found.weakest


@given(st.permutations(range(40)), st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_bins_are_the_same_in_whatever_order_equal_pairs_come(places: list[int], values: list[int]) -> None:
    expected, place = np.array(values, np.float64), np.array(places)
    order = place[np.argsort(expected[place], kind="stable")]
    _settle_ties(order, expected[order])
    orders = order, np.argsort(expected, kind="stable")
    bins = [
        [set(each) for part in _bins(some.astype(np.float64)) for each in part.tolist()] for some in orders
    ]
    assert bins[0] == bins[1]
    assert len(bins[0]) == 8
