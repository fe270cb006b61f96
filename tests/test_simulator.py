"""The simulated server: its log is as a real one's, and what it claims about the log is true."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from moe_live.analyzer import Analyzer
from moe_live.simulator import (
    HEADER,
    Block,
    ModelShape,
    Request,
    SimulatedServer,
    Step,
    demo_server,
    write_log,
)
from moe_live.simulator.model import TOPICS

SMALL = ModelShape(first_layer=2, n_layers=4, n_experts=16, top_k=3, gate_layers=(3, 4, 99), n_embd=8)

FLOAT = rb"-?(\d+(\.\d+)?(e[+-]\d\d+)?|inf|nan)"
LINE = re.compile(rb"\d+,\d+( \d+)*\n|gate_input,\d+,\d+," + FLOAT + rb"( " + FLOAT + rb")*\n")


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends a wait in vain."""
    while not condition():
        time.sleep(0.01)


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    n_experts = draw(st.integers(1, 20))
    return ModelShape(
        first_layer=draw(st.integers(0, 5)),
        n_layers=draw(st.integers(1, 4)),
        n_experts=n_experts,
        top_k=draw(st.integers(1, n_experts)),
        gate_layers=tuple(draw(st.sets(st.integers(0, 9), max_size=3))),
        n_embd=draw(st.integers(2, 5)),
    )


requests = st.builds(Request, st.integers(0, TOPICS - 1), st.integers(1, 30), st.integers(1, 5))


@given(
    shape=shapes(),
    served=st.lists(requests, min_size=1, max_size=3),
    seed=st.integers(0, 99),
    strided=st.booleans(),
)
def test_log_follows_the_grammar(
    *,
    shape: ModelShape,
    served: list[Request],
    seed: int,
    strided: bool,
) -> None:
    server = SimulatedServer(shape, seed=seed, ubatch=8, strided=strided)
    logged_gates = set(shape.gate_layers) & set(shape.layers)
    for step in server.serve(*served):
        layers = [block.layer for block in step.blocks]
        assert layers == sorted(set(layers))
        assert set(shape.layers) - set(layers) <= {shape.layers[-1]}
        for block in step.blocks:
            lines = block.text.splitlines(keepends=True)
            assert all(LINE.fullmatch(line) for line in lines)
            rows = len(block.logged)
            gates, experts = lines[:-rows], lines[-rows:]
            assert experts == [
                f"{block.layer},{' '.join(map(str, row))}\n".encode() for row in block.logged.tolist()
            ]
            assert [line.split(b",")[:3] for line in gates] == [
                [b"gate_input", str(block.layer).encode(), str(row).encode()]
                for row in range(rows if block.layer in logged_gates else 0)
            ]
            for row in block.experts.tolist():
                assert len(set(row)) == shape.top_k
                assert max(row) < shape.n_experts
            if not strided:
                np.testing.assert_array_equal(block.logged, block.experts)


def test_the_extended_log_tells_the_same_and_more() -> None:
    served = Request(0, 20, 30), Request(1, 10, 50)
    plain, extended = (SimulatedServer(SMALL, ubatch=8, extended=extended) for extended in (False, True))
    snapshots = []
    for server in (plain, extended):
        analyzer = Analyzer()
        analyzer.feed(server.header)
        for step in server.serve(*served):
            analyzer.feed(step.text)
        analyzer.finish()
        snapshots.append(analyzer.snapshot())
    before, after = snapshots
    assert (before.tokens, before.steps) == (after.tokens, after.steps)
    assert before.counts.tolist() == after.counts.tolist()
    assert (after.input.tally.malformed_lines, after.input.tally.header_lines) == (0, 1)
    assert [layer.rows for layer in after.gate_mass] == [30 + 29 + 49] * 3 + [2 + 29 + 49]
    assert all(layer.by_rank.sum() == pytest.approx(1) for layer in after.gate_mass)
    assert any("interleaved" in warning for warning in before.warnings)
    assert not any("interleaved" in warning for warning in after.warnings)


def test_gate_inputs_are_written_with_six_digits() -> None:
    gates = np.array([[1.1240623, -0.0, 3.041961e6, 7.6167779e-08, np.inf, np.nan]], np.float32)
    block = Block(5, np.array([[1, 0]]), np.array([[1, 0]]), gates)
    assert block.text == b"gate_input,5,0,1.12406 -0 3.04196e+06 7.61678e-08 inf nan\n5,1 0\n"


