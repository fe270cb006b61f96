import io
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from moe_live.analyzer import Analyzer
from moe_live.pace import Pace
from moe_live.reports.plain import run_plain, status_line
from moe_live.running import Status
from moe_live.session import Session
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break, SourceStatus, State
from tests.pseudo_terminal import MOE_LIVE, REPOSITORY

HEADER = b"layer_id,expert_ids\n"
STEP = b"0,1 2\n1,2 3\n"


class Script:
    """A source and a clock: each wait brings the next item and a second."""

    def __init__(self, items: Sequence[bytes | Break], states: Sequence[SourceStatus]) -> None:
        self.items = list(items)
        self.arrived: list[bytes | Break] = []
        self.states = list(states)
        self.now = 0.0
        self.waited: list[float] = []

    def read(self, limit: int) -> Sequence[bytes | Break]:  # noqa: ARG002 - what a source must accept
        items, self.arrived = self.arrived, []
        return items

    def pause(self) -> float:
        return 0.25

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        return self.states[min(len(self.waited), len(self.states) - 1)]

    def close(self) -> None:
        pass

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += 1
        self.arrived = [self.items.pop(0)] if self.items else []


def run(script: Script) -> str:
    stderr = io.StringIO()
    session = Session(script, Analyzer(), clock=script.clock)
    run_plain(session, stderr=stderr, stop=lambda: False, wait=script.wait, clock=script.clock)
    return stderr.getvalue()


FOLLOWING = SourceStatus("log", State.FOLLOWING, position=1000, size=2000, watch="polling")


def test_a_line_every_few_seconds() -> None:
    ended = replace(FOLLOWING, state=State.ENDED)
    script = Script([HEADER, *[STEP] * 9], [*[FOLLOWING] * 12, ended])
    lines = run(script).splitlines()
    # At once, then every 5 s. By then four steps have come and three are complete; now one comes each second.
    assert lines == [
        "moe-live: following log, 1.0 kB read (50%), 0 bytes/s, 0 lines/s, 0.0 tokens/s",
        "moe-live: following log, 1.0 kB read (50%), 13 bytes/s, 2 lines/s, 0.6 tokens/s",
        "moe-live: following log, 1.0 kB read (50%), 12 bytes/s, 2 lines/s, 1.0 tokens/s",
    ]
    assert set(script.waited) == {0.25}


def test_news_are_told_at_once() -> None:
    missing = SourceStatus("a\x1b[2Jb", State.WAITING, "does not exist\nyet", watch="polling")
    ended = replace(FOLLOWING, state=State.ENDED)
    output = run(Script([], [missing, missing, missing, FOLLOWING, ended]))
    assert output == "moe-live: waiting a\\x1b[2Jb, does not exist\\nyet\n"


def test_restarts_and_rotations_are_told() -> None:
    status = Status(replace(FOLLOWING, restarts=2, rotations=1), 0.0, 0.0, Pace(), Pace(), None)
    assert status_line(status).endswith(", 2 restarts, 1 rotations")


def test_stop_is_heeded() -> None:
    script = Script([STEP] * 100, [FOLLOWING])
    session = Session(script, Analyzer())
    stderr = io.StringIO()
    run_plain(session, stderr=stderr, stop=lambda: len(script.waited) == 3, wait=script.wait)
    assert len(script.waited) == 3
    assert stderr.getvalue().count("\n") == 1


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a [red] log"
    path.write_bytes(HEADER + STEP * 200_000)
    return path


def test_finished_file_not_on_a_terminal(log: Path) -> None:
    session = Session(ArchiveSource([log]), Analyzer())
    stderr = io.StringIO()
    run_plain(session, stderr=stderr, stop=lambda: False, wait=lambda _: None, clock=lambda: 0.0)
    assert stderr.getvalue() == ""
    assert session.finish().steps.total == 200_000


def on_terminal(log: Path) -> str:
    """Read a log with stderr on a terminal; what that shows."""
    master, slave = os.openpty()
    shown = bytearray()

    def collect() -> None:
        try:
            while data := os.read(master, 4096):
                shown.extend(data)
        except OSError:  # how Linux tells that the other end is closed
            pass

    reader = threading.Thread(target=collect)
    reader.start()
    session = Session(ArchiveSource([log]), Analyzer())
    with os.fdopen(slave, "w") as stderr:
        run_plain(session, stderr=stderr, stop=lambda: False, wait=lambda _: None, clock=lambda: 0.0)
    reader.join()
    os.close(master)
    assert session.finish().steps.total == 200_000
    return shown.decode()


def test_progress_bar_on_a_terminal(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    shown = on_terminal(log)
    assert "a [red] log" in shown
    assert re.search(r"\d+(\.\d)?/2\.4 MB", shown)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    assert shown.endswith("\x1b[2K")  # and the bar is gone


def test_no_progress_bar_on_a_dumb_terminal(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminal(log) == ""


def test_what_comes_instead_of_usable_lines_is_said_once_after_two_seconds() -> None:
    ended = replace(FOLLOWING, state=State.ENDED)
    script = Script([b"tok,layer_no,expert_id\n", *[b"0,3,51\n"] * 8], [*[FOLLOWING] * 11, ended])
    said = [line for line in run(script).splitlines() if "read" not in line]
    near = "the header has no layer column: layer_no? use --columns layer=layer_no"
    assert said == [
        f"moe-live: no usable line so far: {near}",
        "moe-live:   it came: tok,layer_no,expert_id",
        "moe-live:   it came: 0,3,51",
    ]


def test_nothing_is_said_of_lines_that_are_none_of_rows_while_rows_come() -> None:
    ended = replace(FOLLOWING, state=State.ENDED)
    script = Script([HEADER, b"junk\n", *[STEP] * 8], [*[FOLLOWING] * 11, ended])
    assert "usable" not in run(script)


def test_an_unknown_format_is_said_to_be_so_while_it_is_piped() -> None:
    """A process, and a pipe that stays open."""
    with subprocess.Popen(
        [*MOE_LIVE, "--no-dashboard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"main: loading the model\nmain: listening\n")
        process.stdin.flush()
        said = []
        for line in process.stderr:  # there is one every five seconds at least
            said.append(line.decode().rstrip())
            if "listening" in said[-1]:
                break
        process.stdin.close()
        assert process.wait() == 1
    assert any("no usable line so far: expected are lines such as" in line for line in said)
    assert "moe-live:   it came: main: loading the model" in said
