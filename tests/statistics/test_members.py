"""A statistic is one file and one line in a table: it is fed, settled, merged and left out by that alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.routing.batch import ExpertRows
from moe_live.statistics import registry
from moe_live.statistics.members import Member
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs


class FirstChoices:
    """How often each expert is a row's first choice: what a module of moe_live/statistics holds."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.settled = 0

    def update(self, tables: Sequence[ExpertRows]) -> None:
        for rows in tables:
            self.counts.update(rows.experts[:, 0].tolist())

    def settle(self) -> None:
        self.settled += 1

    def __iadd__(self, other: Self) -> Self:
        self.counts += other.counts
        return self


class Broken(FirstChoices):
    def update(self, tables: Sequence[ExpertRows]) -> None:
        raise ArithmeticError(f"of {len(tables)} tables")


NAME = "first choices"
FED: Member[FirstChoices, Any] = Member(FirstChoices, lambda it, rows: it.update(rows.tables))


def analyzed(*texts: bytes) -> Analyzer:
    analyzer = Analyzer()
    for text in texts:
        analyzer.feed(text)
        analyzer.finish()
    return analyzer


def choices(analyzer: Analyzer, *, at_once: bool) -> Counter[int]:
    analysis = analyzer._statistics.analysis
    assert analysis is not None
    found = [rows.at_once if at_once else rows.put_off for rows in (analysis.certain, analysis.written)]
    return found[0][FirstChoices].counts + found[1][FirstChoices].counts


@given(logs(junk=False, heads=True), logs(junk=False, heads=True), st.booleans())
def test_it_is_fed_every_row_and_merged(first: SyntheticLog, second: SyntheticLog, at_once: bool) -> None:
    kind = registry.RowsAtOnce if at_once else registry.RowsPutOff
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "TABLE", (*kind.TABLE, (NAME, FED)))
        whole = analyzed(first.text, second.text)
        merged = analyzed(first.text)
        merged += analyzed(second.text)
        found = choices(whole, at_once=at_once)
        assert found == choices(merged, at_once=at_once)
    statistics = whole._statistics
    rows = statistics.certain.rows + statistics.written.rows - statistics.runs.totals().repeating
    assert found.total() == rows


def test_it_is_told_when_a_higher_layer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.RowsAtOnce, "TABLE", (*registry.RowsAtOnce.TABLE, (NAME, FED)))
    analyzer = analyzed(b"3,1 2\n3,1 2\n", b"3,1 2\n4,1 2\n")
    analysis = analyzer._statistics.analysis
    assert analysis is not None
    assert analysis.certain.at_once[FirstChoices].settled >= 1


def test_it_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"3,1 2\n4,0 5\n3,1 4\n4,5 0\n" * 20
    expected = analyzed(text).snapshot()
    broken: Member[Broken, Any] = Member(Broken, lambda it, rows: it.update(rows.tables))
    monkeypatch.setattr(registry.RowsAtOnce, "TABLE", ((NAME, broken), *registry.RowsAtOnce.TABLE))
    snapshot = analyzed(text).snapshot()
    assert "first choices left out, making it failed: ArithmeticError: of 1 tables" in snapshot.warnings[0]
    assert snapshot.left_out == {"first choices"}
    for name in ("layers", "pairs", "transitions", "labels", "drift", "locality", "distances"):
        assert plain(getattr(snapshot, name)) == plain(getattr(expected, name))
