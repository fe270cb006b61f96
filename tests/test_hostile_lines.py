"""Nothing that a line holds can break the analysis, live or at the end, or change what other lines say."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.settings import Settings
from tests.comparison import plain
from tests.hostile import HostileLog

Json = dict[str, Any]

LINES = 400


def looked_at(analyzer: Analyzer, *, anew: bool = True) -> Json:
    """Everything that is shown of a log now; nothing of it has failed."""
    snapshot = analyzer.snapshot(anew=anew)
    assert not snapshot.left_out, list(snapshot.warnings)
    summary = to_json(snapshot)
    json.dumps(summary, allow_nan=False)
    assert not [warning for warning in summary["warnings"] if "left out, making it failed" in warning]
    assert list(summary_lines(snapshot))
    return summary


def fuzz(seed: int, lines: int, *, looks: int, odd: float) -> Analyzer:
    """Read so many lines in pieces, and look now and then."""
    rng = np.random.default_rng(seed)
    analyzer, text, every = Analyzer(), bytearray(), lines // looks
    for number, line in enumerate(islice(HostileLog(seed, odd=odd).lines(), lines), 1):
        text += line
        if number % every == 0:
            places = sorted(rng.integers(0, len(text), 20).tolist())
            for start, end in zip([0, *places], [*places, len(text)], strict=True):
                analyzer.feed(bytes(text[start:end]))
            text.clear()
            looked_at(analyzer, anew=False)
    analyzer.finish()
    looked_at(analyzer)
    return analyzer


@pytest.mark.parametrize(("seed", "odd"), [(1, 0.01), (2, 0.1), (3, 0.3)])
def test_no_line_can_break_it(seed: int, odd: float) -> None:
    analyzer = fuzz(seed, LINES, looks=2, odd=odd)
    whole = Analyzer()
    whole.feed(b"".join(islice(HostileLog(seed, odd=odd).lines(), LINES)))
    whole.finish()
    assert plain(analyzer.snapshot()) == plain(whole.snapshot()), "how it was cut makes no difference"


def without_input(summary: Json) -> Json:
    return {key: value for key, value in summary.items() if key not in {"source", "warnings"}}


@pytest.mark.parametrize("seed", [4, 5])
def test_malformed_lines_change_no_figure(seed: int) -> None:
    good = list(islice(HostileLog(seed, odd=0).lines(), LINES))
    source = HostileLog(seed)
    rng = np.random.default_rng(seed)
    mixed = []
    for line in good:
        mixed += [line, source.malformed_line(line)] if rng.random() < 0.2 else [line]
    summaries = []
    for lines in (good, mixed):
        analyzer = Analyzer()
        analyzer.feed(b"".join(lines))
        analyzer.finish()
        summaries.append(looked_at(analyzer))
    assert summaries[1]["source"]["malformed_lines"] >= len(mixed) - len(good) > 20
    assert without_input(summaries[0]) == without_input(summaries[1])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("seed", "odd"), [(11, 0.001), (12, 0.02), (13, 0.2), (14, 0.7)])
def test_a_million_lines_cannot_break_it(seed: int, odd: float) -> None:
    fuzz(seed, 250_000, looks=5, odd=odd)


GATE_LINE = re.compile(rb"gate_input,[0-9]{1,3},[0-9]{1,3},-?[0-9.]+(?: -?[0-9.]+)*\n")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_counts_of_hostile_lines_do_not_depend_on_what_else_is_analyzed() -> None:
    # Numbers of gate lines are not looked at where they are not wanted: what is wrong with some is not seen.
    lines = islice(HostileLog(15, odd=0.1).lines(), 100_000)
    text = b"".join(line for line in lines if b"gate_input" not in line or GATE_LINE.fullmatch(line))
    assert text.count(b"gate_input") > 1_000
    found = []
    for counts_only in (False, True):
        analyzer = Analyzer(Settings(counts_only=counts_only))
        analyzer.feed(text)
        analyzer.finish()
        found.append(to_json(analyzer.snapshot()))
    assert [each["rows"] for each in found[:1]] == [each["rows"] for each in found[1:]]
    assert [layer["counts"] for layer in found[0]["layers"]] == [
        layer["counts"] for layer in found[1]["layers"]
    ]
