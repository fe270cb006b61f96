"""Numbers for people."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live import formatting
from moe_live.reports.numbers import decimals


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (formatting.short(0), "0"),
        (formatting.short(7), "7"),
        (formatting.short(103.2), "103"),
        (formatting.short(49.74), "49.7"),
        (formatting.short(999.6), "1.00k"),
        (formatting.short(1_234_567), "1.23M"),
        (formatting.size(0), "0 B"),
        (formatting.size(1_200_000), "1.20 MB"),
        (formatting.percent(0), "0%"),
        (formatting.percent(0.0731), "7.3%"),
        (formatting.percent(1), "100%"),
        (formatting.percent(1e-9), "<.01%"),
        (formatting.times(0.524), "0.52×"),
        (formatting.times(11.71), "11.7×"),
        (formatting.figure(math.nan), "–"),
        (formatting.figure(0.9712), "0.9712"),
        (formatting.figure(12), "12.00"),
        (formatting.duration(13.2), "13 s"),
        (formatting.duration(250), "4 min"),
        (formatting.duration(7800), "2 h 10 min"),
    ],
)
def test_known(shown: str, known: str) -> None:
    assert shown == known


@given(st.floats(0, 1e14))
def test_figures_keep_their_width(value: float) -> None:
    assert len(formatting.short(value)) <= 5
    assert len(formatting.size(value)) <= 7
    assert len(formatting.percent(min(1.0, value))) <= 5
    assert len(formatting.times(min(2048.0, value))) <= 5
    assert len(formatting.figure(value)) <= 10
    assert len(formatting.figure(-value)) <= 10


def test_numbers_by_chance() -> None:
    shown = [formatting.expected(number) for number in (0, 0.01, 0.06, 3.38, 9.96, 99.97, 1234, math.nan)]
    assert shown == ["0", "<0.1", "0.1", "3.4", "10.0", "100", "1.23k", "–"]


@given(st.floats(0.05, 99.9))
def test_no_digit_is_shown_that_was_not_asked_for(number: float) -> None:
    """A number rounded to tenths and then shown with hundredths claims a digit it has not."""
    assert formatting.expected(number) == f"{number:.1f}"


def test_what_is_next_to_nothing_has_no_sign() -> None:
    assert [decimals(value, 1) for value in (-1e-17, -0.04, -0.05, -0.06)] == ["0.0", "0.0", "-0.1", "-0.1"]
