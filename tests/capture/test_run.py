"""`moe-live run -- COMMAND`: the command runs as if it ran alone, what it computes is shown, and one Ctrl-C
ends both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.capture.tap_host import HEADER, Built, compiler, steps
from tests.capture.test_command import CHILD, OURS, environment, wait_until
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler (cc)")

SUMMARY = "read       "  # how it begins
"""In the last line of the summary on a terminal."""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: to see what is left there."""
    directory = tmp_path / "t"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def arguments(*options: str | Path, command: list[str]) -> list[str]:
    return [*MOE_LIVE, "run", *map(str, options), "--", *command]


def run(*options: str | Path, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(*options, command=command),
        env=environment(**environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def summary(*options: str | Path, command: list[str]) -> dict[str, Any]:
    found = run("--json", "-", *options, command=command)
    assert found.returncode == 0, found.stderr
    result: dict[str, Any] = json.loads(found.stdout)
    return result


@contextmanager
def started(*options: str | Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        arguments(*options, command=command),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def n_tokens(found: dict[str, Any]) -> int:
    """All tokens; the first of a text is a prompt."""
    return int(found["tokens"]["prefill"] + found["tokens"]["decode"])


def wait_for_text(path: Path, text: str) -> None:
    """Until the file has the text."""
    wait_until(lambda: path.exists() and text in path.read_text())


def child(count: int, status: int) -> list[str]:
    """A command that ends with the status at that many signals."""
    return [sys.executable, "-c", CHILD, str(count), str(status)]


def test_what_is_computed_is_read_and_nothing_is_kept(
    tap_host: Built, tmp_path: Path, temporary: Path
) -> None:
    work = tap_host.command("context:0", "step:20", "steps:300", "both:2")
    found = summary(command=work)
    assert found["source"]["paths"] == ["host"]
    assert (found["source"]["malformed_lines"], found["source"]["incomplete_bytes"]) == (0, 0)
    assert list(temporary.iterdir()) == []
    log = tmp_path / "moe.log"
    kept = summary("--log", log, command=work)
    assert {key: kept[key] for key in kept} == {key: found[key] for key in kept}
    read = subprocess.run([*MOE_LIVE, log, "--json", "-"], env=environment(), capture_output=True, check=True)
    assert json.loads(read.stdout)["layers"] == found["layers"]
    assert list(temporary.iterdir()) == []


def test_a_log_that_is_there_is_appended_to_and_not_read(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_text(HEADER + steps(0, 5))
    found = summary("--log", log, command=tap_host.command("context:0", "steps:3"))
    assert n_tokens(found) == 3
    assert log.read_text() == HEADER + steps(0, 5) + OURS + steps(0, 3)


def test_a_log_is_rotated_and_no_row_is_lost(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    parts = [operation for _ in range(8) for operation in ("steps:2000", "pause:700")]
    found = summary(
        "--log", log, "--log-limit", "100K", command=tap_host.command("context:0", *parts, "steps:10")
    )
    assert n_tokens(found) == 16_010
    assert found["source"]["malformed_lines"] == 0
    names = sorted(tmp_path.glob("moe.log*"))
    assert [name.name for name in names] == ["moe.log", *(f"moe.log.{i}" for i in range(1, 5))]
    texts = [name.read_text() for name in [*names[:0:-1], names[0]] if name.stat().st_size]
    for text in texts:
        assert text.startswith(OURS)
        assert len(text) < 1_000_000
    rows = "".join(text.removeprefix(OURS) for text in texts)
    assert steps(0, 16_010).endswith(rows)


def test_layers_of_gates_are_logged_and_compared(tap_host: Built) -> None:
    found = summary("--gate-layers", "2-3", command=tap_host.command("context:0", "steps:30"))
    assert found["model"]["gate_layers"] == [2, 3]
    assert [(pair["from"], pair["to"], pair["steps"]) for pair in found["distances"]["pairs"]] == [(2, 3, 29)]


def test_weights_are_read(tap_host: Built) -> None:
    work = tap_host.command("context:0", "warmup", "step:20", "steps:30")
    plain, found = summary(command=work), summary("--weights", command=work)
    assert plain["layers"][0].keys() == found["layers"][0].keys() - {"gate_mass"}
    assert [layer["counts"] for layer in plain["layers"]] == [layer["counts"] for layer in found["layers"]]
    mass = found["layers"][0]["gate_mass"]
    assert (mass["rows"], mass["undefined_rows"], len(mass["weight_by_rank"])) == (50, 0, 3)
    assert mass["weight_by_rank"] == sorted(mass["weight_by_rank"], reverse=True)
    assert found["source"]["malformed_lines"] == 0


def test_the_commands_model_tells_how_large_experts_are(tap_host: Built, models: Path) -> None:
    (host,) = tap_host.command()
    script = ["sh", "-c", f"exec {host} context:0 steps:200", "-m", str(models / "qwen3moe.gguf")]
    (cache,) = summary("--budget", "100K", command=script)["cache"]
    assert cache["bytes"] == 100_000
    assert "how large the experts are is not known" in run("--budget", "1M", command=["true"]).stderr


def test_two_processes_are_read_one_after_the_other(tap_host: Built) -> None:
    (host,) = tap_host.command()
    script = f"{host} context:0 steps:50 pause:300 & {host} context:0 steps:70 pause:300; wait"
    found = summary(command=["sh", "-c", script])
    assert found["source"]["restarts"] == 1
    assert (n_tokens(found), found["source"]["malformed_lines"]) == (120, 0)
    assert found["layers"][0]["selections"] == 3 * 120


def test_it_is_shown_while_it_works_and_ctrl_c_ends_both(tap_host: Built, tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    host = " ".join(tap_host.command("context:0", "steps:200", "pause:60000", "steps:1"))
    command = ["sh", "-c", f"echo listening on 8080; exec {host}", "-m", str(model)]
    with PseudoTerminal(arguments(command=command), environ={"TMPDIR": os.environ["TMPDIR"]}) as terminal:
        terminal.wait_for("198 decode")  # the first is a prompt, the last may go on
        terminal.wait_for("sh (tiny)")
        assert "16 experts top-3" in terminal.text
        terminal.press(b"i")
        terminal.wait_for("listening on 8080")
        assert re.search(r"what it says +/\S+/output", terminal.text)
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert terminal.mode == terminal.mode_before
    after = terminal.output.partition(b"\x1b[?1049l")[2].decode()
    assert "sh (tiny) is asked to end; Ctrl-C ends it at once" in after
    assert SUMMARY in after
    assert "ended with status" not in after


def test_a_server_that_has_computed_nothing_shows_what_it_says_and_gets_one_signal(temporary: Path) -> None:
    options = ("--output", temporary / "said")
    with PseudoTerminal(arguments(*options, command=child(99, 0))) as terminal:
        terminal.wait_for("has computed nothing with experts yet")
        terminal.wait_for('"input": "/dev/null"')
        assert '"group": true' in terminal.text
        terminal.press(b"\x03")
        terminal.wait_for("is asked to end")
        wait_for_text(temporary / "said", "signal 2")
        time.sleep(0.3)  # else the next is the same one
        assert (temporary / "said").read_text().count("signal") == 1
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert (temporary / "said").read_text().count("signal") == 2
    assert [path.name for path in temporary.iterdir()] == ["said"]


def test_q_ends_it_as_ctrl_c_does(temporary: Path) -> None:
    with PseudoTerminal(arguments("--output", temporary / "said", command=child(1, 9))) as terminal:
        terminal.wait_for("has computed nothing")
        terminal.wait_for("preload")
        terminal.press(b"q")
        assert terminal.wait() == 0
    assert (temporary / "said").read_text().count("signal 2") == 1


def test_a_server_that_dies_ends_the_run_and_says_why(tap_host: Built, temporary: Path) -> None:
    host = " ".join(tap_host.command("context:0", "steps:200"))
    command = ["sh", "-c", f"{host}; echo out of memory >&2; kill -SEGV $$"]
    with PseudoTerminal(arguments(command=command), environ={"TMPDIR": str(temporary)}) as terminal:
        assert terminal.wait() == 128 + signal.SIGSEGV
    after = terminal.output.rpartition(b"\x1b[?1049l")[2].decode()
    said = re.search(
        r"out of memory\r\nmoe-live: sh ended with status 139; all it said: (\S+)\r\n.*" + SUMMARY,
        after,
        re.DOTALL,
    )
    assert said is not None, after
    assert "graphs 200" in Path(said[1]).read_text()


def test_the_status_is_the_commands(tmp_path: Path) -> None:
    assert run(command=["sh", "-c", "exit 5"]).returncode == 5
    assert run(command=["sh", "-c", "kill -9 $$"]).returncode == 128 + 9
    for number in (signal.SIGTERM, signal.SIGHUP):
        said = tmp_path / f"said-{number}"
        with started("--output", said, command=child(2, 7)) as process:
            wait_for_text(said, "preload")
            process.send_signal(signal.SIGUSR1)
            wait_for_text(said, f"signal {signal.SIGUSR1:d}")
            process.send_signal(number)
            assert process.wait(timeout=60) == 7
        assert f"signal {number:d}" in said.read_text()


def test_a_command_goes_on_without_moe_live(tap_host: Built, tmp_path: Path) -> None:
    said, drafts = tmp_path / "said", tmp_path / "drafts.log"
    work = ["context:1", "steps:1", "context:0", "steps:100", "pause:1500", "steps:100"]
    with started("--output", said, "--drafts", drafts, command=tap_host.command(*work)) as process:
        wait_for_text(drafts, "# step")
        process.kill()
        process.wait()
    wait_for_text(said, "graphs 201")


def test_a_command_is_not_held_up_by_a_reader_that_stops(tap_host: Built, tmp_path: Path) -> None:
    said, drafts = tmp_path / "said", tmp_path / "drafts.log"
    work = ["context:0", "steps:10", "pause:1500", "steps:20000", "context:1", "steps:1", "pause:2000"]
    command = ["sh", "-c", 'echo begun; exec "$@"', "sh", *tap_host.command(*work)]
    with started("--json", "-", "--output", said, "--drafts", drafts, command=command) as process:
        wait_for_text(said, "begun")
        process.send_signal(signal.SIGSTOP)
        wait_for_text(drafts, "# step")
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert n_tokens(json.loads(out)) == 20_010


@pytest.mark.parametrize(
    ("options", "command", "status", "problem"),
    [
        ((), [], 125, "there is no command"),
        ((), ["no-such-command"], 127, "there is no command no-such-command"),
        (("--log-limit", "1G"), ["true"], 125, "--log-limit SIZE goes with --log FILE"),
        (("--log", "x", "--log-limit", "5"), ["true"], 125, "is not a size such as 500M"),
        (("--log", "/missing/moe.log"), ["true"], 125, "cannot write /missing/moe.log"),
        (("--log", "/dev/null"), ["true"], 125, "it is no regular file"),
        (("--output", "/missing/said"), ["true"], 125, "cannot write /missing/said"),
        (("--follow", "x"), ["true"], 125, "unrecognized arguments"),
        (("--json", "/missing/x"), ["true"], 125, "/missing"),
    ],
)
def test_failures_of_moe_live_have_a_status_of_their_own(
    options: tuple[str, ...], command: list[str], status: int, problem: str, temporary: Path
) -> None:
    found = run(*options, command=command)
    assert found.returncode == status
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("moe-live: ")
    assert problem in found.stderr
    assert list(temporary.iterdir()) == []


def test_a_command_that_is_not_set_off_is_told_how_it_would_be() -> None:
    for words in ((), ("llama-server", "-m", "model.gguf"), ("--no-dashboard", "llama-server")):
        found = subprocess.run(
            [*MOE_LIVE, "run", *words], env=environment(), capture_output=True, text=True, check=False
        )
        assert found.returncode == 125
        assert "there is no -- before the command, as in moe-live run -- llama-server" in found.stderr
        assert found.stderr.count("\n") == 1


def test_a_log_that_another_writes_is_refused(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with started("--log", log, command=tap_host.command("context:0", "steps:3", "pause:60000")) as process:
        wait_until(lambda: log.exists() and log.stat().st_size)
        found = run("--log", log, command=["true"])
        assert found.returncode == 125
        assert "is written by another process" in found.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_a_static_program_is_found_out_before_it_runs(tmp_path: Path) -> None:
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(
        '#include <stdio.h>\nint main(void) { puts("ggml-backend.cpp:1: failed"); return 0; }\n'
    )
    subprocess.run([compiler() or "cc", "-o", program, source], check=True)
    found = run(command=[str(program)])
    assert (found.returncode, found.stdout) == (125, "")
    assert "is linked statically: use one of the official dynamic builds" in found.stderr


def test_it_is_said_if_nothing_was_computed() -> None:
    found = run(command=["true"])
    assert (found.returncode, found.stdout) == (0, "")
    assert found.stderr.count("\n") == 1
    assert "nothing to sum up: true computed no model with experts" in found.stderr
