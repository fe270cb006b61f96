"""Transitions between layers: counted, and tested as predictions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics import transitions
from moe_live.statistics.prediction import TESTED_TOKENS, PairedRows, gains, hits
from moe_live.statistics.rows import RowsByLayer
from moe_live.statistics.sampling import SAMPLED_SELECTIONS, TokenSample
from moe_live.statistics.transitions import LayerTransition, Transitions, summarize
from tests.comparison import plain
from tests.statistics.drawn_steps import DrawnStep, by_layer, chosen, cut, decode_rows, drawn_steps

pytestmark = pytest.mark.usefixtures("each_way")

PLACES = st.lists(st.integers(0, 8), max_size=3)


def counted(*pieces: list[DrawnStep]) -> Transitions:
    accumulator = Transitions()
    for piece in pieces:
        accumulator.update(by_layer(piece))
    return accumulator


def content(accumulator: Transitions) -> tuple[object, ...]:
    pairs = {
        pair: (accumulator.tokens(*pair), accumulator.counts(*pair, np.arange(40)).tolist())
        for pair in pairwise(accumulator.layers)
    }
    return accumulator.too_large, pairs


def sample_of(*tables: ExpertRows) -> TokenSample:
    """A sample of the tokens of one-token steps."""
    sample = TokenSample(SAMPLED_SELECTIONS)
    for rows in tables:
        sample.update([rows], np.full(int(rows.step.max()) + 1, Kind.DECODE, np.int8))
    return sample


def of_rows(lower: NDArray[np.uint16], upper: NDArray[np.uint16], n_experts: int) -> LayerTransition:
    """The transition between layers with rows (n, k)."""
    accumulator = Transitions()
    rows = decode_rows(np.stack((lower, upper), axis=1), layers=(3, 4))
    accumulator.update([RowsByLayer(rows)])
    (summary,) = summarize([accumulator], sample_of(rows), n_experts)
    return summary


@given(drawn_steps())
def test_counts_equal_a_plain_count_at_every_prefix(steps: list[DrawnStep]) -> None:
    accumulator = Transitions()
    for end in range(1, len(steps) + 1):
        accumulator.update(by_layer([steps[end - 1]]))
        layers = sorted({layer for step in steps[:end] for layer in step.blocks})
        for pair in pairwise(layers):
            together: Counter[tuple[int, int]] = Counter()
            tokens = 0
            for step in steps[:end]:
                blocks = [step.blocks.get(layer, []) for layer in pair]
                if len(blocks[0]) != len(blocks[1]) or len(blocks[0]) != step.tokens:
                    continue
                for below, above in zip(*blocks, strict=True):
                    if len(below) == len(set(below)) == len(above) == len(set(above)):
                        tokens += 1
                        together.update((i, j) for i in below for j in above)
            counts = accumulator.counts(*pair, np.arange(40))
            assert accumulator.tokens(*pair) == tokens
            found = {(int(i), int(j)): int(counts[i, j]) for i, j in zip(*np.nonzero(counts), strict=True)}
            assert found == together
        assert accumulator.layers == layers


@given(drawn_steps(), PLACES)
def test_batching_does_not_matter_and_merging_equals_one_pass(
    steps: list[DrawnStep], places: list[int]
) -> None:
    pieces = cut(steps, places)
    merged = Transitions()
    for piece in pieces:
        merged += counted(piece)
    assert content(counted(*pieces)) == content(counted(steps)) == content(merged)


@given(drawn_steps(), PLACES)
@example(
    [
        DrawnStep(Kind.DECODE, {0: [(12, 1, 10)], 1: [(31, 25)], 2: [(23, 29, 37)]}),
        DrawnStep(Kind.DECODE, {0: [(26, 31)], 1: [(22, 33)], 2: [(7, 33, 27)]}),
    ],
    [1],
)
def test_a_model_too_large_is_given_up_however_it_is_cut(steps: list[DrawnStep], places: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "MAX_CELLS", 3 * 32**2)
        pieces = cut(steps, places)
        merged = Transitions()
        for piece in pieces:
            merged += counted(piece)
        assert content(counted(*pieces)) == content(counted(steps)) == content(merged)


def test_without_rows_there_is_nothing() -> None:
    accumulator = Transitions()
    accumulator.update([])
    assert summarize([accumulator], sample_of(), 8) == summarize([], sample_of(), 8) == ()
    assert accumulator.tokens(3, 4) == accumulator.counts(3, 4, np.arange(8)).sum() == 0


@pytest.mark.parametrize("bits", [16, 32])
def test_counts_that_outgrow_their_type_are_exact(bits: int) -> None:
    step = DrawnStep(Kind.DECODE, {3: [(0,)], 4: [(1,)]})
    accumulator, other = counted([step]), counted([step])
    accumulator._tokens[0] = 2**bits - 1
    accumulator._counts.low = np.where(accumulator._counts.low > 0, 2**bits - 1, 0).astype(f"uint{bits}")
    accumulator += other
    assert accumulator.tokens(3, 4) == accumulator.counts(3, 4, np.arange(2))[0, 1] == 2**bits
    other += accumulator
    assert other.tokens(3, 4) == other.counts(3, 4, np.arange(2))[0, 1] == 2**bits + 1


@pytest.mark.parametrize("pieces", [1, 3])
def test_more_tokens_than_16_bits_can_count(pieces: int) -> None:
    accumulator = Transitions()
    experts = np.array([[0], [1]], np.uint16)
    for _ in range(pieces):
        n = 50_000
        rows = ExpertRows(
            step=np.repeat(np.arange(n), 2),
            layer=np.tile(np.array([3, 4], np.uint16), n),
            token=np.zeros(2 * n, np.int64),
            whole=np.ones(2 * n, np.bool_),
            experts=np.tile(experts.T, n).T,
        )
        accumulator.update([RowsByLayer(rows)])
    assert accumulator.tokens(3, 4) == accumulator.counts(3, 4, np.arange(2))[0, 1] == pieces * 50_000


def test_a_layer_in_between_makes_two_no_longer_consecutive() -> None:
    near = DrawnStep(Kind.DECODE, {3: [(0,)], 4: [(1,)], 5: [(0,)]})
    far = DrawnStep(Kind.DECODE, {3: [(0,)], 5: [(1,)]})
    for pieces in ([far], [near]), ([near], [far]), ([near, far],), ([far, near],):
        accumulator = counted(*pieces)
        assert accumulator.tokens(3, 5) == accumulator.counts(3, 5, np.arange(2)).sum() == 0
        assert [(entry.from_layer, entry.to_layer) for entry in summarize([accumulator], sample_of(), 2)] == [
            (3, 4),
            (4, 5),
        ]
    apart = summarize([counted([far]), counted([near])], sample_of(), 2)
    assert [(entry.from_layer, entry.to_layer, entry.tokens) for entry in apart] == [(3, 4, 1), (4, 5, 1)]


def test_two_accumulators_are_viewed_as_one_and_stay_as_they_were() -> None:
    rng = np.random.default_rng(1)
    experts = chosen(rng, rng.normal(size=12), 3, (60, 3))
    rows, *pieces = (decode_rows(mine, (1, 2, 3)) for mine in (experts, experts[:25], experts[25:]))
    parts, whole = [Transitions(), Transitions()], Transitions()
    whole.update([RowsByLayer(rows)])
    for part, piece in zip(parts, pieces, strict=True):
        part.update([RowsByLayer(piece)])
    before = [content(part) for part in parts]
    together = plain(summarize(parts, sample_of(*pieces), 12))
    assert together == plain(summarize([whole], sample_of(rows), 12))
    assert [content(part) for part in parts] == before


def test_of_known_pairs_a_few_are_tested_again_at_a_time_until_all_are_exact() -> None:
    rng = np.random.default_rng(7)
    layers = tuple(range(12))
    experts = chosen(rng, rng.normal(size=12), 3, (65, 12))
    begin, more = (decode_rows(part, layers) for part in (experts[:40], experts[40:]))
    accumulator = Transitions()
    accumulator.update([RowsByLayer(begin)])
    first = summarize([accumulator], sample_of(begin), 12, known={})
    assert plain(first) == plain(summarize([accumulator], sample_of(begin), 12))
    accumulator.update([RowsByLayer(more)])
    sample = sample_of(begin, more)
    exact = summarize([accumulator], sample, 12)
    found = first
    for tested in (2, 4, 6, 8, 10, 11):
        known = dict(zip(pairwise(layers), found, strict=True))
        found = summarize([accumulator], sample, 12, known=known)
        assert [entry.tokens for entry in found] == [65] * tested + [40] * (11 - tested)
        assert plain(found) == plain(exact[:tested] + first[tested:])


def rows_of_pair(lower: NDArray[np.uint16], upper: NDArray[np.uint16]) -> PairedRows:
    """Rows of one pair of layers."""
    return PairedRows(np.zeros(len(lower), np.uint16), lower, upper, np.arange(len(lower)))


def gain_of(lower: NDArray[np.uint16], upper: NDArray[np.uint16]) -> tuple[float, float]:
    """The gain of one pair of layers of 32 experts, and its error."""
    (gain,), (error,) = gains(rows_of_pair(lower, upper), 1, 32).tolist()
    return gain, error


def test_hit_rates_equal_a_plain_leave_one_out() -> None:
    rng = np.random.default_rng(2)
    lower, upper = chosen(rng, np.zeros(6), 2, (2, 9))
    counts = np.zeros((6, 6), np.int64)
    for below, above in zip(lower, upper, strict=True):
        counts[np.ix_(below, above)] += 1
    expected = np.zeros(2)
    for token in range(9):
        others = [other for other in range(9) if other != token]
        scores, used = [0.0] * 6, [0.0] * 6
        for i in lower[token]:
            following = [int(j) for other in others if i in lower[other] for j in upper[other]]
            for j in range(6):
                scores[j] += following.count(j) / max(len(following), 1)
        for row in upper:
            for j in row:
                used[j] += 1
        for which, score in enumerate((scores, used)):
            border = sorted(score)[-2]
            above = sum(value > border for value in score)
            tied = score.count(border)
            for j in upper[token]:
                expected[which] += 1 if score[j] > border else (2 - above) / tied * (score[j] == border)
    found = hits(counts[None], rows_of_pair(lower, upper))
    np.testing.assert_allclose(found.sum(axis=1), expected)


def test_a_next_layer_that_follows_from_this_one_is_foretold() -> None:
    rng = np.random.default_rng(3)
    lower = chosen(rng, np.zeros(32), 4, (3000,))
    upper = rng.permutation(32).astype(np.uint16)[lower]
    found = of_rows(lower, upper, 32)
    assert (found.tokens, found.tested, found.chance) == (3000, TESTED_TOKENS, 4 / 32)
    assert found.hit_rate > 0.99
    assert found.static_hit_rate < 0.25


@pytest.mark.parametrize("tokens", [2, 10, 40, 3000])
def test_layers_without_relation_are_foretold_no_better_than_by_chance(tokens: int) -> None:
    rng = np.random.default_rng(4)
    rates = []
    for _ in range(4 if tokens > 100 else 60):
        lower, upper = chosen(rng, np.zeros(32), 4, (2, tokens))
        found = of_rows(lower, upper, 32)
        rates.append((found.hit_rate, found.static_hit_rate))
    foretold, static = np.mean(rates, axis=0)
    assert abs(foretold - 4 / 32) < 0.025
    assert static > 4 / 32 - 0.025  # with hindsight: of few tokens it is above chance


def test_a_gain_is_tested_on_the_other_half_with_its_error() -> None:
    rng = np.random.default_rng(6)
    lower, upper = chosen(rng, np.zeros(32), 4, (2, 300))
    gain, error = gain_of(lower, upper)
    assert abs(gain) < 4 * error
    assert error < 0.03
    gain, error = gain_of(lower, rng.permutation(32).astype(np.uint16)[lower])
    assert gain - 4 * error > 0.5
    halves = np.concatenate((lower[:150], lower[:150]))  # what one half alone has does not help in the other
    other = np.concatenate((rng.permutation(32)[lower[:150]], rng.permutation(32)[lower[:150]]))
    gain, error = gain_of(halves, other.astype(np.uint16))
    assert gain < 4 * error


def test_of_few_tokens_the_gain_or_its_error_is_unknown() -> None:
    rows = chosen(np.random.default_rng(7), np.zeros(32), 4, (2, 40))
    assert all(math.isnan(value) for value in gain_of(rows[0][:7], rows[1][:7]))
    known, error = gain_of(rows[0][:20], rows[1][:20])
    assert math.isfinite(known)
    assert math.isnan(error)
    assert all(math.isfinite(value) for value in gain_of(rows[0], rows[1]))


def test_usage_alone_is_no_transition() -> None:
    rng = np.random.default_rng(5)
    lower, upper = chosen(rng, 2 * rng.normal(size=32), 4, (2, 3000))
    found = of_rows(lower, upper, 32)
    assert found.static_hit_rate > 0.4
    assert found.hit_rate == pytest.approx(found.static_hit_rate, abs=0.04)


def test_a_single_token_tells_nothing() -> None:
    found = of_rows(np.array([[0, 1]], np.uint16), np.array([[2, 3]], np.uint16), 8)
    assert (found.tested, found.hit_rate, found.static_hit_rate) == (1, 0.25, 1.0)
    assert math.isnan(found.gain)


def test_a_row_that_repeats_an_expert_leaves_the_others_of_its_block_in_place() -> None:
    step = DrawnStep(Kind.PREFILL, {0: [(0, 0), (1, 2)], 1: [(3, 4), (5, 6)], 2: [(7, 7), (7, 8)]})
    accumulator = counted([step])
    assert accumulator.layers == [0, 1, 2]
    for pair, cells in (
        ((0, 1), [(1, 5), (1, 6), (2, 5), (2, 6)]),
        ((1, 2), [(5, 7), (5, 8), (6, 7), (6, 8)]),
    ):
        counts = accumulator.counts(*pair, np.arange(9))
        assert accumulator.tokens(*pair) == 1
        assert list(map(tuple, np.argwhere(counts).tolist())) == cells
