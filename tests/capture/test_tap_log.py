"""What becomes of the log, and of the program, when something is in the way of writing."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path

import pytest

from tests.capture.tap_host import HEADER, LARGE, MODELS, Built, end_of, go_on, steps, wait_ready


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def text_of(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def wait_for_text(log: Path, text: str) -> None:
    wait_until(lambda: text_of(log) == text)


def wait_for_size(log: Path, size: int) -> None:
    wait_until(lambda: len(text_of(log)) > size)


def test_rows_are_there_soon(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with tap_host.started(log, "context:0", "steps:2", "say", "steps:1", "say") as process:
        for expected in (steps(0, 2), steps(0, 3)):
            wait_ready(process)
            wait_for_text(log, HEADER + expected)
            go_on(process)
        assert end_of(process) == ""


def test_a_log_that_is_there_is_appended_to(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_text("of value\n")
    log.chmod(0o640)
    tap_host.run(log, "context:0", "steps:1")
    tap_host.run(log, "context:0", "steps:2")
    assert log.read_text() == "of value\n" + HEADER + steps(0, 1) + HEADER + steps(0, 2)
    assert log.stat().st_mode & 0o777 == 0o640


def test_a_torn_line_of_a_killed_writer_cannot_be_taken_for_one(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_text(HEADER + "3,1 2")
    tap_host.run(log, "context:0", "steps:1")
    assert log.read_text() == HEADER + "3,1 2!\n" + HEADER + steps(0, 1)


def test_a_model_is_not_taken_for_a_log(tap_host: Built, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF of value")
    run = tap_host.run(model, "context:0", "steps:2")
    assert run.stderr.startswith(f"moe-live tap: cannot write {model}: File exists")
    assert model.read_bytes() == b"GGUF of value"


def test_a_path_is_meant_from_where_the_program_was_started(tap_host: Built, tmp_path: Path) -> None:
    environ = tap_host.environment("moe.log")
    subprocess.run(tap_host.command("context:0", "steps:1"), env=environ, cwd=tmp_path, check=True)
    assert (tmp_path / "moe.log").read_text() == HEADER + steps(0, 1)


def test_two_processes_do_not_write_into_one_log(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with tap_host.started(log, "context:0", "steps:1", "say", "steps:1") as first:
        wait_ready(first)
        wait_until(lambda: text_of(log))
        with tap_host.started(log, "context:0", "steps:3") as second:
            said = end_of(second)
        go_on(first)
        assert end_of(first) == ""
    other = Path(f"{log}.{second.pid}")
    assert said == (f"moe-live tap: {log} is written by another process: this one writes {other}\n")
    assert log.read_text() == HEADER + steps(0, 2)
    assert other.read_text() == HEADER + steps(0, 3)


def test_twenty_processes_at_once(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    environ = tap_host.environment(log)
    command = tap_host.command("context:0", "steps:1", "pause:300", "steps:4")
    running = [subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) for _ in range(20)]
    assert [process.wait() for process in running] == [0] * 20
    whole = HEADER + steps(0, 5)
    assert "".join(path.read_text() for path in tmp_path.iterdir()) == whole * 20


def test_a_log_that_is_renamed_is_begun_again(tap_host: Built, tmp_path: Path) -> None:
    log, old = tmp_path / "moe.log", tmp_path / "moe.log.1"
    with tap_host.started(log, "context:0", "steps:2", "say", "pause:300", "steps:2", "say") as process:
        wait_ready(process)
        wait_until(lambda: text_of(log).count("step") == 2)
        log.rename(old)
        go_on(process)
        wait_ready(process)
        wait_until(lambda: text_of(log).count("step") == 2)
        go_on(process)
        assert end_of(process) == ""
    assert old.read_text() == HEADER + steps(0, 2)
    assert log.read_text() == HEADER + steps(2, 2)


def test_a_directory_that_vanishes(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "moe.log"
    log.parent.mkdir()
    work = ("context:0", "steps:2", "say", "pause:300", "steps:2", "say", "steps:1", "say")
    with tap_host.started(log, *work) as process:
        wait_ready(process)
        wait_until(lambda: text_of(log).count("step") == 2)
        log.unlink()
        log.parent.rmdir()
        go_on(process)
        wait_ready(process)  # it answers on
        assert process.stderr is not None
        said = process.stderr.readline()
        log.parent.mkdir()
        wait_until(lambda: text_of(log) == HEADER + steps(2, 2))
        go_on(process)
        wait_ready(process)
        go_on(process)
        assert end_of(process) == ""
    assert log.read_text() == HEADER + steps(2, 3)
    assert said == (
        f"moe-live tap: cannot write {log}: No such file or directory; it is tried again, "
        "and steps that find no room are dropped\n"
    )


def test_a_log_that_is_emptied_from_outside_has_no_hole(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with tap_host.started(log, "context:0", "steps:2", "say", "steps:2") as process:
        wait_ready(process)
        wait_until(lambda: text_of(log).count("step") == 2)
        os.truncate(log, 0)
        go_on(process)
        assert end_of(process) == ""
    assert log.read_text() == steps(2, 2)


def small_files() -> None:
    """In a child: no file grows beyond 20 kB; exceeding it ends the process, unless the signal is blocked."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_limit_of_file_sizes_ends_neither_program_nor_line(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    run = subprocess.run(
        tap_host.command("context:0", "steps:2000"),
        env=tap_host.environment(log),
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0
    assert run.stderr == (
        f"moe-live tap: cannot write {log}: File too large; steps that find no room are dropped\n"
    )
    assert (HEADER + steps(0, 2000)).startswith(log.read_text())
    assert log.read_text().endswith("\n")


