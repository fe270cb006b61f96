"""Plans of a log that is followed: over how many steps they are made, and how often."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.plans import cache
from moe_live.plans.cache import sizing_of
from moe_live.plans.given import Given
from moe_live.plans.live import LivePlans, with_plans
from moe_live.plans.table import PLANS
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import write_summary
from moe_live.settings import Settings
from moe_live.snapshot import Section, Snapshot
from tests.statistics.drawn_steps import chosen

BUDGETS = (24, 48)
GIVEN = Given(expert_bytes=1, budgets=BUDGETS)
EVERYTHING = Given(expert_bytes=1, budgets=BUDGETS, vram=40, devices=4, drop=0.25)
NAMES = {plan.name for plan in PLANS}
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


def with_cache(plans: LivePlans, snapshot: Snapshot) -> Snapshot:
    return plans.add_to(snapshot, {"cache"})


def steps(snapshot: Snapshot) -> int | None:
    return None if snapshot.cache is None else snapshot.cache.steps


def test_they_are_those_of_the_latest_steps(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = analyzer.snapshot()
    assert snapshot.latest is not None
    whole = with_cache(LivePlans(GIVEN), snapshot)
    assert (steps(whole), len(to_json(whole)["cache"])) == (STEPS, 2)
    monkeypatch.setattr(cache, "LIVE_USES", 12 * 12 + 1)  # a sixth less for two sizes
    few = with_cache(LivePlans(GIVEN), snapshot)
    assert [entry["steps"] for entry in to_json(few)["cache"]] == [10, 10]
    expected = sizing_of(snapshot.latest.latest(12 * 10), 1, BUDGETS)
    assert to_json(few)["cache"] == to_json(replace(snapshot, cache=expected))["cache"]
    assert steps(with_cache(LivePlans(GIVEN, follows=False), snapshot)) == STEPS


def test_they_take_a_sixtieth_of_the_time(analyzer: Analyzer) -> None:
    clock = Clock()
    plans = LivePlans(GIVEN, clock=clock)
    clock.cost = 1.0
    assert steps(with_cache(plans, analyzer.snapshot())) == STEPS
    clock.cost = 0.0
    for seed in range(2, 6):
        feed(analyzer, seed)
        clock.now += 14.0
        assert steps(with_cache(plans, analyzer.snapshot())) == STEPS
    clock.now += 14.0
    assert steps(with_cache(plans, analyzer.snapshot())) == 5 * STEPS


def test_however_little_they_take_they_are_made_once_a_second(analyzer: Analyzer) -> None:
    clock = Clock()
    plans = LivePlans(GIVEN, clock=clock)
    assert steps(with_cache(plans, analyzer.snapshot())) == STEPS
    feed(analyzer, 2)
    clock.now += 0.9
    assert steps(with_cache(plans, analyzer.snapshot())) == STEPS
    clock.now += 0.2
    assert steps(with_cache(plans, analyzer.snapshot())) == 2 * STEPS


def test_statistics_that_are_started_anew_have_others(analyzer: Analyzer) -> None:
    clock = Clock()
    plans = LivePlans(GIVEN, clock=clock)
    clock.cost = 1.0
    with_cache(plans, analyzer.snapshot())
    analyzer.reset()
    assert steps(with_cache(plans, analyzer.snapshot())) is None
    analyzer.feed(b"3,1 2\n7,1 4\n" * 3)
    clock.now += 100.0
    assert steps(with_cache(plans, analyzer.snapshot())) == 2


def test_without_what_they_need_they_say_so(analyzer: Analyzer) -> None:
    snapshot = analyzer.snapshot()
    unknown = LivePlans(Given()).add_to(snapshot, NAMES)
    assert {name: reason.split("give ")[1] for name, reason in unknown.unplanned.items()} == {
        "cache": "--model GGUF or --expert-bytes N",
        "offload": "--vram SIZE, as 20GiB",
        "placement": "--devices G",
    }
    eight = with_cache(LivePlans(Given(expert_bytes=1)), snapshot)
    assert (steps(eight), len(to_json(eight)["cache"])) == (STEPS, 8)
    without = analyzer.snapshot([Section.LOCALITY])
    assert with_cache(LivePlans(GIVEN), without).cache is None
    prompts = Analyzer(Settings(latest_uses=1000))
    prompts.feed_rows(np.arange(24).reshape(2, 3, 4), phase="prefill")
    none = LivePlans(EVERYTHING).add_to(prompts.snapshot(), NAMES)
    assert none.unplanned.keys() == NAMES - {"prune"}
    assert none.prune is not None
    assert none.prune.unseen is None


def test_those_are_made_that_are_shown(analyzer: Analyzer) -> None:
    snapshot = analyzer.snapshot()
    plans = LivePlans(EVERYTHING)
    for name in NAMES:
        shown = plans.add_to(snapshot, {name})
        assert [plan for plan in NAMES if getattr(shown, plan) is not None] == [name]
    assert plans.add_to(snapshot, ()).model.expert_bytes == {0: 1, 1: 1, 2: 1}


def test_the_summary_has_those_that_are_asked_for(analyzer: Analyzer) -> None:
    snapshot = with_plans(analyzer.snapshot(), EVERYTHING, lambda _: None)
    assert [name for name in NAMES if getattr(snapshot, name) is None] == []
    assert snapshot.warnings == analyzer.snapshot().warnings
    found = json.loads(json.dumps(to_json(snapshot), allow_nan=False))
    assert found["placement"]["devices"] == 4
    assert found["offload"]["arguments"][:2] == ["-ngl", "999"]
    assert found["prune"]["dropped"]["experts"] == 24
    bare = to_json(with_plans(analyzer.snapshot(), Given(), lambda _: None))
    assert (found.keys() - bare.keys(), bare["cache"]) == ({"placement", "offload", "prune"}, [])
    text = io.StringIO()
    write_summary(snapshot, text)
    begun = {line.split()[0].rstrip(":") for line in text.getvalue().splitlines() if line}
    assert begun >= NAMES
    wrong = with_plans(analyzer.snapshot(), Given(devices=5), lambda _: None)
    assert wrong.warnings[-1].startswith("the plan placement was not made: 32 places do not divide by 5")
