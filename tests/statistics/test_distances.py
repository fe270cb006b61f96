"""Distances add up the same however the steps are grouped, and whenever what was collected is added."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.routing.batch import Kind, StepGates
from moe_live.statistics import distances
from moe_live.statistics.distances import GateDistances
from tests.comparison import plain


@given(st.integers(0, 2**32), st.lists(st.sampled_from(list(Kind)), max_size=12), st.data())
def test_any_grouping_gives_identical_figures(seed: int, kinds: list[Kind], data: st.DataObject) -> None:
    """Steps that leave out layers, so that some pairs turn out late not to be consecutive."""
    rng = np.random.default_rng(seed)
    steps = [
        (kind, {int(layer): rng.standard_normal(3) for layer in np.flatnonzero(rng.random(5) < 0.7)})
        for kind in kinds
    ]

    def counted(cuts: list[int], enough: int) -> GateDistances:
        total = GateDistances()
        with mock.patch.multiple(distances, _ENOUGH=enough, _OF_A_PAIR=1):
            for begin, end in pairwise([0, *cuts, len(steps)]):
                gates = [
                    (i, layer, vector)
                    for i, (_, vectors) in enumerate(steps[begin:end])
                    for layer, vector in vectors.items()
                ]
                kind = np.array([kind for kind, _ in steps[begin:end]], np.int8)
                if gates:
                    index, layer, vectors = map(np.array, zip(*gates, strict=True))
                    total.update([StepGates(index, layer, vectors)], kind)
                else:
                    total.update([], kind)
        return total

    def figures(counted: GateDistances) -> object:
        by_kind = [(counted.steps([kind]), counted.summary([kind])) for kind in Kind]
        return plain((by_kind, counted.summary(Kind)))

    cuts = sorted(data.draw(st.lists(st.integers(0, len(steps)), max_size=4)))
    expected = figures(counted([], 1 << 12))
    assert figures(counted(cuts, data.draw(st.integers(1, 9)))) == expected
    paired = [kind for kind, vectors in steps if len(vectors) > 1]
    assert [counted([], 1).steps([kind]) for kind in Kind] == [paired.count(kind) for kind in Kind]
