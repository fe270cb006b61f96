"""Logs whose selections come from known routers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.routers import Gating, Router

HEADER = b"layer_id,expert_ids\n"


@dataclass(frozen=True)
class Routers:
    """What a `RouterFile` offers, without a file."""

    by_layer: Mapping[int, Router]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.by_layer))

    @property
    def n_embd(self) -> int:
        return int(next(iter(self.by_layer.values())).weight.shape[1])

    def __getitem__(self, layer: int) -> Router:
        return self.by_layer[layer]


def random_routers(rng: np.random.Generator, layers: Sequence[int], n_experts: int, n_embd: int) -> Routers:
    """Softmax routers and, in every second layer, sigmoid routers with a bias."""
    return Routers(
        {
            layer: Router(rng.standard_normal((n_experts, n_embd)))
            if layer % 2
            else Router(
                rng.standard_normal((n_experts, n_embd)),
                selection_bias=rng.standard_normal(n_experts),
                gating=Gating.SIGMOID,
            )
            for layer in layers
        }
    )


def ranking(router: Router, inputs: NDArray[np.float64]) -> NDArray[np.int64]:
    """(T, E) int64: all experts, best first."""
    logits = inputs @ router.weight.T
    if router.selection_bias is not None:
        logits = 1 / (1 + np.exp(-logits)) + router.selection_bias
    return np.argsort(-logits, axis=1, kind="stable")


def printed(rng: np.random.Generator, tokens: int, n_embd: int) -> NDArray[np.float64]:
    """(tokens, n_embd) float64: random inputs as they are after printing."""
    return np.array([[float(f"{x:g}") for x in row] for row in rng.standard_normal((tokens, n_embd))])


def block(layer: int, inputs: NDArray[np.float64] | None, experts: NDArray[np.int64]) -> bytes:
    """The lines of a block."""
    gates = np.empty((0, 0)) if inputs is None else inputs
    lines = [
        f"gate_input,{layer},{row},{' '.join(f'{x:g}' for x in vector)}" for row, vector in enumerate(gates)
    ]
    lines += [f"{layer},{' '.join(map(str, row))}" for row in experts.tolist()]
    return "".join(f"{line}\n" for line in lines).encode()


def choose(ranked: NDArray[np.int64], top_k: int, *, strided: bool) -> NDArray[np.int64]:
    """(T, top_k) int64: what a logger writes that minds the row stride, or one that does not."""
    chosen = ranked[:, :top_k]
    return ranked.reshape(-1)[: chosen.size].reshape(chosen.shape) if strided else chosen


def read_blocks(log: Path) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.int64]]]:
    """Layer, (T, n_embd) inputs and (T, k) experts of each block of a log that has inputs in every layer."""
    inputs: list[list[float]] = []
    experts: list[list[int]] = []
    layer = -1
    for line in log.read_text().splitlines()[1:]:
        start, _, numbers = line.rpartition(",")
        if start.startswith("gate_input"):
            if experts:
                yield layer, np.array(inputs), np.array(experts)
                inputs, experts = [], []
            inputs.append([float(number) for number in numbers.split()])
        else:
            layer = int(start)
            experts.append([int(number) for number in numbers.split()])
    yield layer, np.array(inputs), np.array(experts)
