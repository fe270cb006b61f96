"""`--state`: what is gone on with, what is told, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.checkpoint import LEAST, PERIOD, SHARE, Checkpoint
from moe_live.cli import main
from moe_live.session import READ_AHEAD, Session
from moe_live.sources.follow import Follower
from moe_live.sources.position import Position
from moe_live.sources.source import State
from tests.comparison import plain
from tests.pseudo_terminal import MOE_LIVE, REPOSITORY

HEADER = b"layer_id,expert_ids\n"


def text(seed: int, steps: int = 40, layers: int = 4, k: int = 3) -> bytes:
    rng = np.random.default_rng(seed)
    rows = (b" ".join(b"%d" % each for each in rng.permutation(16)[:k]) for _ in range(steps * layers))
    return b"".join(b"%d,%b\n" % (i % layers, row) for i, row in enumerate(rows))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "moe.log"
    path.write_bytes(HEADER + text(0))
    return path


def follow(log: Path, *arguments: str) -> int:
    """What is there now."""
    state = str(log.with_name("moe.state"))
    return main(["--follow", str(log), "--state", state, "--once", "--no-dashboard", *arguments])


def summary(log: Path) -> dict[str, Any]:
    target = log.with_name("summary.json")
    assert follow(log, "--json", str(target)) == 0
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def whole(log: Path, *texts: bytes) -> dict[str, Any]:
    path, target = log.with_name("whole.log"), log.with_name("whole.json")
    path.write_bytes(b"".join(texts))
    assert main([str(path), "--json", str(target)]) == 0
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def without_source(found: dict[str, Any]) -> dict[str, Any]:
    """Without the names of logs, and what is told of them."""
    runs = [{key: value for key, value in run.items() if key != "log"} for run in found["runs"]]
    return {key: value for key, value in found.items() if key not in {"source", "warnings"}} | {"runs": runs}


def test_a_log_that_grew_in_the_middle_of_a_step_is_read_on(log: Path) -> None:
    first, more = HEADER + text(0), text(1)
    for begin, end in ((0, 1001), (1001, 1002), (1002, len(first)), (len(first), len(first + more))):
        log.write_bytes((first + more)[:end])
        found = summary(log)
        assert found["source"]["bytes"] == end > begin
    assert without_source(found) == without_source(whole(log, first, more))
    assert found["source"]["restarts"] == found["source"]["rotations"] == 0


def test_the_same_twice_changes_nothing(log: Path) -> None:
    assert summary(log) == summary(log)


def test_a_log_that_was_emptied_is_read_anew_and_that_is_told(log: Path) -> None:
    summary(log)
    log.write_bytes(HEADER + text(1, steps=20))
    found = summary(log)
    assert found["rows"]["logged"] == 60 * 4
    assert found["source"]["restarts"] == 1
    assert any("was emptied once with no copy of its end beside it" in each for each in found["warnings"])
    assert summary(log)["warnings"] == found["warnings"]


def test_what_is_missing_is_told_of_merged_states_too(log: Path) -> None:
    summary(log)
    log.write_bytes(HEADER + text(1, steps=20))
    missing = [each for each in summary(log)["warnings"] if "moe.log" in each]
    state, target = log.with_name("moe.state"), log.with_name("merged.json")
    both = log.with_name("both.state")
    assert main(["merge", str(state), "--state", str(both)]) == 0
    assert main(["merge", str(both), "--json", str(target)]) == 0
    assert missing
    assert json.loads(target.read_text())["warnings"][: len(missing)] == missing


def test_a_file_that_is_gone_is_told(log: Path) -> None:
    summary(log)
    log.rename(log.with_name("elsewhere"))
    log.write_bytes(HEADER + text(1, steps=20))
    found = summary(log)
    assert found["rows"]["logged"] == 60 * 4
    assert any("while nobody looked" in each for each in found["warnings"])


def test_the_rest_of_a_rotated_file_comes_first(log: Path) -> None:
    summary(log)
    with log.open("ab") as file:
        file.write(text(1, steps=20))
    log.rename(log.with_name("moe.log.1"))
    log.write_bytes(HEADER + text(2, steps=20))
    found = summary(log)
    if found["rows"]["logged"] < 80 * 4:  # the file is left only once nothing has come for a while
        found = summary(log)
    assert not [each for each in found["warnings"] if "moe.log" in each]
    assert found["rows"]["logged"] in {60 * 4, 80 * 4}


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "other settings": (
        lambda _: None,
        ("--window", "512", "--layers", "1-2"),
        "layers is None there and frozenset({1, 2}) here, window is 256 there and 512 here; give the same",
    ),
    "another model, by its layers": (
        lambda log: log.write_bytes(HEADER + text(9, layers=6)),
        (),
        "moe.log is of another model: layers 0-5 (6) there and 0-3 (4) here; give it another --state",
    ),
    "another model, by its rows": (
        lambda log: log.write_bytes(HEADER + text(9, k=2)),
        (),
        "moe.log is of another model: experts a row 2 there and 3 here",
    ),
    "a damaged state": (
        lambda log: log.with_name("moe.state").write_bytes(b"PK"),
        (),
        "not written by moe-live, or it is damaged; it is left as it is: name another file",
    ),
    "the log itself": (lambda _: None, ("--state", "moe.log"), "it is the log itself"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused_is_left_as_it_is(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    change, options, told = REFUSED[why]
    monkeypatch.chdir(log.parent)
    summary(log)
    capsys.readouterr()
    change(log)
    before = log.with_name("moe.state").read_bytes()
    state = () if "--state" in options else ("--state", "moe.state")
    assert main(["--follow", "moe.log", "--once", "--no-dashboard", *state, *options]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert log.with_name("moe.state").read_bytes() == before


def test_a_state_of_another_log_is_refused(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary(log)
    other = log.with_name("other.log")
    other.write_bytes(HEADER + text(5))
    assert main(["--follow", str(other), "--state", str(log.with_name("moe.state")), "--once"]) == 2
    assert "what was read of that is not in" in capsys.readouterr().err


def test_what_the_state_lacks_and_nobody_asks_for_is_no_difference(log: Path) -> None:
    assert main(["--follow", str(log), "--state", str(log.with_name("moe.state")), "--once=cache"]) == 0
    summary(log)


def test_a_plan_is_made_of_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, state = tmp_path / "moe.log", tmp_path / "moe.state"
    log.write_bytes(HEADER + text(0, steps=200))
    plan = ("--devices", "2", "--json", "-")
    assert main([str(log), "--state", str(state), "--devices", "2"]) == 0
    capsys.readouterr()
    found = []
    for path in (log, state):
        assert main(["plan", "placement", str(path), *plan]) == 0
        found.append(json.loads(capsys.readouterr().out))
    one, other = ({key: value for key, value in each.items() if key != "paths"} for each in found)
    assert one == other
    assert main(["plan", "placement", str(state), "--rows", "logged", *plan]) == 2
    assert "rows is auto there and logged here" in capsys.readouterr().err
    assert main(["plan", "placement", str(state), str(log), *plan]) == 2
    assert "of logs, or of one state" in capsys.readouterr().err
    Analyzer().save(state)
    assert main(["plan", "placement", str(state), *plan]) == 2
    assert "has no steps that a plan could be tried out on" in capsys.readouterr().err


def piped(log: Path, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    state = log.with_name("pipe.state")
    return subprocess.run(
        [*MOE_LIVE, "--state", str(state), *arguments],
        input=data,
        capture_output=True,
        cwd=REPOSITORY,
        check=False,
    )


def test_what_comes_through_a_pipe_is_added_and_its_last_step_is_closed(log: Path) -> None:
    first, more = HEADER + text(0)[:-30], text(1)
    assert piped(log, first).returncode == 0
    state = log.with_name("pipe.state")
    assert not Analyzer.load(state)._is_open
    found = json.loads(piped(log, more, "--json", "-").stdout)
    one, other = (Analyzer() for _ in range(2))
    for analyzer, data in ((one, first), (other, more)):
        analyzer.feed(data)
        analyzer.finish()
    one += other
    assert found["rows"]["logged"] == one.snapshot().rows.logged
    assert found["steps"]["total"] == one.snapshot().steps.total


def test_a_pipe_and_a_followed_log_have_no_state_in_common(log: Path) -> None:
    assert piped(log, HEADER + text(0)).returncode == 0
    state = log.with_name("pipe.state")
    refused = piped(log, b"", "--follow", str(log))
    assert (refused.returncode, b"it is of a pipe" in refused.stderr) == (2, True)
    state.unlink()
    assert main(["--follow", str(log), "--state", str(state), "--once"]) == 0
    refused = piped(log, text(1))
    assert (refused.returncode, b"which was followed" in refused.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_run_leaves_the_state_of_its_end(log: Path, number: signal.Signals) -> None:
    state = log.with_name("moe.state")
    command = [*MOE_LIVE, "--follow", str(log), "--state", str(state), "--no-dashboard"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        size = log.stat().st_size
        while not state.exists() or Analyzer.load(state).tally.bytes < size:
            assert process.poll() is None
        with log.open("ab") as file:
            file.write(text(1))
        process.send_signal(number)
        process.communicate(timeout=60)
    analyzer, position = Analyzer.loaded(state)
    assert isinstance(position, Position)
    assert position.place is not None
    assert analyzer.tally.bytes == position.place.offset == log.stat().st_size


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_state_is_written_when_it_is_due(log: Path) -> None:
    state, clock = log.with_name("moe.state"), Clock()
    follower = Follower(log, watch=False, clock=clock)
    checkpoint = Checkpoint(str(state), follower.position, clock)
    session = Session(follower, Analyzer(), read_ahead=READ_AHEAD, checkpoint=checkpoint, clock=clock)

    def kept_bytes() -> int:
        session.ingest(10.0)
        session.ingest(10.0)
        if checkpoint._writer is not None:
            checkpoint._writer.join()
        return Analyzer.load(state).tally.bytes

    first = log.stat().st_size
    assert kept_bytes() == first  # the backlog is read
    with log.open("ab") as file:
        file.write(text(1))
    assert kept_bytes() == first
    clock.now += PERIOD + SHARE * checkpoint._spent
    second = log.stat().st_size
    assert kept_bytes() == second
    before = state.stat().st_mtime_ns
    clock.now += 2 * PERIOD + SHARE * checkpoint._spent
    assert kept_bytes() == second
    assert state.stat().st_mtime_ns == before  # nothing has come
    clock.now += LEAST + SHARE * checkpoint._spent
    log.write_bytes(HEADER)
    assert kept_bytes() == second + len(HEADER)  # at once: it has restarted
    snapshot = session.finish()
    assert plain(replace(snapshot, warnings=())) == plain(
        replace(_finished(Analyzer.load(state)), warnings=())
    )
    assert follower.status().state is State.ENDED


def test_a_state_is_written_while_a_long_backlog_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, clock = log.with_name("moe.state"), Clock()
    log.write_bytes(HEADER + text(0) * 100)
    monkeypatch.setattr("moe_live.sources.follow.READ_BYTES", 4096)
    monkeypatch.setattr("moe_live.sources.follow.CLOSE_BYTES", 0)
    follower = Follower(log, watch=False, clock=clock)
    checkpoint = Checkpoint(str(state), follower.position, clock)
    session = Session(follower, Analyzer(), read_ahead=1 << 15, checkpoint=checkpoint, clock=clock)
    feed = Analyzer.feed

    def slow(analyzer: Analyzer, data: bytes) -> None:
        clock.now += PERIOD
        feed(analyzer, data)

    monkeypatch.setattr(Analyzer, "feed", slow)
    found = []
    while session.analyzer.tally.bytes < log.stat().st_size:
        session.ingest(0.5)
        clock.now += SHARE * checkpoint._spent
        if checkpoint._writer is not None:
            checkpoint._writer.join()
            found.append(Analyzer.load(state).tally.bytes)
    assert len({*found}) > 1
    session.finish()


def test_what_has_no_state_in_the_middle_has_one_at_the_end(log: Path) -> None:
    archive = io.BytesIO()
    np.savez_compressed(archive, experts=np.random.default_rng(0).integers(0, 64, (4000, 8, 4)))
    state = log.with_name("moe.state")
    checkpoint, analyzer = Checkpoint(str(state)), Analyzer()
    analyzer.feed(archive.getvalue()[:30_000])
    checkpoint.changed()
    checkpoint.keep(analyzer, has_all=True)
    assert "has to be read to its end for a state" in checkpoint.problem
    assert not state.exists()
    analyzer.feed(archive.getvalue()[30_000:])
    checkpoint.finish(analyzer, has_all=True)
    assert not checkpoint.problem
    assert plain(Analyzer.load(state).snapshot()) == plain(analyzer.snapshot())


def _finished(analyzer: Analyzer) -> Any:
    analyzer.finish()
    return analyzer.snapshot()


def test_a_state_that_cannot_be_written_does_not_end_the_run(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    summary(log)
    monkeypatch.setattr("moe_live.state.file._write", fail)
    assert follow(log) == 1
    shown = capsys.readouterr()
    assert "cannot write the state to" in shown.err
    assert "No space left on device" in shown.err
    assert shown.out


def finished(directory: Path, *names: str) -> int:
    """Of finished files in this directory."""
    paths = [str(directory / name) for name in names]
    return main([*paths, "--state", str(directory / "files.state"), "--json", str(directory / "files.json")])


def test_finished_files_are_added_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        (tmp_path / f"{seed}.log").write_bytes(HEADER + text(seed))
    assert finished(tmp_path, "0.log", "1.log") == 0
    (tmp_path / "0.log").rename(tmp_path / "other.log")
    capsys.readouterr()
    assert finished(tmp_path, "other.log", "1.log", "2.log") == 0
    assert "2 of 3 files are in" in capsys.readouterr().err
    found = json.loads((tmp_path / "files.json").read_text())
    texts = (HEADER + text(seed) for seed in range(3))
    assert without_source(found) == without_source(whole(tmp_path / "moe.log", *texts))
    assert [Path(path).name for path in found["source"]["paths"]] == ["0.log", "1.log", "2.log"]
    assert finished(tmp_path, "2.log") == 2
    assert "already: moe-live merge" in capsys.readouterr().err


def test_a_finished_file_that_has_grown_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.log").write_bytes(HEADER + text(0))
    assert finished(tmp_path, "0.log") == 0
    before = (tmp_path / "files.state").read_bytes()
    with (tmp_path / "0.log").open("ab") as file:
        file.write(text(1))
    assert finished(tmp_path, "0.log") == 2
    assert "0.log has grown since it was read" in capsys.readouterr().err
    assert (tmp_path / "files.state").read_bytes() == before


def test_a_finished_file_of_another_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.log").write_bytes(HEADER + text(0))
    (tmp_path / "1.log.gz").write_bytes(gzip.compress(HEADER + text(1, layers=6)))
    assert finished(tmp_path, "0.log") == 0
    assert finished(tmp_path, "1.log.gz") == 2
    assert "1.log.gz is of another model: layers 0-5 (6) there and 0-3 (4) here" in capsys.readouterr().err


def test_a_damaged_file_leaves_the_state_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.log").write_bytes(HEADER + text(0))
    assert finished(tmp_path, "0.log") == 0
    before = (tmp_path / "files.state").read_bytes()
    (tmp_path / "1.log.gz").write_bytes(gzip.compress(HEADER + text(1))[:-20])
    assert finished(tmp_path, "1.log.gz") == 1
    assert "is cut short" in capsys.readouterr().err
    assert (tmp_path / "files.state").read_bytes() == before


def test_a_pipe_that_was_killed_left_a_step_open_which_is_closed(log: Path) -> None:
    state = log.with_name("pipe.state")
    analyzer = Analyzer()
    analyzer.feed(HEADER + text(0) + b"0,1 2 3\n1,4")
    analyzer.save(state)
    found = json.loads(piped(log, b"5 6 7\n" + text(1), "--json", "-").stdout)
    assert found["rows"]["logged"] == 2 * 160 + 1
    assert found["source"]["malformed_lines"] == 1
