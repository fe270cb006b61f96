"""The sample of tokens: bounded, random, and the same however the log is cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.routing.batch import Kind
from moe_live.statistics.sampling import TokenSample
from tests.statistics.drawn_steps import DrawnStep, Row, chosen, cut, decode_rows, drawn_steps, tables

PLACES = st.lists(st.integers(0, 8), max_size=3)
Content = dict[tuple[int, int, int, int], tuple[Row, int]]


def sampled(*pieces: list[DrawnStep], budget: int) -> TokenSample:
    sample = TokenSample(budget)
    for piece in pieces:
        sample.update(*tables(piece))
    return sample


def content(sample: TokenSample) -> Content:
    """(experts, kind) by (k, step, token, layer)."""
    return {
        (rows.experts.shape[1], step, token, layer): (tuple(experts), kind)
        for rows in sample.rows()
        for step, token, layer, experts, kind in zip(
            *(column.tolist() for column in (rows.step, rows.token, rows.layer, rows.experts, rows.kind)),
            strict=True,
        )
    }


def everything(steps: list[DrawnStep]) -> Content:
    return {
        (len(row), number, token, layer): (row, int(step.kind))
        for number, step in enumerate(steps)
        for layer, block in step.blocks.items()
        if len(block) == step.tokens
        for token, row in enumerate(block)
    }


@given(drawn_steps())
def test_a_large_budget_keeps_every_whole_token(steps: list[DrawnStep]) -> None:
    assert content(sampled(steps, budget=10_000)) == everything(steps)


@given(drawn_steps(), PLACES, st.integers(0, 60))
def test_neither_batches_nor_merging_show(steps: list[DrawnStep], places: list[int], budget: int) -> None:
    pieces = cut(steps, places)
    merged = TokenSample(budget)
    for piece in pieces:
        merged += sampled(piece, budget=budget)
    whole = content(sampled(steps, budget=budget))
    assert whole == content(sampled(*pieces, budget=budget)) == content(merged)


@given(drawn_steps(), st.integers(0, 60))
def test_the_tokens_with_the_lowest_hashes_are_kept_whole_within_the_budget(
    steps: list[DrawnStep], budget: int
) -> None:
    every, kept = everything(steps), content(sampled(steps, budget=budget))
    assert sum(key[0] for key in kept) <= budget
    tokens = {key[:3] for key in kept}
    assert kept == {key: value for key, value in every.items() if key[:3] in tokens}
    hashes = {
        (rows.experts.shape[1], step, token): hashed
        for rows in sampled(steps, budget=10_000).rows()
        for hashed, step, token in zip(
            *(column.tolist() for column in (rows.hash, rows.step, rows.token)), strict=True
        )
    }
    sizes = Counter(hashes[key[:3]] for key in every for _ in range(key[0]))
    limit = next((hashed for hashed in sorted(sizes) if _up_to(sizes, hashed) > budget), None)
    assert tokens == {token for token, hashed in hashes.items() if limit is None or hashed < limit}


def _up_to(sizes: Counter[int], limit: int) -> int:
    return sum(size for hashed, size in sizes.items() if hashed <= limit)


@given(drawn_steps())
def test_what_was_undecided_becomes_prefill(steps: list[DrawnStep]) -> None:
    sample = sampled(steps, budget=10_000)
    sample.settle()
    settled = {Kind.UNDECIDED: Kind.PREFILL}
    assert content(sample) == {
        key: (row, settled.get(Kind(kind), kind)) for key, (row, kind) in everything(steps).items()
    }


def test_merging_leaves_the_other_as_it_was() -> None:
    step = DrawnStep(Kind.DECODE, {3: [(1, 2)]})
    first, second = sampled([step], budget=100), sampled([step], budget=100)
    before = content(second)
    first += second
    first += second
    assert content(second) == before
    assert sorted(key[1] for key in content(first)) == [0, 1, 2]


def test_every_part_of_the_log_is_sampled_alike() -> None:
    rng = np.random.default_rng(1)
    sample = TokenSample(budget=400 * 12)
    for _ in range(20):
        rows = decode_rows(chosen(rng, rng.normal(size=16), 4, (500, 3)), layers=(2, 3, 5))
        sample.update([rows], np.full(500, Kind.DECODE, np.int8))
    (kept,) = sample.rows()
    assert len(kept) == 400 * 3
    assert sorted(set(kept.rank.tolist())) == list(range(400))
    per_part = np.bincount(np.unique(kept.step) // 500, minlength=20)
    assert ((per_part - 20) ** 2 / 20).sum() < 43.8  # chi-squared of 19 degrees of freedom: one in a thousand
    first = np.unique(kept.step[kept.rank < 100])
    assert ((np.bincount(first // 2500, minlength=4) - 25) ** 2 / 25).sum() < 16.3


def test_a_token_that_does_not_fit_keeps_out_what_comes_after_it_in_any_order() -> None:
    steps = [DrawnStep(Kind.DECODE, {0: [tuple(range(a, a + size))]}) for a in range(20) for size in (1, 5)]
    budget = 4
    whole = content(sampled(steps, budget=budget))
    for place in range(len(steps)):
        merged = sampled(steps[:place], budget=budget)
        merged += sampled(steps[place:], budget=budget)
        assert content(merged) == whole
