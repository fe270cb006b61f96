"""What routers foretell, against plain loops, and on the log of a real server."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.capture.cli import run_subcommand
from moe_live.capture.lookahead import LayerLookahead, LookaheadCounter, look_ahead
from moe_live.capture.routers import RouterFile
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.steps import StepAssembler
from tests.capture.logs import HEADER, Routers, block, choose, printed, random_routers, ranking
from tests.capture.test_routers import write_model

LAYERS = (1, 3, 4)
N_EXPERTS, TOP_K, N_EMBD = 12, 3, 6


def found(routers: Routers, text: bytes, cuts: list[int] | None = None) -> tuple[LayerLookahead, ...]:
    decoder = LlamaServerDecoder(gate_layers=frozenset(routers.layers))
    assembler, counter = StepAssembler(), LookaheadCounter(cast(RouterFile, routers))
    for start, end in pairwise([0, *sorted(cuts or []), len(text)]):
        for records in decoder.feed(text[start:end]):
            for batch in assembler.feed(records):
                counter.update(batch)
    for batch in assembler.interrupt():
        counter.update(batch)
    return counter.found()


def in_common(named: NDArray[np.integer], experts: NDArray[np.integer]) -> int:
    return len(set(named.tolist()) & set(experts.tolist()))


@given(st.integers(0, 2**32), st.integers(1, 12), st.lists(st.integers(0, 4000), max_size=4))
def test_shares_are_those_of_a_plain_loop(seed: int, steps: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    routers = random_routers(rng, LAYERS, N_EXPERTS, N_EMBD)
    text, tokens = [HEADER], []
    for _ in range(steps):
        many = int(rng.choice([1, 1, 1, 3]))
        token = {}
        for layer in LAYERS:
            rows = 1 if layer == LAYERS[-1] else many
            inputs = printed(rng, rows, N_EMBD)
            chosen = choose(ranking(routers[layer], inputs), TOP_K, strided=False)
            text.append(block(layer, inputs, chosen))
            token[layer] = inputs[0], chosen[0]
        if many == 1:
            tokens.append(token)
    joined = b"".join(text)
    pairs = found(routers, joined, [min(cut, len(joined)) for cut in cuts])
    assert [(pair.from_layer, pair.to_layer) for pair in pairs] == (list(pairwise(LAYERS)) if tokens else [])
    for pair in pairs:
        of = len(tokens) * TOP_K
        assert pair.tokens == len(tokens)
        stale = sum(
            in_common(
                ranking(routers[pair.to_layer], token[pair.from_layer][0][None])[0, :TOP_K],
                token[pair.to_layer][1],
            )
            for token in tokens
        )
        assert pair.stale == stale / of
        assert pair.control == 1.0
        if len(tokens) > 1:
            previous = sum(in_common(a[pair.to_layer][1], b[pair.to_layer][1]) for a, b in pairwise(tokens))
            assert pair.previous == previous / (of - TOP_K)
            half = (len(tokens) + 1) // 2
            counts = [
                np.bincount(np.concatenate([token[pair.to_layer][1] for token in some]), minlength=N_EXPERTS)
                for some in (tokens[:half], tokens[half:])
            ]
            static = sum(
                tested[np.argsort(-learned, kind="stable")[:TOP_K]].sum()
                for learned, tested in (counts, counts[::-1])
            )
            assert pair.static == static / of
        else:
            assert np.isnan([pair.previous, pair.static]).all()


def test_a_wrong_log_fails_its_control() -> None:
    rng = np.random.default_rng(1)
    routers = random_routers(rng, LAYERS, N_EXPERTS, N_EMBD)
    text = [HEADER]
    for _ in range(50):
        for layer in LAYERS:
            experts = rng.permuted(np.arange(N_EXPERTS)[None], axis=1)[:, :TOP_K]
            text.append(block(layer, printed(rng, 1, N_EMBD), experts))
    for pair in found(routers, b"".join(text)):
        assert pair.control == pytest.approx(TOP_K / N_EXPERTS, abs=0.1)


@pytest.fixture
def real(real_logs: Path) -> tuple[str, str]:
    names = ("glm4moe-160e-top8.routers.gguf", "glm4moe-160e-top8-gates.log.gz")
    model, log = (str(real_logs / name) for name in names)
    return model, log


@pytest.mark.slow
def test_of_a_real_log(real: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    pairs = look_ahead(real[0], [real[1]])
    assert [(pair.from_layer, pair.to_layer) for pair in pairs] == [(20, 21), (21, 22), (22, 23), (23, 24)]
    for pair in pairs:
        assert (pair.tokens, pair.control) == (254, 1.0)
        assert 0.75 < pair.stale < 0.8
        assert 0.25 < pair.previous < pair.static < 0.4
    assert run_subcommand(["verify", "--lookahead", "--model", *real]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-4].split()[:4] == ["lookahead", "20-21", "254", "77.0%"]
    assert run_subcommand(["verify", "--lookahead", "--json", "--model", *real]) == 1
    result = json.loads(capsys.readouterr().out)
    assert len(result["lookahead"]) == 4
    assert set(result["lookahead"][0]) == {
        *("from_layer", "to_layer", "tokens", "stale", "previous", "static", "control")
    }


def test_without_the_next_layer_there_is_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    routers = random_routers(rng, [1, 3], N_EXPERTS, N_EMBD)
    tensors = {
        f"blk.{layer}.ffn_gate_inp.weight": routers[layer].weight.astype(np.float32) for layer in (1, 3)
    }
    model = write_model(tmp_path / "model.gguf", tensors, "qwen3moe")
    inputs = printed(rng, 1, N_EMBD)
    rows = choose(ranking(routers[3], inputs), TOP_K, strided=False)
    (tmp_path / "a.log").write_bytes(HEADER + block(3, inputs, rows))
    assert run_subcommand(["verify", "--lookahead", "--model", model, str(tmp_path / "a.log")]) == 0
    assert "lookahead: no decode step has the input of a layer" in capsys.readouterr().out
    assert run_subcommand(["verify", "--model", model, str(tmp_path / "a.log")]) == 0
    assert "lookahead" not in capsys.readouterr().out
