"""Samples of what was read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.sources import trail as module
from moe_live.sources.place import ReadAt
from moe_live.sources.trail import Trail


def reading(data: bytes, begin: int = 0) -> ReadAt:
    return lambda count, offset: data[offset - begin :][:count]


def trail_of(pieces: Sequence[bytes], begin: int = 0) -> Trail:
    trail = Trail(begin)
    for piece in pieces:
        trail.extend(begin, piece)
        begin += len(piece)
    return trail


@pytest.mark.parametrize("samples_max", [8, 64, 1 << 18])
@given(
    pieces=st.lists(st.binary(max_size=200), min_size=1, max_size=10),
    begin=st.integers(0, 500),
    data=st.data(),
)
def test_what_was_read_is_recognized_however_it_was_cut(
    samples_max: int, pieces: list[bytes], begin: int, data: st.DataObject
) -> None:
    text = b"".join(pieces)
    with mock.patch.object(module, "SAMPLES_MAX", samples_max):
        trail, whole = trail_of(pieces, begin), trail_of([text], begin)
    assert vars(trail) == vars(whole)
    size = data.draw(st.integers(0, len(text)))
    assert trail.holds(begin + size, reading(text, begin)) == (size > 0)
    at = data.draw(st.integers(0, len(text)))
    assert trail.common(begin + at, text[at:]) == len(text) - at
    assert trail.common(begin + at, text[at:] + b"more") == len(text) - at
    assert not trail.holds(begin + len(text) + 1, reading(text + b"x", begin))


@given(text=st.binary(min_size=1, max_size=300), at=st.integers(0, 299), begin=st.integers(0, 99))
def test_what_differs_is_found_where_it_begins(text: bytes, at: int, begin: int) -> None:
    at %= len(text)
    other = text[:at] + bytes([text[at] ^ 1]) + os.urandom(len(text) - at - 1)
    trail = trail_of([text], begin)
    assert trail.common(begin, other) == at
    assert trail.common(0, bytes(begin) + other) == begin + at
    assert not trail.holds(begin + len(text), reading(other, begin))


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_of_a_long_file_a_different_end_is_found_within_some_samples(size: int, extra: int) -> None:
    text, other = os.urandom(size), os.urandom(64 * extra)
    with mock.patch.object(module, "SAMPLES_MAX", 1000):
        trail = trail_of([text, os.urandom(len(other))])
    assert size <= trail.common(0, text + other) <= size + 64 * 10
    assert extra < 30 or not trail.holds(size + len(other), reading(text + other))


def test_memory_is_bounded() -> None:
    piece = os.urandom(1 << 20)
    trail = trail_of([piece] * 100)
    assert module.SAMPLES_MAX / 2 < len(trail._samples) <= module.SAMPLES_MAX
    assert trail.holds(50 << 20, reading(piece * 50))
    assert not trail.holds((50 << 20) - 1, reading(piece * 49 + piece[1:]))


def test_what_is_read_again_from_before_replaces_what_came_after() -> None:
    trail = trail_of([b"abcdef"])
    trail.extend(3, b"XY")
    assert trail.holds(5, reading(b"abcXY"))
    assert not trail.holds(6, reading(b"abcXYf"))
