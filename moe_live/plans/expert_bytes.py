"""How many bytes an expert has, by layer: as the user says, or from the model file."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.model_file import Tensor, model_parts, read_model_file
from moe_live.errors import UsageError, printable

_EXPERTS = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.ffn_(?:gate|up|down|gate_up)_exps\.weight")


def model_expert_bytes(path: str) -> dict[int, int]:
    """Bytes of an expert of each layer of a model: its part of the tensors that hold a layer's experts.

    Args:
        path: of its GGUF file; of a split model the first part, the others beside it.

    Raises:
        UsageError: the file cannot be read, or has no experts.
    """
    tensors: dict[str, Tensor] = {}
    for part in model_parts(path):
        tensors |= read_model_file(part).tensors
    found: dict[int, int] = {}
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
        if not experts or not tensor.bytes:
            raise UsageError(f"{printable(path)} is damaged, or no model: {name} has no experts")
        found[int(match[1])] = found.get(int(match[1]), 0) + tensor.bytes // experts
    if not found:
        raise UsageError(f"no experts in {printable(path)}: give the GGUF file of a mixture-of-experts model")
    return found


def of_layers(known: dict[int, int] | int, layers: Sequence[int]) -> NDArray[np.int64]:
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
