"""How certain a share of successive uses is: from how parts of the steps differ from each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCKS = 32
"""Parts of the decode steps, each of successive ones, that are held against each other."""

CERTAIN = 4.0
"""Standard errors by which a share must differ from what chance gives to be called more or less than that: of
five that do not, none does in more than some 1 in 1,000 runs of `BLOCKS` parts."""


FEW_LAYERS = 16
"""Fewer of them do not tell whether a difference between layers' figures is more than chance."""


def certainly_above(differences: NDArray[np.float64]) -> bool | None:
    """Whether differences of layers (n,) are above 0 in the mean, by how much they differ from each other.

    However alike successive tokens are, and whatever the text is about: what chance gives to one layer it
    does not give to the others. NaN is left out. None where there are fewer than `FEW_LAYERS`.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < FEW_LAYERS:
        return None
    return bool(known.mean() > CERTAIN * known.std(ddof=1) / len(known) ** 0.5)


class Share(NamedTuple):
    """A share of uses.

    Attributes:
        rate: NaN without uses.
        error: its standard error, from how `BLOCKS` parts of the steps differ: what is so alike in successive
            tokens does not make it small. NaN where a part has no uses.
    """

    rate: float
    error: float

    def beyond(self, chance: float, uses: int) -> bool | None:
        """Whether the share is certainly more than chance, which is known; None if that cannot be told.

        Args:
            chance: share that is to be expected without structure.
            uses: how many uses the share is of.
        """
        if not math.isfinite(self.error):
            return None
        return self.rate > chance + CERTAIN * self._least(chance, uses)

    def _least(self, chance: float, uses: int) -> float:
        """The error, where the parts of a short log hardly differ that of as many draws, tested both ways."""
        return max(self.error, math.sqrt(2 * chance * (1 - chance) / max(uses, 1)))


def blocks(decode: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The part (s,) that each step belongs to, -1 for steps (s,) that are not decode."""
    number = (np.cumsum(decode) - 1) * BLOCKS // max(BLOCKS, int(np.count_nonzero(decode)))
    return np.where(decode, number, -1)


def share(
    block: NDArray[np.int64], found: NDArray[np.bool_], weight: NDArray[np.int64] | None = None
) -> Share:
    """The share of uses (n,) that were found.

    Args:
        block: (n,) the part of the steps of each use; those below 0 do not count.
        found: (n,) which.
        weight: (n,) how often each counts; None for once.
    """
    counts = block >= 0
    uses, hits = (
        np.bincount(block[some], None if weight is None else weight[some], minlength=BLOCKS)
        for some in (counts, counts & found)
    )
    total = float(uses.sum())
    if not total:
        return Share(math.nan, math.nan)
    rate = float(hits.sum()) / total
    if not uses.all():
        return Share(rate, math.nan)
    spread = float(((hits - rate * uses) ** 2).sum())
    return Share(rate, math.sqrt(BLOCKS / (BLOCKS - 1) * spread) / total)
