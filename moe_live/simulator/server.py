"""Forward passes of the simulated model and the lines that a server logs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.simulator.model import TOPICS, GateInputs, ModelShape, Routers, TokenSequence

HEADER = b"layer_id,expert_ids\n"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one layer in one forward pass.

    Attributes:
        layer: number of the layer.
        experts: (T, top_k) int64, what the model chose, best first: the truth.
        logged: (T, top_k) int64, what the log says it chose.
        gates: (T, n_embd) float32, or None where the layer's gate inputs are not logged.
        weights: (T, top_k) float32, of the experts, or None if they are not logged.
    """

    layer: int
    experts: NDArray[np.int64]
    logged: NDArray[np.int64]
    gates: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None = None

    @property
    def text(self) -> bytes:
        """The lines: all gate inputs, then all expert rows."""
        rows, top_k = self.logged.shape
        lines = []
        if self.gates is not None:
            numbers = " ".join(["%g"] * self.gates.shape[1])
            lines = [
                f"gate_input,{self.layer},{row},{numbers % tuple(vector)}\n"
                for row, vector in enumerate(self.gates.tolist())
            ]
        line, columns = f"{self.layer},{' '.join(['%d'] * top_k)}", self.logged.tolist()
        if self.weights is not None:
            line += f",{' '.join(['%g'] * top_k)}"
            columns = [[*row, *weights] for row, weights in zip(columns, self.weights.tolist(), strict=True)]
        lines.append(f"{line}\n" * rows % tuple(value for row in columns for value in row))
        return "".join(lines).encode()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One forward pass.

    Attributes:
        decode: whether every token of it is answered by a new one; otherwise it is prefill.
        tokens: tokens of it.
        blocks: the layers in ascending order. The last one has rows only for the tokens that are answered,
            and is missing where there are none.
        mark: the line before it that tells what its tokens are; empty if the log has none.
    """

    decode: bool
    tokens: int
    blocks: tuple[Block, ...]
    mark: bytes = b""

    @property
    def pieces(self) -> Iterator[bytes]:
        """Its lines, block by block."""
        for i, block in enumerate(self.blocks):
            yield block.text if i else self.mark + block.text

    @property
    def text(self) -> bytes:
        """All its lines."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and its answer: `generated` tokens take `generated` - 1 decode steps."""

    topic: int
    prompt: int
    generated: int


class SimulatedServer:
    """Answers requests for completions and knows what the model really did.

    Args:
        shape: of the model.
        seed: the same seed gives the same log.
        ubatch: most tokens of one forward pass.
        strided: log multi-row blocks as the server does whose logger ignores the row stride of the ranking:
            the first T * top_k entries of the concatenated full rankings of the T tokens.
        extended: log positions, sequences, outputs and weights too, as the tap does.

    Attributes:
        header: the first line of the log.
    """

    def __init__(
        self,
        shape: ModelShape | None = None,
        *,
        seed: int = 0,
        ubatch: int = 512,
        strided: bool = False,
        extended: bool = False,
    ) -> None:
        self.shape = shape or ModelShape()
        self._rng = np.random.default_rng(seed)
        self.routers = Routers(self.shape, self._rng)
        self.gate_inputs = GateInputs(self.shape, self._rng)
        self._ubatch = ubatch
        self._strided = strided
        self._extended = extended
        self.header = HEADER.replace(b"\n", b",weights\n") if extended else HEADER

    def requests(self) -> Iterator[Request]:
        """Requests of ordinary lengths without end, the topics in turn."""
        topic = 0
        while True:
            prompt, generated = self._rng.integers((16, 60), (160, 240)).tolist()
            yield Request(topic, prompt, generated)
            topic = (topic + 1) % TOPICS

    def serve(self, *requests: Request) -> Iterator[Step]:
        """The forward passes of requests that come at once, each in a slot of its own.

        The prompts are processed one after the other, then the answers are generated together.
        """
        slots = [self.routers.begin(request.topic, self._rng) for request in requests]
        for number, (slot, request) in enumerate(zip(slots, requests, strict=True)):
            for done in range(0, request.prompt, self._ubatch):
                tokens = min(self._ubatch, request.prompt - done)
                outputs = int(done + tokens == request.prompt)
                yield self._step({number: slot}, tokens, outputs=outputs)
        for step in range(1, max(request.generated for request in requests)):
            busy = {
                i: slot
                for i, (slot, request) in enumerate(zip(slots, requests, strict=True))
                if step < request.generated
            }
            yield self._step(busy, 1, outputs=len(busy))

    def _step(self, slots: Mapping[int, TokenSequence], tokens: int, *, outputs: int) -> Step:
        """One pass over `tokens` tokens of each slot, the last `outputs` of all of which are answered."""
        scores = np.concatenate([self.routers.scores(slot, tokens, self._rng) for slot in slots.values()])
        gates = np.concatenate(
            [self.gate_inputs.draw(slot.position, tokens, self._rng) for slot in slots.values()]
        )
        mark = _mark(slots, tokens, outputs) if self._extended else b""
        for slot in slots.values():
            slot.position += tokens
        rows, top_k = len(scores), self.shape.top_k
        ranking = self._ranking(scores)
        gate_index = {layer: i for i, layer in enumerate(self.gate_inputs.layers)}
        blocks = []
        for i, layer in enumerate(self.shape.layers):
            first = rows - outputs if layer == self.shape.layers[-1] else 0
            if first == rows:
                continue
            ranked = ranking[first:, i]
            experts = ranked[:, :top_k]
            logged = ranked.reshape(-1)[: experts.size].reshape(experts.shape) if self._strided else experts
            gate = gates[first:, gate_index[layer]] if layer in gate_index else None
            weights = _weights(scores[first:, i], logged) if self._extended else None
            blocks.append(Block(layer, experts, logged, gate, weights))
        return Step(outputs == rows, rows, tuple(blocks), mark)

    def _ranking(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """(T, layers, n) int64, experts by falling score: all of them if strided, else the top_k."""
        top_k = self.shape.top_k
        if self._strided or top_k == self.shape.n_experts:
            return np.argsort(-scores, axis=-1)
        best = np.argpartition(-scores, top_k, axis=-1)[..., :top_k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=-1), axis=-1)
        return np.take_along_axis(best, order, axis=-1)


def _mark(slots: Mapping[int, TokenSequence], tokens: int, outputs: int) -> bytes:
    """The line before a step of `tokens` tokens of each slot, the last `outputs` of which are answered."""
    rows = tokens * len(slots)
    columns = {
        "pos": [slot.position + i for slot in slots.values() for i in range(tokens)],
        "seq": [number for number in slots for _ in range(tokens)],
        "out": [int(row >= rows - outputs) for row in range(rows)],
    }
    told = "".join(f" {name}={' '.join(map(str, values))}" for name, values in columns.items())
    return f"# step{told}\n".encode()


def _weights(scores: NDArray[np.float32], experts: NDArray[np.int64]) -> NDArray[np.float32]:
    """(T, k) Softmax of the scores (T, n_experts) of the experts (T, k)."""
    chosen = np.take_along_axis(scores, experts, axis=1)
    weights = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    softmax: NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True)
    return softmax
