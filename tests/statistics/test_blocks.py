"""The error of a share, from how parts of the steps differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moe_live.statistics.blocks import (
    BLOCKS,
    FEW_LAYERS,
    Share,
    blocks,
    errors,
    gain_of_layers,
    in_blocks,
    share,
)


def test_parts_are_of_successive_decode_steps() -> None:
    decode = np.ones(3 * BLOCKS, np.bool_)
    assert blocks(decode).tolist() == np.repeat(np.arange(BLOCKS), 3).tolist()
    decode[[0, 5]] = False
    found = blocks(decode)
    assert found[[0, 5]].tolist() == [-1, -1]
    assert (np.diff(found[decode]) >= 0).all()
    assert found.max() == BLOCKS - 1
    assert blocks(np.array([True, False, True])).tolist() == [0, -1, 1]


def test_a_share_and_its_error_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    block, weight = np.repeat(np.arange(-1, BLOCKS), 20), rng.integers(1, 4, 20 * (BLOCKS + 1))
    found = rng.random(len(block)) < 0.3
    rate, error = share(block, found, weight)
    of_blocks = [block == number for number in range(BLOCKS)]
    hits = [int(weight[mine & found].sum()) for mine in of_blocks]
    uses = [int(weight[mine].sum()) for mine in of_blocks]
    assert rate == sum(hits) / sum(uses)
    spread = sum((hit - rate * use) ** 2 for hit, use in zip(hits, uses, strict=True))
    assert error == pytest.approx(math.sqrt(BLOCKS / (BLOCKS - 1) * spread) / sum(uses))
    assert share(block, found, np.ones(len(block), np.int64)) == share(block, found)


def test_the_error_is_that_of_repeated_drawing() -> None:
    rng = np.random.default_rng(4)
    block = np.repeat(np.arange(BLOCKS), 50)
    found = [share(block, np.repeat(rng.random(len(block) // 10) < 0.4, 10)) for _ in range(300)]
    spread = np.std([rate for rate, _ in found])  # runs of ten alike: more than binomial
    assert np.mean([error for _, error in found]) == pytest.approx(spread, rel=0.15)
    assert spread > 2 * math.sqrt(0.24 / len(block))


@pytest.mark.parametrize("run", [1, 10, 100])
def test_the_errors_of_steps_are_those_of_repeated_drawing_however_long_they_are_alike(run: int) -> None:
    rng = np.random.default_rng(6)
    steps = 64 * BLOCKS
    uses = np.full(steps, 8)
    rates, found = [], []
    for _ in range(200):
        hits = rng.binomial(8, np.repeat(rng.beta(4, 6, -(-steps // run)), run)[:steps, None])
        rates.append(hits.sum() / uses.sum())
        found.append(float(errors(in_blocks(hits), in_blocks(uses))[0]))
    # The largest of three scales: rather too much than too little.
    assert 0.95 * np.std(rates) < np.mean(found) < 1.5 * np.std(rates)


def test_errors_of_few_steps_are_not_known() -> None:
    hits, uses = np.ones((BLOCKS, 2), np.int64), np.full(BLOCKS, 2)
    assert errors(in_blocks(hits), in_blocks(uses)).tolist() == [0, 0]
    assert np.isnan(errors(in_blocks(hits[1:]), in_blocks(uses[1:]))).all()
    assert np.isnan(errors(hits, np.where(np.arange(BLOCKS) == 3, 0, uses))).all()
    assert np.isnan(errors(in_blocks(np.zeros((0, 3), np.uint16)), in_blocks(np.zeros(0, np.int64)))).all()


def test_too_few_parts_tell_nothing() -> None:
    assert math.isnan(share(np.zeros(0, np.int64), np.zeros(0, np.bool_)).rate)
    some = share(np.arange(5), np.ones(5, np.bool_))
    assert some.rate == 1
    assert math.isnan(some.error)
    assert some.beyond(0.1, 5) is None


def test_what_is_beyond_is_so_by_four_errors() -> None:
    assert (Share(0.5, 0.01).beyond(0.45, 10**6), Share(0.5, 0.01).beyond(0.47, 10**6)) == (True, False)
    assert Share(1.0, 0.0).beyond(0.9, 50) is False  # as likely as not among so few


def test_layers_are_the_sample() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, FEW_LAYERS)
    found = gain_of_layers(np.append(noise + 3, math.nan))
    assert found.mean == pytest.approx(3 + noise.mean())
    assert found.error == pytest.approx(noise.std(ddof=1) / FEW_LAYERS**0.5)
    assert found.certain is True
    assert gain_of_layers(noise).certain is False
    assert gain_of_layers(-noise - 3).certain is False
    assert gain_of_layers(np.append(noise[1:] + 3, math.nan)).certain is None
    assert gain_of_layers(np.zeros(FEW_LAYERS)).certain is False
    assert math.isnan(gain_of_layers(np.zeros(0)).mean)
