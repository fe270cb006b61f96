"""What several accumulators ask of expert rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows


def repeats(experts: NDArray[np.uint16]) -> NDArray[np.bool_] | None:
    """Which rows of (k, n) name an expert twice; None if none does, as in every sound log."""
    found = [(experts[i + 1 :] == experts[i]).any(axis=0) for i in range(len(experts) - 1)]
    repeating = np.logical_or.reduce(found) if found else np.zeros(experts.shape[1], np.bool_)
    return repeating if repeating.any() else None


def successors(rows: ExpertRows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows of one token in two successive layers of its step.

    Returns:
        Indices (m,) of the lower and of the upper rows. Rows of blocks that are not whole have none.
    """
    same_step = rows.step[1:] == rows.step[:-1]
    if not rows.token.any() and rows.whole.all():
        lower = np.flatnonzero(same_step & (rows.layer[1:] > rows.layer[:-1]))
        return lower, lower + 1
    begins = np.concatenate(([True], ~same_step | (rows.layer[1:] != rows.layer[:-1])))
    start = np.flatnonzero(begins)
    end = np.append(start[1:], len(rows))
    block = np.cumsum(begins) - 1
    # The token of a row stands as far into the next block as into its own.
    upper = np.arange(len(rows)) + (end - start)[block]
    lower = np.flatnonzero(upper < np.append(end[1:], 0)[block])
    upper = upper[lower]
    alike = (rows.step[lower] == rows.step[upper]) & (rows.token[lower] == rows.token[upper])
    alike &= rows.whole[lower] & rows.whole[upper] & (rows.layer[lower] < rows.layer[upper])
    return lower[alike], upper[alike]
