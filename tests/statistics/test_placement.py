"""Placements: places, replicas, loads, and when one is said to be more even."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.statistics.blocks import FEW_LAYERS
from moe_live.statistics.placement import (
    balanced,
    balancedness,
    contiguous,
    device_loads,
    on_unseen,
)

SHAPES = st.integers(2, 5).flatmap(
    lambda devices: st.tuples(
        st.just(devices),
        st.integers(1, 4).map(lambda each: each * devices),
        st.integers(0, 3).map(lambda more: more * devices),
    )
)


@given(SHAPES, st.integers(0, 2**32))
def test_every_expert_has_a_place_and_no_device_has_it_twice(shape: tuple[int, int, int], seed: int) -> None:
    devices, n_experts, replicas = shape
    places = min(n_experts + replicas, n_experts * devices)
    counts = np.random.default_rng(seed).integers(0, 50, (3, n_experts))
    for of_layer in balanced(counts, devices, places):
        assert set(of_layer.tolist()) == set(range(n_experts))
        for device in of_layer.reshape(devices, -1).tolist():
            assert device == sorted(set(device))


@given(SHAPES, st.integers(0, 2**32))
def test_replicas_go_to_the_most_loaded(shape: tuple[int, int, int], seed: int) -> None:
    devices, n_experts, replicas = shape
    places = min(n_experts + replicas, n_experts * devices)
    counts = np.random.default_rng(seed).integers(1, 50, (1, n_experts))
    many = np.bincount(balanced(counts, devices, places)[0], minlength=n_experts)
    for expert in range(n_experts):  # nobody with a replica would rather have given it to another
        for other in range(n_experts):
            if many[expert] > 1 and many[other] < devices:
                assert counts[0, expert] / (many[expert] - 1) >= counts[0, other] / many[other]


@given(st.integers(2, 3), st.integers(0, 2**32))
def test_one_place_each_is_near_the_best_of_all(devices: int, seed: int) -> None:
    """Within Graham's bound of 4/3 of the least possible largest load, for as many on each device."""
    counts = np.random.default_rng(seed).integers(0, 20, (1, 6))
    each = 6 // devices
    best = min(
        max(sum(counts[0, list(order[i : i + each])]) for i in range(0, 6, each))
        for order in permutations(range(6))
    )
    assert device_loads(balanced(counts, devices, 6), counts, devices).max() <= 4 / 3 * best + 1e-9


@given(SHAPES, st.integers(0, 2**32))
def test_loads_are_those_of_the_definition(shape: tuple[int, int, int], seed: int) -> None:
    devices, n_experts, replicas = shape
    places = min(n_experts + replicas, n_experts * devices)
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (2, n_experts))
    placement = balanced(rng.integers(0, 9, (2, n_experts)), devices, places)
    loads = device_loads(placement, counts, devices)
    for row in range(2):
        experts = placement[row].tolist()
        for device in range(devices):
            each = places // devices
            mine = experts[device * each : (device + 1) * each]
            load = sum(counts[row, expert] / experts.count(expert) for expert in mine)
            assert loads[row, device] == pytest.approx(load)
    assert loads.sum() == pytest.approx(counts.sum())


def test_balancedness_is_one_when_even_and_undefined_without_load() -> None:
    placement = contiguous(3, 4)
    counts = np.array([[1, 1, 1, 1], [4, 0, 0, 0], [0, 0, 0, 0]])
    found = balancedness(placement, counts, 2)
    assert found[:2].tolist() == [1.0, 0.5]
    assert np.isnan(found[2])


def halves_of(
    shares: NDArray[np.float64], tokens: int, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = (rng.multinomial(tokens * k, shares) for _ in range(2))
    return first, second


@pytest.mark.parametrize("devices", [2, 8])
def test_without_structure_no_placement_is_said_to_gain(devices: int) -> None:
    rng = np.random.default_rng(11)
    even = np.full((24, 32), 1 / 32)
    said = []
    for tokens in (20, 100, 1000) * 20:
        found = on_unseen(halves_of(even, tokens, 4, rng), devices, 40)
        said += [found["greedy"].gains, found["replicated"].gains]
    assert said.count(True) <= 1  # of 240; four standard errors of 24 layers are passed in 3 of 10,000
    assert said.count(None) == 0


def test_uneven_use_is_a_gain_that_is_found() -> None:
    rng = np.random.default_rng(12)
    scores = np.exp(rng.normal(0, 1, (24, 32)))
    found = on_unseen(halves_of(scores / scores.sum(axis=1, keepdims=True), 1000, 4, rng), 8, 40)
    assert (found["greedy"].gains, found["replicated"].gains) == (True, True)
    assert (found["contiguous"].gains, found["any replicas"].gains) == (None, None)
    assert found["contiguous"].mean + 0.1 < found["greedy"].mean < found["replicated"].mean


def test_the_other_half_is_what_is_tested() -> None:
    first, second = np.zeros((2, 20, 4), np.int64)
    first[:, [0, 1]] = 10
    second[:, [0, 2]] = 10  # what the first half keeps apart, 0 and 1, says nothing of 2
    found = on_unseen((first, second), 2, 4)
    learned = [balanced(half, 2, 4) for half in (first, second)]
    expected = (balancedness(learned[0], second, 2) + balancedness(learned[1], first, 2)) / 2
    assert found["greedy"].by_layer.tolist() == expected.tolist()
    assert found["greedy"].mean < 1


def test_few_layers_and_uneven_numbers_tell_nothing() -> None:
    rng = np.random.default_rng(13)
    few = on_unseen(halves_of(np.full((FEW_LAYERS - 1, 32), 1 / 32), 100, 4, rng), 8, 40)
    assert few["greedy"].gains is None
    odd = on_unseen(halves_of(np.full((24, 30), 1 / 30), 100, 4, rng), 8, 32)
    assert list(odd) == ["any replicas", "replicated"]
    assert odd["replicated"].gains is False
