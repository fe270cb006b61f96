"""Small logs on which claims were wrong once, with what is right."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pytest

from moe_live.analyzer import Analyzer
from moe_live.judgement import Judgement, Subject, Word
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdict

CASES = Path(__file__).parents[1] / "data" / "cases"


@cache
def case(name: str) -> Snapshot:
    analyzer = Analyzer()
    analyzer.feed(gzip.decompress((CASES / f"{name}.log.gz").read_bytes()))
    analyzer.finish()
    return analyzer.snapshot()


def said(name: str, subject: Subject) -> Judgement:
    found = verdict(subject, case(name))
    assert found is not None
    return found


def test_uniform_routing_makes_no_cache_pay() -> None:
    """Thirty steps of 2 of 128 experts: the most used of them look good with hindsight."""
    found = said("in_uniform_pays", Subject.CACHE)
    assert found.word is Word.TOO_EARLY
    assert found.surer == "more decode steps"


def test_nothing_is_apart_that_must_be_together() -> None:
    """An expert in every row was expected with another in more rows than there are."""
    pairs = case("in_pairs_apart").pairs
    assert pairs is not None
    assert all(not layer.weakest and not layer.strongest for layer in pairs.values())
    assert said("in_pairs_apart", Subject.PAIRS).word is Word.NONE_FOUND


def test_ties_are_no_gain() -> None:
    (transition,) = case("in_next_tie").transitions or ()
    assert transition.hit_rate - transition.static_hit_rate == pytest.approx(0, abs=0.02)
    assert transition.certain < 0
    assert said("in_next_tie", Subject.NEXT_LAYER).word is not Word.FOUND


def test_one_expert_in_every_row_is_not_even() -> None:
    found = said("in_one_hot", Subject.BALANCE)
    assert found.word is Word.FAIR
    assert "worst MaxVio 19 of at most 19 in layer 0" in found.text


def test_two_halves_with_a_hot_set_each_are_no_finding_of_one_period_each() -> None:
    """What differs is told, as what it is, with what would make it a finding."""
    for subject, word in ((Subject.LABELS, Word.CANNOT_BE_TOLD), (Subject.DRIFT, Word.TOO_EARLY)):
        found = said("c21_halves", subject)
        assert found.word is word
        assert "most" in found.text
        assert not found.sure


def test_two_topics_of_one_period_each_cannot_be_told_apart() -> None:
    analyzer = Analyzer()
    for name in ("math", "code"):
        analyzer.label = name
        analyzer.feed(gzip.decompress((CASES / f"c09_{name}.log.gz").read_bytes()))
        analyzer.finish()
    found = verdict(Subject.LABELS, analyzer.snapshot())
    assert found is not None
    assert found.word is Word.CANNOT_BE_TOLD
    assert found.surer == "4 periods of each label"


def test_two_servers_that_write_one_log_are_told_and_not_counted_as_twice_the_steps() -> None:
    found = case("c19c_two_servers")
    assert found.steps.total == pytest.approx(600, abs=2)
    assert found.tokens.total == 600
    assert found.tokens.decode >= 590
    (told,) = (warning for warning in found.warnings if "several servers seem to write this log" in warning)
    assert "give each server a log of its own" in told