def test_a_full_disk(tap_host: Built) -> None:
    run = tap_host.run("/dev/full", "context:0", "steps:100")
    assert run.stderr == (
        "moe-live tap: cannot write /dev/full: No space left on device; steps that find no room are dropped\n"
    )


def test_a_disk_that_fills_up_and_is_emptied(tap_host: Built, small_disk: Path) -> None:
    log, filler = small_disk / "moe.log", small_disk / "filler"
    filler.write_bytes(bytes(200_000))
    with tap_host.started(log, "context:0", "steps:3000", "say", "steps:3", "say") as process:
        wait_ready(process)  # it answers on
        wait_until(lambda: text_of(log))
        assert (HEADER + steps(0, 3000)).startswith(text_of(log))
        assert text_of(log).endswith("\n")
        filler.unlink()
        wait_until(lambda: text_of(log) == HEADER + steps(0, 3000))
        go_on(process)
        wait_ready(process)
        go_on(process)
        assert "No space left on device" in end_of(process)
    assert log.read_text() == HEADER + steps(0, 3003)


LARGE_STEPS = 200  # of which each takes a megabyte: three times what is kept


def read_all(descriptor: int, pieces: list[bytes]) -> None:
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)


def check_counted(text: str, total: int) -> None:
    """What was written and what was dropped is all; positions tell that drops are where they were counted."""
    positions = [int(p) for p in re.findall(r"^# step pos=(\d+)", text, re.MULTILINE)]
    dropped = sum(int(n) for n in re.findall(r"^# dropped (\d+)", text, re.MULTILINE))
    assert dropped > 0
    assert len(positions) + dropped == total
    position = 0
    for line in text.splitlines():
        if line.startswith("# dropped "):
            position += int(line.split()[2])
        elif line.startswith("# step "):
            assert int(line.split("=")[1].split()[0]) == position
            position += 1
        elif not line.startswith(("#", "layer_id", "gate_input,2,0,")):
            assert line + "\n" == MODELS[LARGE].row(2, position - 1)


