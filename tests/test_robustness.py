"""What a run says and leaves behind when something around it is not as it should be, in real processes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def shell(command: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in which "$@" is moe-live with the arguments."""
    return subprocess.run(
        ["bash", "-c", command, "bash", *MOE_LIVE, *map(str, arguments)],
        capture_output=True,
        cwd=REPOSITORY,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def bytes_read(process: subprocess.Popen[bytes]) -> int:
    """From files and devices, by a process that nobody else tells how far it is."""
    return int(Path(f"/proc/{process.pid}/io").read_text().split()[1])


# Where results go


def test_results_can_go_into_pipes_and_descriptors(log: Path, tmp_path: Path) -> None:
    result = shell(f'"$@" --json >(cat >{tmp_path}/piped); wait $!', log)
    assert (result.returncode, told(result.stderr)) == (0, b"")
    result = shell(f'"$@" --json /dev/fd/7 7>{tmp_path}/opened', log)
    assert (result.returncode, told(result.stderr)) == (0, b"")
    whole = shell('"$@" --json /dev/stdout', log).stdout
    first, _, rest = whole.partition(b"\n")
    assert json.loads(first) == json.loads((tmp_path / "piped").read_bytes())
    assert json.loads(first) == json.loads((tmp_path / "opened").read_bytes())
    assert rest.startswith(b"source: ")
    result = shell(f'"$@" --json /dev/stdout >{tmp_path}/both', log)
    assert (tmp_path / "both").read_bytes() == whole


@pytest.mark.parametrize(
    ("option", "redirection", "says"),
    [
        ("/dev/fd/9", "", "Bad file descriptor"),
        ("/dev/fd/9", "9</dev/null", "Bad file descriptor"),
        ("missing/summary.json", "", "directory does not exist"),
        ("/proc/summary.json", "", "No such file"),
        ("socket", "", "it is a socket"),
        ("x" * 300, "", "File name too long"),
        ("labels", "", "it is the file of labels"),
        ("hot.json", "", "it is where the JSON summary goes"),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_read(
    tmp_path: Path, option: str, redirection: str, says: str
) -> None:
    """The log is a pipe that never ends: reading any of it would last forever."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    (tmp_path / "labels").touch()
    result = shell(
        f'cd {tmp_path}; PYTHONPATH={REPOSITORY} "$@" {redirection} < <(yes)',
        *("--json", option, "--label-file", "labels", "--hot-experts", "3", "--hot-list", "hot.json"),
    )
    assert result.returncode == 2
    assert says in one_line(result.stderr)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_log_on_standard_input_is_not_overwritten_with_its_summary(log: Path) -> None:
    before = log.read_bytes()
    result = shell(f'"$@" <{log}', "--json", log)
    assert (result.returncode, log.read_bytes()) == (2, before)
    assert "the log itself" in one_line(result.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_that_nobody_reads_can_be_given_up(log: Path, tmp_path: Path, number: signal.Signals) -> None:
    summary, fifo = tmp_path / "summary.json", tmp_path / "fifo"
    os.mkfifo(fifo)
    with started(log, "--json", summary, "--hot-experts", "3", "--hot-list", fifo) as process:
        until(summary.exists)  # what is left then waits for a reader
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert number.name in one_line(errors)
    assert b"tokens: 29" in output


def test_a_summary_is_printed_even_if_the_json_cannot_be_written(log: Path) -> None:
    result = shell('"$@"', log, "--json", "/dev/full")
    assert result.returncode == 1
    assert "No space left" in one_line(result.stderr)
    assert b"tokens: 29" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--no-such-option"], 2), (["missing.log"], 2), (["LOG"], 0), (["EMPTY"], 1)]
)
@pytest.mark.parametrize("redirection", ["2>/dev/full", "<&- >&- 2>&-"])
def test_the_exit_status_does_not_depend_on_standard_error(
    log: Path, tmp_path: Path, arguments: list[str], status: int, redirection: str
) -> None:
    (tmp_path / "empty").touch()
    paths = {"LOG": log, "EMPTY": tmp_path / "empty"}
    named = [paths.get(argument, argument) for argument in arguments]
    assert shell(f'"$@" {redirection}', *named).returncode == status


# What is read


@pytest.mark.parametrize("option", [[], ["--follow"], ["--json"], ["--label-file"], ["--hot-list"]])
def test_an_empty_path_is_wrong_usage(option: list[str]) -> None:
    result = shell('"$@"', *option, "")
    assert result.returncode == 2
    assert "an empty path names no file" in one_line(result.stderr)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the log is empty"),
        (b"\0" * 1000, "all 1,000 bytes are NUL"),
        (b"3,1 2 3", "no line is complete, there is no newline"),
        (HEADER, "nothing but a header"),
        (b"# label: x\n", "nothing but labels"),
    ],
)
def test_a_log_without_a_usable_line_is_told_by_what_it_holds(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "no\x1blog"
    path.write_bytes(content)
    result = shell('"$@"', path)
    assert result.returncode == 1
    assert one_line(result.stderr).endswith(f"no usable line in {tmp_path}/no\\x1blog: {says}")


@linux_only
def test_an_endless_device_is_read_until_it_is_interrupted() -> None:
    with started("/dev/zero", "--json", "-") as process:
        until(lambda: bytes_read(process) > 50_000_000)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    read = json.loads(output)["source"]["bytes"]
    assert one_line(errors) == f"moe-live: interrupted after {read:,} bytes"


@linux_only
@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/cpuinfo"])
def test_what_the_system_makes_up_cannot_be_followed(path: str) -> None:
    result = shell('"$@"', "--follow", path)
    assert result.returncode == 2
    assert f"cannot follow {path}: Not a stored file" in one_line(result.stderr)


# How it ends


@pytest.mark.parametrize("module", ["argparse", "numpy"])
def test_ctrl_c_while_modules_are_loaded_is_quiet(tmp_path: Path, log: Path, module: str) -> None:
    begun = tmp_path / "begun"
    (tmp_path / f"{module}.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    )
    with started(log, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}) as process:
        until(begun.exists)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == -signal.SIGINT


SLOW = """
import time
from moe_live.process import entry_point
from moe_live.analyzer import Analyzer
feed = Analyzer.feed
def slow(self, data):
    time.sleep(0.2)
    feed(self, data)
Analyzer.feed = slow
entry_point()
"""


def test_what_is_still_to_be_analyzed_is_told_at_once_and_can_be_left_out(tmp_path: Path, log: Path) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(log.read_bytes() * 30)
    command = (sys.executable, "-c", SLOW, "--follow", path, "--no-dashboard", "--json", "-")
    with started(*command, program=()) as process:
        assert process.stderr is not None
        assert b"long.log" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        while not (line := process.stderr.readline()).startswith(b"moe-live: finishing: "):
            assert b"long.log" in line
        time.sleep(0.3)  # what comes sooner is taken for the same Ctrl-C
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told(errors)) == (0, b"")
    summary = json.loads(output)
    left = re.search(r"before ([0-9,]+) bytes that were read", summary["warnings"][0])
    assert left is not None
    assert summary["source"]["bytes"] + int(left[1].replace(",", "")) == path.stat().st_size


@pytest.mark.parametrize("arguments", [["--follow", "LOG"], ["--follow", "LOG", "--no-dashboard"], ["FIFO"]])
def test_a_closed_terminal_is_status_129_and_files_are_still_written(
    tmp_path: Path, log: Path, arguments: list[str]
) -> None:
    summary = tmp_path / "summary.json"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = os.open(fifo, os.O_RDWR)  # never at its end
    paths = {"LOG": str(log), "FIFO": str(fifo)}
    named = [paths.get(argument, argument) for argument in arguments]
    try:
        with PseudoTerminal([*MOE_LIVE, *named, "--json", str(summary)]) as terminal:
            os.write(feeder, log.read_bytes()[:4096])
            terminal.wait_until(lambda: b"following" in terminal.output or b"fifo" in terminal.output)
            terminal.hang_up()
            assert terminal.process.wait(PATIENCE) == 128 + signal.SIGHUP
    finally:
        os.close(feeder)
    assert json.loads(summary.read_bytes())["source"]["lines"] > 0


@pytest.mark.parametrize(
    "number", [signal.SIGUSR1, signal.SIGALRM, signal.SIGXCPU, signal.SIGABRT, signal.SIGRTMIN]
)
def test_a_signal_that_nobody_expects_leaves_the_terminal_in_order(log: Path, number: signal.Signals) -> None:
    command = ["bash", "-c", 'ulimit -c 0; exec "$@"', "bash", *MOE_LIVE, "--follow", str(log)]
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("layers")
        assert terminal.mode != terminal.mode_before
        terminal.signal(number)
        assert terminal.wait() == -number
        assert terminal.mode == terminal.mode_before
        assert terminal.output.rfind(b"\x1b[?1049l") > terminal.output.rfind(b"\x1b[?1049h")


def handles(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    caught = re.search(r"^SigCgt:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@linux_only
@pytest.mark.parametrize("block", [PseudoTerminal.fill, PseudoTerminal.hold])
@pytest.mark.parametrize("arguments", [[], ["--follow", "LOG", "--no-dashboard"], ["FIFO"]])
def test_one_sigterm_ends_what_writes_to_a_terminal_that_nobody_reads(
    tmp_path: Path, log: Path, arguments: list[str], block: Callable[[PseudoTerminal], None]
) -> None:
    summary, fifo = tmp_path / "summary.json", tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = os.open(fifo, os.O_RDWR)  # never at its end
    os.write(feeder, log.read_bytes()[:4096])
    paths = {"LOG": str(log), "FIFO": str(fifo)}
    command = [*MOE_LIVE, *(paths.get(argument, argument) for argument in arguments), "--json", str(summary)]
    try:
        with PseudoTerminal(command, stdin=feeder, before=block) as terminal:
            until(lambda: handles(terminal.process, signal.SIGTERM))
            if "--follow" not in arguments:
                until(lambda: fcntl.ioctl(feeder, termios.FIONREAD, bytes(4)) == bytes(4))
            terminal.signal(signal.SIGTERM)
            assert terminal.process.wait(PATIENCE) == 128 + signal.SIGTERM
            assert terminal.mode == terminal.mode_before
    finally:
        os.close(feeder)
    assert json.loads(summary.read_bytes())["source"]["lines"] > 0


@linux_only
def test_who_did_not_send_a_signal_can_hold_the_summary(log: Path) -> None:
    with PseudoTerminal([*MOE_LIVE, str(log)], before=PseudoTerminal.hold) as terminal:
        until(lambda: handles(terminal.process, signal.SIGTERM))
        with pytest.raises(subprocess.TimeoutExpired):
            terminal.process.wait(2.0)  # it may still load then: however fast it is, it must not end
        terminal.release()
        assert terminal.wait() == 0
        assert " decode steps of " in terminal.output.decode()


@linux_only
def test_a_terminal_that_takes_nothing_holds_up_neither_the_reading_nor_the_end(
    tmp_path: Path, log: Path
) -> None:
    path, summary = tmp_path / "growing.log", tmp_path / "summary.json"
    path.write_bytes(log.read_bytes())
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path), "--json", str(summary)]) as terminal:
        terminal.wait_for("layers")
        for _ in range(100):
            terminal.press(b"21")  # frames that nobody takes
            time.sleep(0.01)
        before = bytes_read(terminal.process)
        with path.open("ab") as growing:
            growing.write(log.read_bytes()[len(HEADER) :])
        until(lambda: bytes_read(terminal.process) >= before + log.stat().st_size - len(HEADER))
        terminal.signal(signal.SIGTERM)
        assert terminal.process.wait(PATIENCE) == 128 + signal.SIGTERM
        terminal.wait()
        assert terminal.mode == terminal.mode_before
        assert terminal.output.rfind(b"\x1b[?1049l") > terminal.output.rfind(b"\x1b[?1049h")
    assert json.loads(summary.read_bytes())["steps"]["total"] == 40
