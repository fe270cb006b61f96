"""`plan offload`: what it says, and arguments for llama.cpp."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.cli import main
from tests.plans.logs import write_log, write_model
from tests.statistics.drawn_steps import chosen

LAYERS = (1, 2, 4, 5)
GIB = 1 << 30


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("offload")


@pytest.fixture(scope="module")
def log(directory: Path) -> str:
    return write_log(
        directory / "moe.log", chosen(np.random.default_rng(1), np.zeros((4, 16)), 4, (200, 4)), LAYERS
    )


def write_batches(path: Path, layers: range, spread: set[int]) -> str:
    """Decode steps of eight sequences, which choose the same experts in all layers but some."""
    rng = np.random.default_rng(2)
    # Of a prompt the last layer has the last row alone: so it is known to be the last.
    prompt = [f"{layer},0 1 2 3" for layer in layers[:-1] for _ in range(9)]
    lines = ["layer_id,expert_ids", *prompt, f"{layers[-1]},0 1 2 3"]
    for _ in range(100):
        for layer in layers:
            for _ in range(8):
                row = rng.permutation(16)[:4] if layer in spread else rng.permutation(4)
                lines.append(f"{layer},{' '.join(map(str, row))}")
    path.write_text("\n".join([*lines, ""]))
    return str(path)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "offload", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def on_cpu(arguments: list[str]) -> set[str]:
    """The tensors that llama.cpp keeps in the memory of the CPU, as it does by its documentation."""
    names = {
        f"blk.{layer}.{name}"
        for layer in range(20)
        for name in ("ffn_up_exps.weight", "ffn_gate_up_exps.weight", "ffn_down_exps.weight", "attn_q.weight")
    }
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options.pop("-ngl") == "999"
    patterns = []
    if "--n-cpu-moe" in options:
        first = range(int(options.pop("--n-cpu-moe")))
        patterns = [rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps" for layer in first]
    for override in options.pop("-ot", "").split(","):
        if override:
            pattern, place = override.split("=")
            assert place == "CPU"
            patterns.append(pattern)
    assert not options
    return {name for name in names if any(re.search(pattern, name) for pattern in patterns)}


def experts_of(*layers: int) -> set[str]:
    return {f"blk.{layer}.ffn_{part}_exps.weight" for layer in layers for part in ("up", "gate_up", "down")}


def test_the_last_layers_that_fit_are_on_the_gpu(
    log: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(directory / "m.gguf", dict.fromkeys(LAYERS, 300), 16)
    for fits, layers in ((2, (0, 1, 2)), (0, (0, 1, 2, 3, 4, 5)), (3, (0, 1))):
        vram = str(GIB + fits * 16 * 300 + 16 * 300 - 1)
        found = as_json(capsys, log, "--model", model, "--vram", vram, "--reserve", "1GiB")
        assert on_cpu(found["arguments"]) == experts_of(*layers)
        assert sum(entry["on_cpu"] for entry in found["layers"]) == 4 - fits
        assert found["gains"] is False
    found = as_json(capsys, log, "--model", model, "--vram", "2GiB", "--reserve", "1GiB")
    assert found["arguments"] == ["-ngl", "999"]
    assert [entry["bytes"] for entry in found["layers"]] == [16 * 300] * 4
    assert [entry["read"] for entry in found["layers"]] == [4 * 300] * 4
    assert [entry["distinct"][0] for entry in found["layers"]] == [4.0] * 4


def test_layers_are_chosen_by_use_where_that_reads_less(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = write_batches(directory / "batches.log", range(1, 17), set(range(1, 17, 2)))
    arguments = [batches, "--expert-bytes", "300", "--vram", str(GIB + 8 * 16 * 300), "--reserve", "1GiB"]
    found = as_json(capsys, *arguments)
    assert found["gains"] is True
    assert found["arguments"] == ["-ngl", "999", "-ot", r"blk\.(2|4|6|8|10|12|14|16)\.ffn_.*_exps\.=CPU"]
    assert on_cpu(found["arguments"]) == experts_of(*range(2, 17, 2))
    assert main(["plan", "offload", *arguments]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "offload: choosing layers by use reads less than by number on steps that were not seen" in out
    assert shlex.split(out[-1]) == ["offload:", "llama-server", *found["arguments"]]


def test_in_words(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        log,
        "--expert-bytes",
        "300MB",
        "--vram",
        "12GB",
        "--reserve",
        "2GB",
        "--bandwidth",
        "60GB/s",
    )
    assert main(["plan", "offload", *arguments]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "offload: the latest 200 decode steps; 10 GB of the GPU for experts"
    assert out[1].endswith("is not known without --model: leave room for it")
    assert [line.split()[-1] for line in out[4:8]] == ["CPU", "CPU", "GPU", "GPU"]
    assert (
        out[8]
        == "offload: experts of 2 of 4 layers on the CPU: a token reads 2.24 GiB there, 40.0 ms at 60 GB/s"
    )
    assert out[9:] == ["offload: llama-server -ngl 999 --n-cpu-moe 3"]
    assert max(map(len, out)) < 110


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vram", "3GiB"], "give --model GGUF or --expert-bytes N"),
        (["--expert-bytes", "300"], "required: --vram"),
        (["--vram", "1GiB", "--expert-bytes", "300"], "give more --vram or less --reserve"),
        (["--vram", "x", "--expert-bytes", "300"], "not a number of bytes"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "offload", log, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
