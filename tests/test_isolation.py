"""A figure that cannot be made is left out and named; all others are as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

import moe_live.caveats
import moe_live.dashboard.run as loop
from moe_live.analyzer import Analyzer
from moe_live.dashboard.theme import Look
from moe_live.errors import StoppedError
from moe_live.isolation import Failures
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.routing.evidence import StrideEvidence
from moe_live.session import Session
from moe_live.simulator.model import ModelShape
from moe_live.simulator.server import SimulatedServer
from moe_live.snapshot import Section, Snapshot
from moe_live.statistics import coactivation, drift, history, labels, statistic, transitions
from moe_live.statistics.anomalies import AnomalyCounter
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.distances import GateDistances
from moe_live.statistics.drift import RecentSteps
from moe_live.statistics.frequency import Frequency
from moe_live.statistics.labels import LabelCounts
from moe_live.statistics.locality import Locality
from moe_live.statistics.sampling import TokenSample
from moe_live.statistics.sequences import LocalityBySequence
from moe_live.statistics.transitions import Transitions
from moe_live.terminal import Signals
from tests.dashboard.test_run import LINES, Source, Terminal

Json = dict[str, Any]
SAMPLE = statistic.SAMPLE.name

COUNTED = [
    (Coactivation, "update", "pairs"),
    (Coactivation, "__iadd__", "pairs"),
    (Transitions, "update", "transitions"),
    (Transitions, "__iadd__", "transitions"),
    (TokenSample, "update", SAMPLE),
    (TokenSample, "settle", SAMPLE),
    (TokenSample, "__iadd__", SAMPLE),
    (Locality, "update", "locality"),
    (Locality, "__iadd__", "locality"),
    (RecentSteps, "update", "drift"),
    (RecentSteps, "settle", "drift"),
    (RecentSteps, "__iadd__", "drift"),
    (LabelCounts, "update", "labels"),
    (LabelCounts, "settle", "labels"),
    (LabelCounts, "__iadd__", "labels"),
    (GateDistances, "update", "distances"),
    (GateDistances, "settle", "distances"),
    (GateDistances, "__iadd__", "distances"),
    (AnomalyCounter, "update", "anomalies"),
    (AnomalyCounter, "__iadd__", "anomalies"),
    (Frequency, "update", "usage"),
    (Frequency, "settle", "usage"),
    (Frequency, "__iadd__", "usage"),
]
MADE = [
    (LocalityBySequence, "summary", "locality"),
    (coactivation, "notable_pairs", "pairs"),
    (transitions, "summarize", "transitions"),
    (drift, "drift", "drift"),
    (history, "history", "history"),
    (labels, "usages", "labels"),
    (GateDistances, "summary", "distances"),
    (AnomalyCounter, "found", "anomalies"),
    (Frequency, "counts", "usage"),
    (StrideEvidence, "verdict", "test for strided rows"),
]

GONE = {
    "pairs": {"coactivation"},
    "transitions": {"transitions"},
    SAMPLE: {"history", "transitions", "drift", "labels", "label_divergences"},
    "locality": {"locality", "union", "cache_gain"},
    "drift": {"drift"},
    "history": {"history"},
    "labels": {"labels", "label_divergences"},
    "distances": {"distances"},
    "anomalies": set[str](),
    "test for strided rows": {"rows", "runs"},
}
"""What JSON lacks, or has otherwise, if something fails."""


@cache
def texts() -> tuple[tuple[str, bytes], ...]:
    """A log with everything, in two halves: labels, prompts, gate inputs."""
    shape = ModelShape(n_layers=4, n_experts=16, top_k=4, gate_layers=(3, 4), n_embd=8)
    server = SimulatedServer(shape, seed=1)
    return tuple(
        (label, b"".join(step.text for step in server.serve(request)))
        for label, request in zip(("code", "prose"), server.requests(), strict=False)
    )


def analyzer_of(parts: Iterable[tuple[str, bytes]]) -> Analyzer:
    analyzer = Analyzer()
    for label, text in parts:
        analyzer.label = label
        analyzer.feed(text)
    analyzer.finish()
    return analyzer


def at_once() -> Analyzer:
    return analyzer_of(texts())


def merged() -> Analyzer:
    first, second = (analyzer_of([part]) for part in texts())
    first.merge(second)
    return first


def in_portions() -> Analyzer:
    """As a log is followed: what is there is looked at now and then."""
    analyzer = Analyzer()
    for label, text in texts():
        analyzer.label = label
        for start in range(0, len(text), 1 << 12):
            analyzer.feed(text[start : start + (1 << 12)])
            if start % (1 << 16) == 0:
                analyzer.snapshot(anew=False)
    analyzer.finish()
    return analyzer


@cache
def read_whole(read: Callable[[], Analyzer]) -> Snapshot:
    return read().snapshot()


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: int = 0) -> list[int]:
    """Have a function raise, after it was called so often; returns a list that gets a number a call."""
    real, calls = getattr(owner, name), list[int]()

    def fail(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) > after:
            raise IndexError("index 9 is out of\x1b bounds")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail)
    return calls


def check(found: Json, whole: Json, name: str) -> None:
    """The one thing is missing and told, and nothing else is."""
    json.dumps(found, allow_nan=False)
    (warning,) = (each for each in found["warnings"] if each.startswith(f"{name} left out"))
    assert "IndexError: index 9 is out of\\x1b bounds" in warning
    assert "report" in warning
    if name == "usage":  # nothing is known of the experts then, but what was read is
        assert found["layers"] == []
        assert [found[key] for key in ("source", "steps", "tokens", "distances")] == [
            whole[key] for key in ("source", "steps", "tokens", "distances")
        ]
        return
    gone = GONE[name]
    assert without(found, gone) == without(whole, gone)
    if name != "test for strided rows":
        missing = {key for key in gone if key not in found} | {
            key for key in gone if key not in found["layers"][0]
        }
        assert missing == gone


def without(summary: Json, gone: set[str]) -> Json:
    """Less what fails, and what speaks of it."""
    kept = {key: value for key, value in summary.items() if key not in {*gone, "warnings", "verdicts"}}
    kept["layers"] = [
        {key: value for key, value in layer.items() if key not in gone} for layer in summary["layers"]
    ]
    return kept


@pytest.mark.parametrize("what", COUNTED)
@pytest.mark.parametrize(
    ("read", "after"), [(at_once, 0), (merged, 0), (merged, 1), (in_portions, 1), (in_portions, 5)]
)
def test_what_fails_while_it_is_counted_takes_nothing_with_it(
    read: Callable[[], Analyzer],
    what: tuple[type, str, str],
    after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, method, name = what
    whole = to_json(read_whole(read))
    calls = failing(monkeypatch, owner, method, after=after)
    analyzer = read()
    if len(calls) <= after:  # it is not called so often here
        assert after or (method, read) not in {("update", at_once), ("__iadd__", merged)}
        return
    check(to_json(analyzer.snapshot()), whole, name)
    assert list(summary_lines(analyzer.snapshot()))


@pytest.mark.parametrize(("owner", "method", "name"), MADE)
def test_what_fails_while_it_is_made_takes_nothing_with_it(
    owner: Any, method: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = analyzer_of(texts())
    whole = to_json(analyzer.snapshot())
    with monkeypatch.context() as broken:
        failing(broken, owner, method)
        snapshot = analyzer.snapshot()
        assert snapshot.left_out >= {name}
        check(to_json(snapshot), whole, name)
    assert to_json(analyzer.snapshot()) == whole, "the next time it may be made"


@pytest.mark.parametrize("about", ["_about_rows", "_about_input", "_about_steps", "_about_size"])
def test_a_warning_that_fails_takes_no_figure_and_no_other_warning_with_it(
    about: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = analyzer_of([*texts(), ("", b"odd\n")])
    whole = to_json(analyzer.snapshot())

    def fail(*_: object) -> None:
        raise OverflowError("too large")

    fail.__name__ = about
    monkeypatch.setattr(moe_live.caveats, about, fail)
    found = to_json(analyzer.snapshot())
    told, *others = found.pop("warnings")
    assert told.startswith(f"warnings{about.replace('_', ' ')} left out, making it failed: OverflowError")
    assert set(others) <= set(whole.pop("warnings"))
    assert found == whole


def test_statistics_that_are_started_anew_have_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    analyzer = Analyzer()
    with monkeypatch.context() as broken:
        failing(broken, Locality, "update")
        analyzer.feed(texts()[0][1])
        assert analyzer.snapshot().locality is None
        assert analyzer.snapshot([Section.REUSE]).reuse is None
    assert analyzer.snapshot().locality is None
    analyzer.reset()
    analyzer.feed(texts()[1][1])
    assert analyzer.snapshot().locality
    assert not analyzer.snapshot().left_out


def test_what_ends_the_run_is_no_failure_of_a_figure() -> None:
    for error in (StoppedError("the terminal has gone", 1), MemoryError()):

        def stop(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            Failures().attempt("it", stop, None)


def run_dashboard(script: list[bytes]) -> tuple[Session, list[str]]:
    signals = Signals()
    terminal = Terminal(script, signals)
    session = Session(Source(), Analyzer())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: terminal.now))
        ending = loop._Loop(session, signals, terminal, 1e6, Look(None)).run()  # type: ignore[arg-type]  # scripted
    assert ending.reason is loop.Reason.QUIT
    return session, terminal.frames


@pytest.mark.parametrize(
    ("owner", "method", "says"),
    [
        (loop, "compose", "this view left out"),
        (LocalityBySequence, "summary", ""),
        (Locality, "update", ""),
    ],
)
def test_the_dashboard_goes_on_and_ends_with_all_other_figures(
    owner: Any, method: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        failing(broken, owner, method, after=1)
        keys = [b"", *(b"%d" % key for key in range(10)), b"", b"\t", b"", b"q"]
        session, frames = run_dashboard(keys)
    if says:
        assert says in frames[-1]
        assert "IndexError" in frames[-1]
    summary = to_json(session.finish())
    assert summary["layers"][0]["selections"] > 0
    assert LINES.count(b"\n") == len(summary["layers"])