def rows(step: Step) -> tuple[int, int]:
    """Rows of the first block, rows of the last layer."""
    last = step.blocks[-1]
    return len(step.blocks[0].logged), len(last.logged) if last.layer == SMALL.layers[-1] else 0


def test_last_layer_has_only_answered_rows() -> None:
    steps = list(SimulatedServer(SMALL).serve(Request(0, 1218, 3)))
    assert [rows(step) for step in steps] == [(512, 0), (512, 0), (194, 1), (1, 1), (1, 1)]
    assert [step.decode for step in steps] == [False, False, False, True, True]
    assert [step.tokens for step in steps] == [512, 512, 194, 1, 1]


def test_several_slots_share_decode_steps() -> None:
    steps = list(SimulatedServer(SMALL).serve(Request(0, 20, 3), Request(1, 10, 5)))
    assert [rows(step) for step in steps] == [(20, 1), (10, 1), (2, 2), (2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize(("n_experts", "top_k"), [(16, 4), (16, 3), (11, 4)])
def test_strided_rows_hold_the_start_of_the_full_rankings(n_experts: int, top_k: int) -> None:
    shape = ModelShape(first_layer=0, n_layers=3, n_experts=n_experts, top_k=top_k, gate_layers=())
    tokens = 100
    step = next(SimulatedServer(shape, strided=True).serve(Request(0, tokens, 1)))
    for block in step.blocks[:-1]:
        flat = block.logged.ravel()
        for start in range(0, len(flat), n_experts):
            chunk = flat[start : start + n_experts].tolist()
            assert len(set(chunk)) == len(chunk)
        recoverable = (tokens - 1) * top_k // n_experts + 1
        for token in range(recoverable):
            start = token * n_experts
            np.testing.assert_array_equal(flat[start : start + top_k], block.experts[token])
        assert np.any(block.logged != block.experts)


def test_sound_rows_lack_the_signature() -> None:
    step = next(SimulatedServer(SMALL).serve(Request(0, 100, 1)))
    flat = step.blocks[0].logged.ravel()
    chunks = flat[: len(flat) // 16 * 16].reshape(-1, 16)
    assert not any(len(set(chunk)) == 16 for chunk in chunks.tolist())


def choices(server: SimulatedServer, topic: int, tokens: int) -> np.ndarray:
    """(tokens, layers, top_k), the experts of successive tokens; layers without the last."""
    step = next(server.serve(Request(topic, tokens, 1)))
    return np.stack([block.experts for block in step.blocks[:-1]], axis=1)


def test_best_expert_follows_the_popularity() -> None:
    server = SimulatedServer(SMALL, ubatch=1 << 20)
    for topic in range(TOPICS):
        best = choices(server, topic, 60_000)[::12, :, 0]  # so far apart that tokens are independent
        for layer in range(best.shape[1]):
            expected = server.routers.popularity[topic, layer] * len(best)
            seen = np.bincount(best[:, layer], minlength=SMALL.n_experts)
            often = expected > 5
            seen, expected = (np.append(counts[often], counts[~often].sum()) for counts in (seen, expected))
            assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-4


def test_topics_have_experts_of_their_own() -> None:
    server = SimulatedServer(SMALL, ubatch=1 << 20)
    first, again, other = (
        np.bincount(choices(server, topic, 3000)[:, 0].ravel(), minlength=16) / 9000 for topic in (0, 0, 1)
    )
    assert np.abs(first - other).sum() > 4 * np.abs(first - again).sum()


def test_decode_steps_overlap_above_chance() -> None:
    shape = ModelShape(n_layers=8, gate_layers=())
    steps = [step for step in SimulatedServer(shape).serve(Request(0, 5, 300)) if step.decode]
    sets = [[set(block.experts[0].tolist()) for block in step.blocks] for step in steps]

    def overlap(lag: int) -> float:
        return float(
            np.mean(
                [
                    len(a & b) / 8
                    for now, then in zip(sets[lag:], sets, strict=False)
                    for a, b in zip(now, then, strict=True)
                ]
            )
        )

    chance = shape.top_k / shape.n_experts
    assert overlap(1) > overlap(2) + 0.05
    assert overlap(2) > overlap(8) > 2 * chance


def test_layers_are_tied_to_the_layer_before() -> None:
    server = SimulatedServer(SMALL, ubatch=1 << 20)
    chosen = np.zeros((20_000, 3, 16), bool)
    np.put_along_axis(chosen, choices(server, 0, 20_000), values=True, axis=2)
    together = np.einsum("ti,tj->ij", chosen[:, 0].astype(float), chosen[:, 1].astype(float))
    usage = chosen.sum(axis=0)
    lift = together * len(chosen) / np.outer(usage[0], usage[1])
    partners = server.routers._channel[0][:, None] == server.routers._channel[1]
    tied = partners & (server.routers._source[1] == 0)
    assert tied.any()
    assert lift[tied].mean() > 1.5
    assert lift[~tied].mean() < 1


def test_gate_inputs_turn_by_the_stated_angles() -> None:
    server = SimulatedServer(ModelShape(n_layers=30))
    steps = list(server.serve(Request(0, 40, 100)))
    position = 0
    similarities = []
    for step in steps:
        gates = [block.gates for block in step.blocks if block.gates is not None]
        angles = server.gate_inputs.angles(np.arange(position, position + step.tokens))
        for i, (a, b) in enumerate(pairwise(gates)):
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosine = np.vecdot(a, b) / norms
            np.testing.assert_allclose(cosine, np.cos(angles[:, i + 1]), atol=1e-5)
            similarities.extend(cosine)
        position += step.tokens
    assert len(gates) == 5
    assert 0.8 < min(similarities) < 0.85
    assert 0.93 < max(similarities) < 1


def text(seed: int) -> bytes:
    server = SimulatedServer(SMALL, seed=seed)
    return b"".join(step.text for request in islice(server.requests(), 3) for step in server.serve(request))


def test_seed_determines_the_log() -> None:
    assert text(1) == text(1)
    assert text(1) != text(2)


class Pauses:
    """Ends a `write_log` after a number of pauses and keeps what the log held at each."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.left = count
        self.seen: list[bytes] = []

    def __call__(self, seconds: float) -> bool:
        assert seconds >= 0
        self.seen.append(self.path.read_bytes())
        self.left -= 1
        return self.left > 0


def test_log_grows_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old")
    pauses = Pauses(path, 20)
    write_log(path, SimulatedServer(SMALL), tokens_per_second=1e6, pause=pauses)
    server = SimulatedServer(SMALL)
    steps = islice(server.serve(next(server.requests())), 20)
    expected = HEADER
    for seen, step in zip(pauses.seen, steps, strict=True):
        expected += step.text
        assert seen == expected


def test_full_log_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    server = SimulatedServer(SMALL)
    pauses = Pauses(path, 1000)
    write_log(path, server, tokens_per_second=1e6, restart_size=1000, pause=pauses)
    restarts = [after for before, after in pairwise(pauses.seen) if len(after) < len(before)]
    assert len(restarts) >= 3
    assert all(log.startswith(HEADER) and log.count(HEADER) == 1 for log in pauses.seen)


def test_demo_writes_and_leaves_nothing() -> None:
    with demo_server() as path:
        until(lambda: path.exists() and path.stat().st_size > 10_000)
        assert path.read_bytes().startswith(HEADER[:-1])
    assert not path.parent.exists()


def test_process_ends_when_its_input_closes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "moe_live.simulator",
        str(path),
        "--tokens-per-second",
        "1000",
        "--strided",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: path.exists() and path.stat().st_size > 10_000)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, b"")


PARENT = """
import os, subprocess, sys, time
from moe_live.simulator import demo_server
start = subprocess.Popen.__init__
def noted(self, *args, **kwargs):
    start(self, *args, **kwargs)
    print(self.pid, flush=True)
subprocess.Popen.__init__ = noted
with demo_server() as path:
    print(path, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def demo_parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """A process that runs the demo server, the server's id and its log."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        path = Path(parent.stdout.readline().strip())
        try:
            yield parent, pid, path
        finally:
            parent.kill()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_demo_dies_with_its_parent(demo_parent: tuple[subprocess.Popen[str], int, Path]) -> None:
    parent, pid, path = demo_parent

    def alive() -> bool:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return state.stdout.strip() not in ("", "Z")

    until(lambda: path.exists() and path.stat().st_size > 0)
    assert alive()
    parent.send_signal(signal.SIGKILL)
    until(lambda: not alive())
    assert not path.parent.exists()
