"""`capture --log FILE -- COMMAND`: the command runs as if it ran alone, and its routing is logged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moe_live import __version__
from moe_live.capture.linkage import Linkage, linkage, why_not
from moe_live.capture.supervisor import BoundedOutput
from tests.capture.tap_host import HEADER, Built, cc, compiler, steps
from tests.conftest import REPOSITORY
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler (cc)")

OURS = HEADER.replace("test", __version__)

# Tells what it was started with, then counts the signals it gets; the third ends it.
CHILD = """
import json, os, signal, sys, time
count = 0
def note(number, frame):
    global count
    count += 1
    print("signal", number, flush=True)
    if count == int(sys.argv[1]):
        sys.exit(int(sys.argv[2]))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, note)
print(json.dumps({
    "group": os.getpgrp() == os.getpid(), "input": os.readlink("/proc/self/fd/0"), "blocked":
    [str(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "log": os.environ["MOE_LIVE_LOG"], "preload": os.environ["LD_PRELOAD"].split()}), flush=True)
while True:
    time.sleep(60)
"""


def environment(**environ: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOE_LIVE_")}
    return kept | {"PYTHONPATH": str(REPOSITORY)} | environ


def arguments(log: Path, *command: str | Path, options: tuple[str, ...] = ()) -> list[str]:
    return [*MOE_LIVE, "capture", "--log", str(log), *options, "--", *map(str, command)]


def capture(
    log: Path, *command: str | Path, options: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(log, *command, options=options),
        env=environment(**environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_command_is_captured(tap_host: Built, tmp_path: Path) -> None:
    log, drafts = tmp_path / "moe.log", tmp_path / "drafts.log"
    run = capture(
        log, *tap_host.command("context:0", "steps:3"), MOE_LIVE_WEIGHTS="1", MOE_LIVE_GATE_LAYERS="2"
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "graphs 3 asked 0\n", "")
    assert log.read_text() == OURS + steps(0, 3)
    options = ("--weights", "--gate-layers", "3-4", "--drafts", str(drafts))
    run = capture(log, *tap_host.command("context:0", "steps:1", "context:1", "steps:1"), options=options)
    assert run.stderr == ""
    assert log.read_text().count("gate_input,") == 2
    assert log.read_text().count("weights") == 1
    assert drafts.read_text().count("# step") == 1


@contextmanager
def child(log: Path, count: int, status: int) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    command = (sys.executable, "-c", CHILD, str(count), str(status))
    with subprocess.Popen(
        arguments(log, *command),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_what_a_command_finds(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with child(log, 1, 0) as (process, found):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    preload = found.pop("preload")
    assert isinstance(preload, list)
    assert len(preload) == 1
    assert preload[0].endswith(".so")
    assert found == {"group": True, "input": "/dev/null", "blocked": [], "log": str(log)}
    ignored = int(capture(log, "grep", "SigIgn", "/proc/self/status").stdout.split()[1], 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    assert not ignored >> (signal.SIGXFSZ - 1) & 1


def test_each_signal_is_passed_on_once(tmp_path: Path) -> None:
    with child(tmp_path / "moe.log", 3, 7) as (process, _):
        assert process.stdout is not None
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
            assert process.stdout.readline() == f"signal {number}\n"
        assert process.stdout.read() == ""
        assert process.wait(timeout=30) == 7


def test_ctrl_c_of_a_terminal_reaches_it_once_and_is_a_good_end(tmp_path: Path) -> None:
    command = arguments(tmp_path / "moe.log", sys.executable, "-c", CHILD, "1", "9")
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("preload")
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert terminal.output.count(b"signal 2") == 1


def test_a_second_ctrl_c_ends_what_does_not_heed_the_first(tmp_path: Path) -> None:
    command = arguments(tmp_path / "moe.log", sys.executable, "-c", CHILD, "99", "9")
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("preload")
        terminal.press(b"\x03")
        terminal.wait_for("signal 2")
        time.sleep(0.3)  # else it is the same one
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert terminal.output.count(b"signal 2") == 2


def test_the_status_is_the_commands(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    assert capture(log, "sh", "-c", "exit 5").returncode == 5
    assert capture(log, "sh", "-c", "kill -9 $$").returncode == 128 + 9
    with child(log, 1, 0) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_command_goes_on_without_moe_live(tap_host: Built, tmp_path: Path) -> None:
    log, output = tmp_path / "moe.log", tmp_path / "output"
    command = tap_host.command("context:0", "steps:2", "pause:1500", "steps:2")
    with subprocess.Popen(
        arguments(log, *command, options=("--output", str(output))), env=environment()
    ) as process:
        wait_until(lambda: log.exists() and log.read_text().count("# step") == 2)
        process.kill()
        process.wait()
    wait_until(lambda: output.read_text() == "graphs 4 asked 0\n")
    assert log.read_text() == OURS + steps(0, 4)


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "status", "problem"),
    [
        (("no-such-command",), 127, "there is no command no-such-command"),
        ((), 125, "there is no command after --"),
    ],
)
def test_what_cannot_be_started(tmp_path: Path, command: tuple[str, ...], status: int, problem: str) -> None:
    run = capture(tmp_path / "moe.log", *command)
    assert run.returncode == status
    assert problem in run.stderr


def test_failures_of_moe_live_have_a_status_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    not_a_program = tmp_path / "program"
    not_a_program.write_bytes(b"\x7fELF and nothing else")
    not_a_program.chmod(0o755)
    for run, status, problem in (
        (capture(tmp_path / "missing" / "moe.log", "true"), 125, "cannot write"),
        (capture(tmp_path, "true"), 125, "it is a directory"),
        (capture(model, "true"), 125, "it holds a model"),
        (capture(log, "true", options=("--gate-layers", "x")), 125, "is not a list of layers"),
        (capture(log, "true", CC="no-such-cc", XDG_CACHE_HOME=str(tmp_path)), 125, "there is no C compiler"),
        (capture(log, not_a_program), 126, "cannot start"),
    ):
        assert run.returncode == status
        assert problem in run.stderr
        assert run.stderr.splitlines()[-1].startswith("moe-live")
    assert not log.exists()


def test_it_is_said_if_nothing_was_logged(tmp_path: Path) -> None:
    run = capture(tmp_path / "moe.log", "true")
    assert run.returncode == 0
    assert run.stderr.count("\n") == 1
    assert "nothing was logged" in run.stderr


def test_a_static_program_is_found_out_before_it_runs(tmp_path: Path) -> None:
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(
        '#include <stdio.h>\nint main(void) { puts("ggml-backend.cpp:1: failed"); return 0; }\n'
    )
    for flags in (("-static",), ()):
        cc(*flags, "-o", program, source)
        assert linkage(str(program)) is Linkage.STATIC
        run = capture(tmp_path / "moe.log", program)
        assert (run.returncode, run.stdout) == (125, "")
        assert run.stderr == (
            f"moe-live: {program} is linked statically: use one of the official dynamic builds, or build "
            "with -DBUILD_SHARED_LIBS=ON, or moe-live capture --model\n"
        )


def test_how_programs_are_linked(tap_host: Built, tmp_path: Path) -> None:
    assert linkage(tap_host.command()[0]) is Linkage.SHARED
    assert linkage(sys.executable) is Linkage.UNKNOWN
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert linkage(str(script)) is Linkage.UNKNOWN
    assert linkage(str(tmp_path / "missing")) is Linkage.UNKNOWN
    script.write_bytes(b"\x7fELF")
    assert linkage(str(script)) is Linkage.UNKNOWN
    for found in Linkage:
        reason = why_not("x", found)
        assert (reason is None) == (found in (Linkage.SHARED, Linkage.UNKNOWN))
        assert reason is None or "\n" not in reason


def test_output_that_is_kept_is_bounded_and_its_end_is_there(tmp_path: Path) -> None:
    path = tmp_path / "output"
    output = BoundedOutput(path, 10_000)
    assert output.last_lines(3) == []
    lines = [f"line {i:06}\n" for i in range(5000)]
    for line in lines:
        os.write(output.descriptor, line.encode())
        output.trim()
        assert path.stat().st_size <= 10_100
    assert output.last_lines(3) == [line[:-1] for line in lines[-3:]]
    note, *kept = path.read_text().splitlines(keepends=True)
    assert "cut off" in note
    assert kept == lines[-len(kept) :]
    assert len(kept) > 300
    output.close()


def test_what_a_failed_command_said_last(tmp_path: Path) -> None:
    output = tmp_path / "output"
    run = capture(
        tmp_path / "moe.log", "sh", "-c", "seq 1 100; echo bad >&2; exit 3", options=("--output", str(output))
    )
    assert run.returncode == 3
    assert run.stderr.splitlines()[:-2] == [*map(str, range(92, 101)), "bad"]
    assert "sh ended with status 3" in run.stderr
    assert str(output) in run.stderr
