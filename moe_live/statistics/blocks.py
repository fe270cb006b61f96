"""How certain a share of successive uses is: from how parts of the steps differ from each other."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCKS = 32
"""Parts of the decode steps, each of successive ones, that are held against each other."""

_FEWEST = 8  # parts that show how much longer parts differ

CERTAIN = 4.0
"""Standard errors by which a share must differ from what chance gives to be called more or less than that: of
five that do not, none does in more than some 1 in 1,000 runs of `BLOCKS` parts."""


FEW_LAYERS = 16
"""Fewer of them do not tell whether a difference between layers' figures is more than chance."""


class Gain(NamedTuple):
    """What one way has beyond another on steps that it has not seen, on average over the layers.

    Attributes:
        mean: NaN without layers.
        error: its standard error, from how much the layers differ. However alike successive tokens are, and
            whatever the text is about: what chance gives to one layer it does not give to the others. NaN
            with fewer than `FEW_LAYERS`.
    """

    mean: float
    error: float

    @property
    def certain(self) -> bool | None:
        """Whether it is more than nothing, almost certainly; None if that cannot be told."""
        return None if math.isnan(self.error) else self.mean > CERTAIN * self.error


def gain_of_layers(differences: NDArray[np.float64]) -> Gain:
    """The gain by the differences of the layers (n,); NaN is left out."""
    known = differences[np.isfinite(differences)]
    mean = float(known.mean()) if len(known) else math.nan
    told = len(known) >= FEW_LAYERS
    return Gain(mean, float(known.std(ddof=1) / len(known) ** 0.5) if told else math.nan)


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
        margin = self.margin(chance, uses)
        return None if math.isnan(margin) else self.rate > chance + margin

    def margin(self, chance: float, uses: int) -> float:
        """By how much the rate may be off, almost certainly; NaN if that cannot be told.

        The error counts; where the parts of a short log hardly differ, that of as many draws, tested both
        ways.
        """
        if math.isnan(self.error):
            return math.nan
        return CERTAIN * max(self.error, math.sqrt(2 * chance * (1 - chance) / max(uses, 1)))


def in_blocks(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """The sums (BLOCKS, ...) of values (steps, ...) in equal parts of the steps; no parts of fewer steps."""
    steps = len(values)
    if steps < BLOCKS:
        return np.zeros((0, *values.shape[1:]), np.int64)
    bounds = [steps * block // BLOCKS for block in range(BLOCKS + 1)]
    # `reduceat` would make all values as wide as their sums first.
    return np.stack([values[slice(*part)].sum(axis=0, dtype=np.int64) for part in pairwise(bounds)])


def errors(hits: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """The standard errors (m,) of shares of uses, of which some were hits.

    From these parts, or fewer and longer ones, `_FEWEST` at least: those that differ most count, so that what
    lasts for longer than a part shows.

    Args:
        hits: (parts, m), in successive parts of the steps, see `in_blocks`.
        of: (parts,) uses.

    Returns:
        NaN without parts, or where one has no uses.
    """
    worst = np.zeros(hits.shape[1])
    if not len(of) or not of.all():
        return np.full(len(worst), math.nan)
    rate = hits.sum(axis=0) / of.sum()
    while len(of) >= _FEWEST:
        spread = ((hits - of[:, None] * rate) ** 2).sum(axis=0)
        worst = np.maximum(worst, np.sqrt(len(of) / (len(of) - 1) * spread) / of.sum())
        hits, of = (part[::2] + part[1::2] for part in (hits, of))
    return worst


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
