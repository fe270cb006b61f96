"""Use of the experts over time, from the sampled tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.routing.batch import Kind
from moe_live.statistics.history import history
from moe_live.statistics.sampling import TokenSample
from tests.statistics.drawn_steps import DrawnStep, chosen, decode_rows, drawn_steps, tables


@given(drawn_steps(), st.sampled_from([[Kind.DECODE], list(Kind)]), st.integers(1, 5))
def test_a_whole_log_is_counted_by_time(steps: list[DrawnStep], kinds: list[Kind], bins: int) -> None:
    sample = TokenSample(10_000)
    sample.update(*tables(steps))
    layers = sorted({layer for step in steps for layer in step.blocks})
    found = history(sample.unordered(), kinds, layers, 40, bins)
    expected: Counter[tuple[int, int, int]] = Counter()
    for number, step in enumerate(steps):
        whole = {layer: block for layer, block in step.blocks.items() if len(block) == step.tokens}
        if step.kind not in kinds:
            continue
        span = number * bins // len(steps)
        for layer, block in whole.items():
            expected.update((span, layers.index(layer), expert) for row in block for expert in row)
    assert found.steps == len(steps)
    counts = found.counts
    assert counts.shape == (bins, len(layers), 40)
    assert {tuple(map(int, at)): int(counts[tuple(at)]) for at in np.argwhere(counts)} == expected
    for place in range(len(layers)):
        assert found.of_layer(place).tolist() == counts[:, place].tolist()


def test_a_change_in_the_middle_is_seen_in_the_middle() -> None:
    rng = np.random.default_rng(1)
    sample = TokenSample(400 * 4)
    for experts in (chosen(rng, np.zeros(8), 2, (2000, 2)), 8 + chosen(rng, np.zeros(8), 2, (2000, 2))):
        sample.update([decode_rows(experts.astype(np.uint16), (3, 4))], np.full(2000, Kind.DECODE, np.int8))
    counts = history(sample.unordered(), [Kind.DECODE], [3, 4], 16, bins=10).counts
    tokens = counts.sum(axis=2) // 2
    assert tokens.sum(axis=0).tolist() == [400, 400]
    assert tokens.min() > 15
    assert not counts[:5, :, 8:].any()
    assert not counts[5:, :, :8].any()


@given(drawn_steps(), st.sampled_from([[Kind.DECODE], list(Kind)]), st.integers(1, 5), st.integers(1, 60))
def test_counts_are_the_same_before_and_after_rows_are_in_order(
    steps: list[DrawnStep], kinds: list[Kind], bins: int, budget: int
) -> None:
    sample, untouched = TokenSample(budget), TokenSample(budget)
    layers = sorted({layer for step in steps for layer in step.blocks})
    for step in steps:
        for each in (sample, untouched):
            each.update(*tables([step]))
        before = history(sample.unordered(), kinds, layers, 40, bins).counts
        expected = np.zeros_like(before)
        for rows in untouched.rows():
            columns = (rows.kind, rows.step, rows.layer, rows.experts)
            for kind, number, layer, experts in zip(*(each.tolist() for each in columns), strict=True):
                if kind in kinds:
                    np.add.at(expected[number * bins // untouched.steps, layers.index(layer)], experts, 1)
        assert before.tolist() == expected.tolist()
        sample.rows()
        assert history(sample.unordered(), kinds, layers, 40, bins).counts.tolist() == expected.tolist()
