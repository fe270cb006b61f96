"""Which size of a cache: what is claimed, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.statistics.blocks import BLOCKS
from moe_live.statistics.latest import LatestUses, Uses
from moe_live.statistics.sizing import CacheSizing, size_up
from tests.statistics.drawn_steps import chosen, decode_rows

LAYERS = 3


def uses_of(experts: NDArray[np.uint16], n_experts: int) -> Uses:
    """One-token decode steps with rows (steps, layers, k)."""
    rows = decode_rows(experts, range(experts.shape[1]))
    accumulator = LatestUses()
    accumulator.update([rows], np.full(len(experts), Kind.DECODE, np.int8))
    return accumulator.uses([Kind.DECODE], n_experts)


def sized(experts: NDArray[np.uint16], n_experts: int, shares: list[float], size: int = 1) -> CacheSizing:
    uses = uses_of(experts, n_experts)
    total = experts.shape[1] * n_experts * size
    return size_up(uses, np.full(experts.shape[1], size), [round(share * total) for share in shares])


@pytest.mark.parametrize(("n_experts", "k"), [(8, 2), (16, 4), (64, 6), (128, 8)])
def test_without_structure_no_cache_is_said_to_gain(n_experts: int, k: int) -> None:
    rng = np.random.default_rng(5)
    claims = judged = 0
    for steps in (40, 100, 300) * 3:
        rows = chosen(rng, np.zeros((LAYERS, n_experts)), k, (steps, LAYERS))
        found = sized(rows, n_experts, [0.02, 0.2, 0.5, 0.9])
        claims += sum(bool(entry.gains) for entry in found.sizes)
        judged += sum(entry.gains is not None for entry in found.sizes)
    assert judged > 20
    assert claims == 0


def test_uneven_use_and_repeated_tokens_are_gains() -> None:
    rng = np.random.default_rng(6)
    uneven = chosen(rng, rng.normal(0, 1, (LAYERS, 64)), 6, (300, LAYERS))
    even = chosen(rng, np.zeros((LAYERS, 64)), 6, (60, LAYERS))
    for rows in (uneven, np.repeat(even, 5, axis=0)):
        for entry in sized(rows, 64, [0.2, 0.5]).sizes:
            assert entry.gains
            assert entry.served.rate > entry.chance + 0.05


def test_few_steps_and_small_caches_tell_nothing() -> None:
    rng = np.random.default_rng(7)
    rows = chosen(rng, rng.normal(0, 2, (LAYERS, 64)), 6, (BLOCKS - 1, LAYERS))
    assert [entry.gains for entry in sized(rows, 64, [0.5]).sizes] == [None]
    rows = chosen(rng, rng.normal(0, 2, (LAYERS, 64)), 6, (10 * BLOCKS, LAYERS))
    few = sized(rows, 64, [5 / (3 * 64), 17 / (3 * 64), 18 / (3 * 64)])
    assert few.sizes[0].gains is None  # a layer alone needs six at once
    assert few.sizes[1].best in ("lru", "lfu")  # a third of it does not hold six


def test_slots_and_shares_are_those_of_the_best_choice() -> None:
    rows = np.array([[[0, 1], [0, 1]], [[0, 2], [0, 1]], [[0, 3], [0, 1]], [[0, 2], [2, 1]]], np.uint16)
    (entry,) = size_up(uses_of(rows, 4), np.array([10, 20]), [61]).sizes
    assert entry.slots.tolist() == [2, 2]  # uses a byte: .4 .2 of the first layer, .2 .15 of the second
    assert (entry.best_share, entry.even_share) == (13 / 16, (4 + 2 + 1 + 4) / 16)


def test_what_is_told_of_the_experts() -> None:
    rng = np.random.default_rng(8)
    rows = chosen(rng, rng.normal(0, 1, (LAYERS, 32)), 4, (200, LAYERS))
    found = sized(rows, 32, [0.5], size=1000)
    assert (found.layers, found.steps, found.prefill) == ((0, 1, 2), 200, 0)
    assert (found.total, found.token_bytes) == (LAYERS * 32 * 1000, LAYERS * 4 * 1000)
    assert found.knee is not None
    assert LAYERS * 4 * 1000 < found.knee < found.total
    assert 0 < found.knee_rate < 1


def test_layers_with_fewer_experts_count_as_they_are() -> None:
    rng = np.random.default_rng(9)
    wide = chosen(rng, np.zeros((1, 64)), 4, (400, 1))
    narrow = chosen(rng, np.zeros((1, 16)), 4, (400, 1))
    found = sized(np.concatenate((wide, narrow), axis=1), 64, [0.3])
    assert found.total == 80
    assert found.sizes[0].chance == pytest.approx(0.3 * 128 / 80, abs=0.01)


def test_nothing_to_size_up() -> None:
    found = size_up(LatestUses().uses([Kind.DECODE], 0), np.zeros(0, np.int64), [5])
    assert (found.steps, found.knee, found.sizes[0].gains) == (0, None, None)
