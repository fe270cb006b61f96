"""Each run of a server has its own verdict on its rows, and the rows of each count by theirs."""

from __future__ import annotations

import gzip
import pickle
import re
import resource
import sys
import time
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.judgement import Word
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.routing.evidence import Verdict
from moe_live.settings import RowMode, Settings
from moe_live.simulator import HEADER, ModelShape, SimulatedServer, Step
from moe_live.sources.source import Break
from moe_live.statistics.runs import LATEST_RUNS
from moe_live.verdicts import verdicts
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs

SHAPE = ModelShape(first_layer=3, n_layers=4, n_experts=64, top_k=6, gate_layers=(), n_embd=16)
CASES = Path(__file__).parent / "data" / "cases"


def served(seed: int, *, strided: bool, requests: int = 2) -> list[Step]:
    server = SimulatedServer(SHAPE, seed=seed, ubatch=64, strided=strided)
    return [step for request in islice(server.requests(), requests) for step in server.serve(request)]


def text_of(steps: list[Step]) -> bytes:
    return HEADER + b"".join(step.text for step in steps)


def truth(steps: list[Step], *, strided: bool) -> np.ndarray:
    """(layers, n_experts) selections of the rows that can be known."""
    counts = np.zeros((SHAPE.n_layers, SHAPE.n_experts), np.int64)
    for step in steps:
        for block in step.blocks:
            known = (len(block.experts) - 1) * SHAPE.top_k // SHAPE.n_experts + 1
            experts = block.experts[:known] if strided else block.experts
            np.add.at(counts[block.layer - SHAPE.first_layer], experts, 1)
    return counts


def case(name: str) -> bytes:
    return gzip.decompress((CASES / f"{name}.log.gz").read_bytes())


@pytest.mark.parametrize("reason", [None, *Break])
def test_rows_count_by_the_verdict_on_their_run(reason: Break | None) -> None:
    """The logger is put right and the server started anew: what it writes now is believed."""
    runs = [(served(i, strided=strided), strided) for i, strided in enumerate([True, False, True])]
    analyzer = Analyzer(Settings(n_experts=SHAPE.n_experts))
    for i, (steps, _) in enumerate(runs):
        if i and reason is not None:
            analyzer.interrupt(reason)
        analyzer.feed(text_of(steps))
        if i == 1:
            assert analyzer.snapshot().rows.run_verdict == "rows of this run are sound"
    analyzer.finish()
    snapshot = analyzer.snapshot()
    found = np.stack([layer.usage.counts for layer in snapshot.layers])
    np.testing.assert_array_equal(found, sum(truth(steps, strided=strided) for steps, strided in runs))
    rows = snapshot.rows
    assert [run.soundness for run in rows.latest_runs] == [Verdict.STRIDED, Verdict.SOUND, Verdict.STRIDED]
    assert [run.number for run in rows.latest_runs] == [1, 2, 3]
    assert rows.soundness is Verdict.MIXED
    assert rows.strided is True
    for name in ("logged", "counted", "recovered", "unrecoverable"):
        assert getattr(rows, name) == sum(getattr(run, name) for run in rows.latest_runs)
    assert rows.counted * SHAPE.top_k == found.sum()
    assert "most prompt rows of this run are not real" in rows.verdict


def test_in_a_run_that_is_strided_in_part_all_rows_of_sound_steps_count() -> None:
    kinds = served(5, strided=True), served(6, strided=False)
    steps = [step for both in zip(*kinds, strict=False) for step in both]
    text = HEADER + b"".join(step.text for step in steps)
    found = []
    for cuts in (range(0), range(0, len(text), 4099)):
        analyzer = Analyzer(Settings(n_experts=SHAPE.n_experts))
        for begin, end in pairwise([0, *cuts, len(text)]):
            analyzer.feed(text[begin:end])
        analyzer.finish()
        found.append(analyzer.snapshot())
    assert plain(found[0]) == plain(found[1])
    bad, good = (
        truth(list(some), strided=strided) for some, strided in ((steps[::2], True), (steps[1::2], False))
    )
    np.testing.assert_array_equal(found[0].counts, bad + good)
    rows = found[0].rows
    assert rows.soundness is Verdict.MIXED
    assert rows.counted == rows.logged - rows.unrecoverable == (bad + good).sum() / SHAPE.top_k
    assert rows.recovered < bad.sum() / SHAPE.top_k


