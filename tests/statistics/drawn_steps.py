"""Small steps for accumulators, drawn by hypothesis or made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.rows import RowsByLayer

Row = tuple[int, ...]


@dataclass
class DrawnStep:
    """One forward pass: the expert rows of each layer, layers ascending; the last may have fewer rows."""

    kind: Kind
    blocks: dict[int, list[Row]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return len(next(iter(self.blocks.values()), ()))


@st.composite
def drawn_steps(draw: st.DrawFn, *, max_steps: int = 8, repeats: bool = True) -> list[DrawnStep]:
    """Steps of one small model: half steps, prompts without all rows in the last layer, two widths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_experts = draw(st.sampled_from([3, 5, 40]))
    layers = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4)))
    widths = draw(st.sampled_from([(1,), (2,), (3,), (2, 3)]))
    shapes = draw(
        st.lists(st.tuples(st.sampled_from(list(Kind)), st.sampled_from([1, 1, 2, 5])), max_size=max_steps)
    )
    repeating = repeats and draw(st.booleans())
    steps = []
    for kind, tokens in shapes:
        cut = int(rng.integers(1, len(layers) + 1)) if rng.random() < 0.3 else len(layers)
        step = DrawnStep(kind)
        for layer in layers[:cut]:
            short = kind is Kind.PREFILL and layer == layers[-1] and len(layers) > 1
            k = int(rng.choice(widths))
            step.blocks[layer] = [
                tuple(rng.choice(n_experts, k, replace=repeating and rng.random() < 0.1).tolist())
                for _ in range(1 if short else tokens)
            ]
        steps.append(step)
    return steps


def tables(steps: Sequence[DrawnStep]) -> tuple[tuple[ExpertRows, ...], NDArray[np.int8]]:
    """What an accumulator is updated with for these steps."""
    rows: dict[int, list[tuple[int, int, int, bool, Row]]] = {}
    for number, step in enumerate(steps):
        for layer, block in step.blocks.items():
            for token, row in enumerate(block):
                whole = len(block) == step.tokens
                rows.setdefault(len(row), []).append((number, layer, token, whole, row))
    made = []
    for k in sorted(rows):
        step_of, layer_of, token_of, is_whole, experts = zip(*rows[k], strict=True)
        made.append(
            ExpertRows(
                np.array(step_of, np.int64),
                np.array(layer_of, np.uint16),
                np.array(token_of, np.int64),
                np.array(is_whole, np.bool_),
                np.array(experts, np.uint16).T.copy().T,
            )
        )
    return tuple(made), np.array([step.kind for step in steps], np.int8)


def by_layer(steps: Sequence[DrawnStep]) -> list[RowsByLayer]:
    """The same rows layer by layer."""
    return [RowsByLayer(rows) for rows in tables(steps)[0]]


def cut(steps: list[DrawnStep], places: Sequence[int]) -> list[list[DrawnStep]]:
    """The steps in pieces, cut at these places."""
    edges = [0, *sorted(min(place, len(steps)) for place in places), len(steps)]
    return [steps[a:b] for a, b in pairwise(edges)]


def decode_rows(experts: NDArray[np.uint16], layers: Sequence[int] = (0,)) -> ExpertRows:
    """One-token steps with the rows (steps, len(layers), k) of these layers."""
    steps, width, k = experts.shape
    return ExpertRows(
        np.repeat(np.arange(steps), width),
        np.tile(np.array(layers, np.uint16), steps),
        np.zeros(steps * width, np.int64),
        np.ones(steps * width, np.bool_),
        experts.reshape(-1, k).T.copy().T,
    )


def chosen(
    rng: np.random.Generator, scores: NDArray[np.float64], k: int, shape: tuple[int, ...]
) -> NDArray[np.uint16]:
    """Rows (*shape, k) of distinct experts, drawn one after the other by weights exp(scores (..., E))."""
    noisy = scores + rng.gumbel(size=(*shape, scores.shape[-1]))
    return np.argsort(-noisy, axis=-1)[..., :k].astype(np.uint16)
