"""Caches of a log that is followed: over how many steps they are tried, and how often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.plans import live_cache
from moe_live.plans.cache import sizing_of
from moe_live.plans.live_cache import LiveCaches
from moe_live.reports.json_report import to_json
from moe_live.settings import Settings
from moe_live.snapshot import Section, Snapshot
from tests.statistics.drawn_steps import chosen

BUDGETS = (24, 48)
STEPS = 40


class Clock:
    """Goes on by `cost` whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cost = 0.0

    def __call__(self) -> float:
        self.now += self.cost
        return self.now


def feed(analyzer: Analyzer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    analyzer.feed_rows(chosen(rng, rng.normal(0, 0.5, (3, 32)), 4, (STEPS, 3)))


@pytest.fixture
def analyzer() -> Analyzer:
    analyzer = Analyzer(Settings(latest_uses=100_000))
    feed(analyzer, 1)
    return analyzer


def steps(snapshot: Snapshot) -> int | None:
    return None if snapshot.cache is None else snapshot.cache.steps


def test_they_are_those_of_the_latest_steps(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = analyzer.snapshot()
    assert snapshot.latest is not None
    whole = LiveCaches(1, BUDGETS).add_to(snapshot)
    assert (steps(whole), len(to_json(whole)["cache"])) == (STEPS, 2)
    monkeypatch.setattr(live_cache, "USES", 12 * 12 + 1)  # a sixth less for two sizes
    few = LiveCaches(1, BUDGETS).add_to(snapshot)
    assert [entry["steps"] for entry in to_json(few)["cache"]] == [10, 10]
    expected = sizing_of(snapshot.latest.latest(12 * 10), 1, BUDGETS)
    assert to_json(few)["cache"] == to_json(replace(snapshot, cache=expected))["cache"]


def test_they_take_a_thirtieth_of_the_time(analyzer: Analyzer) -> None:
    clock = Clock()
    caches = LiveCaches(1, BUDGETS, clock)
    clock.cost = 1.0
    assert steps(caches.add_to(analyzer.snapshot())) == STEPS
    clock.cost = 0.0
    for seed in range(2, 6):
        feed(analyzer, seed)
        clock.now += 7.0
        assert steps(caches.add_to(analyzer.snapshot())) == STEPS
    clock.now += 7.0
    assert steps(caches.add_to(analyzer.snapshot())) == 5 * STEPS


def test_statistics_that_are_started_anew_have_others(analyzer: Analyzer) -> None:
    clock = Clock()
    caches = LiveCaches(1, BUDGETS, clock)
    clock.cost = 1.0
    caches.add_to(analyzer.snapshot())
    analyzer.reset()
    assert steps(caches.add_to(analyzer.snapshot())) is None
    analyzer.feed(b"3,1 2\n7,1 4\n" * 3)
    clock.now += 100.0
    assert steps(caches.add_to(analyzer.snapshot())) == 2


def test_without_bytes_or_steps_there_are_none(analyzer: Analyzer) -> None:
    snapshot = analyzer.snapshot()
    assert LiveCaches(0, ()).add_to(snapshot) is snapshot
    eight = LiveCaches(1, ()).add_to(snapshot)
    assert (steps(eight), len(to_json(eight)["cache"])) == (STEPS, 8)
    without = analyzer.snapshot([Section.LOCALITY])
    assert LiveCaches(1, BUDGETS).add_to(without) is without
    assert steps(LiveCaches({99: 1}, BUDGETS).add_to(snapshot)) is None
    prompts = Analyzer(Settings(latest_uses=1000))
    prompts.feed_rows(np.arange(24).reshape(2, 3, 4), phase="prefill")
    assert steps(LiveCaches(1, BUDGETS).add_to(prompts.snapshot())) is None