def test_rows_count_as_asked_in_every_run() -> None:
    runs = [(served(1, strided=True), True), (served(2, strided=False), False)]
    for mode in (RowMode.LOGGED, RowMode.VERIFIED):
        analyzer = Analyzer(Settings(rows=mode, n_experts=SHAPE.n_experts))
        for steps, _ in runs:
            analyzer.feed(text_of(steps))
        analyzer.finish()
        snapshot = analyzer.snapshot()
        found = np.stack([layer.usage.counts for layer in snapshot.layers])
        if mode is RowMode.LOGGED:
            assert snapshot.rows.counted == snapshot.rows.logged
        else:
            np.testing.assert_array_equal(found, sum(truth(steps, strided=bad) for steps, bad in runs))


def test_a_model_logged_strided_and_then_right_is_not_called_sound() -> None:
    """Of its own each is told right; together they were called sound."""
    analyzer = Analyzer()
    for name in ("in_mixed_a", "in_mixed_b"):
        analyzer.feed(case(name))
        analyzer.finish()
    snapshot = analyzer.snapshot()
    report = to_json(snapshot)
    assert [run["word"] for run in report["runs"]] == ["strided", "sound"]
    assert [(run["logged"], run["counted"]) for run in report["runs"]] == [(600, 150), (600, 600)]
    assert report["rows"]["strided"] is True
    assert report["rows"]["runs"] == {
        "sound": 1,
        "strided": 1,
        "mixed": 0,
        "right either way": 0,
        "undecided": 0,
    }
    (judgement, *_) = verdicts(snapshot)
    assert judgement.word is Word.MIXED
    assert "rows of this run are sound" in judgement.text
    lines = list(summary_lines(snapshot))
    assert "runs of the server: 2 (1 sound, 1 strided)" in lines
    table = lines.index("runs of the server: 2 (1 sound, 1 strided)") + 1
    assert [line.split() for line in lines[table : table + 3]] == [
        ["runs", "rows", "are", "logged", "counted", "recovered", "lost"],
        ["run", "1", "strided", "600", "150", "0", "450"],
        ["run", "2", "sound", "600", "600", "0", "0"],
    ]


def test_a_run_of_one_row_blocks_is_right_either_way() -> None:
    """It says nothing about the loggers of other runs, and takes nothing from what they show."""
    decode = b"".join(
        b"%d,%d %d\n" % (layer, step % 7, 7 + step % 5) for step in range(40) for layer in (0, 1)
    )
    analyzer = Analyzer()
    for text in (case("in_mixed_b"), decode, case("in_mixed_b")):
        analyzer.feed(text)
        analyzer.finish()
    rows = analyzer.snapshot().rows
    assert rows.strided is False
    assert rows.verdict == "rows are sound: every row is counted"
    assert [run.either_way for run in rows.latest_runs] == [False, True, False]


def test_undecided_runs_follow_what_the_user_says() -> None:
    """Two prompts of two rows: too few to tell."""
    short = b"0,1 2\n0,3 4\n1,1 2\n1,3 4\n"
    for mode, counted in ((RowMode.AUTO, 600 + 4), (RowMode.LOGGED, 600 + 4), (RowMode.VERIFIED, 600 + 2)):
        analyzer = Analyzer(Settings(rows=mode))
        for text in (short, case("in_mixed_b")):
            analyzer.feed(text)
            analyzer.finish()
        rows = analyzer.snapshot().rows
        assert [run.soundness for run in rows.latest_runs] == [Verdict.UNKNOWN, Verdict.SOUND]
        assert rows.counted == counted
        assert rows.strided is None


