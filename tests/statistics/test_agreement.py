"""Rows of two logs held against each other, against a plain loop over dictionaries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.statistics.agreement import SPANS, Pairing, RowAgreement, Spans
from tests.statistics.drawn_steps import DrawnStep, Row, chosen, cut, drawn_steps, tables

PLACES = st.lists(st.integers(0, 8), max_size=3)


def batch(steps: list[DrawnStep]) -> StepBatch:
    made, kind = tables(steps)
    single = tuple(rows.select(rows.whole & _alone(rows)) for rows in made)
    others = tuple(rows.select(~(rows.whole & _alone(rows))) for rows in made)
    tokens = np.array([step.tokens for step in steps], np.int64)
    return _of_rows(kind, tokens, 9, single, others)


def _of_rows(
    kind: NDArray[np.int8],
    tokens: NDArray[np.int64],
    highest: int,
    single: tuple[ExpertRows, ...],
    others: tuple[ExpertRows, ...],
) -> StepBatch:
    zero = np.zeros(len(kind), np.int64)
    return StepBatch(
        kind=kind,
        tokens=tokens,
        begins=np.ones(len(kind), np.bool_),
        labels=("",),
        label=zero,
        sequence=zero - 1,
        highest=highest,
        single=single,
        written=others,
        repeating=(),
        impossible=Counter(),
        verified=others,
        gates=(),
    )


def _alone(rows: ExpertRows) -> NDArray[np.bool_]:
    """Rows of blocks of one row, as far as one table tells."""
    block = rows.step * 100 + rows.layer
    alone: NDArray[np.bool_] = np.bincount(block, minlength=1)[block] == 1
    return alone


def changed(steps: list[DrawnStep], seed: int) -> list[DrawnStep]:
    """The same rows, some with other experts, in another order, some missing."""
    rng = np.random.default_rng(seed)
    made = []
    for step in steps:
        blocks: dict[int, list[Row]] = {}
        for layer, block in step.blocks.items():
            rows = [
                tuple(rng.permutation(row).tolist()) if rng.random() < 0.3 else (row[0] + 1, *row[1:])
                for row in block
            ]
            blocks[layer] = rows if rng.random() < 0.5 else block
        made.append(DrawnStep(step.kind, blocks))
    return made[: len(made) - int(rng.integers(0, 2))]


def rows_of(steps: list[DrawnStep]) -> dict[tuple[int, int, int], Row]:
    return {
        (number, layer, token): row
        for number, step in enumerate(steps)
        for layer, block in step.blocks.items()
        for token, row in enumerate(block)
    }


def paired(a: list[list[DrawnStep]], b: list[list[DrawnStep]], turns: list[int]) -> RowAgreement:
    pairing, left = Pairing(), [list(a), list(b)]
    for turn in [*turns, *[0] * len(a), *[1] * len(b)]:
        if left[turn]:
            pairing.add(turn, batch(left[turn].pop(0)))
    pairing.finish()
    return pairing.agreement(as_written=True)


@given(
    drawn_steps(repeats=False), st.integers(0, 2**32), PLACES, PLACES, st.lists(st.integers(0, 1), max_size=8)
)
def test_pairs_are_those_of_a_plain_loop(
    steps: list[DrawnStep], seed: int, cuts: list[int], others: list[int], turns: list[int]
) -> None:
    steps = [step for step in steps if step.blocks]
    other = changed(steps, seed)
    a, b = rows_of(steps), rows_of(other)
    found = paired(cut(steps, cuts), cut(other, others), turns)
    both = sorted(set(a) & set(b))
    # A block that has one row here has several there: rows of different sets are not held against each other.
    assert found.rows.sum() == len(both)
    for layer in range(10):
        keys = [key for key in both if key[1] == layer]
        assert found.common[layer] == sum(len(set(a[key]) & set(b[key])) for key in keys)
        assert found.width[layer] == sum(len(a[key]) for key in keys)
        assert found.top[layer] == sum(a[key][0] == b[key][0] for key in keys)
        differing = [key for key in keys if set(a[key]) != set(b[key])]
        assert found.same[layer] == len(keys) - len(differing)
        assert found.first_step(layer) == (differing[0][0] if differing else None)
    differing = [key for key in both if set(a[key]) != set(b[key])]
    if differing:
        key = differing[0]
        assert found.first == (*key, (a[key], b[key]))
    else:
        assert found.first is None


def log(rows: NDArray[np.uint16]) -> StepBatch:
    """One-token steps with rows (steps, layers, k)."""
    steps, layers, k = rows.shape
    count = steps * layers
    zero, one = np.zeros(count, np.int64), np.ones(count, np.bool_)
    table = ExpertRows(
        np.repeat(np.arange(steps), layers),
        np.tile(np.arange(layers, dtype=np.uint16), steps),
        zero,
        one,
        rows.reshape(-1, k).T.copy().T,
    )
    kind = np.full(steps, Kind.DECODE, np.int8)
    return _of_rows(kind, np.ones(steps, np.int64), layers - 1, (table,), ())


def told(a: NDArray[np.uint16], b: NDArray[np.uint16], piece: int = 50) -> RowAgreement:
    pairing = Pairing()
    for begin in range(0, max(len(a), len(b)), piece):
        for number, rows in enumerate((a, b)):
            if begin < len(rows):
                pairing.add(number, log(rows[begin : begin + piece]))
    pairing.finish()
    return pairing.agreement(as_written=False)


def text(rng: np.random.Generator, steps: int, repeat: int) -> NDArray[np.uint16]:
    """Rows of uneven use that resemble those before: topics of `repeat` steps."""
    base = rng.normal(0, 1, (4, 32))
    topics = np.repeat(rng.normal(0, 1, (steps // repeat + 1, 4, 32)), repeat, axis=0)[:steps]
    return chosen(rng, base + topics, 4, (steps, 4))


@pytest.mark.parametrize("repeat", [1, 5, 20, 100])
def test_other_texts_are_not_taken_for_one(repeat: int) -> None:
    rng = np.random.default_rng(repeat)
    said = []
    for steps in (40, 150, 500) * 8:
        base = rng.normal(0, 1, (4, 32))
        sides = [
            chosen(
                rng,
                base + np.repeat(rng.normal(0, 1, (steps // repeat + 1, 4, 32)), repeat, axis=0)[:steps],
                4,
                (steps, 4),
            )
            for _ in range(2)
        ]
        said.append(told(sides[0], sides[1]).spans.belong_together())
    assert said.count(True) == 0
    assert said.count(None) == 0


def test_one_text_is_told_even_where_little_agrees() -> None:
    rng = np.random.default_rng(9)
    scores = rng.normal(0, 1, (200, 4, 32))
    for noise in (0.3, 1.0):
        a, b = (
            np.argsort(-(scores + noise * rng.gumbel(size=scores.shape)), axis=-1)[..., :4].astype(np.uint16)
            for _ in range(2)
        )
        assert told(a, b).spans.belong_together()


def test_few_steps_tell_nothing() -> None:
    rows = text(np.random.default_rng(1), 6, 1)
    assert told(rows, rows).spans.belong_together() is None
    assert np.isnan(RowAgreement().spans.share(shifted=False))


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.integers(0, 40))
def test_spans_add_up_whatever_came_first(steps: list[int], where: int) -> None:
    whole, first, second = Spans(), Spans(), Spans()
    common = np.array([step % 3 for step in steps])
    whole.add(np.array(steps), common, 4, shifted=False)
    for spans, part in ((first, slice(0, where)), (second, slice(where, None))):
        if steps[part]:
            spans.add(np.array(steps[part]), common[part], 4, shifted=False)
    first += second
    if first.length == whole.length:
        assert first.sums.tolist() == whole.sums.tolist()
    assert first.sums.sum() == whole.sums.sum()
    assert max(steps) < SPANS * first.length
    assert whole.share(shifted=False) == pytest.approx(common.sum() / (4 * len(steps)))


def test_quarters_tell_where_texts_part() -> None:
    rng = np.random.default_rng(2)
    a, b = (chosen(rng, np.zeros((4, 32)), 4, (200, 4)) for _ in range(2))
    b[:100] = a[:100]
    quarters = told(a, b).spans.quarters()
    assert quarters[0] == 1.0
    assert quarters[1] > 0.8  # parts of the time are whole numbers of steps
    assert max(quarters[2:]) < 0.3


def test_what_waits_for_the_other_log_is_let_go() -> None:
    rows = text(np.random.default_rng(3), 400, 1)
    pairing = Pairing()
    for begin in range(0, 400, 10):
        pairing.add(0, log(rows[begin : begin + 10]))
        pairing.add(1, log(rows[begin : begin + 10]))
        assert sum(len(held.key) for side in pairing._held for sets in side for held in sets) <= 2 * 11 * 4
    assert pairing.behind() == 0
