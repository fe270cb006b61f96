"""Which layers keep their experts in fast memory, where the experts of a layer lie in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_live.statistics.blocks import BLOCKS, CERTAIN, blocks
from moe_live.statistics.latest import Uses

BATCHES = (1, 4, 16, 64)
"""Successive decode steps whose experts are put together."""


def distinct(uses: Uses) -> NDArray[np.float64]:
    """Different experts of so many successive decode steps: what a batch, or a draft, of that size reads.

    Returns:
        (layers, len(BATCHES)), means over the windows that follow one another; NaN without a whole one.
    """
    number = np.cumsum(uses.decode) - 1
    decode = uses.decode[uses.step]
    step, item = number[uses.step[decode]], (uses.slot * uses.n_experts + uses.expert)[decode]
    n_items = len(uses.layers) * uses.n_experts
    means = []
    for batch in BATCHES:
        windows = uses.steps // batch
        whole = step < windows * batch
        there = np.unique(step[whole] // batch * n_items + item[whole]) % max(1, n_items)
        many = np.bincount(there // max(1, uses.n_experts), minlength=len(uses.layers))
        means.append(many / windows if windows else np.full(len(uses.layers), np.nan))
    return np.stack(means, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Offload:
    """Which layers' experts are in slow memory.

    Attributes:
        by_number: (layers,) bool, those that are if the last layers that fit are in fast memory.
        by_use: (layers,) bool, those that are if the layers that read the largest share of their experts are.
        read: (layers,) bytes of its experts that a decode token reads.
        gains: whether, of the bytes in slow memory, a token certainly reads less by use than by number, on
            steps that were not seen; False where both are the same, None where that cannot be told.
    """

    by_number: NDArray[np.bool_]
    by_use: NDArray[np.bool_]
    read: NDArray[np.float64]
    gains: bool | None


def offload(
    uses: Uses, expert_bytes: NDArray[np.int64], layer_bytes: NDArray[np.int64], capacity: int
) -> Offload:
    """Choose layers whose experts fit into fast memory.

    Args:
        uses: of some steps.
        expert_bytes: (layers,) bytes of an expert of each layer.
        layer_bytes: (layers,) bytes of all experts of each layer.
        capacity: bytes of fast memory for experts.
    """
    block = blocks(uses.decode)
    reads = np.zeros((BLOCKS, len(uses.layers)))
    decode = uses.decode[uses.step]
    np.add.at(reads, (block[uses.step[decode]], uses.slot[decode]), 1)
    reads *= expert_bytes
    tokens = np.zeros(BLOCKS, np.int64)
    np.add.at(tokens, block[uses.decode], uses.tokens[uses.decode])
    number = np.arange(len(uses.layers), dtype=np.float64)
    by_number = _slow(number, layer_bytes, capacity)
    return Offload(
        by_number=by_number,
        by_use=_slow(_density(reads, layer_bytes), layer_bytes, capacity),
        read=reads.sum(axis=0) / max(1, int(tokens.sum())),
        gains=_gains(reads, tokens, by_number, layer_bytes, capacity),
    )


def _density(reads: NDArray[np.float64], layer_bytes: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much of each layer is read; rounded, so that layers that read alike are in their order."""
    share: NDArray[np.float64] = np.round(reads.sum(axis=0) / layer_bytes / max(reads.sum(), 1.0), 15)
    return share


def _slow(worth: NDArray[np.float64], layer_bytes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """The layers (layers,) that are left over when those of most worth, of equals the last, are taken."""
    order = np.lexsort((np.arange(len(worth)), worth))[::-1]
    slow = np.ones(len(worth), np.bool_)
    slow[order[np.cumsum(layer_bytes[order]) <= capacity]] = False
    return slow


def _gains(
    reads: NDArray[np.float64],
    tokens: NDArray[np.int64],
    by_number: NDArray[np.bool_],
    layer_bytes: NDArray[np.int64],
    capacity: int,
) -> bool | None:
    """Whether choosing by use, learned on one half of the parts of the steps, reads less in the other."""
    if not tokens.all():
        return None
    halves: Sequence[NDArray[np.intp]] = np.split(np.arange(BLOCKS), 2)
    differences = []
    for learned, tested in (halves, halves[::-1]):
        by_use = _slow(_density(reads[learned], layer_bytes), layer_bytes, capacity)
        differences += [
            _read_share(reads[part], by_use, layer_bytes) / tokens[part]
            - _read_share(reads[part], by_number, layer_bytes) / tokens[part]
            for part in tested
        ]
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    # What the halves have alike by chance shows in both ways of testing: twice the variance.
    return bool(np.mean(differences) < -CERTAIN * 2**0.5 * error)


def _read_share(reads: NDArray[np.float64], slow: NDArray[np.bool_], layer_bytes: NDArray[np.int64]) -> float:
    """The share of the bytes in slow memory that is read."""
    return float(reads[slow].sum() / max(1, int(layer_bytes[slow].sum())))