def test_an_emptied_log_without_rows_is_no_run() -> None:
    analyzer = Analyzer()
    analyzer.feed(case("in_mixed_a"))
    for _ in range(3):
        analyzer.interrupt(Break.RESTARTED)
        analyzer.feed(HEADER)
    rows = analyzer.snapshot().rows
    assert sum(rows.runs.values()) == 1
    assert rows.run_verdict == ""


def test_memory_does_not_grow_with_the_number_of_runs() -> None:
    """A server that starts anew again and again takes hardly more than one that goes on."""

    def size(text: bytes, runs: int) -> int:
        analyzer = Analyzer()
        for _ in range(100):
            analyzer.feed(text)
        analyzer.finish()
        rows = analyzer.snapshot().rows
        assert sum(rows.runs.values()) == runs
        assert len(rows.latest_runs) == min(runs, LATEST_RUNS)
        assert rows.logged == 100 * 60
        return len(pickle.dumps((analyzer._statistics, analyzer._assembler, analyzer._sieve)))

    header, *lines = case("in_mixed_a").splitlines(keepends=True)
    rows = b"".join(lines[:60])
    assert size(header + rows, 100) < 1.05 * size(rows, 1)


def restarted(text: bytes, runs: int) -> Analyzer:
    """A server that writes this, starts anew and writes it again, so many times."""
    analyzer = Analyzer()
    for _ in range(runs):
        analyzer.feed(text)
    analyzer.finish()
    return analyzer


SHORT = HEADER + b"".join(b"%d,1 2\n%d,3 4\n%d,2 7\n" % (layer, layer, layer) for layer in (3, 4, 5))
"""A run of one prompt: too short to tell whether its rows are real."""


def test_runs_that_are_not_told_one_by_one_are_counted() -> None:
    snapshot = restarted(SHORT, 40).snapshot()
    summary = to_json(snapshot)
    assert [run["run"] for run in summary["runs"]] == list(range(41 - LATEST_RUNS, 41))
    assert summary["runs_left_out"] == 40 - LATEST_RUNS == summary["rows"]["runs"]["undecided"] - LATEST_RUNS
    assert "runs: the latest 16; 24 earlier ones are left out" in summary_lines(snapshot)
    assert snapshot.rows.counted == 40 * 9
    assert snapshot.pairs is not None
    assert snapshot.pairs[4].rows == 40 * 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_restarts_take_as_much_memory_and_time_each_as_a_thousand() -> None:
    analyzer, took, peak = Analyzer(), [], []
    for _ in range(10):
        begun = time.process_time()
        for _ in range(10_000):
            analyzer.feed(SHORT)
        took.append(time.process_time() - begun)
        peak.append(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        )
    analyzer.finish()
    summary = to_json(analyzer.snapshot())
    assert summary["runs_left_out"] == 100_000 - LATEST_RUNS
    assert summary["rows"]["counted"] == 900_000
    assert max(took[5:]) < 2 * min(took[:5]), took
    assert peak[-1] < peak[2] + 20, peak  # MB


def begins_step(before: bytes, piece: bytes) -> bool:
    """Whether a step is known to begin with a piece of a log: with a header, or a lower layer."""
    above, below = (re.findall(rb"^(?:gate_input,)?(\d+),", text, re.MULTILINE) for text in (before, piece))
    return piece.startswith(HEADER) or bool(above and below and int(below[0]) < int(above[-1]))


