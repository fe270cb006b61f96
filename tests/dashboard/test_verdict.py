"""What is said in a line: balance, hot set, cache."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Line
from moe_live.dashboard.verdict import balance_verdict, cache_verdict, expected, hot_set_verdict, median
from moe_live.snapshot import LayerUsage, Snapshot, Usage
from tests.dashboard.factory import snapshot

EXPERTS = 160


def with_counts(counts: NDArray[np.int64], layers: int = 4) -> Snapshot:
    """All layers with the same use."""
    usage = Usage(counts, counts // 2)
    return replace(
        snapshot(layers, len(counts), first=0),
        layers=tuple(LayerUsage(layer, usage) for layer in range(layers)),
    )


def with_hit_rates(recent: float, fixed: float, steps: int = 500) -> Snapshot:
    bare = snapshot(4, EXPERTS)
    assert bare.locality is not None
    lru, static = np.full(EXPERTS, recent), np.full(EXPERTS, fixed)
    layers = [
        replace(layer, lru_hit_rate=lru, static_hit_rate=static, steps=steps) for layer in bare.locality
    ]
    return replace(bare, locality=tuple(layers))


def plain(line: Line) -> str:
    return "".join(piece.text for piece in line if hasattr(piece, "text"))


def on(used: int, each: int = 1000) -> NDArray[np.int64]:
    """Counts of `used` experts used alike and others not used at all."""
    counts = np.zeros(EXPERTS, np.int64)
    counts[:used] = each
    return counts


@pytest.mark.parametrize(
    ("used", "word", "entropy", "dead"),
    [
        (160, "even", "1.00", "0 of 640"),
        (100, "fair", "0.91", "240 of 640"),
        (40, "uneven", "0.73", "480 of 640"),
    ],
)
def test_balance(used: int, word: str, entropy: str, dead: str) -> None:
    said = plain(balance_verdict(with_counts(on(used, each=100)), 200))
    assert said.startswith(f"balance  {word}  entropy {entropy} of 1 · {dead} unused (<0.1 by chance)")
    assert f"a layer is like {used}" in said


@pytest.mark.parametrize(("used", "word"), [(160, "spread out"), (100, "moderate"), (40, "concentrated")])
def test_hot_set(used: int, word: str) -> None:
    said = plain(hot_set_verdict(with_counts(on(used)), 200))
    needed = used * 9 // 10
    assert said == (
        f"hot set  {word}  {needed} of 160 experts a layer carry 90 % · {needed} to {needed} by layer"
        f" · {used // 2} carry 50 %"
    )


@pytest.mark.parametrize(
    ("recent", "fixed", "word"),
    [(0.25, 0.3, "hardly pays"), (0.5, 0.3, "helps some"), (0.3, 0.5, "helps some"), (0.8, 0.5, "pays")],
)
def test_cache(recent: float, fixed: float, word: str) -> None:
    said = plain(cache_verdict(with_hit_rates(recent, fixed), 200))
    assert said == (
        f"cache    {word}  40 of 160 a layer: LRU hits {100 * recent:.1f}%"
        f" · hot set {100 * fixed:.1f}% · chance 25.0%"
    )


def test_nothing_is_said_too_early() -> None:
    for verdict in (balance_verdict, hot_set_verdict):
        assert "too early to say" in plain(verdict(with_counts(on(160, each=4)), 200))
        assert "too early to say" not in plain(verdict(with_counts(on(160, each=5)), 200))
    assert "too early to say" in plain(cache_verdict(with_hit_rates(0.9, 0.9, steps=29), 200))
    assert "too early to say" not in plain(cache_verdict(with_hit_rates(0.9, 0.9, steps=30), 200))


def test_without_selections_or_decode_steps_there_is_an_answer_too() -> None:
    nothing = with_counts(np.zeros(EXPERTS, np.int64))
    assert "entropy – of 1" in plain(balance_verdict(nothing, 200))
    assert "– of 160 experts" in plain(hot_set_verdict(nothing, 200))
    assert "no decode steps" in plain(cache_verdict(replace(nothing, locality=()), 200))
    assert "one moment" in plain(cache_verdict(replace(nothing, locality=None), 200))


def test_what_does_not_fit_is_left_out_from_the_end() -> None:
    said = plain(balance_verdict(with_counts(on(40)), 60))
    assert said == "balance  uneven  entropy 0.73 of 1"


def test_numbers_by_chance() -> None:
    assert [expected(number) for number in (0, 0.01, 0.06, 3.14159, math.nan)] == [
        "0",
        "<0.1",
        "0.10",
        "3.10",
        "–",
    ]


def test_the_median_is_that_of_what_is_known() -> None:
    assert median([math.nan, 3.0, 1.0]) == 2.0
    assert math.isnan(median([math.nan]))
