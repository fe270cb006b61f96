"""Claims on data without the structure that they claim, and on data with it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.claims.bench import Judge, cache, drift, labels, next_layer, pairs, without_structure
from tests.claims.data import UNIFORM, of_two_labels, that_change, that_follow, with_friends

CLAIMS = {"pairs": pairs, "next layer": next_layer, "drift": drift, "labels": labels}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_not_there_is_not_claimed(claim: str) -> None:
    rates = without_structure(CLAIMS[claim], 2, (60, 1000), seed=1, shapes=((16, 4), (64, 6)))
    assert rates.layers >= 20
    assert not rates.called, "\n".join(rates.lines(claim))


def test_no_cache_pays_where_all_experts_are_alike() -> None:
    rates = without_structure(cache, 2, (20, 30, 60, 200, 1000), seed=2, texts=[UNIFORM])
    assert not rates.called, "\n".join(rates.lines("cache"))
    assert rates.undecided < rates.layers


@pytest.mark.parametrize(
    ("judge", "make", "shape", "tokens"),
    [
        pytest.param(pairs, with_friends, (128, 8), 8000, id="pairs"),
        pytest.param(next_layer, that_follow, (64, 6), 600, id="next layer"),
        pytest.param(drift, that_change, (64, 6), 9000, id="drift"),
        pytest.param(labels, of_two_labels, (64, 6), 3000, id="labels"),
    ],
)
def test_what_is_there_is_found(judge: Judge, make: object, shape: tuple[int, int], tokens: int) -> None:
    assert callable(make)
    found = judge(make(np.random.default_rng(3), *shape, tokens, 5), shape[0])
    assert sum(answer is True for answer in found) >= len(found) - 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("claim", CLAIMS)
def test_at_most_one_layer_in_a_thousand_is_called(claim: str) -> None:
    """Pooled over 10,000 layers; no kind of data above 1 in 100."""
    layers = 32 if claim == "next layer" else 31
    rates = without_structure(CLAIMS[claim], layers, (60, 600, 12000 if claim == "drift" else 4000), seed=4)
    report = "\n".join(rates.lines(claim))
    print(report)  # noqa: T201 - it is the report
    assert rates.layers >= 10_000
    assert rates.called <= rates.layers / 1000, report
    assert rates.bound <= 0.002, report
    assert all(called <= count / 100 for called, count in rates.cells.values()), report
