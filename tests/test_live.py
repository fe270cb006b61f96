"""moe-live as its user meets it: real processes, a growing log, a terminal."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from moe_live.dashboard.background import QUESTION
from moe_live.dashboard.views import VIEWS
from moe_live.simulator.model import ModelShape
from moe_live.simulator.server import HEADER, Request, SimulatedServer
from tests.pseudo_terminal import MOE_LIVE, REPOSITORY, PseudoTerminal, told

ALTERNATE_SCREEN_LEFT = b"\x1b[?1049l"
CURSOR_SHOWN = b"\x1b[?25h"


def run(*arguments: str | Path, stdin: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*MOE_LIVE, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=REPOSITORY,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    """A log as a server writes it, a block at a time: a prompt and an answer."""
    server = SimulatedServer(ModelShape(), seed=3)
    steps = islice(server.serve(Request(topic=0, prompt=40, generated=60)), 60)
    return [HEADER, *(block.text for step in steps for block in step.blocks)]


@pytest.fixture
def log(tmp_path: Path, blocks: list[bytes]) -> Path:
    path = tmp_path / "finished.log"
    path.write_bytes(b"".join(blocks))
    return path


class Writer(threading.Thread):
    """Appends blocks to a log, slowly enough to be watched, each in one write."""

    def __init__(self, path: Path, blocks: list[bytes], pause: float = 0.001) -> None:
        super().__init__()
        self._path, self._blocks, self._pause = path, blocks, pause
        self.stop = threading.Event()

    def run(self) -> None:
        with self._path.open("wb", buffering=0) as log:
            for block in self._blocks:
                log.write(block)
                if self.stop.wait(self._pause):
                    return


@pytest.fixture
def writer(tmp_path: Path, blocks: list[bytes]) -> Iterator[Writer]:
    thread = Writer(tmp_path / "growing.log", blocks)
    yield thread
    thread.stop.set()
    thread.join()


def feed(descriptor: int, data: bytes, release: threading.Event | None = None) -> None:
    """Write all to a pipe, and close it when released."""
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(data)
        pipe.flush()
        if release is not None:
            release.wait()


def highlighted(terminal: PseudoTerminal, title: str) -> bool:
    """Whether the tab of this title is the one shown: it stands out in reverse."""
    for number, line in enumerate(terminal.screen.display[:6]):
        if (column := line.find(title)) >= 0:
            return bool(terminal.screen.buffer[number][column].reverse)
    return False


def without_styles(output: bytes) -> bytes:
    return re.sub(rb"\x1b\[[0-9;]*m", b"", output)


def figures(path: Path) -> dict[str, Any]:
    """The JSON summary without what names the source."""
    summary: dict[str, Any] = json.loads(path.read_text())
    del summary["source"]["paths"]
    return summary


def test_a_live_run_moves_takes_keys_and_ends_like_the_finished_file(
    tmp_path: Path, writer: Writer, log: Path
) -> None:
    growing, live, finished = tmp_path / "growing.log", tmp_path / "live.json", tmp_path / "finished.json"
    with PseudoTerminal([*MOE_LIVE, "--follow", str(growing), "--json", str(live)]) as terminal:
        terminal.wait_for("waiting")
        writer.start()
        terminal.wait_for("decode tokens")
        first = terminal.text
        terminal.wait_until(lambda: terminal.text != first)
        for key, title in ((b"2", "Heatmap"), (b"3", "Layers"), (b"4", "Experts"), (b"5", "Distances")):
            terminal.press(key)
            terminal.wait_until(partial(highlighted, terminal, title))
        terminal.press(b" ")
        terminal.wait_until(lambda: "paused" in terminal.text.lower())
        terminal.press(b" ")
        terminal.press(b"\t")
        writer.join()
        # The last step is open until the next begins or the run ends.
        terminal.wait_for("58 decode tokens")
        terminal.signal(signal.SIGINT)
        assert terminal.wait() == 0
        assert terminal.mode == terminal.mode_before
        after = terminal.output.rpartition(ALTERNATE_SCREEN_LEFT)[2]
        assert CURSOR_SHOWN in terminal.output
        assert b"59 decode steps of 59 tokens" in after
        assert b"\x1b" not in without_styles(after)
    assert run(log, "--json", finished).returncode == 0
    assert figures(live) == figures(finished)


def test_a_real_log_followed_live(tmp_path: Path, real_logs: Path) -> None:
    text = gzip.decompress((real_logs / "glm4moe-160e-top8-gates.log.gz").read_bytes())
    growing, live, finished = tmp_path / "growing.log", tmp_path / "live.json", tmp_path / "finished.json"
    pieces = [text[i : i + 8192] for i in range(0, len(text), 8192)]  # the server's buffer: cut anywhere
    writer = Writer(growing, pieces)
    with PseudoTerminal([*MOE_LIVE, "--follow", str(growing), "--json", str(live)]) as terminal:
        writer.start()
        terminal.wait_for("not real selections")
        writer.join()
        terminal.wait_for("253 decode tokens")
        terminal.press(b"q")
        assert terminal.wait() == 0
        assert b"12,282 of 19,047 rows left out; 621 recovered" in terminal.output
    (tmp_path / "whole.log").write_bytes(text)
    assert run(tmp_path / "whole.log", "--json", finished).returncode == 0
    assert figures(live) == figures(finished)


@pytest.mark.parametrize("options", [("--no-dashboard",), ()], ids=["asked", "dumb"])
def test_without_a_dashboard_q_ends_it_too_and_is_not_echoed(
    tmp_path: Path, blocks: list[bytes], options: tuple[str, ...]
) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(blocks))
    command = [*MOE_LIVE, "--follow", str(path), *options]
    with PseudoTerminal(command, environ={"TERM": "xterm" if options else "dumb"}) as terminal:
        terminal.wait_for("following")
        terminal.press(b"~q")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.mode_before
        assert b"59 decode steps" in terminal.output
        assert b"~" not in terminal.output
        assert b"\x1b" not in (without_styles(terminal.output) if options else terminal.output)


@pytest.mark.parametrize(
    ("options", "answer", "asked", "colour"),
    [
        ((), b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\\x1b[?62c", True, "blue"),
        ((), b"\x1b]11;rgb:0000/0000/0000\x07\x1b[?62c", True, "cyan"),
        ((), b"\x1b[?62c", True, "cyan"),
        (("--theme", "light"), b"", False, "blue"),
        (("--theme", "dark"), b"", False, "cyan"),
    ],
)
def test_the_terminal_is_asked_for_its_background_unless_that_is_said(
    tmp_path: Path, options: tuple[str, ...], answer: bytes, asked: bool, colour: str
) -> None:
    with PseudoTerminal([*MOE_LIVE, "--follow", str(tmp_path / "log"), *options]) as terminal:
        if asked:
            terminal.wait_until(lambda: QUESTION.encode() in terminal.output)
            terminal.press(answer)
        terminal.wait_until(lambda: terminal.screen.buffer[0][0].fg == colour)
        assert (QUESTION.encode() in terminal.output) is asked
        terminal.press(b"q")
        assert terminal.wait() == 0


def test_a_dashboard_in_ascii(tmp_path: Path, blocks: list[bytes]) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(blocks))
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path), "--ascii"]) as terminal:
        terminal.wait_for("58 decode tokens")
        for key in b"23456789":
            terminal.press(bytes([key]))
            terminal.wait_until(partial(highlighted, terminal, VIEWS[key - ord("1")].title))
            assert terminal.text.isascii()
        terminal.press(b"q")
        assert terminal.wait() == 0


def test_the_mouse_is_asked_for_heard_and_left_alone(tmp_path: Path, blocks: list[bytes]) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"".join(blocks))
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path)]) as terminal:
        terminal.wait_for("58 decode tokens")
        assert b"\x1b[?1002h\x1b[?1006h" in terminal.output
        row = next(i for i, line in enumerate(terminal.screen.display) if "3Layers" in line)
        column = terminal.screen.display[row].index("3Layers")
        terminal.press(b"\x1b[<0;%d;%dM\x1b[<0;%d;%dm" % ((column + 2, row + 1) * 2))
        terminal.wait_until(partial(highlighted, terminal, "Layers"))
        terminal.press(b"\x1b[M !!\x1b[M#!!")  # as terminals tell that know the oldest protocol alone
        terminal.press(b"m")
        terminal.wait_for("the mouse is the terminal's")
        assert terminal.output.rindex(b"\x1b[?1006l\x1b[?1002l") > terminal.output.rindex(b"\x1b[?1006h")
        terminal.press(b"q")
        assert terminal.wait() == 0


def test_keys_work_while_data_comes_from_a_pipe(blocks: list[bytes]) -> None:
    reading, writing = os.pipe()
    with PseudoTerminal(MOE_LIVE, stdin=reading) as terminal:
        os.close(reading)
        release = threading.Event()
        feeder = threading.Thread(target=feed, args=(writing, b"".join(blocks), release))
        feeder.start()
        terminal.wait_for("58 decode tokens")
        terminal.press(b"3")
        terminal.wait_for("Layers")
        terminal.press(b"q")
        assert terminal.wait() == 0
        release.set()
        feeder.join()
        assert terminal.mode == terminal.mode_before
        assert b"59 decode steps of 59 tokens" in terminal.output.rpartition(ALTERNATE_SCREEN_LEFT)[2]


def test_the_end_of_a_pipe_ends_the_dashboard_with_the_summary(blocks: list[bytes]) -> None:
    reading, writing = os.pipe()
    with PseudoTerminal(MOE_LIVE, stdin=reading) as terminal:
        os.close(reading)
        feeder = threading.Thread(target=feed, args=(writing, b"".join(blocks)))
        feeder.start()
        assert terminal.wait() == 0
        feeder.join()
        assert b"59 decode steps of 59 tokens" in terminal.output.rpartition(ALTERNATE_SCREEN_LEFT)[2]


def test_without_a_terminal_there_are_no_escape_codes(log: Path) -> None:
    finished = run(log)
    piped = run(stdin=log.read_bytes())
    assert finished.returncode == piped.returncode == 0
    for output in (finished.stdout, finished.stderr, piped.stdout, piped.stderr):
        assert b"\x1b" not in output
    assert finished.stdout.splitlines()[1:] == piped.stdout.splitlines()[1:]


def test_the_ending_is_one_screen_on_a_terminal_and_all_tables_if_asked(log: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    with PseudoTerminal([*MOE_LIVE, str(log), "--json", str(kept)], columns=80, lines=24) as terminal:
        assert terminal.wait() == 0
        assert terminal.text.startswith("read ")
        assert "written    the JSON summary to " in terminal.text
        assert "kept.json\n" in re.sub(" +\n", "\n", terminal.text)
        assert "balance layer" not in terminal.text
    with PseudoTerminal([*MOE_LIVE, str(log), "--full"], columns=120, lines=40) as terminal:
        assert terminal.wait() == 0
        assert terminal.output.replace(b"\r\n", b"\n").endswith(run(log).stdout)


def test_finished_logs_are_looked_at_in_the_dashboard(log: Path, tmp_path: Path) -> None:
    packed, browsed, finished = (
        tmp_path / "older.log.gz",
        tmp_path / "browsed.json",
        tmp_path / "finished.json",
    )
    packed.write_bytes(gzip.compress(log.read_bytes()))
    with PseudoTerminal([*MOE_LIVE, "--browse", str(packed), str(log), "--json", str(browsed)]) as terminal:
        terminal.wait_for("118 decode tokens")
        terminal.wait_for("ended")
        terminal.press(b"3")
        terminal.wait_until(partial(highlighted, terminal, "Layers"))
        terminal.press(b"q")
        assert terminal.wait() == 0
        assert b"118 decode steps" in terminal.output.rpartition(ALTERNATE_SCREEN_LEFT)[2]
    assert run(packed, log, "--json", finished).returncode == 0
    assert figures(browsed) == figures(finished)


def test_one_view_of_what_is_there_now(log: Path, tmp_path: Path) -> None:
    read = run("--once", log)
    followed = run("--once", "--follow", log)
    piped = run("--once=layers", stdin=log.read_bytes())
    for result, title in ((read, "Experts"), (followed, "Experts"), (piped, "Layers")):
        assert result.returncode == 0
        assert result.stderr == b""
        assert b"\x1b" not in result.stdout
        assert f"{title} · all steps" in result.stdout.decode()
        assert "59 decode" in result.stdout.decode()
    nothing = run("--once", "--follow", tmp_path / "none yet")
    assert (nothing.returncode, nothing.stdout) == (0, b"")
    with PseudoTerminal([*MOE_LIVE, "--once=heatmap", str(log)], columns=100, lines=30) as terminal:
        assert terminal.wait() == 0
        assert b"\x1b[48;5;" in terminal.output or b"\x1b[38;5;" in terminal.output
        assert "59 decode" in terminal.text


def test_what_could_not_be_written_is_not_said_to_be(log: Path) -> None:
    with PseudoTerminal([*MOE_LIVE, str(log), "--json", "/dev/full"]) as terminal:
        assert terminal.wait() == 1
        assert "read " in terminal.text
        assert "JSON summary to" not in terminal.text.replace("cannot write the JSON summary to", "")


def test_following_without_a_terminal_ends_with_the_summary_on_a_signal(log: Path) -> None:
    for number, status in ((signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)):
        with subprocess.Popen(
            [*MOE_LIVE, "--follow", log, "--json", "-"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
        ) as process:
            assert process.stderr is not None
            assert b"following" in process.stderr.readline()
            process.send_signal(number)
            output, _ = process.communicate(timeout=120)
            assert process.returncode == status
            assert json.loads(output)["tokens"] == {"prefill": 40, "decode": 59}


def test_json_alone_on_standard_output(log: Path) -> None:
    summary = json.loads(run(log, "--json", "-").stdout)
    assert summary["schema"] == "moe-live.summary/1"
    assert summary["steps"] == {"total": 60, "prefill": 1, "decode": 59}


def test_several_files_make_one_result(log: Path, tmp_path: Path) -> None:
    packed = tmp_path / "older.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    summary = json.loads(run(packed, log, "--json", "-").stdout)
    assert summary["tokens"] == {"prefill": 80, "decode": 118}
    assert summary["source"]["paths"] == [str(packed), str(log)]


def test_a_damaged_archive_is_used_as_far_as_it_goes_and_reported(log: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.log.gz"
    packed = gzip.compress(log.read_bytes())
    damaged.write_bytes(packed[: len(packed) // 2])
    result = run(damaged)
    assert result.returncode == 1
    assert b"steps: " in result.stdout
    *_, last = result.stderr.splitlines()
    assert last.startswith(b"moe-live: ")
    assert b"cut short" in last


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["missing.log"], 2, "missing.log"),
        ([REPOSITORY], 2, "directory"),
        (["--follow", REPOSITORY], 2, "directory"),
        (["a.log", "--demo"], 2, "either"),
        (["--refresh", "0"], 2, "rate"),
        (["--gate-layers", "9-3"], 2, "range"),
        (["--n-experts", "-1"], 2, "n-experts"),
        (["--no-such-option"], 2, "no-such-option"),
        (["a.log", "--from", "end"], 2, "--follow"),
        (["a.log", "--browse"], 2, "terminal"),
        (["--follow", "a.log", "--browse"], 2, "PATHs"),
        (["--demo", "--once"], 2, "--once goes with"),
        (["a.log", "--once=layer"], 2, "next-layer"),
        (["a.log", "--hot-experts", "3", "--hot-list", "-"], 2, "/dev/stdout"),
        (["a.log", "--label-file", REPOSITORY], 2, "cannot read labels"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[Any], status: int, message: str) -> None:
    result = run(*arguments)
    assert result.returncode == status
    *_, last = result.stderr.decode().splitlines()
    assert last.startswith("moe-live: ")
    assert message in last
    assert b"Traceback" not in result.stderr


def test_a_file_that_is_no_log_is_status_1(tmp_path: Path) -> None:
    path = tmp_path / "no.log"
    path.write_bytes(b"\x1b[2Jthis is [bold]not[/bold] a log\n")
    result = run(path)
    assert result.returncode == 1
    assert b"\x1b" not in result.stdout + result.stderr
    assert b"no usable line" in result.stderr


def test_a_reader_that_has_had_enough_ends_it_quietly(log: Path) -> None:
    result = subprocess.run(
        ["bash", "-c", '"$@" | head -1', "bash", *MOE_LIVE, log],
        capture_output=True,
        cwd=REPOSITORY,
        timeout=120,
        check=False,
    )
    assert result.stdout.count(b"\n") == 1
    assert told(result.stderr) == b""


def test_the_log_is_never_overwritten_with_its_summary(log: Path) -> None:
    before = log.read_bytes()
    result = run(log, "--json", log)
    assert (result.returncode, log.read_bytes()) == (2, before)
    assert b"the log itself" in result.stderr


def test_a_full_disk_and_a_closed_output_are_no_tracebacks(log: Path) -> None:
    for redirection, status in ((">/dev/full", 1), (">&-", 0)):
        command = f'"$@" {redirection}'
        result = subprocess.run(
            ["bash", "-c", command, "bash", *MOE_LIVE, log],
            capture_output=True,
            cwd=REPOSITORY,
            timeout=120,
            check=False,
        )
        assert result.returncode == status
        assert b"Traceback" not in result.stderr


def test_nothing_to_read_on_a_terminal_is_wrong_usage() -> None:
    with PseudoTerminal(MOE_LIVE) as terminal:
        assert terminal.wait() == 2
        assert "nothing to read" in terminal.text


def test_labels_from_lines_of_the_stream_and_from_a_file(tmp_path: Path, log: Path) -> None:
    text = log.read_bytes()
    summary = json.loads(
        run("--json", "-", stdin=b"# label: code\n" + text + b"# label: prose\n" + text).stdout
    )
    assert [(entry["label"], entry["tokens"]) for entry in summary["labels"]] == [("code", 99), ("prose", 99)]
    assert summary["source"]["malformed_lines"] == 0
    name = tmp_path / "label"
    name.write_text("math\n")
    summary = json.loads(run(log, "--json", "-", "--label-file", name).stdout)
    assert [(entry["label"], entry["tokens"]) for entry in summary["labels"]] == [("math", 99)]
    summary = json.loads(run(log, "--json", "-", "--label", "all of it").stdout)
    assert [entry["label"] for entry in summary["labels"]] == ["all of it"]


def test_a_list_of_hot_experts(tmp_path: Path, log: Path) -> None:
    assert run(log, "--hot-experts", "7", "--hot-list", tmp_path / "hot.csv").returncode == 0
    assert (tmp_path / "hot.csv").read_text().count("\n") == 8
    assert run(log, "--hot-experts", "7").returncode == 2


def test_terminated_while_catching_up_it_leaves_the_terminal_in_order(
    tmp_path: Path, blocks: list[bytes]
) -> None:
    path = tmp_path / "long.log"
    path.write_bytes(b"".join(blocks) * 150)
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path)]) as terminal:
        terminal.wait_until(lambda: "catching up" in terminal.text.lower())
        terminal.signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert terminal.mode == terminal.mode_before
        after = terminal.output.rpartition(ALTERNATE_SCREEN_LEFT)[2]
        assert b"\x1b" not in without_styles(after)
        assert re.search(rb"[0-9,]+ decode steps", after)


@pytest.mark.parametrize("emptied", [False, True], ids=["header", "emptied"])
def test_who_puts_the_logger_right_and_restarts_sees_it(tmp_path: Path, emptied: bool) -> None:
    """Fewer rows than a server writes in a minute tell: a prompt and an answer."""
    path = tmp_path / "moe.log"
    wrong, right = (
        b"".join(
            step.text
            for step in SimulatedServer(ModelShape(), seed=seed, strided=seed == 1).serve(
                Request(topic=0, prompt=60, generated=20)
            )
        )
        for seed in (1, 2)
    )
    path.write_bytes(HEADER + wrong)
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path)]) as terminal:
        terminal.wait_for("not real selections")
        assert "rows of this run" not in terminal.text
        with path.open("r+b" if emptied else "ab", buffering=0) as log:
            if emptied:
                log.truncate()
                terminal.wait_for("restarts 1")
            log.write(HEADER + right)
        terminal.wait_for("rows of this run are sound")
        terminal.press(b"q")
        assert terminal.wait() == 0
    assert b"rows of this run are sound" in terminal.output


def test_with_sizes_of_experts_caches_are_tried(tmp_path: Path, blocks: list[bytes]) -> None:
    path, written = tmp_path / "server.log", tmp_path / "live.json"
    path.write_bytes(b"".join(blocks))
    sizes = ["--expert-bytes", "1MB", "--budget", "24MB", "--json", str(written)]
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path), *sizes]) as terminal:
        terminal.wait_for("58 decode tokens")
        terminal.press(b"C")
        terminal.wait_for("of 58 decode steps")
        terminal.wait_for("24 MB")
        terminal.press(b"x")
        terminal.wait_for("unseen, of 58 decode steps")
        terminal.press(b"q")
        assert terminal.wait() == 0
    assert [entry["bytes"] for entry in json.loads(written.read_text())["cache"]] == [24_000_000]
