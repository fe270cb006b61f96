"""`plan placement`: what it says, and files that engines read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.plans.placement_files import WRITERS, Placement
from moe_live.statistics.placement import balanced
from tests.plans.engines import read_csv, read_sglang, read_tensorrt_llm, read_vllm_ascend
from tests.plans.logs import write_log
from tests.statistics.drawn_steps import chosen

LAYERS = tuple(range(3, 23))
N_EXPERTS, DEVICES, REPLICAS = 16, 4, 4


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(1)
    rows = chosen(rng, rng.normal(0, 1, (20, N_EXPERTS)), 2, (300, 20))
    return write_log(tmp_path_factory.mktemp("placement") / "moe.log", rows, LAYERS)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "placement", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_files_are_what_engines_read(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {name: str(tmp_path / name) for name in WRITERS}
    files = [word for name, path in paths.items() for word in (f"--{name.replace('_', '-')}", path)]
    found = as_json(capsys, log, "--devices", "4", "--replicas", "4", "--model-layers", "24", *files)
    placement = np.array(found["placement"])
    assert (found["layers"], found["places"], placement.shape) == (list(LAYERS), 20, (20, 20))

    texts = {name: Path(path).read_text() for name, path in paths.items()}
    table = read_sglang(texts["sglang"], 24, N_EXPERTS, REPLICAS, DEVICES)
    assert np.array_equal(table[3:23], placement)
    assert table[0].tolist() == table[23].tolist() == [*range(16), *range(4)]
    by_device = read_vllm_ascend(texts["vllm_ascend"], N_EXPERTS, DEVICES)
    assert np.array_equal(by_device.reshape(20, -1), placement)
    slots = read_tensorrt_llm(texts["tensorrt_llm"], N_EXPERTS, DEVICES)
    assert list(slots) == list(LAYERS)
    assert np.array_equal(list(slots.values()), placement)
    of_csv = read_csv(texts["csv"], DEVICES)
    assert np.array_equal([np.concatenate(devices) for devices in of_csv.values()], placement)


def test_rules_are_told_with_what_they_gain(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, log, "--devices", "4", "--replicas", "4")
    assert [rule["rule"] for rule in found["rules"]] == [
        *("contiguous", "greedy", "any replicas", "replicated")
    ]
    assert [rule["beside"] for rule in found["rules"]] == [None, "contiguous", None, "any replicas"]
    assert [rule["gains"] for rule in found["rules"]] == [None, True, None, True]
    assert main(["plan", "placement", log, "--devices", "4"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "placement: 16 experts a layer and 0 replicas on 4 devices, 4 on each"
    assert out[1] == "placement: the log shows 16 experts; if the model has more, give --n-experts"
    assert out[2] == (
        "placement: learned on one half of the latest 300 decode steps, tested on the other, both ways"
    )
    assert [line.split()[1] for line in out[4:6]] == ["contiguous", "greedy"]
    assert out[6].startswith("placement: load of the devices, of all layers, by greedy: 30.6%, 23.9%, ")
    (said,) = out[7:]
    assert said.startswith("placement: greedy is more even than contiguous on steps that it has not seen (0.")
    gains = [(rule["gain"], rule["gain_error"]) for rule in found["rules"] if rule["beside"]]
    assert all(gain > 4 * error > 0 for gain, error in gains)
    assert max(map(len, out)) < 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: --devices"),
        (["--devices", "3"], "16 places do not divide by 3 devices: give --replicas 2, or 5, or another"),
        (["--devices", "4", "--replicas", "3"], "give --replicas 0, or 4, or another"),
        (["--devices", "4", "--replicas", "400"], "with 48 replicas every expert is on every device"),
        (["--devices", "4", "--model-layers", "5"], "give --model-layers 23"),
        (["--devices", "4", "--csv", "LOG"], "it is the log itself"),
        (["--devices", "4", "--csv", "/tmp/x", "--sglang", "/tmp/x"], "it is where "),
        (["--devices", "1"], "not a whole number from 2"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "placement", log, *(log if word == "LOG" else word for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def placement(seed: int) -> Placement:
    rng = np.random.default_rng(seed)
    layers = tuple(sorted(rng.choice(8, 3, replace=False).tolist()))
    experts = balanced(rng.integers(0, 50, (3, 12)), 4, 16)
    return Placement(layers, int(rng.integers(layers[-1] + 1, 10)), 12, 4, experts)


def read(name: str, text: str, made: Placement) -> object:
    if name == "sglang":
        return read_sglang(text, made.n_layers, 12, 4, 4)
    if name == "vllm_ascend":
        return read_vllm_ascend(text, 12, 4)
    return read_tensorrt_llm(text, 12, 4) if name == "tensorrt_llm" else read_csv(text, 4)


@given(st.integers(0, 2**32), st.sampled_from(list(WRITERS)), st.data())
def test_files_are_read_whole_and_refused_when_cut(seed: int, name: str, data: st.DataObject) -> None:
    made = placement(seed)
    text = WRITERS[name][0](made)
    read(name, text, made)
    cut = data.draw(st.integers(0, len(text) - 2))
    if text[cut - 1 : cut] == "\n" and name == "csv":
        cut -= 1  # whole lines are a whole file to who does not know how many there are
    with pytest.raises((ValueError, KeyError)):
        read(name, text[:cut], made)


@given(st.integers(0, 2**32), st.sampled_from(["sglang", "vllm_ascend", "tensorrt_llm"]), st.data())
def test_files_without_an_expert_are_refused(seed: int, name: str, data: st.DataObject) -> None:
    made = placement(seed)
    row, lost = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 11))
    made.experts[row][made.experts[row] == lost] = (lost + 1) % 12
    with pytest.raises(ValueError, match="experts are missing"):
        read(name, WRITERS[name][0](made), made)
