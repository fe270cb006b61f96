"""The window of the latest steps, and whether it differs from the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.routing.batch import Kind
from moe_live.settings import Settings
from moe_live.statistics import drift as drift_module
from moe_live.statistics.dependence import bins
from moe_live.statistics.drift import BLOCKS, Drift, Parts, RecentSteps, Window, drift
from moe_live.statistics.sections import Section
from tests.statistics.drawn_steps import DrawnStep, chosen, cut, decode_rows, drawn_steps, tables

PLACES = st.lists(st.integers(0, 12), max_size=4)
LAYERS = range(10)
CHOICES = ([Kind.DECODE], [Kind.DECODE, Kind.UNDECIDED], list(Kind))


def recent(*pieces: list[DrawnStep], window: int) -> RecentSteps:
    accumulator = RecentSteps(window)
    for piece in pieces:
        accumulator.update(*tables(piece))
    return accumulator


def content(accumulator: RecentSteps) -> list[tuple[int, list[Any]]]:
    found = [accumulator.counts(kinds, LAYERS, 40) for kinds in CHOICES]
    return [(steps, counts.tolist()) for steps, counts in found]


def plain_window(steps: list[DrawnStep], window: int, kinds: list[Kind]) -> tuple[int, list[Any]]:
    latest = [step for step in steps if step.blocks and step.kind in kinds and step.kind != Kind.PREFILL]
    latest = latest[-window:]
    counts = np.zeros((BLOCKS, len(LAYERS), 40), np.int64)
    for place, step in enumerate(latest):
        for layer, block in step.blocks.items():
            for row in block:
                for expert in row:
                    counts[place * BLOCKS // len(latest), layer, expert] += 1
    return len(latest), counts.tolist()


@given(drawn_steps(max_steps=12), st.integers(1, 5))
def test_the_window_is_exact_at_every_prefix(steps: list[DrawnStep], window: int) -> None:
    accumulator = RecentSteps(window)
    for end, step in enumerate(steps):
        accumulator.update(*tables([step]))
        expected = [plain_window(steps[: end + 1], window, kinds) for kinds in CHOICES]
        assert content(accumulator) == expected


@given(drawn_steps(max_steps=12), PLACES, st.integers(1, 5), st.sampled_from([1, 20, 10**6]))
def test_neither_batches_nor_merging_show(
    steps: list[DrawnStep], places: list[int], window: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift_module, "MAX_SELECTIONS", most)
        pieces = cut(steps, places)
        merged = RecentSteps(window)
        for piece in pieces:
            merged += recent(piece, window=window)
        whole = recent(steps, window=window)
        assert content(whole) == content(recent(*pieces, window=window)) == content(merged)
        for latest in whole._latest.values():
            assert sum(part.by_rank.size for part in latest.parts) <= most


@given(drawn_steps(max_steps=12), st.integers(1, 5), st.integers(0, 12))
def test_what_was_undecided_is_left_out_once_it_is_prefill(
    steps: list[DrawnStep], window: int, place: int
) -> None:
    first, second = cut(steps, [place])
    accumulator = recent(first, window=window)
    accumulator.settle()
    accumulator.update(*tables(second))
    settled = [
        DrawnStep(Kind.PREFILL if step.kind == Kind.UNDECIDED else step.kind, step.blocks) for step in first
    ]
    assert content(accumulator) == [plain_window(settled + second, window, kinds) for kinds in CHOICES]


@pytest.fixture
def short_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics may be taken to be as short as in these runs."""
    monkeypatch.setattr(drift_module, "TOPIC", 64)


def drifted(parts: list[NDArray[np.uint16]], n_experts: int, window: int = 128) -> Drift:
    """The drift after decode steps with rows (steps, layers, k)."""
    rows = np.concatenate(parts)
    layers = range(rows.shape[1])
    accumulator = RecentSteps(window)
    accumulator.update([decode_rows(rows, layers)], np.full(len(rows), Kind.DECODE, np.int8))
    run = np.stack([np.bincount(rows[:, layer].reshape(-1), minlength=n_experts) for layer in layers])
    steps, blocks = accumulator.counts([Kind.DECODE], layers, n_experts)
    return of_parts(Window(window, steps, blocks), run, in_parts(rows, n_experts, window), rows.shape[2])


def of_parts(window: Window, run: NDArray[np.int64], parts: NDArray[np.int64], top_k: int) -> Drift:
    return drift(window, run, Parts.of(window, run, parts, top_k), top_k)


def in_parts(rows: NDArray[np.uint16], n_experts: int, stretch: int) -> NDArray[np.int64]:
    """The selections (parts, layers, n_experts) of parts of a run that are as long as a stretch."""
    return np.stack(
        [
            [np.bincount(layer.reshape(-1), minlength=n_experts) for layer in np.moveaxis(part, 1, 0)]
            for part in np.array_split(rows, bins(len(rows), stretch))
        ]
    )


