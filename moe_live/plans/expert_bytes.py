"""How many bytes an expert has, by layer: as the user says, or from the model file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.model_file import Tensor, model_parts, read_model_file
from moe_live.dataclass import dataclass
from moe_live.errors import UsageError, printable

_EXPERTS = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.ffn_(?:gate|up|down|gate_up)_exps\.weight")


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """What the tensors of a model take.

    Attributes:
        expert: bytes of an expert of each layer that has some.
        n_experts: experts of each of these layers.
        others: bytes of all tensors but these and the table of token embeddings, which is only looked up.
    """

    expert: dict[int, int]
    n_experts: dict[int, int]
    others: int


def model_bytes(path: str) -> ModelBytes:
    """What the tensors of a model take, whatever their quantisation.

    Args:
        path: of its GGUF file; of a split model the first part, the others beside it.

    Raises:
        UsageError: the file cannot be read, or has no experts.
    """
    tensors: dict[str, Tensor] = {}
    for part in model_parts(path):
        tensors |= read_model_file(part).tensors
    found = ModelBytes({}, {}, sum(tensors[name].bytes or 0 for name in tensors if _is_other(name)))
    for name, tensor in tensors.items():
        match = _EXPERTS.fullmatch(name)
        if match is None:
            continue
        if tensor.bytes is None:
            raise UsageError(
                f"the experts of layer {match[1]} in {printable(path)} are stored in a way that is not known "
                f"here (type {tensor.kind} of ggml): give --expert-bytes N instead of --model"
            )
        experts = tensor.shape[-1] if len(tensor.shape) == 3 else 0
        layer = int(match[1])
        if not experts or not tensor.bytes or found.n_experts.setdefault(layer, experts) != experts:
            raise UsageError(f"{printable(path)} is damaged, or no model: {name} has no experts")
        found.expert[layer] = found.expert.get(layer, 0) + tensor.bytes // experts
    if not found.expert:
        raise UsageError(f"no experts in {printable(path)}: give the GGUF file of a mixture-of-experts model")
    return found


def _is_other(name: str) -> bool:
    return _EXPERTS.fullmatch(name) is None and name != "token_embd.weight"


def of_layers(known: Mapping[int, int] | int, layers: Sequence[int]) -> NDArray[np.int64]:
    """Bytes of an expert of each of the layers (len(layers),).

    Args:
        known: of each layer, or of all.
        layers: those of the log.

    Raises:
        UsageError: it is not known of each of them.
    """
    if isinstance(known, int):
        return np.full(len(layers), known, np.int64)
    missing = [layer for layer in layers if layer not in known]
    if missing:
        raise UsageError(
            f"the model has no experts in layer {missing[0]}, which the log has: give the model that wrote it"
        )
    return np.array([known[layer] for layer in layers], np.int64)
