"""Counts that outgrow 8 or 16 bits are exact, and few of them take little memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.statistics import cells as cells_module
from moe_live.statistics.cells import Cells
from moe_live.statistics.rows import RowsByLayer, most_counted
from tests.statistics.drawn_steps import decode_rows


@given(
    st.lists(
        st.tuples(
            st.integers(0, 19),
            st.sampled_from([1, 100, 50_000, 2**33]).flatmap(lambda most: st.integers(1, most)),
        ),
        max_size=60,
    ),
    st.integers(0, 60),
    st.tuples(st.booleans(), st.booleans()),
)
def test_sums_are_exact_however_they_are_added(
    added: list[tuple[int, int]], cut: int, many: tuple[bool, bool]
) -> None:
    expected = np.zeros(20, np.int64)
    both = []
    for as_many in many:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cells_module, "_MANY", 20 if as_many else 21)
            both.append(Cells(20))
        assert both[-1].low.itemsize == (1 if as_many else 2)
    for index, (place, more) in enumerate(added):
        cells = both[index >= cut]
        cells.make_room(more)
        cells.low[place] += np.array(more).astype(cells.low.dtype)
        expected[place] += more
    both[0].make_room_for(both[1])
    both[0].add(np.arange(20), both[1], 0)
    assert both[0].counts(0, 20).dtype.kind in "iu"
    assert both[0].counts(0, 20).tolist() == expected.tolist()
    assert both[0].counts(7, 9).tolist() == expected[7:16].tolist()


def test_counts_keep_their_values_where_there_come_to_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Cells(20)
    small.low[:] = np.arange(20) * 20  # more than 8 bits hold
    monkeypatch.setattr(cells_module, "_MANY", 30)
    many = Cells(30, small)
    many.add(np.arange(20) + 10, small, 0)
    assert many.counts(0, 30).tolist() == [0] * 10 + [20 * i for i in range(20)]
    small.low[:] = np.arange(20)
    assert Cells(30, small).low.itemsize == 1
    assert Cells(29, small).low.itemsize == 2


def test_many_counts_stay_small_while_no_expert_is_in_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "_MANY", 30)
    rows = decode_rows(
        (np.arange(1000, dtype=np.uint16) % 10).reshape(500, 1, 2), layers=(3,)
    )  # each expert is in 100
    spread, alike = Cells(30), Cells(30)
    spread.make_room(most_counted([RowsByLayer(rows)], spread.half))
    alike.make_room(most_counted([RowsByLayer(rows)] * 3, alike.half))
    assert (spread.low.itemsize, alike.low.itemsize) == (1, 2)


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
