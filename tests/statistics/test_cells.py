"""Counts that outgrow 16 bits are exact, and few of them take little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.statistics.cells import Cells


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 50_000)), max_size=60), st.integers(0, 60))
def test_sums_are_exact_however_they_are_added(added: list[tuple[int, int]], cut: int) -> None:
    expected = np.zeros(20, np.int64)
    both = Cells(20), Cells(20)
    for index, (place, more) in enumerate(added):
        cells = both[index >= cut]
        cells.make_room(more)
        cells.low[place] += more
        expected[place] += more
    both[0].make_room_for(both[1])
    both[0].add(np.arange(20), both[1], 0)
    assert both[0].counts(0, 20).tolist() == expected.tolist()
    assert both[0].counts(7, 9).tolist() == expected[7:16].tolist()


def test_counts_are_added_where_they_belong() -> None:
    small, large = Cells(1 + 64), Cells(100)
    small.low[1:] = np.arange(64) % 4 * 20_000
    small.make_room(40_000)  # widens: half of the counts are large
    large.low[:] = 9
    large.make_room_for(small)
    places = np.random.default_rng(1).permutation(100)[:64]
    large.add(places, small, 1)
    expected = np.full(100, 9)
    expected[places] += np.arange(64) % 4 * 20_000
    assert large.counts(0, 100).tolist() == expected.tolist()


@pytest.mark.parametrize(("large", "dtype"), [(100, np.uint16), (200, np.uint32)])
def test_counts_get_wider_only_when_many_are_large(large: int, dtype: type[np.unsignedinteger]) -> None:
    cells = Cells(1000)
    for _ in range(100):
        cells.make_room(30_000)
        cells.low[:large] += np.array(30_000).astype(cells.low.dtype)
    assert cells.low.dtype == dtype
    assert cells.counts(0, 1000).tolist() == [3_000_000] * large + [0] * (1000 - large)
