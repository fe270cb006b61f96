"""Use of the experts by label."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.statistics import labels as labels_module
from moe_live.statistics.labels import OTHER, LabelCounts, divergences, log_odds, usages
from tests.statistics.drawn_steps import DrawnStep, chosen, decode_rows, drawn_steps, tables

NAMES = st.sampled_from(["code", "prose", "chat", "maths", OTHER])
LABELLED = st.lists(st.tuples(NAMES, drawn_steps(max_steps=3)), max_size=8)
LAYERS = range(10)


def counted(pieces: list[tuple[str, list[DrawnStep]]]) -> LabelCounts:
    accumulator = LabelCounts()
    for label, steps in pieces:
        accumulator.update(*tables(steps), np.zeros(len(steps), np.int64), [label])
    return accumulator


def counted_at_once(pieces: list[tuple[str, list[DrawnStep]]]) -> LabelCounts:
    accumulator = LabelCounts()
    label = np.repeat(np.arange(len(pieces)), [len(steps) for _, steps in pieces])
    together = tables([step for _, steps in pieces for step in steps])
    accumulator.update(*together, label, [name for name, _ in pieces])
    return accumulator


def content(accumulator: LabelCounts) -> dict[str, list[list[list[int]]]]:
    return {
        label: [accumulator.counts(label, [kind], LAYERS, 40).tolist() for kind in Kind]
        for label in accumulator.labels
    }


def drawn(
    rng: np.random.Generator, usage: Mapping[str, NDArray[np.float64]], k: int, tokens: int
) -> dict[str, NDArray[np.int64]]:
    """Counts (layers, E) of labels with these log-weights (layers, E)."""
    return {
        label: np.stack(
            [np.bincount(chosen(rng, row, k, (tokens,)).reshape(-1), minlength=len(row)) for row in weights]
        )
        for label, weights in usage.items()
    }


@given(LABELLED, st.integers(1, 4), st.integers(0, 8))
def test_counts_equal_a_plain_count_and_neither_batches_nor_merging_show(
    pieces: list[tuple[str, list[DrawnStep]]], most: int, place: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "MAX_LABELS", most)
        whole = counted(pieces)
        assert content(counted_at_once(pieces)) == content(whole)
        merged = counted(pieces[:place])
        merged += counted(pieces[place:])
        assert content(merged) == content(whole)
    seen = sorted({label for label, steps in pieces if label != OTHER and any(step.blocks for step in steps)})
    expected: dict[str, NDArray[np.int64]] = {}
    for label, steps in pieces:
        shown = label if label in seen[:most] else OTHER
        for step in steps:
            for layer, block in step.blocks.items():
                counts = expected.setdefault(shown, np.zeros((len(Kind), len(LAYERS), 40), np.int64))
                np.add.at(counts[step.kind, layer], np.array(block), 1)
    assert content(whole) == {label: expected[label].tolist() for label in expected}
    assert whole.labels == [*seen[:most], *([OTHER] if OTHER in expected else [])]


@given(LABELLED)
def test_what_was_undecided_becomes_prefill(pieces: list[tuple[str, list[DrawnStep]]]) -> None:
    accumulator = counted(pieces)
    before = content(accumulator)
    accumulator.settle()
    for label, (prefill, decode, undecided) in content(accumulator).items():
        assert prefill == (np.array(before[label][0]) + np.array(before[label][2])).tolist()
        assert decode == before[label][1]
        assert not np.any(undecided)


def test_labels_beyond_the_limit_are_counted_together() -> None:
    step = DrawnStep(Kind.DECODE, {3: [(1, 2)]})
    accumulator = counted([(f"{i:03}", [step]) for i in reversed(range(40))])
    assert accumulator.labels == [*(f"{i:03}" for i in range(32)), OTHER]
    assert accumulator.counts(OTHER, Kind, [3], 4).tolist() == [[0, 8, 8, 0]]


@given(LABELLED, st.integers(1, 5000), st.lists(st.integers(0, 8), max_size=2))
def test_fewer_labels_are_told_apart_where_tables_are_large(
    pieces: list[tuple[str, list[DrawnStep]]], cells: int, places: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "MAX_CELLS", cells)
        whole = counted(pieces)
        assert content(counted_at_once(pieces)) == content(whole)
        merged = LabelCounts()
        for begin, end in pairwise([0, *sorted(places), len(pieces)]):
            merged += counted(pieces[begin:end])
        assert content(merged) == content(whole)
    seen = sorted({label for label, steps in pieces if label != OTHER and any(step.blocks for step in steps)})
    shown = [label for label in whole.labels if label != OTHER]
    assert shown == seen[: len(shown)]
    assert len(shown) >= min(len(seen), 1)
    blocks = [item for _, steps in pieces for step in steps for item in step.blocks.items()]
    if blocks:
        experts = -(-(1 + max(max(row) for _, block in blocks for row in block)) // 32) * 32
        size = 3 * len({layer for layer, _ in blocks}) * experts
        assert len(whole.labels) * size <= max(cells, 2 * size)


def test_steps_without_a_label_are_not_counted() -> None:
    steps = [DrawnStep(Kind.DECODE, {3: [(expert,)]}) for expert in range(3)]
    accumulator = LabelCounts()
    accumulator.update(*tables(steps), np.array([1, 0, 1]), ["", "code"])
    assert accumulator.labels == ["code"]
    assert accumulator.counts("code", Kind, [3], 3).tolist() == [[1, 0, 1]]


def test_without_rows_there_is_nothing() -> None:
    accumulator = counted([("code", [])])
    assert accumulator.labels == []
    assert accumulator.counts("code", Kind, [3], 4).tolist() == [[0] * 4]
    assert usages({}, [], 2) == ()
    assert divergences({}, 2, {}) == ()
    nothing = np.zeros((1, 4), np.int64)
    (empty, some) = usages({"a": nothing, "b": nothing + 5}, [3], 2)
    assert (empty.tokens, empty.specific, some.tokens, some.specific) == (0, (), 10, ())
    assert np.isnan(empty.share).all()
    (pair,) = divergences({"a": nothing, "b": nothing + 5}, 2, dict.fromkeys("ab", 4))
    assert np.isnan([pair.js, pair.expected]).all()
    assert pair.real_layers is None


def test_specialization_is_the_share_of_tokens() -> None:
    accumulator = LabelCounts()
    rows = decode_rows(np.array([[[0, 1]], [[0, 2]], [[0, 1]], [[3, 1]]], np.uint16), [5])
    accumulator.update([rows], np.full(4, Kind.DECODE, np.int8), np.zeros(4, np.int64), ["code"])
    (usage,) = usages({"code": accumulator.counts("code", Kind, [5], 4)}, [5], 2)
    assert usage.tokens == 4
    assert usage.share.tolist() == [[0.75, 0.75, 0.25, 0.25]]


def test_log_odds_equal_the_formula() -> None:
    own, rest = np.array([[10, 0, 5, 5]]), np.array([[10, 20, 30, 0]])
    ratio, z = log_odds(own, rest)
    for e in range(4):
        prior = 4 * (own[0, e] + rest[0, e]) / 80
        y, x = own[0, e] + prior, rest[0, e] + prior
        expected = np.log(y / (20 + 4 - y)) - np.log(x / (60 + 4 - x))
        assert ratio[0, e] == pytest.approx(expected / np.log(2))
        assert z[0, e] == pytest.approx(expected / np.sqrt(1 / y + 1 / x))
    assert not np.any(log_odds(own, np.zeros_like(own)))


def test_planted_specialists_are_found() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(6, 32))
    special = common.copy()
    special[2, 7] += 2
    special[4, 19] += 2
    counts = drawn(rng, {"code": special, "prose": common, "chat": common}, 4, 600)
    code, *others = usages(counts, range(3, 9), 4)
    assert {(found.layer, found.expert) for found in code.specific} == {(5, 7), (7, 19)}
    assert code.specific[0].z >= code.specific[1].z > 4
    for found in code.specific:
        own = counts["code"][found.layer - 3, found.expert]
        rest = sum(counts[label][found.layer - 3, found.expert] for label in ("prose", "chat"))
        assert (found.count, found.share, found.share_elsewhere) == (own, own / 600, rest / 1200)
        assert found.log_odds > 1
    assert not any(
        (found.layer, found.expert) in {(5, 7), (7, 19)} for usage in others for found in usage.specific
    )
    apart = divergences(counts, 4, dict.fromkeys(counts, 4))
    assert [(pair.a, pair.b, pair.real_layers) for pair in apart] == [
        ("code", "prose", 2),
        ("code", "chat", 2),
        ("prose", "chat", 0),
    ]
    assert apart[2].js == pytest.approx(apart[2].expected, rel=0.15)


@pytest.mark.parametrize(("skew", "tokens"), [(0.0, 40), (1.0, 300), (2.0, 60)])
def test_shuffled_labels_have_no_specialists(skew: float, tokens: int) -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(30):
        usage = skew * rng.normal(size=(10, 32))
        alarms += sum(
            bool(found.specific)
            for found in usages(drawn(rng, {"a": usage, "b": usage, "c": usage}, 4, tokens), range(10), 4)
        )
    assert alarms <= 4  # of 90; 0.9 are expected


def test_tokens_that_come_many_times_over_do_not_pass_for_evidence() -> None:
    rng = np.random.default_rng(4)
    usage = rng.normal(size=(10, 32))
    counts = {label: 9 * count for label, count in drawn(rng, {"a": usage, "b": usage}, 4, 100).items()}
    assert usages(counts, range(10), 4)[0].specific
    assert not usages(counts, range(10), 4, clustering=9.0)[0].specific
    assert (divergences(counts, 4, dict.fromkeys(counts, 4))[0].real_layers or 0) > 5
    assert divergences(counts, 4, dict.fromkeys(counts, 3))[0].real_layers is None
    assert divergences(counts, 4, dict.fromkeys(counts, 4), clustering=np.full(10, 9.0))[0].real_layers == 0


def test_chance_rarely_makes_specialists_of_seldom_used_experts() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(150):
        usage = rng.dirichlet(np.full(64, 0.3), 20)
        counts = {"a": rng.multinomial(600, usage), "b": rng.multinomial(18_000, usage)}
        alarms += bool(usages(counts, range(20), 6)[0].specific)
    assert alarms <= 6  # 1.5 are expected; the z of log-odds alone gives several times as many
