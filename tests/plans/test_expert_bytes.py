"""The bytes of an expert, from the model file."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES

from moe_live.capture.model_file import Tensor
from moe_live.errors import UsageError
from moe_live.plans.expert_bytes import model_bytes, of_layers
from tests.capture.test_model_file import model, tensor
from tests.plans.logs import write_model

Q4_K, Q6_K, UNKNOWN = 12, 14, 99


def test_bytes_of_every_type_are_those_of_gguf(tmp_path: Path) -> None:
    for kind, (numbers, size) in GGML_QUANT_SIZES.items():
        made = Tensor(tmp_path, (numbers * 2, 3, 5), int(kind), 0, "<")
        assert made.bytes == 2 * size * 3 * 5
    assert Tensor(tmp_path, (256,), UNKNOWN, 0, "<").bytes is None


def test_an_expert_is_its_part_of_all_tensors_of_the_layer(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(
        model(
            tensors=(
                tensor("blk.3.ffn_gate_exps.weight", (512, 4, 8), Q4_K),
                tensor("blk.3.ffn_up_exps.weight", (512, 4, 8), Q4_K),
                tensor("blk.3.ffn_down_exps.weight", (256, 8, 8), Q6_K),
                tensor("blk.3.ffn_gate_inp.weight", (512, 8), Q4_K),
                tensor("blk.4.ffn_gate_up_exps.weight", (512, 8, 8), Q4_K),
                tensor("blk.4.ffn_down_shexp.weight", (256, 8), Q6_K),
                tensor("token_embd.weight", (256, 100), Q6_K),
            )
        )
    )
    found = model_bytes(str(path))
    assert found.expert == {3: 2 * 4 * 288 + 8 * 210, 4: 8 * 288}
    assert found.n_experts == {3: 8, 4: 8}
    assert found.others == 8 * 288 + 8 * 210


def test_all_parts_of_a_split_model_count(tmp_path: Path) -> None:
    first = write_model(tmp_path / "m-00001-of-00002.gguf", {0: 30}, 4)
    write_model(tmp_path / "m-00002-of-00002.gguf", {1: 60}, 4)
    assert model_bytes(first).expert == {0: 30, 1: 60}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((tensor("blk.0.ffn_gate_inp.weight", (8, 4)),), "no experts in "),
        ((tensor("blk.0.ffn_up_exps.weight", (256, 4, 8), UNKNOWN),), "give --expert-bytes N instead"),
        ((tensor("blk.0.ffn_up_exps.weight", (256, 4), Q4_K),), "is damaged, or no model"),
        ((tensor("blk.0.ffn_up_exps.weight", (256, 4, 0), Q4_K),), "is damaged, or no model"),
        (
            (
                tensor("blk.0.ffn_up_exps.weight", (256, 4, 8), Q4_K),
                tensor("blk.0.ffn_down_exps.weight", (256, 4, 4), Q4_K),
            ),
            "is damaged, or no model",
        ),
    ],
)
def test_models_that_do_not_tell(tmp_path: Path, tensors: tuple[bytes, ...], said: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(model(tensors=tensors))
    with pytest.raises(UsageError, match=said):
        model_bytes(str(path))


def test_layers_of_the_log_are_in_the_model() -> None:
    assert of_layers(7, [3, 4]).tolist() == [7, 7]
    assert of_layers({3: 5, 4: 6, 5: 7}, [3, 5]).tolist() == [5, 7]
    with pytest.raises(UsageError, match="no experts in layer 6, which the log has"):
        of_layers({3: 5}, [3, 6])
