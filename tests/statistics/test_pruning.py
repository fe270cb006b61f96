"""Which experts are used least."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.statistics.pruning import least_used


@given(
    st.integers(1, 12).flatmap(
        lambda experts: st.lists(
            st.lists(st.integers(0, 3), min_size=experts, max_size=experts), min_size=1, max_size=4
        )
    ),
    st.floats(0, 1),
    st.sampled_from([np.int64, np.float64]),
)
def test_as_many_of_each_layer_and_of_equals_those_of_higher_ids(
    layers: list[list[int]], drop: float, dtype: type[np.int64 | np.float64]
) -> None:
    many = round(drop * len(layers[0]))
    expected = [
        {-place for _, place in sorted(zip(uses, range(0, -len(uses), -1), strict=True))[:many]}
        for uses in layers
    ]
    found = least_used(np.array(layers, dtype), drop)
    assert [set(np.flatnonzero(row).tolist()) for row in found] == expected


def test_of_layers_without_a_mass_as_many_go() -> None:
    found = least_used(np.array([[np.nan] * 4, [0.1, 0.4, 0.2, 0.3]]), 0.5)
    assert found.tolist() == [[False, False, True, True], [True, False, True, False]]