@given(st.lists(logs(), min_size=1, max_size=4), st.sampled_from(RowMode), st.data())
def test_runs_are_the_same_however_the_log_is_cut(
    runs: list[SyntheticLog], mode: RowMode, data: st.DataObject
) -> None:
    text = b"".join(log.text if log.text.startswith(HEADER) else HEADER + log.text for log in runs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    found = []
    for bounds, counts in (
        ([0, len(text)], False),
        ([0, *cuts, len(text)], False),
        ([0, *cuts, len(text)], True),
    ):
        analyzer = Analyzer(Settings(rows=mode))
        for begin, end in pairwise(bounds):
            analyzer.feed(text[begin:end])
            if counts:  # what short runs put off is not put off any longer
                analyzer.snapshot()
            analyzer.snapshot(anew=False)
        analyzer.finish()
        found.append(plain(analyzer.snapshot()))
    assert found[0] == found[1]


@given(st.lists(logs(junk=False), min_size=2, max_size=5), st.sampled_from(RowMode), st.data())
def test_merged_runs_are_those_of_one_feed(
    runs: list[SyntheticLog], mode: RowMode, data: st.DataObject
) -> None:
    """Also where what is merged begins in the middle of a run."""
    pieces = []
    for log in runs:
        first, *more = (re.sub(HEADER, b"", piece) for piece in log.pieces)
        pieces += [HEADER + first, *more]
    settings = Settings(rows=mode)
    whole = Analyzer(settings)
    whole.feed(b"".join(pieces))
    whole.finish()
    places = [i for i in range(1, len(pieces)) if begins_step(pieces[i - 1], pieces[i])]
    cuts = sorted(data.draw(st.sets(st.sampled_from(places), max_size=6)))
    parts = []
    for begin, end in pairwise([0, *cuts, len(pieces)]):
        part = Analyzer(settings, goes_on=begin > 0 and not pieces[begin].startswith(HEADER))
        part.feed(b"".join(pieces[begin:end]))
        part.finish()
        parts.append(part)
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at].merge(parts.pop(at + 1))
    ours, theirs = (to_json(each.snapshot()) for each in (parts[0], whole))
    for report in (ours, theirs):
        for key in ("header_lines", "restarts"):  # a header at the beginning of a part is none
            report["source"].pop(key, None)
    assert ours == theirs


def of_two_logs(tmp_path: Path) -> Analyzer:
    """A strided log, and a sound one."""
    paths = str(tmp_path / "a.log"), str(tmp_path / "b\x1b.log")
    analyzer = Analyzer(paths=paths)
    analyzer.feed(text_of(served(1, strided=True)))
    analyzer.interrupt(Break.FILE_ENDED)
    analyzer.feed(text_of(served(2, strided=False)))
    analyzer.finish()
    return analyzer


def test_of_several_logs_runs_and_what_is_wrong_with_rows_name_theirs(tmp_path: Path) -> None:
    snapshot = of_two_logs(tmp_path).snapshot()
    name = str(tmp_path / "a.log")
    assert f"some prompt rows in {name} are not real selections" in snapshot.rows.verdict
    (rows, *_) = verdicts(snapshot)
    assert rows.facts[0] == f"some prompt rows of {name} are not real"
    told = [line.split()[-1] for line in summary_lines(snapshot) if re.match(r"runs  |run \d", line)]
    assert told == ["log", name, f"{tmp_path / 'b'}\\x1b.log"]
    assert [run["log"] for run in to_json(snapshot)["runs"]] == [name, str(tmp_path / "b\x1b.log")]


def test_of_a_single_log_its_runs_need_no_name() -> None:
    analyzer = Analyzer(paths=("a.log",))
    for strided in (True, False):
        analyzer.feed(text_of(served(1, strided=strided)))
        analyzer.interrupt(Break.ROTATED)
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert [run.log for run in snapshot.rows.latest_runs] == ["a.log", "a.log"]
    assert "some prompt rows in this log are not real selections" in snapshot.rows.verdict
    assert [run["log"] for run in to_json(snapshot)["runs"]] == [None, None]
    assert not any("a.log" in line for line in summary_lines(snapshot) if line.startswith("run "))


def test_a_merge_knows_which_log_each_run_wrote() -> None:
    """One that has no rows ends no run, and gives none its name."""
    first, second, third = (Analyzer(paths=(name,)) for name in "abc")
    first.feed(text_of(served(1, strided=True)))
    third.feed(text_of(served(2, strided=False)))
    for each in (first, second, third):
        each.finish()
    first.merge(second)
    assert [run.log for run in first.snapshot().rows.latest_runs] == ["a"]
    first.merge(third)
    assert [run.log for run in first.snapshot().rows.latest_runs] == ["a", "c"]
