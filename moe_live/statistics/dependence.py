"""How much the tokens of a text depend on those before: at the scale of a stretch of it, from a sample."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

MAX_BINS = 128
"""Parts of a run that are held against each other at most."""

MAX_CELLS = 1 << 22
"""Counts (8 MB) of all parts at most, as far as there are `LEAST_PARTS`."""

LEAST_PARTS = 8
"""Parts of a run that tell by how much parts of this length vary."""

_TOGETHER = 8  # blocks whose squares are taken at a time
_CELLS = 1 << 17  # and counts: all at once would be tens of MB
_ERRORS = 3.0  # standard errors by which the dependence is taken to be larger than it was found
_TAILS = 1.5  # and as many times: what topics do is less like a normal distribution than chance is


def bins(total: float, stretch: float, cells: int = 1) -> int:
    """Parts of a run of so many tokens that are as long as a stretch of it, within bounds.

    Args:
        total: tokens of the run.
        stretch: tokens of a stretch.
        cells: layers times experts.
    """
    most = np.clip(MAX_CELLS // max(cells, 1), LEAST_PARTS, MAX_BINS)
    return int(np.clip(total // max(stretch, 1.0), 2, most))


def variance_of_stretches(
    parts: NDArray[np.integer], top_k: float, total: float, stretch: float
) -> NDArray[np.float64]:
    """How many times more the counts of stretches vary (layers,) than in independent tokens, 1 or more.

    Between parts of the run, which are at least as long as the stretch, the counts of a sample vary by 1
    more than sampling makes them, times the tokens of a part that were sampled; all tokens of a part, by as
    much more as they are more. What a topic does that lasts for less shows in that; of one that lasts longer,
    in longer parts: those that vary most count, of at least `LEAST_PARTS`. The sample tells it with an error,
    of which `_ERRORS` are added: rather too much than too little.

    Args:
        parts: (parts, layers, E) selections of the sample in parts of the run, see `bins`.
        top_k: experts a row.
        total: tokens of the run.
        stretch: tokens of a stretch.
    """
    variance = np.full(parts.shape[1], -np.inf)
    size, counts = parts.sum(axis=-1, dtype=np.int64), parts.sum(axis=0, dtype=np.int64)
    while len(parts) >= 2:
        tokens = size.max(axis=1, initial=0) / top_k
        filled = np.count_nonzero(tokens)
        if filled >= 2:
            ratio, freedom = _ratio(parts, size, counts, top_k)
            above = np.maximum(ratio + _ERRORS * np.sqrt(2 / np.maximum(freedom, 1.0)) - 1, 0.0)
            found = _TAILS * (1 + above * max(stretch, total / filled) / (tokens.sum() / filled))
            variance = np.maximum(variance, found)
        if len(parts) < 2 * LEAST_PARTS:
            break
        parts, size = _longer(parts), _longer(size)
    return np.where(np.isfinite(variance), variance, np.inf)


def _longer(parts: NDArray[np.integer]) -> NDArray[np.integer]:
    """Each two parts (parts, ...) as one; the last one alone if it has no other."""
    longer = parts[::2].copy()
    longer[: len(parts) // 2] += parts[1::2]
    return longer


def clustering(blocks: NDArray[np.integer], top_k: float) -> NDArray[np.float64]:
    """Variance of counts between blocks (blocks, layers, E) over that of independent rows, at least 1."""
    ratio, freedom = _ratio(blocks, blocks.sum(axis=-1), blocks.sum(axis=0), top_k)
    return np.where(freedom > 0, np.maximum(ratio, 1.0), 1.0)


def _ratio(
    blocks: NDArray[np.integer], size: NDArray[np.int64], counts: NDArray[np.int64], top_k: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of counts between blocks over that of independent rows, and its degrees of freedom (layers,).

    The k experts of a row are distinct: one in a share s of the rows varies by 1 - s less. Counts of a block
    add up to what is expected of it: of (count - expected)² / expected only the squares are to be summed.

    Args:
        blocks: (blocks, layers, E) selections.
        size: (blocks, layers) those of all experts.
        counts: (layers, E) those of all blocks.
        top_k: experts a row.
    """
    total = counts.astype(np.float64)
    squares = np.zeros(total.shape)
    with np.errstate(all="ignore"):
        usage = total / total.sum(axis=-1, keepdims=True)
        weight = np.where(size > 0, 1 / size, 0.0)
        step = max(1, _CELLS // max(_TOGETHER * total.shape[1], 1))
        for begin, first in product(range(0, len(blocks), _TOGETHER), range(0, len(total), step)):
            some = slice(begin, begin + _TOGETHER), slice(first, first + step)
            squared = np.square(blocks[some], dtype=np.float64)
            squares[some[1]] += np.einsum("ble,bl->le", squared, weight[some])
        deviance = np.where(usage > 0, squares / usage, 0.0).sum(axis=-1) - size.sum(axis=0)
        free = np.where(usage > 0, np.maximum(1 - top_k * usage, 0.0), 0.0).sum(axis=-1)
        freedom = free * (np.count_nonzero(size, axis=0) - 1)
        ratio = deviance / freedom
    known = np.isfinite(ratio)
    return np.where(known, ratio, 1.0), np.where(known, freedom, 0.0)
