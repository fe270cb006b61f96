"""moe-live with --state, killed at random beside a writer that rotates, copies and compresses its log."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pseudo_terminal import started
from tests.state.test_positions import Machine


class Server(threading.Thread):
    """Writes, and has its log rotated now and then, until it is told to stop."""

    def __init__(self, directory: Path, seed: int, often: float) -> None:
        super().__init__(daemon=True)
        self._often = often
        self.machine = Machine(directory)
        self.machine.follower.close()
        self._random = random.Random(seed)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._random.uniform(0, 0.02)):
            self.machine.write(self._random.randrange(1, 60))
            if self._random.random() < self._often:
                self._random.choice((self.machine.rotate, self.machine.copy, self.machine.compress))()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self.machine.out.close()


def following(machine: Machine) -> Any:
    return started("--follow", machine.log, "--state", machine.state, "--json", "-")


def ended(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(output)
    return summary


def check_kills(directory: Path, kills: int, often: float) -> None:
    server, rng = Server(directory, kills, often), random.Random(kills)
    machine = server.machine
    for turn in range(kills):
        with following(machine) as process:
            if not turn:  # what was rotated before it first ran is none of its business
                while not machine.state.exists():
                    time.sleep(0.02)
                server.start()
            time.sleep(rng.uniform(0.2, 3.0))
            process.kill()
            process.wait()
    server.stop()
    summary: dict[str, Any] = {}
    deadline = time.monotonic() + 120
    while summary.get("rows", {}).get("logged", 0) < machine.lines and time.monotonic() < deadline:
        with following(machine) as process:
            assert process.stderr is not None
            process.stderr.read(1)  # its first status line: it is up
            time.sleep(3)  # longer than a file is waited for that has left the path
            summary = ended(process)
    lines, counts = machine.wanted()
    found = {
        (layer["layer"], expert): count
        for layer in summary["layers"]
        for expert, count in enumerate(layer["counts"])
        if count
    }
    assert summary["rows"]["logged"] == lines
    assert found == counts
    assert not [warning for warning in summary["warnings"] if "moe.log" in warning]


def test_totals_are_those_of_one_that_was_never_killed(tmp_path: Path) -> None:
    check_kills(tmp_path, 5, 0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_hundred_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 100, 0.005)
