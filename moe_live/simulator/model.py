"""Routers and gate inputs of a model that does not exist, drawn from known distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass

TOPICS = 3
"""Kinds of prompt; each has experts of its own."""

PERSISTENCE = 0.3
"""Chance that an expert's noise stays the same from one token to the next: the cause of temporal locality."""

COUPLING = 0.5
"""Chance that an expert shares its noise with one of the layer before: what ties the layers together."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers that a log shows of its model.

    Attributes:
        first_layer: number of the first MoE layer.
        n_layers: MoE layers.
        n_experts: experts a layer.
        top_k: experts a token.
        gate_layers: layers whose gate inputs are logged; those the model lacks are silently left out.
        n_embd: numbers a gate input, at least 2.
    """

    first_layer: int = 3
    n_layers: int = 40
    n_experts: int = 128
    top_k: int = 8
    gate_layers: tuple[int, ...] = (20, 21, 22, 23, 24)
    n_embd: int = 256

    @property
    def layers(self) -> range:
        """Numbers of the MoE layers."""
        return range(self.first_layer, self.first_layer + self.n_layers)


@dataclass(slots=True)
class TokenSequence:
    """What one slot carries from token to token.

    Attributes:
        topic: kind of its prompt, 0 <= topic < TOPICS.
        noise: (layers, n_experts) float32, the present noise of each channel (see `Routers`).
        position: tokens so far.
    """

    topic: int
    noise: NDArray[np.float32]
    position: int = 0


class Routers:
    """The routers of all layers.

    An expert's score for a token is the logarithm of its popularity plus noise with a Gumbel distribution, so
    the best expert of a row is e with probability `popularity[topic, layer, e]` exactly, and a row is top_k
    draws from the popularity without replacement (Plackett-Luce). What makes the log look like a real one
    leaves that law untouched: noise that stays from one token to the next, and noise that one channel of
    every layer shares with the same channel of the layer before.

    Attributes:
        popularity: (TOPICS, layers, n_experts) float64, summing to 1 over the experts.
    """

    def __init__(self, shape: ModelShape, rng: np.random.Generator) -> None:
        n_layers, n_experts = shape.n_layers, shape.n_experts
        spread = rng.uniform(0.6, 2.0, (n_layers, 1))
        liking = rng.normal(0.0, spread, (n_layers, n_experts))
        favoured = rng.random((TOPICS, n_layers, n_experts)) < 0.1
        weight = np.exp(liking + 2.0 * favoured)
        self.popularity = weight / weight.sum(axis=-1, keepdims=True)
        self._log_popularity = np.log(self.popularity).astype(np.float32)

        # Expert e of a layer listens to channel[layer, e], whose noise is that of layer source[layer, e].
        self._channel = rng.permuted(np.tile(np.arange(n_experts), (n_layers, 1)), axis=1)
        own = rng.random((n_layers, n_experts)) >= COUPLING
        source = np.maximum.accumulate(np.where(own, np.arange(n_layers)[:, None], 0), axis=0)
        self._source = np.take_along_axis(source, self._channel, axis=1)

    def begin(self, topic: int, rng: np.random.Generator) -> TokenSequence:
        """A new sequence, before its first token."""
        return TokenSequence(topic, _gumbel(rng, self._source.shape))

    def scores(self, sequence: TokenSequence, n_tokens: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Scores of the next tokens of a sequence.

        Returns:
            (n_tokens, layers, n_experts) float32; the top_k highest of a layer are the chosen experts.
        """
        shape = (n_tokens, *self._source.shape)
        # Index 0 is the noise before these tokens, index i the one drawn at the i-th of them.
        drawn = np.concatenate([sequence.noise[None], _gumbel(rng, shape)])
        kept = rng.random(shape, np.float32) < PERSISTENCE
        latest = np.maximum.accumulate(np.where(kept, 0, np.arange(1, n_tokens + 1)[:, None, None]), axis=0)
        noise = np.take_along_axis(drawn, latest, axis=0)
        sequence.noise = noise[-1]
        scores: NDArray[np.float32] = (
            self._log_popularity[sequence.topic] + noise[:, self._source, self._channel]
        )
        return scores


class GateInputs:
    """Gate inputs of successive layers: each is the one before, turned by an angle that swings over time."""

    def __init__(self, shape: ModelShape, rng: np.random.Generator) -> None:
        self.layers = tuple(layer for layer in sorted(set(shape.gate_layers)) if layer in shape.layers)
        n = len(self.layers)
        self._direction = rng.normal(size=(n, shape.n_embd))
        self._length = 10.0 * 1.1 ** np.arange(n)
        self._period = rng.uniform(40.0, 160.0, n)

    def angles(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """(tokens, layers) float64, radians between a layer's input and the one before."""
        return 0.45 + 0.15 * np.sin(2 * np.pi * positions[:, None] / self._period)

    def draw(self, position: int, n_tokens: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n_tokens, layers, n_embd) float32, the gate inputs of tokens from `position` on."""
        vectors = self._direction + 0.5 * rng.normal(size=(n_tokens, *self._direction.shape))
        angles = self.angles(np.arange(position, position + n_tokens))
        for i in range(vectors.shape[1]):
            if i:
                before = vectors[:, i - 1]
                across = vectors[:, i] - np.vecdot(vectors[:, i], before)[:, None] * before
                turn = angles[:, i, None]
                vectors[:, i] = np.cos(turn) * before + np.sin(turn) * _unit(across)
            else:
                vectors[:, i] = _unit(vectors[:, i])
        return (self._length[:, None] * vectors).astype(np.float32)


def _gumbel(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    # The smallest positive float keeps the logarithm of a drawn 0 finite.
    tiny = np.finfo(np.float32).tiny
    return -np.log(np.maximum(rng.standard_exponential(shape, np.float32), tiny))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
