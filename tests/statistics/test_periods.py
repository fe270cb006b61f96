"""How often labels came up."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.statistics import periods
from moe_live.statistics.periods import Periods

RUNS = st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12)


def counted(*pieces: list[str]) -> Periods:
    found = Periods()
    for piece in pieces:
        names = sorted(set(piece))
        found.update(np.array([names.index(name) for name in piece], np.int64), names)
    return found


@given(RUNS, st.lists(st.integers(0, 12), max_size=3))
def test_periods_do_not_depend_on_how_steps_are_cut(labels: list[str], places: list[int]) -> None:
    edges = [0, *sorted(min(place, len(labels)) for place in places), len(labels)]
    pieces = [labels[a:b] for a, b in pairwise(edges)]
    plain = [name for name, _ in groupby(labels) if name]
    wanted = {name: plain.count(name) for name in plain}
    merged = Periods()
    for piece in pieces:
        merged += counted(piece)
    assert counted(labels).counts == counted(*pieces).counts == merged.counts == wanted


def test_labels_without_end_are_bounded() -> None:
    names = [f"{i:04}" for i in range(1000)]
    found = counted(names)
    found += counted(names)
    assert found.counts == dict.fromkeys(names[: periods.MAX_LABELS + 1], 2)
