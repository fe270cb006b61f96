"""The process: the descriptors it is given, how many it may have, and where its modules come from."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from moe_live import cli
from moe_live.simulator.model import ModelShape
from moe_live.simulator.server import HEADER, Request, SimulatedServer
from tests.pseudo_terminal import MOE_LIVE, REPOSITORY, PseudoTerminal, one_line, started, told

PATIENCE = 120.0

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished log."""
    path = tmp_path_factory.mktemp("log") / "finished.log"
    steps = SimulatedServer(ModelShape(), seed=3).serve(Request(topic=0, prompt=10, generated=20))
    path.write_bytes(HEADER + b"".join(step.text for step in steps))
    return path


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("arguments", [["LOG"], ["formats"]])
def test_garbage_is_collected_while_anything_runs(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """The process begins without."""
    gc.disable()
    try:
        assert cli.main([str(log) if argument == "LOG" else argument for argument in arguments]) == 0
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
    assert capsys.readouterr().out


# Standard input, output and error that are closed

CLOSED = [closed for n in range(1, 4) for closed in combinations(range(3), n)]


def without(descriptors: Sequence[int]) -> list[str]:
    """The beginning of a command line that runs the rest of it with these descriptors closed."""
    redirections = " ".join(f"{descriptor}>&-" for descriptor in descriptors)
    return ["bash", "-c", f'exec "$@" {redirections}', "bash", *MOE_LIVE]


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_closed_standard_input_is_an_error(closed: tuple[int, ...], arguments: list[str]) -> None:
    result = subprocess.run(
        [*without(closed), *arguments], input=b"", capture_output=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == (2 if 0 in closed else 1)
    if closed == (0,):
        assert "standard input is closed" in one_line(result.stderr)


def files_of(descriptors: Path) -> list[Path]:
    """What they are open on."""
    files = []
    for descriptor in descriptors.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            files.append(descriptor.readlink())
    return files


@linux_only
@pytest.mark.parametrize("closed", CLOSED)
def test_no_file_gets_the_number_of_a_closed_descriptor(
    tmp_path: Path, log: Path, closed: tuple[int, ...]
) -> None:
    summary = tmp_path / "summary.json"
    with started("--follow", log, "--json", summary, program=without(closed)) as process:
        descriptors = Path(f"/proc/{process.pid}/fd")
        until(lambda: log in files_of(descriptors))
        for number in closed:
            assert (descriptors / str(number)).readlink() == Path(os.devnull)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(summary.read_bytes())["source"]["bytes"] == log.stat().st_size


# Few descriptors


def limits(*near: int) -> list[Any]:
    """Numbers from 3 to 20: those near where it begins to work are tried always."""
    return [pytest.param(number, marks=() if number in near else pytest.mark.slow) for number in range(3, 21)]


PYTHON_NEEDS = 5
"""With fewer the interpreter of a virtual environment does not start, or not always."""


@pytest.fixture(scope="module")
def large_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So large that several processes read it."""
    path = tmp_path_factory.mktemp("large") / "large.log"
    path.write_bytes(HEADER + b"".join(b"%d,1 2\n" % layer for layer in range(8)) * 720_000)
    return path


def limited(number: int, *arguments: str | Path) -> list[str]:
    """moe-live as a program that may open so many files."""
    return ["bash", "-c", f'ulimit -n {number}; exec "$@"', "bash", *MOE_LIVE, *map(str, arguments)]


def assert_told(number: int, status: int, stderr: bytes) -> None:
    """That it has been told in one line, by Python or by us."""
    if number >= PYTHON_NEEDS:
        assert status == 2
        assert "ulimit -n" in one_line(stderr)
    else:
        assert status in (1, 2, 127)


@pytest.mark.parametrize("number", limits(4, 5, 6, 7, 8))
def test_with_few_descriptors_finished_files_are_read_or_that_is_an_error(
    tmp_path: Path, log: Path, large_log: Path, number: int
) -> None:
    summary = tmp_path / "summary.json"
    for path, stdin, options in (
        ([log], b"", []),
        ([], log.read_bytes(), []),
        ([large_log], b"", ["--jobs", "2", "--only", "frequency"]),
    ):
        result = subprocess.run(
            limited(number, *path, *options, "--json", summary),
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if number < 7:
            assert_told(number, result.returncode, result.stderr)
            assert list(tmp_path.iterdir()) == []
        else:
            assert (result.returncode, told(result.stderr)) == (0, b"")
            size = path[0].stat().st_size if path else len(stdin)
            assert json.loads(summary.read_bytes())["source"]["bytes"] == size
            summary.unlink()


@pytest.mark.parametrize("number", limits(5, 8, 9, 10))
@pytest.mark.parametrize("option", ["--follow", "--demo"])
def test_with_few_descriptors_a_log_is_followed_or_that_is_an_error(
    tmp_path: Path, log: Path, number: int, option: str
) -> None:
    needed = {"--follow": 9, "--demo": 10}[option]
    named: list[str | Path] = [option, log] if option == "--follow" else [option]
    arguments = limited(number, *named, "--json", "-")
    with started(*arguments, program=(), env=os.environ | {"TMPDIR": str(tmp_path)}) as process:
        if number >= needed:
            assert process.stderr is not None
            assert b"moe_expert_selection" in (line := process.stderr.readline()) or b"following" in line
            process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    if number < needed:
        assert_told(number, process.returncode, errors)
    else:
        assert process.returncode == 0
        assert json.loads(output)["schema"] == "moe-live.summary/1"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", limits(6, 7, 10, 11, 12))
@pytest.mark.parametrize("option", ["--follow", "--demo", "PATH"])
def test_with_few_descriptors_there_is_a_dashboard_with_keys_or_an_error(
    tmp_path: Path, log: Path, number: int, option: str
) -> None:
    needed = {"--follow": 11, "--demo": 12, "PATH": 7}[option]
    options: dict[str, list[str | Path]] = {"--follow": [option, log], "--demo": [option], "PATH": [log]}
    with PseudoTerminal(limited(number, *options[option]), environ={"TMPDIR": str(tmp_path)}) as terminal:
        if number >= needed and option != "PATH":
            terminal.wait_for("Overview")
            terminal.press(b"q")
        status = terminal.wait()
        if number < needed:
            assert_told(number, status, terminal.output.replace(b"\r", b""))
        else:
            assert status == 0
        assert terminal.mode == terminal.mode_before
    assert list(tmp_path.iterdir()) == []


def test_descriptors_that_run_out_later_are_told_in_one_line(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out(_config: Any) -> int:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            os.close(os.dup(0))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return 0

    monkeypatch.setattr(cli, "run", run_out)
    assert cli.main([str(log)]) == 2
    assert "ulimit -n" in one_line(capsys.readouterr().err.encode())


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1200, reason="so many may not be opened")
def test_descriptors_of_any_number_will_do(log: Path) -> None:
    inherited = 'ulimit -n 1200; for n in {1..1100}; do exec {fd}</dev/null; done; exec "$@"'
    command = ["bash", "-c", inherited, "bash", *MOE_LIVE, "--follow", str(log)]
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("Overview")
        terminal.press(b"q")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.mode_before


# Modules

PLANTS = (
    *("__future__", "argparse", "json", "multiprocessing", "numpy", "pathlib", "rich", "select", "signal"),
    *("sitecustomize", "socket", "subprocess", "tempfile", "threading", "typing", "watchdog", "zlib"),
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with modules that note that they were imported."""
    directory = tmp_path / "here"
    directory.mkdir()
    for name in PLANTS:
        (directory / f"{name}.py").write_text(
            f"import sys\nopen({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\nsys.exit('planted')\n"
        )
    return directory


def own_environment() -> dict[str, str]:
    """Ours without what makes Python careful, or finds modules elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


IN_PARTS = f"""
import functools, sys
sys.path.append({str(REPOSITORY)!r})
from moe_live.parallel import plan, worker
plan.plan = functools.partial(plan.plan, min_bytes=0, part_bytes=30_000)
worker._context = functools.partial(worker.multiprocessing.get_context, "spawn")
from moe_live.process import entry_point
if __name__ == "__main__":
    entry_point()
"""


@pytest.mark.parametrize("start", ["-m", "spawn"])
def test_nothing_is_imported_from_the_current_directory(
    tmp_path: Path, here: Path, log: Path, start: str
) -> None:
    script = tmp_path / "in_parts.py"
    script.write_text(IN_PARTS)
    command = [sys.executable, *(["-m", "moe_live"] if start == "-m" else [script]), log, "--jobs", "2"]
    result = subprocess.run(
        command, cwd=here, env=own_environment(), capture_output=True, timeout=PATIENCE, check=False
    )
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()
    assert (result.returncode, told(result.stderr)) == (0, b"")
    assert b"tokens: 29" in result.stdout


def test_nor_by_the_simulated_server(tmp_path: Path, here: Path) -> None:
    command = [sys.executable, "-m", "moe_live", "--demo", "--json", "-"]
    temporary = {"TMPDIR": str(tmp_path)}
    with started(*command, program=(), directory=here, env=own_environment() | temporary) as process:
        until(lambda: any(log.stat().st_size for log in tmp_path.glob("moe-live-demo-*/*.log")))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()


def test_it_need_not_be_installed(log: Path) -> None:
    packages = {"PYTHONPATH": sysconfig.get_path("purelib")}
    result = subprocess.run(
        [sys.executable, "-S", "-m", "moe_live", log],  # -S: links to other directories are not followed
        cwd=REPOSITORY,
        env=own_environment() | packages,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, told(result.stderr)) == (0, b"")