def test_without_steps_there_is_no_drift() -> None:
    steps, blocks = RecentSteps().counts([Kind.DECODE], [3, 4], 8)
    found = of_parts(Window(256, steps, blocks), np.zeros((2, 8), np.int64), np.zeros((2, 2, 8), np.int64), 2)
    assert not found.told
    assert (found.steps, found.counts.sum(), found.divergence.real.any()) == (0, 0, np.False_)
    assert np.isnan(found.divergence.js).all()


@pytest.mark.usefixtures("short_topics")
def test_a_change_of_topic_is_seen_and_a_steady_run_is_not() -> None:
    rng = np.random.default_rng(1)
    usage = rng.normal(size=(30, 48))
    other = usage + rng.normal(size=(30, 48))
    steady = drifted([chosen(rng, usage, 4, (2500, 30))], 48)
    assert steady.told
    assert not steady.divergence.real.any()
    assert (
        steady.divergence.js < steady.divergence.expected * 1.2
    ).all()  # noise is taken to be rather large
    assert steady.clustering.max() < 3
    changed = drifted([chosen(rng, usage, 4, (2500, 30)), chosen(rng, other, 4, (128, 30))], 48)
    assert changed.steps == 128
    assert changed.divergence.real.mean() > 0.9


def test_a_run_of_few_windows_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    usage = rng.normal(size=(30, 48))
    other = usage + rng.normal(size=(30, 48))
    found = drifted([chosen(rng, usage, 4, (1800, 30)), chosen(rng, other, 4, (128, 30))], 48)
    assert not found.told
    assert not found.divergence.real.any()


@pytest.mark.usefixtures("short_topics")
@pytest.mark.parametrize("topic", [5, 20, 100])
def test_a_text_whose_topics_change_does_not_pass_for_drift(topic: int) -> None:
    rng = np.random.default_rng(topic)
    topics = rng.normal(size=(3000 // topic, 10, 48)) + rng.normal(size=(10, 48))
    found = drifted([chosen(rng, np.repeat(topics, topic, axis=0), 4, (3000, 10))], 48)
    assert found.told
    assert not found.divergence.real.any()


def test_tokens_that_resemble_their_neighbours_do_not_pass_for_drift() -> None:
    rng = np.random.default_rng(2)
    rows = np.repeat(chosen(rng, rng.normal(size=48), 4, (400, 50)), 4, axis=0)
    found = drifted([rows], 48)
    assert 3.5 < found.clustering.mean() < 7  # four alike, and what is not known of it
    assert not found.divergence.real.any()


def test_a_window_cut_short_has_no_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_module, "MAX_SELECTIONS", 4)
    undecided, decode = (DrawnStep(kind, {3: [(1, 2)]}) for kind in (Kind.UNDECIDED, Kind.DECODE))
    large = DrawnStep(Kind.DECODE, {layer: [(1, 2)] for layer in (3, 4, 5)})
    accumulator = recent([undecided, decode, decode, decode], window=9)
    both = [Kind.DECODE, Kind.UNDECIDED]
    assert (
        accumulator.counts(both, LAYERS, 4)[0] == 2
    )  # the second step is dropped: the first is no neighbour
    merged = recent([decode], window=9)
    merged += recent([large, decode], window=9)
    assert merged.counts(both, LAYERS, 4)[0] == 1


@pytest.mark.parametrize("steps", [300, 400, 2100])
def test_a_short_run_without_drift_is_not_called_drifted(steps: int) -> None:
    rng = np.random.default_rng(steps)
    alarms = 0
    for _ in range(100):
        popularity = np.log(rng.dirichlet(np.full(160, 0.3)) + 1e-300)
        chosen = np.argpartition(-(popularity + rng.gumbel(size=(steps, 160))), 7, axis=1)[:, :8]
        run = np.bincount(chosen.reshape(-1), minlength=160)[None]
        parts = np.array_split(chosen[-256:], BLOCKS)
        blocks = np.stack([np.bincount(part.reshape(-1), minlength=160)[None] for part in parts])
        halves = in_parts(chosen[:, None].astype(np.uint16), 160, 256)
        alarms += int(of_parts(Window(256, 256, blocks), run, halves, 8).divergence.real[0])
    assert not alarms


def test_how_parts_of_a_run_differ_is_found_out_anew_once_it_is_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[float] = []

    def variance(parts: NDArray[np.int64], _: float, total: float, stretch: float) -> NDArray[np.float64]:
        found.append(total + stretch)
        return np.ones(parts.shape[1])

    monkeypatch.setattr(drift_module, "variance_of_stretches", variance)
    analyzer = Analyzer(Settings(window=8))
    step = b"3,0 1\n4,1 2\n"
    analyzer.feed(b"layer_id,expert_ids\n" + 128 * step)

    def times_found(*, anew: bool) -> int:
        before = len(found)
        assert analyzer.snapshot({Section.DRIFT}, anew=anew).drift is not None
        return len(found) - before

    assert [times_found(anew=False), times_found(anew=False), times_found(anew=True)] == [1, 0, 1]
    analyzer.feed(step)
    assert times_found(anew=False) == 0
    analyzer.feed(4 * step)
    assert times_found(anew=False) == 1
