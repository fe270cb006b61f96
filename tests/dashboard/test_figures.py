"""What is shown: counts of this moment, sections of a moment ago."""

from collections import Counter
from collections.abc import Collection
from itertools import pairwise

import pytest

from moe_live.dashboard.figures import EVERYTHING, LASTING, Figures, Scope
from moe_live.dashboard.trend import PERIOD
from moe_live.judgement import Subject
from moe_live.snapshot import Section, Snapshot
from moe_live.verdicts import verdict
from tests.dashboard.test_run import Asked

STEP = b"3,0 1\n4,1 2\n"
VIEW = Scope(frozenset({Section.LOCALITY}))


class Shown:
    """Figures of a log, and what time it is."""

    def __init__(self, scope: Scope = VIEW) -> None:
        self.now = 10.0
        self.session = Asked()
        self.analyzer = self.session.analyzer
        self.analyzer.feed(b"layer_id,expert_ids\n" + 20 * STEP + b"3,")
        self.figures = Figures(self.session, self.complete, scope, clock=lambda: self.now)

    def complete(self, snapshot: Snapshot, _: Collection[str]) -> Snapshot:
        return snapshot

    def after(self, seconds: float, log: bytes, scope: Scope = VIEW) -> tuple[int, int, bool]:
        """Decode steps that are counted, those that locality is of, and whether it is behind."""
        self.now += seconds
        self.analyzer.feed(log)
        self.figures.make(scope)
        (layer, *_) = self.figures.snapshot.locality or ()
        return self.figures.snapshot.steps.total, layer.steps, self.figures.behind


def test_counts_are_of_this_moment_and_sections_of_the_last_second() -> None:
    shown = Shown()
    assert shown.after(0, b"0 1\n4,1 2\n" + STEP) == (21, 19, True)
    assert shown.after(LASTING / 2, STEP) == (22, 19, True)
    assert shown.after(LASTING / 2, STEP) == (23, 23, False)
    assert shown.after(LASTING / 2, b"") == (23, 23, False)


def test_tokens_alone_may_be_counted_as_long_as_nothing_else_in_the_header_changes() -> None:
    shown = Shown()
    shown.after(0, b"0 1\n4,1 2\n" + STEP)
    before, asked = shown.figures.snapshot, len(shown.session.asked)
    shown.analyzer.feed(3 * STEP)
    assert shown.figures.count()
    after = shown.figures.snapshot
    assert (before.tokens.decode, after.tokens.decode, after.tokens.prefill) == (21, 24, 0)
    assert (after.steps, after.counts is before.counts) == (before.steps, True)
    assert len(shown.session.asked) == asked
    shown.analyzer.feed(b"no line\n")
    assert not shown.figures.count()
    shown.figures.make(VIEW)
    assert shown.figures.count()
    assert shown.figures.snapshot.tokens == shown.session.snapshot().tokens
    shown.now += LASTING
    assert shown.figures.count()  # it is time for locality, but this is not for what shows it
    assert len(shown.session.asked) == asked + 2


def test_one_section_is_made_anew_for_a_frame() -> None:
    both = Scope(frozenset({Section.LOCALITY, Section.DRIFT}))
    shown = Shown(both)
    shown.after(0, b"0 1\n4,1 2\n" + STEP, both)
    for _ in range(6):
        shown.after(LASTING / 4, STEP, both)
    asked = [sections for sections, _ in shown.session.asked]
    assert [len(sections) for sections in asked] == [2, 0, 0, 0, 0, 1, 1, 0]
    assert asked[5] | asked[6] == both.sections
    for _ in range(2):
        *_, behind = shown.after(LASTING, b"", both)
    assert not behind


def test_half_of_the_sections_are_made_anew_for_a_frame_each_once_a_second() -> None:
    three = Scope(frozenset({Section.LOCALITY, Section.DRIFT, Section.HISTORY}))
    shown = Shown(three)
    shown.after(0, b"0 1\n4,1 2\n" + STEP, three)
    for _ in range(8):
        shown.after(LASTING / 2, STEP, three)
    asked = [sections for sections, _ in shown.session.asked][2:]
    assert [len(sections) for sections in asked] == [0, 2, 1, 2, 1, 2, 1, 2]
    assert all(a | b == three.sections for a, b in pairwise(asked[1:]))


def test_what_is_shown_as_a_trend_alone_is_made_as_often_as_the_trend_has_points() -> None:
    scope = Scope(frozenset({Section.LOCALITY, Section.DRIFT}), seldom=frozenset({Section.LOCALITY}))
    shown = Shown(scope)
    shown.after(0, b"0 1\n4,1 2\n" + STEP, scope)
    for _ in range(6):
        shown.after(LASTING / 2, STEP, scope)  # at first both are due at once
    before = len(shown.session.asked)
    for _ in range(round(10 * PERIOD / LASTING)):
        shown.after(LASTING / 2, STEP, scope)
    asked = Counter(section for sections, _ in shown.session.asked[before:] for section in sections)
    assert asked == {Section.LOCALITY: 5, Section.DRIFT: round(5 * PERIOD / LASTING)}


def test_the_latest_steps_are_held_against_none_that_came_later() -> None:
    both = Scope(frozenset({Section.LOCALITY, Section.DRIFT}))
    shown = Shown(both)
    counted, of_locality, behind = shown.after(0, b"0 1\n4,1 2\n" + 3 * STEP, both)
    assert behind
    assert counted > of_locality
    drift, judged = shown.figures.snapshot.drift, verdict(Subject.DRIFT, shown.figures.snapshot)
    assert drift is not None
    assert judged is not None
    assert drift.is_whole_run
    assert "the window is the whole run" in judged.text


@pytest.mark.parametrize(
    ("log", "scope"),
    [
        pytest.param(b"0 1\n4,1 2\n3,0 1\n4,1 2\n5,0 1\n" + STEP, VIEW, id="another layer"),
        pytest.param(b"0 1\n4,1 9\n" + STEP, VIEW, id="another expert"),
        pytest.param(b"0 1\n4,1 2\n" + STEP, Scope(VIEW.sections | {Section.DRIFT}), id="another view"),
        pytest.param(b"0 1\n4,1 2\n" + STEP, EVERYTHING, id="paused"),
    ],
)
def test_sections_are_made_at_once_where_those_there_are_are_of_something_else(
    log: bytes, scope: Scope
) -> None:
    shown = Shown()
    counted, of_locality, behind = shown.after(0, log, scope)
    assert not behind
    assert counted == of_locality


def test_sections_are_made_at_once_when_statistics_are_started_anew() -> None:
    shown = Shown()
    shown.analyzer.reset()
    assert shown.after(0, b"0 1\n4,1 2\n" + 3 * STEP)[2] is False
