"""Routers read from GGUF files, and the scores they give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from hypothesis import given
from hypothesis import strategies as st

from moe_live.capture.agreement import Outcome, compare
from moe_live.capture.routers import Gating, Router, RouterFile
from moe_live.errors import MoeLiveError, UsageError

RNG = np.random.default_rng(5)
WEIGHT = RNG.standard_normal((6, 32)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)


def write_model(
    path: Path,
    tensors: dict[str, Any],
    architecture: str = "glm4moe",
    numbers: Mapping[str, int] | None = None,
    types: Mapping[str, GGMLQuantizationType] | None = None,
) -> str:
    writer = GGUFWriter(path, architecture)
    for key, value in (numbers or {}).items():
        writer.add_uint32(f"{architecture}.{key}", value)
    for name, tensor in tensors.items():
        kind = (types or {}).get(name)
        writer.add_tensor(name, tensor if kind is None else quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def test_reads_weights_bias_and_gating(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "m.gguf",
        {
            "blk.3.ffn_gate_inp.weight": WEIGHT,
            "blk.3.exp_probs_b.bias": BIAS,
            "blk.5.ffn_gate_inp.weight": WEIGHT,
            "blk.5.ffn_gate_inp.bias": BIAS,
            "blk.5.ffn_gate_inp_shexp.weight": WEIGHT[:1],
        },
        numbers={"expert_gating_func": 2},
    )
    routers = RouterFile(path)
    assert routers.layers == (3, 5)
    assert routers.n_embd == 32
    biased, other = routers[3], routers[5]
    assert biased.gating is Gating.SIGMOID
    np.testing.assert_array_equal(biased.weight, WEIGHT)
    np.testing.assert_array_equal(biased.selection_bias, BIAS)
    assert biased.logit_bias is None
    assert other.selection_bias is None
    np.testing.assert_array_equal(other.logit_bias, BIAS)


@pytest.mark.parametrize(
    ("architecture", "gating"), [("glm4moe", Gating.SIGMOID), ("ernie4_5-moe", Gating.SOFTMAX)]
)
def test_gating_that_the_file_leaves_out(tmp_path: Path, architecture: str, gating: Gating) -> None:
    tensors = {"blk.0.ffn_gate_inp.weight": WEIGHT, "blk.0.exp_probs_b.bias": BIAS}
    assert RouterFile(write_model(tmp_path / "m.gguf", tensors, architecture))[0].gating is gating


@pytest.mark.parametrize(("architecture", "numbers"), [("glm4moe", {"expert_gating_func": 4}), ("new", {})])
def test_unknown_gating_matters_only_with_a_bias(
    tmp_path: Path, architecture: str, numbers: dict[str, int]
) -> None:
    tensors = {
        "blk.0.ffn_gate_inp.weight": WEIGHT,
        "blk.0.exp_probs_b.bias": BIAS,
        "blk.1.ffn_gate_inp.weight": WEIGHT,
    }
    routers = RouterFile(write_model(tmp_path / "m.gguf", tensors, architecture, numbers))
    assert routers[1].gating is Gating.SOFTMAX
    with pytest.raises(MoeLiveError, match="how its routers score"):
        routers[0]


def test_groups_of_experts_are_refused(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "m.gguf", {"blk.0.ffn_gate_inp.weight": WEIGHT}, numbers={"expert_group_count": 4}
    )
    with pytest.raises(MoeLiveError, match="groups of experts"):
        RouterFile(path)


def test_half_precision_is_known_and_quantized_routers_are_refused(tmp_path: Path) -> None:
    kinds = {"BF16": GGMLQuantizationType.BF16, "Q8_0": GGMLQuantizationType.Q8_0}
    names = {kind: f"blk.{i}.ffn_gate_inp.weight" for i, kind in enumerate(kinds)}
    path = write_model(
        tmp_path / "m.gguf",
        dict.fromkeys(names.values(), WEIGHT),
        types={name: kinds[kind] for kind, name in names.items()},
    )
    routers = RouterFile(path)
    np.testing.assert_allclose(routers[0].weight, WEIGHT, rtol=2**-8)
    assert routers[0].rounding > Router(WEIGHT.astype(float)).rounding
    with pytest.raises(MoeLiveError, match=r"type 8 of ggml"):
        routers[1]


def test_all_parts_of_a_split_model(tmp_path: Path) -> None:
    for part in (1, 2):
        name = f"big-{part:05d}-of-00002.gguf"
        write_model(tmp_path / name, {f"blk.{part}.ffn_gate_inp.weight": WEIGHT})
    first = str(tmp_path / "big-00001-of-00002.gguf")
    assert RouterFile(first).layers == (1, 2)
    (tmp_path / "big-00002-of-00002.gguf").unlink()
    with pytest.raises(UsageError, match=r"00002-of-00002.*No such file"):
        RouterFile(first)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    dense = write_model(tmp_path / "dense.gguf", {"blk.0.ffn_gate.weight": WEIGHT})
    with pytest.raises(UsageError, match="no routers"):
        RouterFile(dense)
    whole = Path(write_model(tmp_path / "m.gguf", {"blk.0.ffn_gate_inp.weight": WEIGHT})).read_bytes()
    for content in (b"", b"GGUF", b"layer_id,expert_ids\n" * 9, whole[:100], whole[:-50]):
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(content)
        with pytest.raises(UsageError, match="not a whole GGUF file"):
            RouterFile(str(broken))


def test_bias_is_added_to_the_score_and_not_to_the_logit() -> None:
    weight = np.array([[4.0], [1.0], [0.0]])
    router = Router(weight, selection_bias=np.array([0.0, 0.2, 0.3]), gating=Gating.SIGMOID)
    scores = router.scores(np.array([[1.0]]))
    expected = 1 / (1 + np.exp([-4.0, -1.0, 0.0])) + [0, 0.2, 0.3]
    np.testing.assert_allclose(scores.value[0], expected)
    assert np.argsort(-scores.value[0]).tolist() == [0, 1, 2]
    right, wrong = np.array([[0, 1]], np.uint16), np.array([[0, 2]], np.uint16)
    assert compare(router, np.array([[1.0]]), right).tolist() == [Outcome.RIGHT]
    assert compare(router, np.array([[1.0]]), wrong).tolist() == [Outcome.WRONG]
    # On sigmoid(z + b) or z + b the choice would be another one here.
    turned = Router(weight, selection_bias=np.array([-0.9, 0.0, 0.0]), gating=Gating.SIGMOID)
    assert compare(turned, np.array([[1.0]]), np.array([[1, 2]], np.uint16)).tolist() == [Outcome.RIGHT]


@given(
    seed=st.integers(0, 2**32),
    gating=st.sampled_from(Gating),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    biased=st.booleans(),
)
def test_intervals_hold_the_scores_of_every_input_that_prints_the_same(
    seed: int, gating: Gating, scale: float, *, biased: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((9, 20))
    router = Router(weight, selection_bias=rng.standard_normal(9) if biased else None, gating=gating)
    exact = rng.standard_normal((4, 20)) * scale
    shown = np.array([[float(f"{x:g}") for x in row] for row in exact])
    scores = router.scores(shown)
    assert (scores.low <= scores.value).all()
    assert (scores.value <= scores.high).all()
    logits = exact @ weight.T
    if gating is Gating.SIGMOID:
        with np.errstate(over="ignore"):
            truth = 1 / (1 + np.exp(-logits))
    elif biased:
        truth = np.exp(logits - logits.max(axis=1, keepdims=True))
        truth /= truth.sum(axis=1, keepdims=True)
    else:  # only differences count
        best = scores.value.argmax(axis=1)[:, None]
        truth = np.maximum(logits - np.take_along_axis(logits, best, axis=1), -87)
    if router.selection_bias is not None:
        truth = truth + router.selection_bias
    tolerance = 1e-12 * np.maximum(1, np.abs(truth))
    if gating is Gating.SOFTMAX and not biased:
        # The difference of two logits: both have their error.
        tolerance = scores.high - scores.value + tolerance
    assert (scores.low - tolerance <= truth).all()
    assert (truth <= scores.high + tolerance).all()


def test_choices_that_the_printed_digits_cannot_decide_are_ties() -> None:
    weight = RNG.standard_normal((8, 16))
    inputs = np.array([[float(f"{x:g}") for x in RNG.standard_normal(16)]])
    order = np.argsort(-(inputs @ weight.T)[0])
    k = 3
    weight[order[k]] = weight[order[k - 1]] * (1 + 1e-9)  # the first left out is as good as the last chosen
    router = Router(weight)

    def outcome(*experts: int) -> int:
        return int(compare(router, inputs, np.array([experts], np.uint16))[0])

    first, second, third, fourth, fifth = order[:5].tolist()
    assert {outcome(first, second, third), outcome(first, second, fourth)} == {Outcome.RIGHT, Outcome.TIE}
    assert outcome(second, first, third) == Outcome.WRONG, "order"
    assert outcome(first, second, fifth) == Outcome.WRONG
    assert outcome(first, first, second) == Outcome.WRONG, "twice the same"
    assert outcome(first, second, 8) == Outcome.WRONG, "no such expert"
    assert outcome(*order, 8) == Outcome.WRONG, "more than there are"
    weight[order[1]] = weight[order[0]] * (1 + 1e-9)
    assert outcome(first, second, third) == outcome(second, first, third), "order among equals is free"


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_inputs_that_are_not_finite_say_nothing(bad: float) -> None:
    inputs = np.ones((2, 16))
    inputs[1, 3] = bad
    for gating in Gating:
        router = Router(RNG.standard_normal((8, 16)), gating=gating)
        outcome = compare(router, inputs, np.tile(np.arange(3, dtype=np.uint16), (2, 1)))
        assert outcome[1] == Outcome.UNDEFINED
        assert outcome[0] != Outcome.UNDEFINED
