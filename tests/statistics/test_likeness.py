"""How alike two usages are."""

from __future__ import annotations

import numpy as np
import pytest

from moe_live.statistics.divergence import jensen_shannon
from moe_live.statistics.likeness import likeness


def test_the_same_usage_is_alike_and_another_is_not() -> None:
    a = np.array([[8, 4, 2, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [0] * 8])
    b = np.array([[80, 40, 20, 10, 10, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1], [1] * 8])
    found = likeness(a, b)
    assert found.common[:2].tolist() == pytest.approx([1.0, 0.0])
    assert found.js[:2].tolist() == pytest.approx([0.0, 1.0])
    assert found.hot[:2].tolist() == [1.0, 0.0]
    assert np.isnan([found.common[2], found.js[2], found.hot[2]]).all()
    assert np.isnan(found.between).all()


def test_halves_are_held_against_halves() -> None:
    rng = np.random.default_rng(1)
    first, second, third, fourth = (rng.integers(1, 9, (2, 16)) for _ in range(4))
    found = likeness(first + second, third + fourth, ((first, second), (third, fourth)))
    assert found.within.tolist() == [
        jensen_shannon(first, second).tolist(),
        jensen_shannon(third, fourth).tolist(),
    ]
    pairs = [jensen_shannon(x, y) for x in (first, second) for y in (third, fourth)]
    assert found.between == pytest.approx(np.mean(pairs, axis=0))
    a, b = (counts / counts.sum(axis=1, keepdims=True) for counts in (first + second, third + fourth))
    assert found.common == pytest.approx(1 - np.abs(a - b).sum(axis=1) / 2)
