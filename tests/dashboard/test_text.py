"""Numbers for people, and text from outside."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from moe_live.dashboard import text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.short(0), "0"),
        (text.short(7), "7"),
        (text.short(103.2), "103"),
        (text.short(49.74), "49.7"),
        (text.short(999.6), "1.00k"),
        (text.short(1_234_567), "1.23M"),
        (text.size(0), "0 B"),
        (text.size(1_200_000), "1.20 MB"),
        (text.percent(0), "0%"),
        (text.percent(0.0731), "7.3%"),
        (text.percent(1), "100%"),
        (text.percent(1e-9), "<.01%"),
        (text.times(0.524), "0.52×"),
        (text.times(11.71), "11.7×"),
        (text.figure(math.nan), "–"),
        (text.figure(0.9712), "0.9712"),
        (text.figure(12), "12.00"),
        (text.duration(13.2), "13 s"),
        (text.duration(250), "4 min"),
        (text.duration(7800), "2 h 10 min"),
        (text.ranges([3, 4, 5, 9, 11, 12]), "3–5, 9, 11–12"),
        (text.ranges([]), ""),
    ],
)
def test_known(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.floats(0, 1e14))
def test_figures_keep_their_width(value: float) -> None:
    assert len(text.short(value)) <= 5
    assert len(text.size(value)) <= 7
    assert len(text.percent(min(1.0, value))) <= 5
    assert len(text.times(min(2048.0, value))) <= 5
    assert len(text.figure(value)) <= 10
    assert len(text.figure(-value)) <= 10


@given(st.text(st.characters(categories=["L", "N", "P"])), st.integers(0, 50))
def test_shorten_keeps_both_ends(path: str, width: int) -> None:
    short = text.shorten(path, width)
    assert cell_len(short) <= width
    assert short == path or "…" in short or width == 0


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])), st.integers(2, 60), st.integers(1, 9))
def test_wrap_keeps_to_its_room_and_says_what_it_leaves_out(string: str, width: int, most: int) -> None:
    lines = text.wrap(string, width, most)
    assert len(lines) <= most
    assert all(cell_len(line) <= width for line in lines)
    joined = "".join("".join(lines).split())
    assert joined == "".join(string.split()) or lines[-1].endswith("…")
