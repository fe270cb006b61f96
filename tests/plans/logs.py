"""Logs and models for plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.capture.test_model_file import model, tensor

I8 = 24  # a type of ggml with a byte a number


def write_log(path: Path, experts: NDArray[np.integer], layers: Sequence[int]) -> str:
    """One-token decode steps with the rows (steps, len(layers), k); returns the path."""
    lines = [
        f"{layer},{' '.join(map(str, row))}"
        for step in experts.tolist()
        for layer, row in zip(layers, step, strict=True)
    ]
    path.write_text("\n".join(["layer_id,expert_ids", *lines, ""]))
    return str(path)


def write_model(path: Path, expert_bytes: dict[int, int], n_experts: int) -> str:
    """What a model file says of experts of these sizes, without the experts; returns the path."""
    tensors = tuple(
        tensor(f"blk.{layer}.ffn_{part}_exps.weight", (size // 3, 1, n_experts), I8)
        for layer, size in expert_bytes.items()
        for part in ("gate", "up", "down")
    )
    path.write_bytes(model(tensors=tensors))
    return str(path)
