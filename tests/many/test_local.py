"""`moe-live analyze` with processes of this machine."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moe_live.analyzer import Progress
from moe_live.cli import main
from moe_live.errors import MoeLiveError
from moe_live.many.local import DEATHS, LocalEngine
from moe_live.many.logs import LogPart
from moe_live.many.tasks import Found, Told, read
from moe_live.parallel.plan import Part
from moe_live.settings import Settings
from tests.pseudo_terminal import REPOSITORY, one_line
from tests.test_parallel import decode_log

FOUND = Found(Told("", "", Progress(0, 0, 0), ()), goes_on=False, state=b"")


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    """Plain and packed ones, an empty one, and one that is cut off in a line."""
    texts = [decode_log(20, range(4), seed) for seed in range(8)]
    texts[3] = b""
    texts[5] = texts[5][:-4]
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / (f"{number}.log.gz" if number % 3 == 1 else f"{number}.log"))
        paths[-1].write_bytes(gzip.compress(text) if number % 3 == 1 else text)
    return list(map(str, paths))


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "options", [(), ("--rows", "verified", "--n-experts", "64"), ("--only", "frequency")]
)
def test_the_json_is_that_of_one_process(
    logs: list[str], capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    one = output(capsys, *logs, *options, "--json", "-")
    assert output(capsys, "analyze", *logs, *options, "--jobs", "3", "--json", "-") == one
    assert json.loads(one)["source"]["paths"] == logs


def test_a_pattern_and_a_state(logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = output(capsys, *sorted(logs), "--json", "-")
    state, target = str(tmp_path / "all.state"), tmp_path / "all.json"
    text = output(
        capsys, "analyze", str(tmp_path / "*.log*"), "--on", "local", "--state", state, "--json", str(target)
    )
    assert target.read_text() == one
    assert "selections" in text
    assert output(capsys, "merge", state, "--json", "-") == one


def test_what_cannot_be_read_is_named_everywhere_and_the_rest_goes_on(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(logs[1])
    damaged.write_bytes(damaged.read_bytes()[:60])
    missing = str(tmp_path / "missing.log")
    assert main(["analyze", *logs, missing, "--json", "-"]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "left" not in line]
    assert lines[0] == f"moe-live: cannot read {missing}: there is no such file; check the path"
    assert lines[1].startswith(f"moe-live: {damaged} is cut short")
    (warning,) = [
        each for each in json.loads(out)["warnings"] if each.startswith("not all logs could be read")
    ]
    assert missing in warning
    assert str(damaged) in warning
    one = output(capsys, *(log for log in logs if log != str(damaged)), "--json", "-")
    assert json.loads(out)["steps"]["total"] >= json.loads(one)["steps"]["total"]


def test_strict_fails_with_the_first(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", *logs, str(tmp_path / "missing.log"), "--strict"]) == 2
    assert "missing.log" in one_line(capsys.readouterr().err.encode())
    damaged = Path(logs[1])
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert main(["analyze", *logs, "--strict", "--json", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "is cut short" in one_line(err.encode())
    assert not out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.log",), "there is no such file"),
        (("a.log", "--on", "spark://a:1"), "neither local nor of the form dask://HOST:PORT"),
        (("a.log", "--on", "dask://a:99999"), "neither local nor of the form dask://HOST:PORT"),
        (("a.log", "--on", "dask://a:1", "--jobs", "2"), "--jobs goes with --on local"),
        (("a.log", "--json", "a.log"), "it is one of the logs"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").write_bytes(decode_log(2))
    assert main(["analyze", *arguments]) == 2
    assert said in one_line(capsys.readouterr().err.encode())


def test_logs_without_a_usable_line_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"layer_id,expert_ids\n")
    assert main(["analyze", str(tmp_path / "*")]) == 1
    assert "no usable line in 2 files: nothing but a header" in one_line(capsys.readouterr().err.encode())


INTERRUPTED = """
import os, signal, sys
from moe_live import cli
from moe_live.many.local import LocalEngine
LocalEngine.wait = lambda *_: os.kill(os.getpid(), signal.SIGINT)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_ends_it_with_nothing_written(logs: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "analyze", *logs],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 128 + signal.SIGINT
    assert not ended.stdout
    assert "interrupted after 0 bytes: nothing is written" in one_line(ended.stderr)


def die_once(marker: str) -> Found:
    """Kills its process, unless somebody did before."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return FOUND
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die() -> Found:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail() -> Found:
    raise ValueError("no")


def run(engine: LocalEngine, *tasks: object) -> None:
    while not all(task.done() for task in tasks):  # type: ignore[attr-defined] # they are tasks
        engine.wait(1.0)


def test_a_process_that_dies_is_only_time(tmp_path: Path, logs: list[str]) -> None:
    engine = LocalEngine(2)
    part = LogPart(Part(logs[0], 0, None, None), (logs[0],), 0)
    tasks = [
        engine.submit(die_once, str(tmp_path / "died")),
        *(engine.submit(read, [part], Settings(), "") for _ in range(6)),
    ]
    run(engine, *tasks)
    assert tasks[0].found() == FOUND
    assert len({task.found().state for task in tasks[1:]}) == 1
    assert engine.workers == 2
    engine.close()


def test_a_task_of_which_processes_die_is_given_up_and_the_others_go_on() -> None:
    engine = LocalEngine(1)
    deadly, failing = engine.submit(die), engine.submit(fail)
    run(engine, deadly, failing)
    with pytest.raises(MoeLiveError, match=f"{DEATHS} processes died of it .exit code -9.; try --jobs 1"):
        deadly.told()
    with pytest.raises(MoeLiveError, match="ValueError: no"):
        failing.told()
    engine.close()
