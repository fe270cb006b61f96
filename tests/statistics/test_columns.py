"""Tables are as wide as what is used, and that shows in no figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.routing.batch import Kind
from moe_live.settings import MAX_EXPERTS
from moe_live.statistics.coactivation import MAX_WIDTH, Coactivation
from moe_live.statistics.columns import Columns, moved
from moe_live.statistics.layer_locality import LayerLocality
from moe_live.statistics.locality import Locality
from moe_live.statistics.tables import BLOCK
from moe_live.statistics.transitions import Transitions
from tests.statistics.drawn_steps import DrawnStep, by_layer, cut, drawn_steps, tables

N_EXPERTS = 40
EVERY = np.arange(MAX_EXPERTS)
EXPERTS = st.lists(st.integers(0, MAX_EXPERTS - 1), max_size=5)
PLACES = st.lists(st.integers(0, 30), max_size=3)


@st.composite
def renumberings(draw: st.DrawFn) -> list[int]:
    """The numbers that some experts have, ascending, anywhere among all, but not in too many blocks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    blocks = rng.choice(MAX_EXPERTS // BLOCK, MAX_WIDTH // BLOCK, replace=False)
    numbers = np.add.outer(blocks * BLOCK, np.arange(BLOCK)).reshape(-1)
    return sorted(rng.choice(numbers, N_EXPERTS, replace=False).tolist())


def renumbered(steps: Sequence[DrawnStep], numbers: Sequence[int]) -> list[DrawnStep]:
    return [
        DrawnStep(
            step.kind,
            {
                layer: [tuple(numbers[expert] for expert in row) for row in block]
                for layer, block in step.blocks.items()
            },
        )
        for step in steps
    ]


@given(st.lists(EXPERTS, max_size=6))
def test_experts_keep_their_columns_through_all_moves(portions: list[list[int]]) -> None:
    columns, place = Columns(), dict[int, int]()
    for experts in portions:
        where = columns.learn(np.array(experts, np.uint16))
        assert (np.diff(where) > 0).all()
        place = {expert: int(where[column]) for expert, column in place.items()}
        own = columns.of(np.array(experts, np.uint16)).tolist()
        assert all(place.get(expert, column) == column for expert, column in zip(experts, own, strict=True))
        place |= dict(zip(experts, own, strict=True))
    assert {expert: int(columns.experts[column]) for expert, column in place.items()} == {
        expert: expert for expert in place
    }
    assert len(columns) == BLOCK * len({expert // BLOCK for expert in place})


@given(EXPERTS, EXPERTS)
def test_columns_of_both_are_where_they_are_said_to_be(some: list[int], others: list[int]) -> None:
    ours, theirs = Columns(), Columns()
    ours.learn(np.array(some, np.uint16))
    theirs.learn(np.array(others, np.uint16))
    before = ours.experts
    where = ours.include(theirs)
    assert ours.experts.tolist() == np.union1d(before, theirs.experts).tolist()
    assert ours.experts[where].tolist() == before.tolist()
    index, column = ours.common(theirs.experts)
    assert index.tolist() == list(range(len(theirs)))
    assert ours.experts[column].tolist() == theirs.experts.tolist()
    widths = np.arange(len(before) + 1)
    needed = [0, *(where + 1).tolist()]
    assert moved(widths, where).tolist() == needed


def test_a_model_has_its_experts_where_they_are() -> None:
    columns = Columns()
    columns.learn(np.arange(160, dtype=np.uint16))
    experts = np.array([[3, 159], [0, 7]], np.uint16)
    assert columns.of(experts) is experts
    columns.learn(np.array([2047], np.uint16))
    assert len(columns) == 192
    assert columns.of(np.append(experts, np.uint16(2047))).tolist() == [3, 159, 0, 7, 191]


@given(drawn_steps(), renumberings(), PLACES, st.booleans())
def test_pairs_and_transitions_do_not_depend_on_the_numbers_of_experts(
    steps: list[DrawnStep], numbers: list[int], places: list[int], merges: bool
) -> None:
    def counted(steps: list[DrawnStep]) -> tuple[Coactivation, Transitions]:
        pairs, transitions = Coactivation(), Transitions()
        for piece in cut(steps, places):
            if merges:
                more, following = Coactivation(), Transitions()
                more.update(by_layer(piece))
                following.update(by_layer(piece))
                pairs += more
                transitions += following
            else:
                pairs.update(by_layer(piece))
                transitions.update(by_layer(piece))
        return pairs, transitions

    pairs, transitions = counted(steps)
    others, following = counted(renumbered(steps, numbers))
    own = np.arange(N_EXPERTS)
    assert pairs.layers == others.layers
    for layer in pairs.layers:
        found = others.counts(layer, np.array(numbers))
        assert found.tolist() == pairs.counts(layer, own).tolist()
        assert others.counts(layer, EVERY).sum() == found.sum()
        for above in pairs.layers:
            found = following.counts(layer, above, np.array(numbers))
            assert found.tolist() == transitions.counts(layer, above, own).tolist()
            assert following.counts(layer, above, EVERY).sum() == found.sum()


@given(drawn_steps(max_steps=20), renumberings(), PLACES, st.booleans())
def test_locality_does_not_depend_on_the_numbers_of_experts(
    steps: list[DrawnStep], numbers: list[int], places: list[int], merges: bool
) -> None:
    def counted(steps: list[DrawnStep]) -> Locality:
        locality = Locality()
        for piece in cut(steps, places):
            if merges:
                more = Locality()
                more.update(*tables(piece))
                locality += more
            else:
                locality.update(*tables(piece))
        return locality

    def shown(layer: LayerLocality, experts: list[int]) -> list[float]:
        return [
            float(layer.steps),
            float(layer.uses),
            *layer.overlap.values(),
            layer.reuse_median,
            layer.reuse_p90,
            layer.never_again,
            *layer.working_set.values(),
            *layer.lru_hit_rate[:N_EXPERTS].tolist(),
            *layer.static_hit_rate[:N_EXPERTS].tolist(),
            *layer.idle_steps[experts].tolist(),
        ]

    first, second = counted(steps), counted(renumbered(steps, numbers))
    for kinds in ([Kind.DECODE], [Kind.DECODE, Kind.UNDECIDED]):
        found, wanted = second.summary(kinds, MAX_EXPERTS), first.summary(kinds, N_EXPERTS)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(shown(one, numbers), shown(other, list(range(N_EXPERTS))), rtol=1e-12)
            assert np.isfinite(one.idle_steps).sum() == np.isfinite(other.idle_steps).sum()
