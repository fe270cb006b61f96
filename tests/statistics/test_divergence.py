"""Jensen-Shannon divergence, and what of it is noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from moe_live.statistics import divergence
from moe_live.statistics.divergence import compare, jensen_shannon
from tests.statistics.drawn_steps import chosen


def counts_of(
    rng: np.random.Generator, usage: NDArray[np.float64], k: int, layers: int, rows: int
) -> NDArray[np.int64]:
    experts = chosen(rng, usage, k, (layers, rows))
    return np.stack([np.bincount(layer.reshape(-1), minlength=len(usage)) for layer in experts])


def test_divergence_equals_scipy_and_has_known_ends() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, (2, 5, 12))
    expected = [jensenshannon(p, q, base=2) ** 2 for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(jensen_shannon(a, b), expected)
    ends = jensen_shannon(np.array([[4, 4, 0, 0], [1, 2, 3, 0]]), np.array([[0, 0, 1, 9], [2, 4, 6, 0]]))
    np.testing.assert_allclose(ends, [1, 0], atol=1e-15)


def test_without_selections_it_is_undefined_and_not_real() -> None:
    nothing, some = np.zeros((1, 4), np.int64), np.array([[100, 100, 0, 0]])
    for a, b in ((nothing, some), (some, nothing), (nothing, nothing)):
        found = compare(a, b, 2)
        assert np.isnan(found.js[0])
        assert not found.real[0]
    assert compare(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64), 2).js.shape == (0,)


def test_noise_between_tabulated_selections_lies_on_straight_lines() -> None:
    nodes, table = divergence._SELECTIONS_LOG2, divergence._noise_table()
    selections = np.append(2.0 ** np.linspace(nodes[0] - 1, nodes[-1] + 1, 97), [0.0, np.inf])
    place = np.log2(selections[:-2])
    for imbalance, columns in ((0.0, (0, 2)), (1.0, (1, 3))):
        found = divergence._tabulated(selections, np.full(1, imbalance))
        for figures, column in zip(found, columns, strict=True):
            np.testing.assert_allclose(figures[:-2], np.interp(place, nodes, table[column]), rtol=1e-12)
            assert figures[-2:].tolist() == [0.0, pytest.approx(table[column, -1])]


@pytest.mark.parametrize(
    ("n_experts", "k", "skew", "rows_a", "rows_b"),
    [
        (64, 6, 0.0, 100, 1000),
        (64, 6, 1.5, 200, 200),
        (64, 4, 1.0, 10, 1000),
        (8, 2, 1.0, 300, 900),
    ],
)
def test_noise_is_as_large_as_expected_and_rarely_called_real(
    n_experts: int, k: int, skew: float, rows_a: int, rows_b: int
) -> None:
    rng = np.random.default_rng(2)
    usage = skew * rng.normal(size=n_experts)
    a = counts_of(rng, usage, k, 300, rows_a)
    b = counts_of(rng, usage, k, 300, rows_b)
    found = compare(a, b, k)
    assert found.js.mean() == pytest.approx(found.expected.mean(), rel=0.12)
    assert found.real.sum() <= 3  # 0.3 are expected
    assert (found.limit > found.expected).all()


def test_two_usages_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    usage = rng.normal(size=64)
    other = usage + 0.7 * rng.normal(size=64)
    a, b = counts_of(rng, usage, 6, 20, 300), counts_of(rng, other, 6, 20, 300)
    assert compare(a, b, 6).real.all()


def test_the_divergence_of_tiny_samples_is_noise() -> None:
    rng = np.random.default_rng(4)
    usage = np.zeros(160)
    found = compare(counts_of(rng, usage, 8, 50, 20), counts_of(rng, usage, 8, 50, 20), 8)
    assert found.js.mean() > 0.3  # as large as that of two topics
    assert not found.real.any()
