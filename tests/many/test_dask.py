"""`moe-live analyze --on dask://...`: a scheduler and workers, processes of their own."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from moe_live.cli import main
from moe_live.many import dask as dask_module
from moe_live.many.dask import DaskEngine
from moe_live.many.logs import cut, find_logs
from moe_live.many.session import ManyLogs
from moe_live.reports.json_report import json_text
from moe_live.settings import Settings
from moe_live.version import __version__
from tests.pseudo_terminal import REPOSITORY, one_line
from tests.test_parallel import SINGLE_THREAD, decode_log

pytest.importorskip("distributed", reason="dask is not installed (extra dask)")


class Cluster:
    """A scheduler, and workers of one thread.

    Attributes:
        scheduler: its process.
        workers: theirs.
        port: where the scheduler listens.
    """

    def __init__(self, directory: Path, workers: int, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._directory, self._stack = directory, stack
        at = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        self.scheduler = self._started("dask_scheduler", *at)
        self.workers = [
            self._started(
                "dask_worker",
                f"tcp://127.0.0.1:{self.port}",
                *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"),
                *("--local-directory", str(directory)),
            )
            for _ in range(workers)
        ]

    def _started(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
            cwd=REPOSITORY,
            env=SINGLE_THREAD,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    @property
    def address(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def ready(self) -> None:
        """Wait until all workers are there."""
        until(self.answers)
        engine = DaskEngine("127.0.0.1", self.port)
        until(lambda: engine.workers == len(self.workers))
        engine.close()

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True


def until(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    with ExitStack() as stack:

        def start(workers: int) -> Cluster:
            started = Cluster(tmp_path, workers, stack)
            started.ready()
            return started

        yield start


def written(directory: Path, many: int) -> list[str]:
    """Logs, every third packed; some say what their prompts are."""
    directory.mkdir()
    paths = []
    for number in range(many):
        text = decode_log(20, range(4), number)
        if number % 50 == 7:
            text += b"# label: code\n"
        path = directory / f"{number:04}.log{'.gz' if number % 3 == 1 else ''}"
        path.write_bytes(gzip.compress(text, 1) if number % 3 == 1 else text)
        paths.append(str(path))
    return paths


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_json_is_that_of_one_process(
    cluster: Callable[[int], Cluster], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = written(tmp_path / "logs", 20)
    Path(logs[3]).write_bytes(b"\x1f\x8b damaged")
    one = output(capsys, *logs[:3], *logs[4:], "--json", "-")
    address = cluster(2).address
    others = [*logs[:3], *logs[4:]]
    assert output(capsys, "analyze", "--on", address, *others, "--json", "-") == one
    assert main(["analyze", "--on", address, *logs, "--json", "-"]) == 0
    assert f"{logs[3]} is damaged" in capsys.readouterr().err


def test_a_scheduler_that_goes_is_told_in_one_line(
    cluster: Callable[[int], Cluster], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cluster(0)  # it would wait for ever
    (log,) = written(tmp_path / "logs", 1)
    threading.Timer(1.0, found.scheduler.kill).start()
    assert main(["analyze", "--on", found.address, log]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"moe-live: the scheduler at {found.address} has gone; start it and this anew"


def test_another_version_there_is_told_in_one_line(
    cluster: Callable[[int], Cluster],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = cluster(1)
    (log,) = written(tmp_path / "logs", 1)
    monkeypatch.setattr(dask_module, "__version__", "99.0")
    assert main(["analyze", "--on", found.address, log]) == 2
    assert f"{found.address} has moe-live {__version__}; install" in one_line(
        capsys.readouterr().err.encode()
    )

    def lacks() -> str:
        raise ModuleNotFoundError("No module named 'moe_live'")

    monkeypatch.setattr(dask_module, "_version", lacks)
    assert main(["analyze", "--on", found.address, log]) == 2
    assert "cannot run it (No module named 'moe_live'); install" in one_line(capsys.readouterr().err.encode())


def test_nobody_there_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dask_module, "CONNECT_S", 0.2)
    (log,) = written(tmp_path / "logs", 1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["analyze", "--on", f"dask://127.0.0.1:{port}", log]) == 2
    assert f"no scheduler answers at dask://127.0.0.1:{port}" in one_line(capsys.readouterr().err.encode())


def test_without_dask_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    (log,) = written(tmp_path / "logs", 1)
    assert main(["analyze", "--on", "dask://127.0.0.1:1", log]) == 2
    assert "needs dask: pip install 'moe-live[dask]'" in one_line(capsys.readouterr().err.encode())


@pytest.mark.slow
def test_a_worker_of_three_that_is_killed_in_the_middle_of_300_logs_is_only_time(
    cluster: Callable[[int], Cluster], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = written(tmp_path / "logs", 300)
    one = output(capsys, *paths, "--json", "-")
    found = cluster(3)
    engine = DaskEngine("127.0.0.1", found.port)
    logs, _ = find_logs(paths)
    size = sum(log.size or 0 for log in logs)
    session = ManyLogs(cut(logs, 3, Settings()), engine, Settings(), name="logs", size=size)
    lines = 0
    while not session.ended:
        session.ingest(0.01)
        if not lines and session.source.position > size / 2:
            found.workers[1].kill()
            lines = session.progress().lines
    assert 0 < lines < session.progress().lines
    assert json_text(session.finish()) == one
