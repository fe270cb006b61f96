"""The whole chain on the real engine: a small model is run, captured, followed and verified."""

from __future__ import annotations

import json
import os
import re
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moe_live.analyzer import Analyzer
from moe_live.capture.agreement import Agreement, Outcome, Place
from moe_live.capture.routers import RouterFile
from moe_live.capture.verify import compare_logs
from moe_live.routing.evidence import Verdict
from moe_live.snapshot import Snapshot
from tests.capture.logs import HEADER, block, choose, ranking, read_blocks
from tests.capture.served import ENVIRONMENT, served
from tests.conftest import REPOSITORY
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal

pytest.importorskip(
    "llama_cpp", reason="the engine is not installed (extra capture): scripts/test-capture runs these tests"
)

MODELS = {"glm4moe": ((2, 3, 4, 5, 6), 160), "qwen3moe": ((0, 1, 2, 3, 4), 64)}  # MoE layers, experts
PROMPT = "It was a bright cold day in April, and the clocks were striking thirteen. " * 3
UBATCH = 64
REUSED = 2  # tokens all prompts begin with: begin of sequence, and a blank


def capture(model: Path, log: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MOE_LIVE, "capture", "--model", model, "--log", log, "--threads", "1", *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=100,
        check=False,
        **options,
    )


def analyzed(log: Path) -> Snapshot:
    analyzer = Analyzer()
    analyzer.feed(log.read_bytes())
    analyzer.finish()
    return analyzer.snapshot()


def assert_all_right(agreement: Agreement) -> None:
    logged = agreement.counts[:, : Place.RECOVERED].sum(axis=(0, 1))
    assert logged[Outcome.RIGHT] > 100
    assert logged[Outcome.TIE] <= 0.01 * logged[Outcome.RIGHT]
    assert logged[[Outcome.WRONG, Outcome.UNDEFINED]].tolist() == [0, 0]
    assert agreement.incomplete == agreement.without_inputs == 0


@pytest.mark.parametrize("name", MODELS)
def test_captured_log_is_right(name: str, models: Path, tmp_path: Path) -> None:
    layers, n_experts = MODELS[name]
    log, model, prompt = tmp_path / "moe.log", models / f"{name}.gguf", tmp_path / "prompt"
    prompt.write_text(PROMPT)
    run = capture(
        model,
        log,
        *("--prompt-file", str(prompt), "--n-predict", "40", "--ubatch-size", str(UBATCH)),
        *("--gate-layers", f"{layers[0]}-{layers[-1]},99", "--seed", "3"),
    )
    assert run.returncode == 0, run.stderr
    warning, result = run.stderr.splitlines()
    assert "no router in these of --gate-layers: 99" in warning

    snapshot = analyzed(log)
    prompt_tokens = len(PROMPT) + REUSED
    assert snapshot.tokens.prefill == prompt_tokens
    assert snapshot.tokens.decode == 40 - 1
    assert f"{snapshot.tokens.total:,} tokens captured" in result
    assert snapshot.rows.strided is False
    assert (snapshot.model.layers, snapshot.model.gate_layers) == (layers, layers)
    tally = snapshot.input.tally
    assert (tally.malformed_lines, tally.incomplete_bytes, tally.header_lines) == (0, 0, 1)

    # The last layer has only the rows that something is predicted from.
    rows = [(layer, len(experts)) for layer, _, experts in read_blocks(log)]
    whole, rest = divmod(prompt_tokens, UBATCH)
    inner = list(layers[:-1])
    expected = [(layer, UBATCH) for _ in range(whole) for layer in inner]
    expected += [(layer, rest) for layer in inner] + [(layers[-1], 1)]
    expected += [(layer, 1) for _ in range(snapshot.tokens.decode) for layer in layers]
    assert rows == expected

    agreement = compare_logs(str(model), [str(log)])
    assert_all_right(agreement)
    assert agreement.layers == layers
    assert agreement.verdict is Verdict.SOUND
    assert all(len(usage.usage.counts) == n_experts for usage in snapshot.layers)


@pytest.mark.parametrize("name", MODELS)
def test_verify_and_the_detector_agree_on_a_strided_copy(name: str, models: Path, tmp_path: Path) -> None:
    sound, copy, model = tmp_path / "sound.log", tmp_path / "strided.log", models / f"{name}.gguf"
    run = capture(model, sound, "--prompt", PROMPT, "--n-predict", "10", "--gate-layers", "0-9")
    assert run.returncode == 0, run.stderr
    _write_strided(sound, copy, RouterFile(str(model)))
    agreement = compare_logs(str(model), [str(copy)])
    assert agreement.verdict is Verdict.STRIDED
    assert analyzed(copy).rows.strided is True
    for place in (Place.SINGLE, Place.FIRST, Place.RECOVERED):
        rows = agreement.rows(place)
        assert rows[Outcome.RIGHT] > 0
        assert rows[Outcome.WRONG] == 0
    assert agreement.rows(Place.LATER)[Outcome.RIGHT] == 0
    assert agreement.wrong > 0


