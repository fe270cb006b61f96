"""Several logs that are followed at once, as one run."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.dashboard.frame import draw_static
from moe_live.judgement import Subject, Word
from moe_live.logs import Logs
from moe_live.settings import Settings
from moe_live.simulator import ModelShape, Request, SimulatedServer
from moe_live.snapshot import Snapshot
from moe_live.sources.several import LOGS_MAX, FollowedLogs
from moe_live.verdicts import verdict
from tests.analysis import analyzed
from tests.comparison import plain, together
from tests.outputs.test_tables import read as read_table
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal, started
from tests.state.test_fleet import Clock
from tests.state.test_merge import text

TOTALS = ("rows", "steps", "tokens")


def follow(*asked: str | Path, clock: Clock | None = None, **options: Any) -> Logs:
    clock = clock or Clock()
    from_end = options.pop("from_end", False)
    return Logs(FollowedLogs(list(map(str, asked)), from_end=from_end, clock=clock), clock=clock, **options)


def settled(run: Logs, clock: Clock) -> Snapshot:
    """What it shows once all that is there is read and put together."""
    for _ in range(40):
        clock.now += 0.9
        run.ingest(0.1)
    return run.snapshot()


def merged(texts: dict[Path, bytes], labels: bool = False) -> Snapshot:  # noqa: FBT002
    """One analyzer a file, merged."""
    whole: Analyzer | None = None
    for path, data in texts.items():
        analyzer = Analyzer(Settings(label=path.stem if labels else ""), paths=(str(path),))
        analyzer.feed(data)
        analyzer.finish()
        if whole is None:
            whole = analyzer
        else:
            whole.merge(analyzer)
    assert whole is not None
    return whole.snapshot()


logs = st.lists(
    st.builds(lambda seed, steps, cut: text(seed, steps)[: -cut or None], *[st.integers(0, 9)] * 3),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=25)
@given(logs, st.data())
def test_any_interleaving_of_writes_is_the_merge_of_an_analyzer_a_file(
    texts: list[bytes], data: st.DataObject
) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, f"{i}.log") for i in range(len(texts))]
        paths[0].touch()
        run = follow(*paths, clock=clock)
        left = list(texts)
        while any(left):
            i = data.draw(st.sampled_from([i for i, rest in enumerate(left) if rest]))
            size = data.draw(st.integers(1, 500))
            with paths[i].open("ab") as file:
                file.write(left[i][:size])
            left[i] = left[i][size:]
            clock.now += data.draw(st.sampled_from([0.0, 0.1, 0.9]))  # longer without a look is told
            data.draw(st.sampled_from([run.ingest, run.collect]))(0.1)
        shown, found = settled(run, clock), run.finish()
        assert together(found) == together(merged(dict(zip(paths, texts, strict=True))))
        assert [share.rows for share in found.input.sources] == [
            analyzed([each]).snapshot().rows.logged for each in texts
        ]
        assert shown.input.tally.bytes == sum(map(len, texts))
        assert found.rows.logged - shown.rows.logged <= 4 * len(texts)  # of open steps


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3000))
def test_what_is_complete_is_what_is_shown_and_changes_nothing(seed: int, other: int, cut: int) -> None:
    data = text(seed) + b"llama_server: hello\n" + text(other)
    analyzer = Analyzer()
    analyzer.feed(data[:cut])
    complete = analyzer.complete()
    assert plain(complete.snapshot()) == plain(analyzer.snapshot())
    complete.merge(analyzed([text(3)]))
    analyzer.feed(data[cut:])
    analyzer.finish()
    assert plain(analyzer.snapshot()) == plain(analyzed([data]).snapshot())


def test_nothing_is_said_of_a_time_that_several_logs_do_not_have_in_common(tmp_path: Path) -> None:
    clock = Clock()
    run = follow(tmp_path / "a.log", tmp_path / "b.log", clock=clock)
    for seed, name in enumerate("ab"):
        (tmp_path / f"{name}.log").write_bytes(text(seed, 2000))
        found = settled(run, clock)
        drift = verdict(Subject.DRIFT, found)
        assert drift is not None
        assert (found.drift is None, found.history is None, drift.word is Word.CANNOT_BE_TOLD) == (
            (seed == 1,) * 3
        )
    lines = draw_static(found, run.status(), width=100, height=30, view="Time").plain
    assert "Several sources are shown as one" in lines


def test_of_several_logs_no_run_is_the_one_that_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    run = follow(tmp_path / "a.log", tmp_path / "b.log", clock=clock)
    strided = SimulatedServer(ModelShape(n_layers=4, n_experts=32, gate_layers=()), strided=True)
    (tmp_path / "a.log").write_bytes(b"".join(step.text for step in strided.serve(Request(0, 200, 20))))
    assert "of this run" not in settled(run, clock).rows.verdict
    sound = SimulatedServer(ModelShape(n_layers=4, n_experts=32, gate_layers=()))
    (tmp_path / "b.log").write_bytes(b"".join(step.text for step in sound.serve(Request(0, 200, 20))))
    found = settled(run, clock)
    assert [share.row_word for share in found.input.sources] == ["strided", "sound"]
    assert f"prompt rows in {tmp_path / 'a.log'} are not real" in found.rows.verdict
    assert [Path(run.log).name for run in found.rows.latest_runs] == ["a.log", "b.log"]
    assert found.rows.verdict in found.warnings
    assert not any("this run" in said for said in (*found.warnings, found.rows.run_verdict))


def test_the_label_of_now_is_for_all_logs(tmp_path: Path) -> None:
    clock = Clock()
    now = tmp_path / "now"
    now.write_text("math")
    run = follow(tmp_path / "a.log", tmp_path / "b.log", clock=clock, label_file=str(now))
    for label, seed in (("math", 0), ("code", 1)):
        now.write_text(label)
        settled(run, clock)
        for name in "ab":
            with (tmp_path / f"{name}.log").open("ab") as file:
                file.write(text(seed))
        settled(run, clock)
    labels = run.finish().labels
    assert labels is not None
    assert {usage.label: usage.tokens for usage in labels.usages} == {"math": 120, "code": 120}


def test_files_that_appear_are_followed_and_one_that_vanishes_keeps_its_figures(tmp_path: Path) -> None:
    clock = Clock()
    run = follow(tmp_path / "*.log", clock=clock)
    assert "waiting for" in run.status().source.detail
    texts = {tmp_path / f"{name}.log": text(seed) for seed, name in enumerate("abc")}
    a, b, c = texts
    for path in (b, c):
        path.write_bytes(texts[path])
    settled(run, clock)
    a.write_bytes(texts[a])
    b.unlink()
    settled(run, clock)
    status = run.status()
    assert (status.source.name, status.source.state.value) == (f"{tmp_path}/*.log (3 logs)", "following")
    assert {Path(path).name: now.state for path, now in status.sources.items()} == {
        "b.log": "waiting",
        "c.log": "following",
        "a.log": "following",
    }
    assert together(run.finish()) == together(merged({path: texts[path] for path in (b, c, a)}))


def test_a_file_is_followed_under_one_name(tmp_path: Path) -> None:
    clock = Clock()
    log = tmp_path / "a.log"
    log.write_bytes(text(0))
    (tmp_path / "link.log").symlink_to(log)
    (tmp_path / "same.log").hardlink_to(log)
    (tmp_path / "directory.log").mkdir()
    run = follow(tmp_path / "*.log", clock=clock)
    settled(run, clock)
    log.rename(tmp_path / "older.log")
    settled(run, clock)
    log.write_bytes(text(1))
    assert settled(run, clock).rows.logged == 476  # the last step of the new one is open
    with (tmp_path / "older.log").open("ab") as file:
        file.write(b"not of interest any more\n")
    settled(run, clock)
    assert [Path(path).name for path in run.status().sources] == ["a.log"]
    assert run.finish().rows.logged == 480


def test_rotated_files_are_left_to_their_log(tmp_path: Path) -> None:
    clock = Clock()
    for name in ("moe.log", "moe.log.1", "moe-20261126.log", "moe.log.2.gz", "other.log"):
        (tmp_path / name).write_bytes(text(len(name)))
    run = follow(tmp_path / "*", clock=clock)
    settled(run, clock)
    assert [Path(path).name for path in run.status().sources] == ["moe.log", "other.log"]
    assert "rotated or finished by name" in run.status().source.detail
    (tmp_path / "moe.log").rename(tmp_path / "moe.log.3")
    (tmp_path / "moe.log").write_bytes(text(1))
    settled(run, clock)
    found = run.finish()
    assert found.rows.logged == 3 * 240
    assert found.input.rotations == 1


def test_a_log_that_would_be_read_with_another_is_left_out_and_told(tmp_path: Path) -> None:
    clock = Clock()
    dated = tmp_path / "moe-20261126.log"
    dated.write_bytes(text(0))
    run = follow(tmp_path / "*.log", clock=clock)
    settled(run, clock)
    (tmp_path / "moe.log").write_bytes(text(1))
    settled(run, clock)
    assert "moe.log is left out" in run.status().source.detail
    found = run.finish()
    assert found.rows.logged == 240
    assert "moe.log is left out" in found.warnings[0]


def test_two_paths_that_come_to_name_one_file_are_told(tmp_path: Path) -> None:
    clock = Clock()
    old, new, link = tmp_path / "old.log", tmp_path / "new.log", tmp_path / "current.log"
    old.write_bytes(text(0))
    link.symlink_to(old)
    run = follow(link, new, clock=clock)
    settled(run, clock)
    link.unlink()
    link.symlink_to(new)
    new.write_bytes(text(1))
    settled(run, clock)
    assert "came to name one file: what it holds may be counted twice" in run.finish().warnings[0]


def test_a_link_that_is_led_to_another_log_goes_on_with_it(tmp_path: Path) -> None:
    clock = Clock()
    old, new, link = tmp_path / "run-a.log", tmp_path / "run-b.log", tmp_path / "current"
    old.write_bytes(text(0))
    link.symlink_to(old)
    run = follow(link, tmp_path / "run-*.log", clock=clock)
    settled(run, clock)
    link.unlink()
    link.symlink_to(new)
    new.write_bytes(text(1))
    settled(run, clock)
    assert [Path(path).name for path in run.status().sources] == ["current"]
    found = run.finish()
    assert (found.rows.logged, found.warnings) == (480, merged({link: text(0) + text(1)}).warnings)


def test_from_the_end_is_for_what_is_there_at_the_start(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a.log").write_bytes(text(0))
    run = follow(tmp_path / "*.log", clock=clock, from_end=True)
    (tmp_path / "b.log").write_bytes(text(1))
    settled(run, clock)
    assert {share.name[-5:]: share.rows for share in run.finish().input.sources} == {"a.log": 0, "b.log": 240}


def test_so_many_logs_are_followed(tmp_path: Path) -> None:
    for i in range(LOGS_MAX + 1):
        (tmp_path / f"{i:03}.log").touch()
    followed = FollowedLogs([str(tmp_path / "*.log")])
    assert f"{LOGS_MAX:03}.log is left out: {LOGS_MAX} logs are followed at most" in followed.status().detail
    followed.close()


def test_a_log_of_another_model_is_left_out_and_told(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a.log").write_bytes(text(0))
    (tmp_path / "b.log").write_bytes(b"".join(b"%d,1 2\n" % (i % 3) for i in range(300)))
    run = follow(tmp_path / "a.log", tmp_path / "b.log", clock=clock)
    settled(run, clock)
    found = run.finish()
    assert found.rows.logged == 240
    assert "b.log with the others: it is of another model" in found.warnings[0]
    assert [share.left_out for share in found.input.sources] == ["", found.warnings[0]]


def test_labels_and_a_new_beginning_are_for_all(tmp_path: Path) -> None:
    clock = Clock()
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    run = follow(a, b, clock=clock)
    for path in (a, b):
        path.write_bytes(text(0))
    settled(run, clock)
    run.reset()
    assert run.snapshot().rows.logged == 0
    run.set_label("code")
    for path in (a, b):
        with path.open("ab") as file:
            file.write(text(1))
    settled(run, clock)
    assert run.status().label == "code"
    labels = run.finish().labels
    assert labels is not None
    assert [(usage.label, usage.tokens) for usage in labels.usages] == [("code", 120)]


def test_each_log_is_labelled_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {tmp_path / "math.log": text(0), tmp_path / "code.log": text(1)}
    for path, data in texts.items():
        path.write_bytes(data)
    for asked, labels in (
        (list(map(str, texts)), ["math", "code"]),
        ([str(tmp_path / "math.log")], ["math"]),
    ):
        out = tmp_path / "out.json"
        assert main(["--follow", *asked, "--label-by-file", "--once", "--json", str(out)]) == 0
        found = json.loads(out.read_text())
        assert {each["label"]: each["tokens"] for each in found["labels"]} == dict.fromkeys(labels, 60)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["a.log", "b.log", "--state", "x.state"], "--state goes with one log"),
        (["*.log", "--state", "x.state"], "--state goes with one log"),
        (["a.log", "b.log", "--steps", "x.csv"], "--steps goes with one log"),
        (["a.log", "-"], "--follow needs the name of a file"),
        (["a.log", "a.log"], "a.log is given twice"),
        (["a.log", "a.log.1"], "a.log.1 has the name of a rotated file of a.log"),
        (["a.log", "."], "it is a directory"),
        (["a.log", "b.log", "--browse"], "--browse goes with PATHs"),
        (["a.log", "b.log", "--label-by-file", "--label", "x"], "--label-by-file goes with"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    argv: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--follow", *argv]) == 2
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1


def test_a_process_that_follows_a_pattern_ends_with_the_summary_of_all(tmp_path: Path) -> None:
    pattern, (a, b) = tmp_path / "*.log", (tmp_path / "a.log", tmp_path / "b.log")
    a.write_bytes(text(0))
    with started("--follow", pattern, "--json", "-") as process:
        assert process.stderr is not None
        while b"(1 log)" not in process.stderr.readline():
            assert process.poll() is None
        b.write_bytes(text(1))
        while b"(2 logs)" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found = json.loads(out)
    assert found["rows"]["logged"] == 480
    assert found["source"]["paths"] == [str(a), str(b)]
    assert [(each["name"], each["steps"]["total"], each["state"]) for each in found["sources"]] == [
        (str(a), 60, "following"),
        (str(b), 60, "following"),
    ]


def test_tables_have_a_line_for_each(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.log", "b.log")):
        (tmp_path / name).write_bytes(text(seed))
    to = tmp_path / "tables"
    with started("--follow", tmp_path / "*.log", "--tables", to, "--json", "-") as process:
        assert process.stderr is not None
        while b"(2 logs)" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    told = json.loads(out)["sources"]
    found = read_table(next(to.glob("sources.*")))
    assert [line["source"] for line in found] == [each["name"] for each in told]
    for line, each in zip(found, told, strict=True):
        (hottest,) = each["hottest"]
        assert (line["rows"], line["steps"]) == (each["rows"]["logged"], each["steps"]["total"])
        assert (line["verdict"], line["left_out"]) == (each["rows"]["word"], None)
        assert (line["hottest_layer"], line["hottest_expert"]) == (hottest["layer"], hottest["expert"])
        assert line["apart"] == pytest.approx(each["js"], rel=1e-4)
    assert read_table(next(to.glob("distances.*"))) == []


def test_the_dashboard_has_a_row_for_each(tmp_path: Path) -> None:
    for seed, name in enumerate(("alpha", "beta")):
        (tmp_path / f"{name}.log").write_bytes(text(seed))
    with PseudoTerminal([*MOE_LIVE, "--follow", str(tmp_path / "*.log")]) as terminal:
        terminal.wait_for("(2 logs)")
        terminal.press(b"i")
        terminal.wait_for("beta.log")


def test_what_is_wrong_with_one_of_several_logs_names_it(tmp_path: Path) -> None:
    clock = Clock()
    run = follow(tmp_path / "a.log", tmp_path / "b.log", clock=clock)
    (tmp_path / "a.log").write_bytes(text(0))
    (tmp_path / "b.log").write_bytes(text(1) + b"junk\n")
    (told,) = [said for said in settled(run, clock).warnings if "malformed" in said]
    assert told.endswith(f"lines are malformed and left out (in {tmp_path / 'b.log'})")
    with (tmp_path / "a.log").open("ab") as file:
        file.write(b"junk\n")
    (told,) = [said for said in settled(run, clock).warnings if "malformed" in said]
    assert told.endswith("lines are malformed and left out")