def test_a_reader_that_stops_and_goes_on(tap_host: Built, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    work = (f"context:{LARGE}", f"steps:{LARGE_STEPS}", "say", "steps:1", "say")
    last = b"# step pos=%d " % LARGE_STEPS
    with tap_host.started(pipe, *work, GATE_LAYERS="2") as process:
        wait_ready(process)  # though nobody has read
        pieces: list[bytes] = []
        thread = threading.Thread(target=read_all, args=(reader, pieces))
        thread.start()
        wait_until(lambda: sum(map(len, pieces)) > 100 << 20)
        go_on(process)
        wait_ready(process)
        wait_until(lambda: last in b"".join(pieces[-200:]))  # it does not wait long for readers when it ends
        go_on(process)
        said = end_of(process)
    thread.join()
    os.close(reader)
    assert "cannot be written as fast as steps come" in said
    check_counted(b"".join(pieces).decode(), LARGE_STEPS + 1)


def test_a_step_that_is_too_large_is_dropped_and_counted(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    run = tap_host.run(log, f"context:{LARGE}", "steps:1", "step:70", "steps:1", GATE_LAYERS="2")
    too_large, dropped = run.stderr.splitlines()
    assert "a step of 66 MB does not fit the buffer and is dropped" in too_large
    assert f"{log} cannot be written as fast as steps come" in dropped
    lines = [line for line in log.read_text().splitlines(keepends=True) if not line.startswith("gate_input")]
    row = MODELS[LARGE].row
    assert "".join(lines) == HEADER + (
        f"# step pos=0 seq=0 out=1\n{row(2, 0)}# dropped 1\n# step pos=71 seq=0 out=1\n{row(2, 71)}"
    )


def test_a_reader_that_never_comes_and_one_that_comes_late(tap_host: Built, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    run = tap_host.run(pipe, "context:0", "steps:100")
    assert run.stderr == f"moe-live tap: nobody reads {pipe}: up to 64 MB are kept until somebody does\n"
    with tap_host.started(pipe, "context:0", "steps:3", "say") as process:
        wait_ready(process)
        with pipe.open() as reader:
            expected = HEADER + steps(0, 3)
            assert reader.read(len(expected)) == expected
            go_on(process)
            end_of(process)


def test_a_reader_that_goes_away_is_followed_by_another(tap_host: Built, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    work = ("context:0", "steps:1", "say", "steps:1", "say", "steps:1", "say")
    with tap_host.started(pipe, *work) as process:
        with pipe.open() as reader:
            assert reader.readline() == HEADER.splitlines(keepends=True)[0]
            wait_ready(process)
        go_on(process)  # this step finds no reader
        wait_ready(process)
        descriptors = Path(f"/proc/{process.pid}/fd")
        wait_until(lambda: str(pipe) not in [str(entry.readlink()) for entry in descriptors.iterdir()])
        with os.fdopen(
            os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        ) as reader:  # no writer until there is a step
            go_on(process)
            wait_ready(process)
            go_on(process)
            end_of(process)
            text = reader.read()
    assert text == HEADER + "# dropped 1\n" + steps(2, 1)


def test_a_socket(tap_host: Built, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with tap_host.started(path, "context:0", "steps:3") as process:
            connection, _ = listener.accept()
            with connection:
                text = b"".join(iter(lambda: connection.recv(4096), b""))
            assert end_of(process) == ""
    assert text.decode() == HEADER + steps(0, 3)


def test_twenty_kills(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    for i in range(20):
        with tap_host.started(log, "context:0", "say", "steps:1000000") as process:
            wait_ready(process)
            size = len(text_of(log))
            go_on(process)
            wait_for_size(log, size + 997 * i)
            process.kill()
            process.wait()
    runs = text_of(log).split(HEADER.splitlines(keepends=True)[0])[1:]
    assert len(runs) == 20
    columns = HEADER.splitlines(keepends=True)[1]
    for run in runs:
        assert run.startswith(columns)
        rows, _, torn = run.removeprefix(columns).rpartition("\n")
        if rows.endswith("!"):
            rows, _, torn = rows[:-1].rpartition("\n")
        count = rows.count("# step") + 1
        assert steps(0, count).startswith(rows + "\n" + torn)


def test_a_program_that_is_ended_writes_what_it_has(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "steps:5000")
    assert log.read_text() == HEADER + steps(0, 5000)


@pytest.mark.parametrize("stderr", ["closed", "full"])
def test_messages_harm_nobody(tap_host: Built, tmp_path: Path, stderr: str) -> None:
    reader, writer = os.pipe()
    if stderr == "closed":
        os.close(reader)
    else:
        fcntl(writer, F_SETPIPE_SZ, 4096)
        os.write(writer, bytes(4096))
    process = subprocess.Popen(
        tap_host.command("context:0", "steps:3"),
        env=tap_host.environment(tmp_path / "missing" / "moe.log"),
        stderr=writer,
        restore_signals=True,
    )
    os.close(writer)
    assert process.wait(timeout=30) == 0
