"""Layers in fast memory: what batches read, what is chosen, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.latest import LatestUses, Uses
from moe_live.statistics.offload import BATCHES, Offload, distinct, offload
from tests.statistics.drawn_steps import DrawnStep, chosen, drawn_steps, tables


def uses_of(steps: list[DrawnStep]) -> Uses:
    accumulator = LatestUses()
    accumulator.update(*tables(steps))
    return accumulator.uses([Kind.DECODE], 40)


@given(drawn_steps(max_steps=14))
def test_distinct_experts_are_those_of_whole_windows(steps: list[DrawnStep]) -> None:
    uses = uses_of(steps)
    decode = [step for step in steps if step.kind is Kind.DECODE and step.blocks]
    for slot, layer in enumerate(uses.layers):
        named = [{expert for row in step.blocks.get(layer, []) for expert in row} for step in decode]
        for column, batch in enumerate(BATCHES):
            windows = [
                set().union(*named[begin : begin + batch])
                for begin in range(0, len(named) - batch + 1, batch)
            ]
            mean = distinct(uses)[slot, column]
            if windows:
                assert mean == pytest.approx(sum(map(len, windows)) / len(windows))
            else:
                assert np.isnan(mean)


def batches_of(rows: NDArray[np.uint16]) -> Uses:
    """Decode steps of several sequences: rows (steps, layers, tokens, k)."""
    steps, layers, tokens, k = rows.shape
    table = ExpertRows(
        np.repeat(np.arange(steps), layers * tokens),
        np.tile(np.repeat(np.arange(layers, dtype=np.uint16), tokens), steps),
        np.tile(np.arange(tokens), steps * layers),
        np.ones(steps * layers * tokens, np.bool_),
        rows.reshape(-1, k).T.copy().T,
    )
    accumulator = LatestUses()
    accumulator.update([table], np.full(steps, Kind.DECODE, np.int8))
    return accumulator.uses([Kind.DECODE], int(rows.max()) + 1)


def planned(rows: NDArray[np.uint16], fits: int) -> Offload:
    """Layers of 1,000 bytes each, of which so many fit."""
    layers = rows.shape[1]
    return offload(batches_of(rows), np.full(layers, 10), np.full(layers, 1000), fits * 1000 + 999)


def test_one_sequence_reads_alike_everywhere() -> None:
    rng = np.random.default_rng(1)
    rows = chosen(rng, rng.normal(0, 1, (6, 1, 20)), 4, (200, 6, 1))
    found = planned(rows, 2)
    assert found.by_number.tolist() == found.by_use.tolist() == [True] * 4 + [False] * 2
    assert found.read.tolist() == [40.0] * 6
    assert found.gains is False


def test_layers_that_read_most_are_fast_if_that_holds_on_unseen_steps() -> None:
    rng = np.random.default_rng(2)
    scores = np.zeros((16, 1, 64))
    scores[::2, :, :8] = 4  # the others spread their tokens over all experts
    found = planned(chosen(rng, scores, 4, (100, 16, 8)), 8)
    assert found.by_use.tolist() == [True, False] * 8
    assert found.gains
    assert (found.read[1::2] > 1.5 * found.read[::2].max()).all()


@pytest.mark.parametrize("run", [1, 20, 100])
@pytest.mark.parametrize("tokens", [1, 8])
def test_without_structure_choosing_by_use_is_not_said_to_gain(tokens: int, run: int) -> None:
    """Layers are alike in the long run; successive tokens may be of one topic."""
    rng = np.random.default_rng(tokens + run)
    said = []
    for _ in range(25):
        topics = rng.normal(0, 0 if run == 1 else 2, (200 // run, 12, 1, 32))
        rows = chosen(rng, np.repeat(topics, run, axis=0), 4, (200, 12, tokens))
        said.append(planned(rows, 6).gains)
    assert said == [False] * 25


def test_what_does_not_fit_stays_slow_whatever_comes_after() -> None:
    rows = chosen(np.random.default_rng(3), np.zeros((3, 1, 8)), 2, (40, 3, 1))
    uses = batches_of(rows)
    found = offload(uses, np.array([10, 30, 20]), np.array([80, 240, 160]), 250)
    assert found.by_number.tolist() == [True, True, False]
    assert offload(uses, np.array([10, 30, 20]), np.array([80, 240, 160]), 480).by_use.tolist() == [False] * 3
    assert offload(uses, np.array([10, 30, 20]), np.array([80, 240, 160]), 1).by_use.tolist() == [True] * 3


def test_few_layers_tell_nothing() -> None:
    scores = np.zeros((4, 1, 64))
    scores[::2, :, :8] = 4
    rows = chosen(np.random.default_rng(4), scores, 4, (100, 4, 8))
    assert planned(rows, 2).gains is False