def _write_strided(sound: Path, copy: Path, routers: RouterFile) -> None:
    """Write a log as it would be if the logger had not minded the row stride."""
    blocks = [HEADER]
    for layer, inputs, experts in read_blocks(sound):
        ranked = ranking(routers[layer], inputs)
        blocks.append(block(layer, inputs, choose(ranked, experts.shape[1], strided=True)))
    copy.write_bytes(b"".join(blocks))


def test_followed_live_while_it_serves(models: Path, tmp_path: Path) -> None:
    log, summary = tmp_path / "moe.log", tmp_path / "summary.json"
    follow = [*MOE_LIVE, "--follow", str(log), "--json", str(summary)]
    with (
        served(models / "glm4moe.gguf", log, "--gate-layers", "3-5", "--ubatch-size", "64") as server,
        PseudoTerminal(follow) as terminal,
    ):
        host, port = server.url.split("/")[2].split(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(port))):
            pass
        terminal.wait_for("following")
        computed = server.complete(PROMPT, 40)
        terminal.wait_for(f"{len(PROMPT) + REUSED} prefill")
        # That the last step is complete shows only when the next begins.
        terminal.wait_for(f"{computed - len(PROMPT) - REUSED - 1} decode")
        terminal.press(b"q")
        assert terminal.wait() == 0
        server.process.send_signal(signal.SIGINT)
        code, said = server.finish()
        assert (code, said) == (0, f"moe-live: {computed:,} tokens captured in {log}\n")
    result = json.loads(summary.read_text())
    assert result["rows"]["strided"] is False
    assert sum(result["tokens"].values()) == computed
    assert result["model"]["gate_layers"] == [3, 4, 5]
    assert result["distances"]["pairs"][0]["steps"] == result["steps"]["decode"]


def test_two_clients_at_once(models: Path, tmp_path: Path) -> None:
    with served(models / "qwen3moe.gguf", tmp_path / "moe.log", "--gate-layers", "0-4") as server:
        prompts = ["first " + PROMPT, "second " + PROMPT, "third " + PROMPT, "other " + PROMPT]
        with ThreadPoolExecutor(2) as clients:
            computed = sum(clients.map(lambda prompt: server.complete(prompt, 30), prompts))
            before = analyzed(server.log).tokens.total
            assert set(clients.map(lambda prompt: server.stream(prompt, 30), prompts)) == {"length"}
        server.process.send_signal(signal.SIGTERM)
        assert server.finish()[0] == -signal.SIGTERM
    snapshot = analyzed(server.log)
    tally = snapshot.input.tally
    assert (tally.malformed_lines, tally.incomplete_bytes) == (0, 0)
    # The engine does not compute again what a prompt has in common with the one before.
    assert before == computed - (len(prompts) - 1) * REUSED
    assert_all_right(compare_logs(str(models / "qwen3moe.gguf"), [str(server.log)]))


