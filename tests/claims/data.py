"""Choices of simulated routers: without structure, as text has them, and with structure of a known size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHAPES = (
    (8, 2),
    (16, 1),
    (16, 4),
    (60, 4),
    (64, 6),
    (64, 8),
    (128, 4),
    (128, 8),
    (160, 8),
    (256, 8),
    (512, 10),
)
"""Experts a layer and experts a row of published models."""

TOKENS = (20, 60, 200, 600, 2000, 5000, 20000)

_CELLS = 1 << 22  # scores that are drawn at a time


@dataclass(frozen=True)
class Text:
    """How the tokens of a text without structure resemble those before.

    Attributes:
        name: for the report.
        topic: tokens of a topic, for which some experts are preferred; 0 for one text without topics.
        repeat: chance that a token is the one before once more.
        normal: scores have normal noise instead of Gumbel's.
        zipf: popularity by Zipf's law, not log-normal.
        even: all experts are alike.
    """

    name: str
    topic: int = 0
    repeat: float = 0.0
    normal: bool = False
    zipf: bool = False
    even: bool = False


UNIFORM = Text("uniform", even=True)
TEXTS = (
    Text("independent"),
    Text("normal noise", normal=True),
    Text("Zipf", zipf=True),
    *(Text(f"topics of {run}", topic=run) for run in (5, 20, 100, 500)),
    *(Text(f"repeats {chance}", repeat=chance) for chance in (0.3, 0.5, 0.7)),
)


def popularity(rng: np.random.Generator, n_experts: int, text: Text) -> NDArray[np.float64]:
    """How far the scores (n_experts,) of a layer's experts lie apart on average."""
    if text.even:
        return np.zeros(n_experts)
    if text.zipf:
        return -rng.permutation(np.log(np.arange(1, n_experts + 1)))
    return float(rng.choice([0.0, 0.5, 1.0, 1.5, 2.0])) * rng.normal(size=n_experts)


def chosen(
    rng: np.random.Generator, text: Text, shape: tuple[int, int], tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Rows (tokens, layers, k) of a `shape` (experts, k), each layer drawn apart from the others."""
    n_experts, k = shape
    rows = np.empty((tokens, layers, k), np.uint16)
    for layer in range(layers):
        scores = popularity(rng, n_experts, text)
        topics = rng.normal(size=(-(-tokens // text.topic), n_experts)) if text.topic else None
        for some in _parts(tokens, n_experts):
            liked = scores if topics is None else scores + topics[some // text.topic]
            rows[some, layer] = _drawn(rng, liked.astype(np.float32), (len(some), n_experts), k, text)
    if text.repeat:
        again = rng.random(tokens) < text.repeat
        again[0] = False
        rows = rows[np.maximum.accumulate(np.where(again, 0, np.arange(tokens)))]
    return rows


def _drawn(
    rng: np.random.Generator, scores: NDArray[np.float32], shape: tuple[int, int], k: int, text: Text
) -> NDArray[np.uint16]:
    """The k best (n, k) of scores, (n, n_experts) or (n_experts,), with noise of this `shape`."""
    if text.normal:
        noise = rng.standard_normal(shape, np.float32)
        noise *= np.float32(1.28)
        noise += scores
        return best(noise, k)
    # With Gumbel noise the highest scores are the lowest of exponential times: quicker, and the same.
    times = rng.standard_exponential(shape, np.float32)
    times /= np.exp(scores)
    return np.argpartition(times, k - 1, axis=1)[:, :k].astype(np.uint16)


def best(scores: NDArray[np.floating], k: int) -> NDArray[np.uint16]:
    """The k experts (n, k) with the highest scores (n, n_experts)."""
    return np.argpartition(-scores, k - 1, axis=1)[:, :k].astype(np.uint16)


def with_friends(
    rng: np.random.Generator, n_experts: int, k: int, tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Independent rows, but two experts have one score in half of the tokens."""
    rows = np.empty((tokens, layers, k), np.uint16)
    for layer in range(layers):
        scores = 0.7 * rng.normal(size=n_experts) + rng.gumbel(size=(tokens, n_experts))
        both = rng.random(tokens) < 0.5
        scores[both, 1] = scores[both, 0] + 0.01
        rows[:, layer] = best(scores, k)
    return rows


def that_follow(
    rng: np.random.Generator, n_experts: int, k: int, tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Rows of which each layer's depend on those of the layer before."""
    rows = np.empty((tokens, layers, k), np.uint16)
    rows[:, 0] = best(rng.gumbel(size=(tokens, n_experts)), k)
    for layer in range(1, layers):
        liked = rng.permutation(n_experts)[rows[:, layer - 1].astype(np.int64)]
        scores = rng.gumbel(size=(tokens, n_experts))
        np.put_along_axis(scores, liked, np.take_along_axis(scores, liked, axis=1) + 2.0, axis=1)
        rows[:, layer] = best(scores, k)
    return rows


def that_change(
    rng: np.random.Generator, n_experts: int, k: int, tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Independent rows; in the last twentieth other experts are preferred."""
    late = np.arange(tokens) >= tokens - tokens // 20
    return _of_two_kinds(rng, late, (n_experts, k), layers)


def of_topics(
    rng: np.random.Generator, n_experts: int, k: int, tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Rows of a text, of which each topic prefers experts strongly: those of the step before come again."""
    rows = np.empty((tokens, layers, k), np.uint16)
    for layer in range(layers):
        topics = rng.normal(0, 3, (-(-tokens // 100), n_experts))
        rows[:, layer] = best(topics[np.arange(tokens) // 100] + rng.gumbel(size=(tokens, n_experts)), k)
    return rows


def of_two_labels(
    rng: np.random.Generator, n_experts: int, k: int, tokens: int, layers: int
) -> NDArray[np.uint16]:
    """Independent rows of eight periods, in every other of which other experts are preferred."""
    return _of_two_kinds(rng, np.arange(tokens) * 8 // tokens % 2 == 1, (n_experts, k), layers)


def _of_two_kinds(
    rng: np.random.Generator, kind: NDArray[np.bool_], shape: tuple[int, int], layers: int
) -> NDArray[np.uint16]:
    n_experts, k = shape
    rows = np.empty((len(kind), layers, k), np.uint16)
    for layer in range(layers):
        scores = rng.normal(size=n_experts) + rng.normal(size=(2, n_experts))
        rows[:, layer] = best(scores[kind.astype(np.int64)] + rng.gumbel(size=(len(kind), n_experts)), k)
    return rows


def _parts(tokens: int, n_experts: int) -> Iterator[NDArray[np.int64]]:
    size = max(1, _CELLS // n_experts)
    for start in range(0, tokens, size):
        yield np.arange(start, min(start + size, tokens))
