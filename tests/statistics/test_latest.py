"""The uses of the latest steps: which are kept, whatever batches they came in."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.routing.batch import Kind, StepBatch
from moe_live.statistics import latest as latest_module
from moe_live.statistics.latest import LatestSteps, LatestUses, Uses
from tests.statistics.drawn_steps import DrawnStep, Row, cut, drawn_steps, tables

PLACES = st.lists(st.integers(0, 12), max_size=4)
CHOICES = ([Kind.DECODE], [Kind.DECODE, Kind.UNDECIDED])
Content = list[tuple[bool, int, list[tuple[int, int, int]]]]


def latest(*pieces: list[DrawnStep], capacity: int = 1000) -> LatestUses:
    accumulator = LatestUses(capacity)
    for piece in pieces:
        accumulator.update(*tables(piece))
    return accumulator


def content(uses: Uses) -> Content:
    """Of each step: whether it is decode, its tokens, its uses as layer, expert and count."""
    found: Content = [
        (decode, tokens, [])
        for decode, tokens in zip(uses.decode.tolist(), uses.tokens.tolist(), strict=True)
    ]
    columns = (uses.step, uses.slot, uses.expert, uses.count)
    for step, slot, expert, count in zip(*(column.tolist() for column in columns), strict=True):
        found[step][2].append((uses.layers[slot], expert, count))
    return found


def plain(steps: list[DrawnStep], kinds: list[Kind], capacity: int) -> Content:
    """The definition."""
    found: Content = []
    for step in steps:
        uses = []
        for layer, block in sorted(step.blocks.items()):
            named = [expert for row in block for expert in row]
            last = reversed(list(dict.fromkeys(reversed(named))))
            uses += [(layer, expert, named.count(expert)) for expert in last]
        if uses:
            found.append((step.kind in kinds, max(map(len, step.blocks.values())), uses))
    while sum(len(uses) for _, _, uses in found) > capacity:
        del found[0]
    return found


@given(drawn_steps(), PLACES, st.sampled_from([0, 5, 17, 60, 1000]), st.sampled_from(CHOICES))
def test_whole_steps_that_fit_are_kept_in_order(
    steps: list[DrawnStep], places: list[int], capacity: int, kinds: list[Kind]
) -> None:
    accumulator = latest(*cut(steps, places), capacity=capacity)
    assert content(accumulator.uses(kinds, 40)) == plain(steps, kinds, capacity)


@given(drawn_steps(), st.sampled_from([0, 5, 17, 60, 1000]), st.sampled_from(CHOICES))
def test_fewer_of_them_are_the_latest_whole_steps_one_at_least(
    steps: list[DrawnStep], most: int, kinds: list[Kind]
) -> None:
    found = latest(steps).uses(kinds, 40)
    assert content(found.latest(most)) == (plain(steps, kinds, most) or content(found)[-1:])


@given(drawn_steps(), st.integers(0, 8), PLACES, st.sampled_from([5, 17, 60]))
def test_merging_is_reading_one_after_the_other(
    steps: list[DrawnStep], where: int, places: list[int], capacity: int
) -> None:
    first, second = cut(steps, [where])
    merged = latest(*cut(first, places), capacity=capacity)
    merged += latest(*cut(second, places), capacity=capacity)
    merged += latest(capacity=capacity)
    assert content(merged.uses(list(Kind), 40)) == plain(steps, list(Kind), capacity)


@given(drawn_steps(), drawn_steps())
def test_what_was_undecided_becomes_prefill(before: list[DrawnStep], after: list[DrawnStep]) -> None:
    accumulator = latest(before)
    accumulator.settle()
    accumulator.update(*tables(after))
    for step in before:
        if step.kind is Kind.UNDECIDED:
            step.kind = Kind.PREFILL
    kinds = [Kind.DECODE, Kind.UNDECIDED]
    assert content(accumulator.uses(kinds, 40)) == plain([*before, *after], kinds, 1000)


@given(drawn_steps())
def test_many_blocks_are_taken_some_at_a_time(steps: list[DrawnStep]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latest_module, "_CELLS", 50)
        accumulator = latest(steps)
    assert content(accumulator.uses([Kind.DECODE], 40)) == plain(steps, [Kind.DECODE], 1000)


def test_tokens_and_steps_of_decode() -> None:
    steps = [
        DrawnStep(Kind.PREFILL, {3: [(0, 1), (1, 2), (2, 0)], 4: [(5, 6)]}),
        DrawnStep(Kind.DECODE, {3: [(0, 1), (1, 2)], 4: [(5, 6), (6, 5)]}),
        DrawnStep(Kind.DECODE, {3: [(7, 1)], 4: [(5, 6)]}),
    ]
    uses = latest(steps).uses([Kind.DECODE], 8)
    assert (uses.layers, uses.n_experts, uses.steps, uses.decode_tokens) == ((3, 4), 8, 2, 3)
    assert content(uses)[0] == (False, 3, [(3, 1, 2), (3, 2, 2), (3, 0, 2), (4, 5, 1), (4, 6, 1)])


def test_halves_of_the_decode_steps() -> None:
    rows: list[Row] = [(0, 1), (1, 2)]
    steps = [DrawnStep(Kind.DECODE, {3: rows}), DrawnStep(Kind.PREFILL, {3: rows})]
    steps += [DrawnStep(Kind.DECODE, {3: [(0, 2)]}), DrawnStep(Kind.DECODE, {3: [(2, 1)]})]
    first, second = latest(steps).uses([Kind.DECODE], 4).halves()
    assert (first.tolist(), second.tolist()) == ([[2, 2, 2, 0]], [[0, 1, 1, 0]])


def test_sequences_of_a_forward_pass_are_one_step() -> None:
    steps = [
        DrawnStep(Kind.DECODE, {3: [(0, 1)], 4: [(5, 6)]}),
        DrawnStep(Kind.DECODE, {3: [(1, 2)], 4: [(6, 5)]}),  # of the same pass
        DrawnStep(Kind.DECODE, {3: [(7, 1)], 4: [(5, 6)]}),
        DrawnStep(Kind.PREFILL, {3: [(0, 1), (1, 2)], 4: [(5, 6)]}),  # of the same
    ]
    accumulator = LatestUses()
    accumulator.update(*tables(steps), np.array([True, False, True, False]))
    uses = accumulator.uses([Kind.DECODE], 8)
    assert content(uses) == [
        (True, 2, [(3, 0, 1), (3, 1, 2), (3, 2, 1), (4, 6, 2), (4, 5, 2)]),
        (False, 3, [(3, 7, 1), (3, 0, 1), (3, 1, 3), (3, 2, 1), (4, 5, 2), (4, 6, 2)]),
    ]


def batch_of(steps: list[DrawnStep]) -> StepBatch:
    """Steps whose rows are all certain."""
    rows, kind = tables(steps)
    none = np.zeros(len(kind), np.int64)
    return StepBatch(
        kind=kind,
        tokens=np.array([step.tokens for step in steps], np.int64),
        begins=np.ones(len(kind), np.bool_),
        labels=("",),
        label=none,
        sequence=none - 1,
        highest=9,
        single=rows,
        written=(),
        repeating=(),
        impossible=Counter(),
        verified=(),
        gates=(),
    )


@given(
    drawn_steps(repeats=False),
    drawn_steps(repeats=False),
    PLACES,
    st.sampled_from([1, 5, 17, 60, 1000]),
    st.lists(st.integers(0, 8)),
)
def test_steps_are_kept_whoever_asks_in_between(
    steps: list[DrawnStep], later: list[DrawnStep], places: list[int], capacity: int, asked: list[int]
) -> None:
    kept, other = LatestSteps(capacity), LatestSteps(capacity)
    for number, piece in enumerate(cut(steps, places)):
        kept.update(batch_of(piece))
        if number in asked:
            kept.logged.uses([Kind.DECODE], 40)
        if number == 1:
            kept = deepcopy(kept)
    for piece in cut(later, places):
        other.update(batch_of(piece))
    kept += other
    for uses in (kept.logged, kept.verified):
        assert content(uses.uses([Kind.DECODE], 40)) == plain(steps + later, [Kind.DECODE], capacity)


def test_nothing_is_nothing() -> None:
    uses = LatestUses().uses([Kind.DECODE], 8)
    assert (len(uses), uses.steps, uses.decode_tokens, uses.layers) == (0, 0, 0, ())


def test_memory_does_not_grow_with_the_log() -> None:
    accumulator = LatestUses(100)
    for _ in range(500):
        accumulator.update(*tables([DrawnStep(Kind.DECODE, {3: [(0, 1, 2)], 4: [(1, 2, 3)]})]))
    kept = accumulator.uses([Kind.DECODE], 4)
    assert (kept.steps, len(kept)) == (16, 96)
    assert np.array_equal(np.unique(kept.step), np.arange(16))
    assert sum(len(piece.step) for piece in accumulator._found_out()) == 96