def small_files() -> None:
    """In a child: no file grows beyond 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_ends_the_run_with_one_line(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    run = capture(models / "glm4moe.gguf", log, "--prompt", PROMPT, preexec_fn=small_files)
    expected = f"moe-live: cannot write {log}: File too large; the log ends here\n"
    assert (run.returncode, run.stderr) == (1, expected)
    with served(models / "glm4moe.gguf", log, preexec_fn=small_files) as server:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            server.complete(PROMPT, 10)
        assert server.finish() == (1, expected)


def test_ctrl_c_ends_it_between_lines(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    with subprocess.Popen(
        [
            *(*MOE_LIVE, "capture", "--model", str(models / "glm4moe.gguf"), "--log", str(log)),
            *("--prompt", "Once", "--n-predict", "100000", "--ctx-size", "100000", "--threads", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        deadline = time.monotonic() + 30
        while not (log.exists() and log.stat().st_size > 50_000):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "tokens captured" in said
    assert log.read_bytes().endswith(b"\n")
    assert analyzed(log).input.tally.malformed_lines == 0


def test_what_cannot_be_captured_is_one_line_and_spares_the_log(models: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(REPOSITORY / "scripts" / "make_models.py"))
    dense = script["Shape"]("qwen3", 2, 2, n_embd=32, heads=1, experts=0, top_k=0, seed=1)
    script["ModelWriter"](tmp_path, "dense", dense).write()
    (tmp_path / "text.gguf").write_text("no model")
    log = tmp_path / "moe.log"
    log.write_text("of value")
    for name, problem in {
        "dense": "not a mixture-of-experts model",
        "text": "cannot load",
        "missing": "no such file",
    }.items():
        run = capture(tmp_path / f"{name}.gguf", log, "--prompt", "Once")
        assert run.returncode == 2
        assert run.stdout == ""
        assert run.stderr.count("\n") == 1
        assert problem in run.stderr
    run = capture(models / "glm4moe.gguf", tmp_path / "other.log", "--prompt", PROMPT, "--ctx-size", "10")
    assert run.returncode == 0, "a context is rounded up to 256"
    run = capture(models / "glm4moe.gguf", tmp_path / "other.log", "--prompt", PROMPT * 2, "--ctx-size", "10")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "context 256" in run.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = capture(models / "glm4moe.gguf", log, "--serve", port)
        assert run.returncode == 2
        assert "in use" in run.stderr
    assert log.read_text() == "of value"


def test_a_model_that_the_engine_gives_up_is_one_line(models: Path, tmp_path: Path) -> None:
    """Whether it raises something unheard of, or ends the process."""
    script = runpy.run_path(str(REPOSITORY / "scripts" / "make_models.py"))
    writer = script["ModelWriter"](tmp_path, "template", script["SHAPES"]["qwen3moe"])
    writer.file.add_chat_template("\x1b[31m{% if %}")
    writer.write()
    content = (models / "qwen3moe.gguf").read_bytes()
    key = b"qwen3moe.expert_used_count" + struct.pack("<I", 4)
    assert content.count(key) == 1
    (tmp_path / "abort.gguf").write_bytes(content.replace(key + b"\6", key + b"\0"))
    log = tmp_path / "moe.log"
    log.write_text("of value")
    for name, status, problem in (
        ("template", 2, "cannot load .*Expected an expression"),
        ("abort", 1, "the engine gave up: .*GGML_ASSERT.*; is the model damaged?"),
    ):
        for work in (["--prompt", "Once"], ["--serve", "0"]):
            run = capture(tmp_path / f"{name}.gguf", log, *work)
            assert (run.returncode, run.stdout, run.stderr.count("\n")) == (status, "", 1), run.stderr
            assert re.fullmatch(f"moe-live: {problem}.*\n", run.stderr)
            assert "\x1b" not in run.stderr
    assert log.read_text() == "of value"


def test_warnings_of_the_engine_are_lines_of_ours(models: Path, tmp_path: Path) -> None:
    run = capture(models / "qwen3moe.gguf", tmp_path / "moe.log", "--prompt", "x", "--ctx-size", "8192")
    warning, _ = run.stderr.splitlines()
    assert warning.startswith("moe-live: engine: ")
    assert "(8192) > n_ctx_train (4096)" in warning


def test_prompts_of_any_bytes(models: Path, tmp_path: Path) -> None:
    log, prompt, long = tmp_path / "moe.log", tmp_path / "prompt", tmp_path / "long"
    prompt.write_bytes(b"\xff\0\x1b[31m")
    with long.open("wb") as file:
        file.truncate(17 << 20)
    model = models / "qwen3moe.gguf"
    for work in (["--prompt", os.fsdecode(b"\xff\xfe")], ["--prompt-file", str(prompt)]):
        run = capture(model, log, *work, "--n-predict", "2")
        assert (run.returncode, run.stderr.count("\n")) == (0, 1), run.stderr
    for path in (str(long), "/dev/zero"):
        run = capture(model, log, "--prompt-file", path)
        assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
        assert "is longer than 16,777,216 bytes" in run.stderr


def test_the_log_replaces_nothing_that_is_read(models: Path, tmp_path: Path) -> None:
    model, prompt, key = (tmp_path / name for name in ("m.gguf", "prompt", "key"))
    model.write_bytes((models / "qwen3moe.gguf").read_bytes())
    prompt.write_text("Once")
    key.write_text("s3cret")
    linked = tmp_path / "linked"
    linked.hardlink_to(prompt)
    for log, problem, work in (
        (model, "it holds a model", ["--prompt", "x"]),
        (prompt, "it is the prompt", ["--prompt-file", str(prompt)]),
        (linked, "it is the prompt", ["--prompt-file", str(prompt)]),
        (key, "it is the key", ["--serve", "0", "--api-key-file", str(key)]),
    ):
        before = log.read_bytes()
        run = capture(model, log, *work)
        assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
        assert problem in run.stderr
        assert log.read_bytes() == before


_LAYOUT = """
import ctypes, sys
from moe_live.capture import tensors
from moe_live.errors import MoeLiveError
from llama_cpp import llama_cpp

class Other(ctypes.Structure):
    _fields_ = eval(sys.argv[1])(list(tensors.Tensor._fields_))

if sys.argv[1] != "lambda fields: fields":
    tensors.Tensor = Other
try:
    tensors.Tensors(llama_cpp._lib)
except MoeLiveError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("lambda fields: fields", None),
        ("lambda fields: fields[:-1]", "bytes a tensor"),
        ("lambda fields: fields[:2] + [fields[3], fields[2]] + fields[4:]", "shape"),
        ("lambda fields: [*fields[:8], ('data', ctypes.c_void_p), *fields[8:10], *fields[11:]]", "data"),
        ("lambda fields: [*fields[:11], fields[12], fields[11], fields[13]]", "name"),
        ("lambda fields: [*fields[:4], fields[6], fields[5], fields[4], *fields[7:]]", "operation"),
        ("lambda fields: [*fields[:7], fields[8], fields[7], *fields[9:]]", "operands"),
    ],
)
def test_another_layout_of_tensors_is_noticed(change: str, difference: str | None) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _LAYOUT, change], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    if difference is None:
        assert run.stdout == ""
    else:
        assert "lays out its tensors differently" in run.stdout
        assert difference in run.stdout
