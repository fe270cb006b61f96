"""The verdict on multi-row blocks and the recovery of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows
from moe_live.routing.evidence import StrideEvidence, Verdict, chance_bits
from moe_live.routing.strided import examine

SHAPES = [
    (n_experts, top_k)
    for n_experts in (8, 16, 32, 60, 64, 128, 160, 256, 512)
    for top_k in (1, 2, 4, 6, 8, 10)
    if top_k < n_experts
]


def rankings(rng: np.random.Generator, tokens: int, n_experts: int, skew: float) -> NDArray[np.int64]:
    """Full rankings (tokens, n_experts) of independent tokens whose experts differ in popularity."""
    popularity = skew * rng.standard_normal(n_experts)
    ranked: NDArray[np.int64] = np.argsort(-(popularity + rng.gumbel(size=(tokens, n_experts))), axis=1)
    return ranked


def strided(ranked: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """What the logger writes that ignores the row stride."""
    return ranked.reshape(-1)[: len(ranked) * top_k].reshape(-1, top_k)


def rows_of(blocks: Sequence[NDArray[np.int64]]) -> ExpertRows:
    lengths = [len(block) for block in blocks]
    token = np.concatenate([np.arange(length) for length in lengths])
    step = np.repeat(np.arange(len(blocks)), lengths)
    experts = np.concatenate(blocks).astype(np.uint16)
    layer = np.zeros(len(token), np.uint16)
    return ExpertRows(step, layer, token, np.ones(len(token), np.bool_), experts)


def judged(blocks: Sequence[NDArray[np.int64]], n_experts: int) -> Verdict:
    evidence = StrideEvidence()
    examine(rows_of(blocks), evidence)
    return evidence.verdict(n_experts)


@given(
    st.integers(0, 2**32),
    st.sampled_from(SHAPES),
    st.lists(st.sampled_from([2, 3, 5, 8, 33, 64, 100, 200, 512]), min_size=1, max_size=4),
)
def test_what_is_recovered_from_strided_blocks_is_the_truth(
    seed: int, shape: tuple[int, int], lengths: list[int]
) -> None:
    n_experts, top_k = shape
    rng = np.random.default_rng(seed)
    truth = [rankings(rng, length, n_experts, 1.0) for length in lengths]
    proven, found = examine(rows_of([strided(ranked, top_k) for ranked in truth]), StrideEvidence())
    assert not proven.any()
    expected = [
        (step, token, tuple(ranked[token, :top_k].tolist()))
        for step, ranked in enumerate(truth)
        for token in range((len(ranked) - 1) * top_k // n_experts + 1)
    ]
    columns = zip(found.step.tolist(), found.token.tolist(), map(tuple, found.experts.tolist()), strict=True)
    assert list(columns) == expected


@given(st.integers(0, 2**32), st.sampled_from(SHAPES), st.sampled_from(["strided", "sound"]), st.data())
def test_the_verdict_does_not_depend_on_order_or_grouping(
    seed: int, shape: tuple[int, int], logger: str, data: st.DataObject
) -> None:
    n_experts, top_k = shape
    rng = np.random.default_rng(seed)
    blocks = []
    for length in rng.choice([2, 3, 20, 100], size=12).tolist():
        ranked = rankings(rng, length, n_experts, 0.5)
        blocks.append(strided(ranked, top_k) if logger == "strided" else ranked[:, :top_k])
    shuffled = data.draw(st.permutations(blocks))
    cut = data.draw(st.integers(0, len(blocks)))
    first, second = StrideEvidence(), StrideEvidence()
    for evidence, part in ((first, shuffled[:cut]), (second, shuffled[cut:])):
        if part:
            examine(rows_of(part), evidence)
    first.add(second, 0)
    assert first.verdict(n_experts) is judged(blocks, n_experts)


@pytest.mark.parametrize("logs", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_sound_log_is_called_strided(logs: int) -> None:
    """Logs of all shapes, uniform and skewed, from a few rows to long prompts and many slots."""
    rng = np.random.default_rng(20_240_607)
    verdicts = dict.fromkeys(Verdict, 0)
    for number in range(logs):
        n_experts, top_k = SHAPES[number % len(SHAPES)]
        lengths = ([2] * 40, [3] * 20, [4] * 8, [20, 7, 30], [2, 64], [90])[number // len(SHAPES) % 6]
        skew = (0.0, 0.5, 2.0)[number // 7 % 3]
        ranked = rankings(rng, sum(lengths), n_experts, skew)[:, :top_k]
        verdicts[judged(np.split(ranked, np.cumsum(lengths)[:-1]), n_experts)] += 1
    assert verdicts[Verdict.STRIDED] == verdicts[Verdict.MIXED] == 0
    assert verdicts[Verdict.SOUND] > logs // 5


@pytest.mark.parametrize(
    ("n_experts", "top_k", "blocks_needed"),
    [  # as the module states: for blocks of 2, 4, 16 and 64 rows
        (8, 2, (45, 6, 2, 1)),
        (64, 6, (45, 7, 1, 1)),
        (128, 8, (52, 9, 1, 1)),
        (160, 8, (66, 11, 1, 1)),
        (512, 10, (139, 23, 2, 1)),
    ],
)
def test_power_is_as_stated(n_experts: int, top_k: int, blocks_needed: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    for length, needed in zip((2, 4, 16, 64), blocks_needed, strict=True):
        blocks = [strided(rankings(rng, length, n_experts, 1.0), top_k) for _ in range(needed)]
        assert judged(blocks, n_experts) is Verdict.STRIDED
        assert judged(blocks[:-1] or blocks[:0], n_experts) is Verdict.UNKNOWN if needed > 1 else True


def test_a_log_that_is_strided_in_part_is_called_so() -> None:
    rng = np.random.default_rng(1)
    bad = [strided(rankings(rng, 200, 64, 1.0), 6) for _ in range(5)]
    good = [rankings(rng, 200, 64, 1.0)[:, :6] for _ in range(5)]
    assert judged(bad, 64) is Verdict.STRIDED
    assert judged(good, 64) is Verdict.SOUND
    assert judged(bad + good, 64) is Verdict.MIXED


@given(st.integers(0, 2**32), st.sampled_from([(16, 4), (64, 6), (160, 8)]), st.integers(2, 40))
def test_a_step_is_proven_sound_if_enough_of_its_blocks_fail(
    seed: int, shape: tuple[int, int], length: int
) -> None:
    """Steps of 12 layers; every third one is sound, every third one strided with a block that lost a line."""
    n_experts, top_k = shape
    rng = np.random.default_rng(seed)
    blocks, kinds = [], []
    for step in range(9):
        for layer in range(12):
            ranked = rankings(rng, length, n_experts, 1.0)
            block = ranked[:, :top_k] if step % 3 == 0 else strided(ranked, top_k)
            if step % 3 == 2 and layer == 5 and length > 2:
                block = np.delete(block, 1, axis=0)
            blocks.append(block)
            kinds += [(step, layer)] * len(block)
    step, layer = np.array(kinds).T
    rows = replace(rows_of(blocks), step=step, layer=layer.astype(np.uint16))
    proven, verified = examine(rows, StrideEvidence())
    told = 12 * chance_bits(min(length * top_k, n_experts), top_k, n_experts) > 60
    if told:
        assert proven.tolist() == (step % 3 == 0).tolist()
    assert not proven[step % 3 != 0].any()
    assert not np.isin(verified.step, step[proven]).any()
    doubted, kept = examine(rows, StrideEvidence(), np.array([0]))
    assert doubted.tolist() == (proven & (step != 0)).tolist()
    assert 0 in kept.step


def test_one_damaged_block_among_many_does_not_hide_strided_rows() -> None:
    rng = np.random.default_rng(2)
    blocks = [strided(rankings(rng, 200, 160, 1.0), 8) for _ in range(30)]
    blocks[3] = np.delete(blocks[3], 5, axis=0)  # a lost line shifts all chunks of its block but the first
    assert judged(blocks, 160) is Verdict.MIXED
    assert judged(blocks + blocks[4:] * 12, 160) is Verdict.STRIDED


def test_the_chance_agrees_with_simulation() -> None:
    rng = np.random.default_rng(3)
    for n_experts, top_k, length in ((8, 2, 8), (8, 2, 6), (16, 4, 8), (60, 6, 12), (64, 8, 20)):
        rows = -(-length // top_k)
        drawn = np.argsort(rng.random((100_000, rows, n_experts)), axis=2)[:, :, :top_k]
        entries = np.sort(drawn.reshape(len(drawn), -1)[:, :length], axis=1)
        share = np.all(entries[:, 1:] != entries[:, :-1], axis=1).mean()
        assert 2.0 ** -chance_bits(length, top_k, n_experts) == pytest.approx(share, abs=5e-3, rel=0.15)


def test_nothing_seen_is_no_verdict() -> None:
    assert StrideEvidence().verdict(0) is Verdict.UNKNOWN
