"""Tokens second by second."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.pace import SECONDS, PaceCounter


def lately(*seen: tuple[float, int], older: tuple[int, ...] = ()) -> list[float]:
    """Of these totals at these times, some of which are from before."""
    counter = PaceCounter()
    for i, (elapsed, total) in enumerate(seen):
        counter.update(elapsed, total, older=i in older)
    return list(counter.lately)


def test_tokens_belong_to_the_second_in_which_they_are_seen() -> None:
    assert lately((0.1, 0), (0.6, 5), (0.9, 7), (1.2, 10), (2.0, 10)) == [7, 3]
    assert lately((0.5, 4), (3.5, 9), (4.0, 9)) == [4, 0, 0, 5]


def test_what_was_there_before_has_no_pace() -> None:
    found = lately((0.5, 1000), (1.5, 1001), (2.5, 1003), (3.5, 1003), older=(0, 1))
    assert math.isnan(found[0])
    assert math.isnan(found[1])
    assert found[2:] == [2]


def test_a_new_beginning_is_no_negative_pace() -> None:
    assert lately((0.5, 100), (1.5, 3), (2.5, 5), (3.5, 5)) == [100, 0, 2]


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 9)), max_size=60))
def test_nothing_is_lost_and_nothing_grows(steps: list[tuple[float, int]]) -> None:
    total, seen = 0, []
    for elapsed, tokens in sorted(steps):
        total += tokens
        seen.append((elapsed, total))
    end = (math.floor(max((elapsed for elapsed, _ in steps), default=0.0)) + 1.0, total)
    found = lately(*seen, end)
    assert len(found) <= SECONDS
    if end[0] <= SECONDS:
        assert sum(found) == pytest.approx(total)
