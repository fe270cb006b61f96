"""The cache that is asked about: its size, its bytes, and what it would serve."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.bindings import press
from moe_live.dashboard.cache_size import bytes_cached, experts_cached, size_marks
from moe_live.dashboard.frame import compose
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.views import VIEWS
from moe_live.snapshot import Snapshot
from moe_live.verdicts import CACHED
from tests.dashboard.factory import snapshot, status
from tests.dashboard.test_golden import FULL

LOCALITY = next(i for i, view in enumerate(VIEWS) if view.title == "Locality")
N_EXPERTS = len(FULL.overall.counts)
GIB = 1 << 30


def of_size(of: Snapshot, known: dict[int, int]) -> Snapshot:
    return replace(of, model=replace(of.model, expert_bytes=known))


def line(state: ViewState, width: int = 120) -> str:
    frame = compose(FULL, status(), state, width, 40).plain
    return next(line for line in frame.splitlines() if "last " in line and "knee" in line)


def test_it_is_a_fourth_until_the_keys_say_otherwise() -> None:
    state = ViewState(view=LOCALITY)
    assert line(state).startswith(f"{N_EXPERTS // CACHED} of {N_EXPERTS} + -   last ")
    press(state, "+", FULL)
    assert experts_cached(state, N_EXPERTS) == N_EXPERTS // CACHED + N_EXPERTS // 32
    press(state, "-", FULL)
    press(state, "-", FULL)
    assert experts_cached(state, N_EXPERTS) == N_EXPERTS // CACHED - N_EXPERTS // 32


@given(st.lists(st.sampled_from("+-"), max_size=99), st.integers(0, 600))
def test_no_cache_is_empty_or_larger_than_all(keys: list[str], n_experts: int) -> None:
    state = ViewState(view=LOCALITY)
    for key in keys:
        press(state, key, FULL)
    assert 1 <= experts_cached(state, N_EXPERTS) <= N_EXPERTS
    assert 1 <= experts_cached(state, max(1, n_experts)) <= max(1, n_experts)


def test_in_other_views_the_keys_do_nothing() -> None:
    state = ViewState(view=0)
    press(state, "+", FULL)
    assert state.cache == 0


def test_what_it_serves_are_the_figures_of_the_json() -> None:
    state = ViewState(view=LOCALITY, cache=10)
    layers = [layer for layer in FULL.locality or () if layer.uses]
    uses = np.array([layer.uses for layer in layers])
    for name, rates in (
        ("last", [layer.lru_hit_rate[9] for layer in layers]),
        ("most", [layer.static_hit_rate[9] for layer in layers]),
    ):
        share = float((np.array(rates) * uses).sum() / uses.sum())
        assert f"{name} {100 * share:.1f}%" in line(state)


def test_the_knee_is_farthest_above_chance() -> None:
    found = re.search(r"knee (\d+)", line(ViewState(view=LOCALITY)))
    assert found is not None
    layers = [layer for layer in FULL.locality or () if layer.uses]
    recent = np.average(
        [layer.lru_hit_rate for layer in layers], axis=0, weights=[layer.uses for layer in layers]
    )
    above = recent - np.arange(1, N_EXPERTS + 1) / N_EXPERTS
    assert above[int(found[1]) - 1] == above.max()


@pytest.mark.parametrize(
    ("known", "expected"),
    [({3: GIB, 4: 2 * GIB}, 9 * GIB), ({3: GIB}, None), ({}, None)],
)
def test_bytes_are_those_of_all_layers_or_none(known: dict[int, int], expected: int | None) -> None:
    assert bytes_cached(of_size(snapshot(2, 8, first=3), known), 3) == expected


def test_bytes_stand_beside_experts() -> None:
    layers = len(FULL.layers)
    sized = of_size(FULL, dict.fromkeys(FULL.model.layers, GIB))
    shown = compose(sized, status(), ViewState(view=LOCALITY, cache=32), 120, 40).plain
    assert f"32 of {N_EXPERTS} + - {32 * layers} GiB" in shown
    assert size_marks(sized, [1, 32]) == [f"1 {layers:.1f} GiB", f"32 {32 * layers} GiB"]
    assert size_marks(FULL, [1, 32]) == ["1", "32"]
