"""Locality of decode against a plain simulation of windows and caches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.statistics import blocks, locality, reuse
from moe_live.statistics.layer_locality import LayerLocality
from moe_live.statistics.locality import Locality
from tests.comparison import plain
from tests.reference import read_steps
from tests.statistics.drawn_steps import DrawnStep, chosen, cut, decode_rows, drawn_steps, tables
from tests.trace import trace_log

pytestmark = pytest.mark.usefixtures("each_way")

N_EXPERTS = 40
PLACES = st.lists(st.integers(0, 30), max_size=4)
DECODE = [Kind.DECODE]
EITHER = [Kind.DECODE, Kind.UNDECIDED]


def counted(*pieces: list[DrawnStep]) -> Locality:
    accumulator = Locality()
    for piece in pieces:
        accumulator.update(*tables(piece))
    return accumulator


def content(accumulator: Locality) -> object:
    return [plain(accumulator.summary(kinds, N_EXPERTS)) for kinds in (DECODE, EITHER)]


def decode_lists(steps: Sequence[DrawnStep], kinds: Sequence[Kind]) -> dict[int, list[list[int]]]:
    """For each layer, the experts that each of its decode steps lists, in order."""
    lists: dict[int, list[list[int]]] = {}
    for step in steps:
        if step.kind in kinds:
            for layer, block in step.blocks.items():
                lists.setdefault(layer, []).append([expert for row in block for expert in row])
    return dict(sorted(lists.items()))


def slow(layer: int, listed: list[list[int]], n_experts: int) -> LayerLocality:
    """The figures of one layer straight from their definitions."""
    steps = [set(experts) for experts in listed]
    uses = [(time, expert) for time, step in enumerate(steps) for expert in sorted(step)]
    overlap = {}
    for lag in (1, 2, 4, 8):
        shares = [len(steps[t] & steps[t - lag]) / len(steps[t]) for t in range(lag, len(steps))]
        overlap[lag] = float(np.mean(shares)) if shares else math.nan
    gaps, hits = [], np.zeros(n_experts)
    order: list[int] = []
    used_at: dict[int, int] = {}
    for time, experts in enumerate(listed):
        for expert in set(experts):
            if expert in order:
                hits[order.index(expert) :] += 1
                gaps.append(time - used_at[expert])
            used_at[expert] = time
        for expert in experts:
            order = [expert, *(other for other in order if other != expert)]
    ordered = sorted(gap if gap <= 1000 else math.inf for gap in gaps)
    mean_size = {}
    for window in (10, 100, 1000, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64):
        sizes = [len(set().union(*steps[t - window : t])) for t in range(window, len(steps) + 1)]
        mean_size[window] = sum(sizes) / len(sizes) if sizes else math.nan
    counts = np.bincount([expert for _, expert in uses], minlength=n_experts)
    return LayerLocality(
        layer=layer,
        steps=len(steps),
        uses=len(uses),
        overlap=overlap,
        overlap_chance=len(uses) / (len(steps) * n_experts),
        reuse_median=ordered[-(-len(gaps) // 2) - 1] if gaps else math.nan,
        reuse_p90=ordered[-(-len(gaps) * 9 // 10) - 1] if gaps else math.nan,
        never_again=len(used_at) / len(uses),
        working_set={window: mean_size[window] for window in (10, 100, 1000)},
        lru_hit_rate=hits / len(uses),
        static_hit_rate=np.cumsum(np.sort(counts)[::-1]) / len(uses),
        idle_steps=np.array([idle(used_at.get(expert), len(steps)) for expert in range(n_experts)]),
        union={window: mean_size[window] for window in (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)},
        lru_error=np.full(n_experts, math.nan),  # of all layers together, see `measured`
    )


def measured(steps: Sequence[DrawnStep], kinds: Sequence[Kind]) -> NDArray[np.float64]:
    """The error of LRU, from the hits of all layers in each of the first steps."""
    counted = [step for step in steps if step.kind in kinds]
    hits, uses = np.zeros((len(counted), N_EXPERTS), np.int64), np.zeros(len(counted), np.int64)
    order: dict[int, list[int]] = {}
    for time, step in enumerate(counted):
        for layer, block in step.blocks.items():
            mine = order.setdefault(layer, [])
            experts = [expert for row in block for expert in row]
            uses[time] += len(set(experts))
            for expert in set(experts) & set(mine):
                hits[time, mine.index(expert) :] += 1
            for expert in experts:
                mine[:] = [expert, *(other for other in mine if other != expert)]
    return blocks.errors(blocks.in_blocks(hits[: reuse.MEASURED]), blocks.in_blocks(uses[: reuse.MEASURED]))


def idle(used_at: int | None, steps: int) -> float:
    """How many of so many steps came after the latest use."""
    if used_at is None:
        return math.nan
    return steps - 1 - used_at if steps - 1 - used_at < 1000 else math.inf


def check(found: Sequence[LayerLocality], wanted: Sequence[LayerLocality]) -> None:
    assert [entry.layer for entry in found] == [entry.layer for entry in wanted]
    for one, other in zip(found, wanted, strict=True):
        for name in set(LayerLocality.__slots__) - {"lru_error"}:
            values = [getattr(entry, name) for entry in (one, other)]
            if isinstance(values[0], dict):
                assert values[0].keys() == values[1].keys()
                values = [list(value.values()) for value in values]
            np.testing.assert_allclose(values[0], values[1], rtol=1e-12, err_msg=name)


@given(drawn_steps(max_steps=30), PLACES)
def test_rows_of_many_k_are_looked_at_together_with_the_same_result(
    steps: list[DrawnStep], places: list[int]
) -> None:
    pieces = cut(steps, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locality, "_FEW_LISTINGS", 0)
        together = content(counted(*pieces))
    assert together == content(counted(*pieces))


@given(drawn_steps(max_steps=30))
def test_figures_equal_a_plain_simulation_at_every_prefix(steps: list[DrawnStep]) -> None:
    accumulator = Locality()
    for end in range(1, len(steps) + 1):
        accumulator.update(*tables([steps[end - 1]]))
        if end % 5 and end < len(steps):
            continue
        for kinds in (DECODE, EITHER):
            lists = decode_lists(steps[:end], kinds)
            wanted = [slow(layer, listed, N_EXPERTS) for layer, listed in lists.items()]
            check(accumulator.summary(kinds, N_EXPERTS), wanted)


@given(drawn_steps(max_steps=30), PLACES, st.sampled_from([1, 8, 1 << 9]))
def test_batching_does_not_matter_and_merging_equals_one_pass(
    steps: list[DrawnStep], places: list[int], held_places: int
) -> None:
    pieces = cut(steps, places)
    merged = Locality()
    for piece in pieces:
        merged += counted(piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "_PLACES", held_places)
        in_pieces = counted(*pieces)
    assert content(in_pieces) == content(counted(steps)) == content(merged)
    from_the_end = Locality()
    for step in reversed(steps):
        earlier = counted([step])
        earlier += from_the_end
        from_the_end = earlier
    assert content(from_the_end) == content(merged)
    both = in_pieces
    both += counted(steps)
    check(both.summary(EITHER, N_EXPERTS), counted(steps, steps).summary(EITHER, N_EXPERTS))
    merged += counted(steps)
    merged.update(*tables(steps))
    assert content(merged) == content(counted(steps, steps, steps))


@given(drawn_steps(max_steps=30), PLACES, st.sampled_from([1, 7, 15, 1 << 11]))
def test_how_certain_hits_are_does_not_depend_on_batches_or_merging(
    steps: list[DrawnStep], places: list[int], first: int
) -> None:
    pieces = cut(steps, places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "MEASURED", first)
        patch.setattr(blocks, "BLOCKS", 4)
        merged, twice = Locality(), counted(steps)
        for piece in pieces:
            merged += counted(piece)
        twice += merged
        for kinds in (DECODE, EITHER):
            for found, read in ((counted(*pieces), steps), (merged, steps), (twice, steps + steps)):
                for layer in found.summary(kinds, N_EXPERTS):
                    np.testing.assert_allclose(layer.lru_error, measured(read, kinds), rtol=1e-12)


@given(drawn_steps(max_steps=12), drawn_steps(max_steps=12))
def test_steps_that_turn_out_to_be_prefill_leave_no_trace(
    steps: list[DrawnStep], following: list[DrawnStep]
) -> None:
    accumulator = counted(steps)
    accumulator.settle()
    accumulator.update(*tables(following))
    settled = [
        DrawnStep(Kind.PREFILL if step.kind is Kind.UNDECIDED else step.kind, step.blocks) for step in steps
    ]
    assert content(accumulator) == content(counted(settled + following))


def test_merging_leaves_the_other_as_it_was() -> None:
    one = counted([DrawnStep(Kind.DECODE, {3: [(0, 1)], 4: [(2, 0)]})] * 3)
    other = counted([DrawnStep(Kind.UNDECIDED, {4: [(7, 1), (7, 2)]})] * 2)
    before = content(other)
    one += other
    one += other
    assert content(other) == before


def test_the_last_listed_expert_is_the_most_recent_one() -> None:
    listing = [(0, 1, 2), (3, 4, 5), (5, 0, 1)]
    (layer,) = counted([DrawnStep(Kind.DECODE, {0: [row]}) for row in listing]).summary(DECODE, 8)
    # In the third step 5 is the latest, 1 fifth (after 5 4 3 2), 0 sixth.
    np.testing.assert_allclose(layer.lru_hit_rate * layer.uses, [1, 1, 1, 1, 2, 3, 3, 3])


def test_a_step_of_several_sequences_uses_an_expert_once() -> None:
    steps = [DrawnStep(Kind.DECODE, {0: [(0, 1), (1, 2)]}), DrawnStep(Kind.DECODE, {0: [(1, 3), (1, 4)]})]
    (layer,) = counted(steps).summary(DECODE, 8)
    assert (layer.steps, layer.uses) == (2, 6)
    assert layer.overlap[1] == pytest.approx(1 / 3)
    np.testing.assert_allclose(layer.lru_hit_rate * layer.uses, [0, 1, 1, 1, 1, 1, 1, 1])


def test_a_layer_counts_its_own_steps_only() -> None:
    whole, half = DrawnStep(Kind.DECODE, {0: [(0,)], 1: [(1,)]}), DrawnStep(Kind.DECODE, {0: [(5,)]})
    lower, upper = counted([whole, half, half, whole]).summary(DECODE, 8)
    assert (lower.steps, upper.steps) == (4, 2)
    assert (lower.reuse_p90, upper.reuse_p90) == (3, 1)
    assert upper.overlap[1] == 1


def test_each_layer_counts_its_own_steps_where_every_row_is_a_step() -> None:
    rng = np.random.default_rng(5)
    layers = np.minimum(rng.zipf(1.5, 1500), 40)
    rows = [tuple(rng.choice(N_EXPERTS, k, replace=False).tolist()) for k in rng.integers(1, 4, len(layers))]
    steps = [DrawnStep(Kind.DECODE, {layer: [row]}) for layer, row in zip(layers.tolist(), rows, strict=True)]
    wanted = [slow(layer, lists, N_EXPERTS) for layer, lists in decode_lists(steps, DECODE).items()]
    check(counted(steps).summary(DECODE, N_EXPERTS), wanted)
    check(counted(steps[:700], steps[700:]).summary(DECODE, N_EXPERTS), wanted)


def test_distances_and_windows_in_a_long_run() -> None:
    rows = np.full((2500, 1, 1), 7, np.uint16)
    rows[[100, 1100, 2101]] = 3
    accumulator = Locality()
    accumulator.update([decode_rows(rows)], np.full(2500, Kind.DECODE, np.int8))
    (found,) = accumulator.summary(DECODE, 9)
    wanted = slow(0, [[int(row[0, 0])] for row in rows], 9)
    check([found], [wanted])
    rare = Locality()
    rare.update(
        [decode_rows(np.arange(1002, dtype=np.uint16)[:, None, None] % 1001)], np.full(1002, Kind.DECODE)
    )
    (layer,) = rare.summary(DECODE, 1001)
    assert layer.reuse_median == math.inf
    assert layer.working_set[1000] == 1000


def test_repetition_is_found_where_it_is_and_not_where_it_is_not() -> None:
    rng = np.random.default_rng(3)
    steps, n_experts, k = 3000, 32, 4
    free = chosen(rng, np.zeros((1, n_experts)), k, (steps, 1))
    sticky = free.copy()
    sticky[1::2] = sticky[0:-1:2]  # every other step repeats the one before
    accumulator = Locality()
    rows = decode_rows(np.concatenate((free, sticky), axis=1), layers=(0, 1))
    accumulator.update([rows], np.full(steps, Kind.DECODE, np.int8))
    random, repeating = accumulator.summary(DECODE, n_experts)
    assert random.overlap_chance == repeating.overlap_chance == k / n_experts
    for overlap in random.overlap.values():
        assert overlap == pytest.approx(k / n_experts, abs=0.01)
    assert repeating.overlap[1] == pytest.approx((1 + k / n_experts) / 2, abs=0.02)
    assert repeating.overlap[2] == pytest.approx(k / n_experts, abs=0.015)
    for n in (4, 8, 16):
        assert random.lru_hit_rate[n - 1] == pytest.approx(n / n_experts, abs=0.02)
    assert repeating.lru_hit_rate[k - 1] == pytest.approx((1 + k / n_experts) / 2, abs=0.02)
    assert random.reuse_median == pytest.approx(math.log(2) / -math.log(1 - k / n_experts), abs=1)


def test_without_decode_steps_there_is_nothing() -> None:
    accumulator = Locality()
    accumulator.update([], np.zeros(0, np.int8))
    accumulator += Locality()
    prompt = DrawnStep(Kind.PREFILL, {3: [(0, 1), (1, 2)]})
    accumulator.update(*tables([prompt]))
    assert accumulator.summary(EITHER, 8) == accumulator.summary(DECODE, 0) == ()
    accumulator.update(*tables([DrawnStep(Kind.DECODE, {3: [(0, 1)]})]))
    (layer,) = accumulator.summary(DECODE, 8)
    assert (layer.steps, layer.uses, layer.never_again) == (1, 2, 1)
    undefined = [*layer.overlap.values(), *layer.working_set.values(), layer.reuse_median, layer.reuse_p90]
    assert all(math.isnan(value) for value in undefined)
    assert not layer.lru_hit_rate.any()


def test_published_figures_of_a_trace(real_logs: Path) -> None:
    steps = [
        DrawnStep(Kind.DECODE, dict(step.blocks))
        for step in read_steps(trace_log(real_logs / "qwen3-30b-a3b.route.csv.gz", 1))
    ]
    layers = counted(steps[:50], steps[50:]).summary(DECODE, 128)
    assert [len(layers), layers[0].steps] == [48, 128]

    def percent(values: list[float]) -> float:
        return round(100 * float(np.mean(values)), 1)

    assert [percent([layer.overlap[lag] for layer in layers]) for lag in (1, 2, 4, 8)] == [
        38.0,
        28.9,
        27.7,
        26.7,
    ]
    hits: list[NDArray[np.float64]] = [layer.lru_hit_rate for layer in layers]
    assert [percent([rate[n - 1] for rate in hits]) for n in (8, 16, 32, 64)] == [42.7, 60.7, 80.5, 91.2]
    assert percent([layers[0].static_hit_rate[7]]) == 21.5
    distinct = [round(layer.never_again * layer.uses) for layer in layers]
    assert (round(float(np.mean(distinct)), 1), min(distinct), max(distinct)) == (63.7, 33, 107)
    assert [layer.overlap_chance for layer in layers] == [6 / 128] * 48
