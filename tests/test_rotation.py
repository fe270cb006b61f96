"""A running moe-live whose log is really rotated: while it is stopped, and by copying."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.simulator.model import ModelShape
from moe_live.simulator.server import HEADER, Request, SimulatedServer
from moe_live.simulator.writer import STREAM_BUFFER
from moe_live.sources.place import MARKER_BYTES
from tests.pseudo_terminal import started

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="needs /proc, which only Linux has"
)


@pytest.fixture(scope="module")
def steps() -> list[bytes]:
    """Decode steps of one slot."""
    server = SimulatedServer(ModelShape(n_layers=20, gate_layers=()), seed=4)
    return [step.text for step in islice(server.serve(Request(topic=0, prompt=1, generated=200)), 200)]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.02)


def open_logs(pid: int, log: Path) -> list[str]:
    """What the process has open of this log and of those rotated away."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            name = str(link.readlink())
        except FileNotFoundError:
            continue
        if name.startswith(str(log)):
            names.append(name)
    return names


def bytes_read(pid: int) -> int:
    """All bytes that the process took in by reading."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def following(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    log.touch()
    with started("--follow", log, "--json", "-", stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: open_logs(process.pid, log), "the log is open")
        yield process


@contextmanager
def following_after(log: Path, data: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """The same with something in the log at the beginning."""
    log.write_bytes(data)
    with following(log) as process:
        wait_until_read(process.pid, log)
        yield process


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def looks(pid: int) -> int:
    """How often it waited for something: after each look at the log, if there is nothing to read."""
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "voluntary" in line[:9]
    )
    return int(line.split()[1])


def wait_until_read(pid: int, log: Path) -> None:
    """Until all rotated files are done with, and it has looked several times and found nothing to read.

    A look reads two samples of the log, of which `MARKER_BYTES` are the most.
    """
    wait_until(lambda: open_logs(pid, log) == [str(log)], "only the present log is open")
    seen, since = bytes_read(pid), looks(pid)

    def nothing_comes() -> bool:
        nonlocal seen, since
        read, looked = bytes_read(pid) - seen, looks(pid) - since
        if read > 2 * MARKER_BYTES * (looked + 1) or open_logs(pid, log) != [str(log)]:
            seen, since = seen + read, since + looked
            return False
        return looked >= 8

    wait_until(nothing_comes, "all is read")


def summary_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(output)
    return summary


def beside(log: Path, suffix: str) -> Path:
    return log.with_name(log.name + suffix)


def shift(log: Path) -> None:
    """Add one to the numbers of all files that were rotated."""
    for number in range(40, 0, -1):
        for packing in ("", ".gz"):
            if beside(log, f".{number}{packing}").exists():
                beside(log, f".{number}{packing}").rename(beside(log, f".{number + 1}{packing}"))


def compress(path: Path) -> None:
    beside(path, ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("kept", [9, 2])
def test_f28_stopped_over_several_rotations(tmp_path: Path, steps: list[bytes], kept: int) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(HEADER + b"".join(steps[:20]))
    with following(log) as process:
        wait_until_read(process.pid, log)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid), "the process is stopped")
        append(log, b"".join(steps[20:40]))
        for rotation in range(1, 6):
            shift(log)
            log.rename(beside(log, ".1"))
            if beside(log, ".2").exists():
                compress(beside(log, ".2"))
            log.write_bytes(HEADER + b"".join(steps[20 + 20 * rotation : 40 + 20 * rotation]))
        for number in range(kept + 1, 6):
            beside(log, f".{number}.gz").unlink()
        process.send_signal(signal.SIGCONT)
        wait_until_read(process.pid, log)
        summary = summary_of(process)
    # What was held open, two rotated files (or five), and the log.
    assert summary["steps"]["total"] == (40 + 100 if kept == 9 else 40 + 60)
    assert summary["source"]["lines"] == 20 * summary["steps"]["total"] + (6 if kept == 9 else 4)
    assert summary["source"]["malformed_lines"] == summary["source"]["incomplete_lines"] == 0
    assert summary["source"]["rotations"] == (5 if kept == 9 else 3)
    told = [warning for warning in summary["warnings"] if str(log) in warning]
    assert len(told) == (kept == 2)
    assert kept == 9 or f"{log} was replaced at least 3 times while nobody looked: files may be" in told[0]


class Server(threading.Thread):
    """Writes so many rows, all different, in so many seconds, as much as its buffer holds at a time.

    Attributes:
        gate: while it is held the server does not write, as between copying and emptying the log.
    """

    def __init__(self, path: Path, rows: int, seconds: float) -> None:
        super().__init__()
        self.gate = threading.Lock()
        self._path, self._seconds = path, seconds
        experts = np.argsort(np.random.default_rng(5).random((rows, 64)))[:, :8]
        self._text = b"".join(
            b"%d,%b\n" % (row % 20, b" ".join(b"%d" % expert for expert in experts[row]))
            for row in range(rows)
        )

    def run(self) -> None:
        begin = time.monotonic()
        with self._path.open("ab", buffering=0) as log:
            for start in range(0, len(self._text), STREAM_BUFFER):
                with self.gate:
                    log.write(self._text[start : start + STREAM_BUFFER])
                due = begin + self._seconds * start / len(self._text)
                time.sleep(max(0.0, due - time.monotonic()))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_f29_rotated_by_copying_under_a_server_that_buffers(tmp_path: Path, packed: bool) -> None:
    log = tmp_path / "moe.log"
    rows, rotations = 60_000, 0
    server = Server(log, rows, seconds=3)
    with following(log) as process:
        server.start()
        while server.is_alive():
            time.sleep(0.15)
            with server.gate:
                if not log.stat().st_size:
                    continue
                shift(log)
                shutil.copy(log, beside(log, ".1"))
                os.truncate(log, 0)
            rotations += 1
            if packed:
                compress(beside(log, ".1"))
        server.join()
        append(log, b"0,1 2 3 4 5 6 7 8\n")
        wait_until_read(process.pid, log)
        summary = summary_of(process)
    assert rotations > 5
    assert summary["source"]["lines"] == rows + 1
    # Where the log was emptied inside a line, both parts of it are left out.
    assert summary["rows"]["logged"] >= rows + 1 - rotations
    assert summary["source"]["malformed_lines"] + summary["rows"]["logged"] == rows + 1
    assert not [warning for warning in summary["warnings"] if "copy" in warning or "twice" in warning]


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
@pytest.mark.parametrize("way", ["copytruncate", "create", "copytruncate\ncompress", "create\ncompress"])
def test_f29_rotated_by_logrotate_itself(tmp_path: Path, steps: list[bytes], way: str) -> None:
    log, configuration = tmp_path / "moe.log", tmp_path / "logrotate.conf"
    configuration.write_text(f"{log} {{\n{way}\nrotate 50\nmissingok\n}}\n")
    rotations = 6
    with following_after(log, HEADER) as process:
        for rotation in range(rotations):
            if rotation == 2:
                process.send_signal(signal.SIGSTOP)
                wait_until(lambda: is_stopped(process.pid), "the process is stopped")
            append(log, b"".join(steps[10 * rotation : 10 * rotation + 10]))
            command = ["logrotate", "-f", "-s", str(tmp_path / "state"), str(configuration)]
            subprocess.run(command, check=True)
        append(log, b"".join(steps[10 * rotations : 10 * rotations + 10]))
        process.send_signal(signal.SIGCONT)
        wait_until_read(process.pid, log)
        summary = summary_of(process)
    assert summary["source"]["lines"] == 1 + 200 * (rotations + 1)
    assert summary["steps"]["total"] == 10 * (rotations + 1)
