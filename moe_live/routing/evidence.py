"""How blocks of several rows look, and whether a logger that strides over rows wrongly has written them.

See `moe_live.routing.strided`, which tests their chunks.

**The verdict.** With n chunks of which c fail, the chance that a sound log looks like this is at most
C(n, c) times the product of the chances of the chunks that passed. Strided: that is below 1e-12, and at most
1 % fail. Sound: under strided logging a chunk fails in at most 1 % of cases (a damaged line), and the chance
of c or more failures is below 1e-12. Mixed: more than 1 % fail, and yet so many complete chunks pass that the
bound above is below 1e-12 for them alone: strided and sound rows in one log. Otherwise not enough was seen.

**Power.** Blocks of a strided log that suffice for the verdict, by rows a block:

    experts  top-k    2 rows   4 rows  16 rows  64 rows
          8      2        45        6        2        1
         64      6        45        7        1        1
        128      8        52        9        1        1
        160      8        66       11        1        1
        512     10       139       23        2        1

A model has a block a layer and step: the first prompt settles it, or the first few steps of two slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.settings import MAX_EXPERTS

BITS_NEEDED = -math.log2(1e-12)
"""Strength of evidence a verdict needs, in bits of chance."""

TOLERATED_FAILURES = 0.01
"""Share of chunks that may fail in a log that is called strided."""


class Verdict(Enum):
    """What is known of the multi-row blocks of a run of the server."""

    UNKNOWN = "not enough seen"
    SOUND = "sound"
    STRIDED = "strided"
    MIXED = "strided in part"


@dataclass(slots=True, eq=False)
class ChunkTally:
    """Chunks tested and passed, for one k.

    Attributes:
        complete: (MAX_EXPERTS + 1, 2) int64, at the chunk length E: chunks tested, permutations.
        partial: (MAX_EXPERTS + 1, 2) int64, at the chunk length T*k: blocks tested, all distinct.
    """

    complete: NDArray[np.int64] = field(default_factory=lambda: np.zeros((MAX_EXPERTS + 1, 2), np.int64))
    partial: NDArray[np.int64] = field(default_factory=lambda: np.zeros((MAX_EXPERTS + 1, 2), np.int64))


class StrideEvidence:
    """Accumulates how the chunks of multi-row blocks look. Independent of the order of the blocks."""

    def __init__(self) -> None:
        self._tallies: dict[int, ChunkTally] = {}

    def tally(self, top_k: int) -> ChunkTally:
        """Of rows of so many experts, to count on."""
        return self._tallies.setdefault(top_k, ChunkTally())

    def __iadd__(self, other: StrideEvidence) -> Self:
        """Add what other blocks showed."""
        for k, theirs in other._tallies.items():
            ours = self.tally(k)
            ours.complete += theirs.complete
            ours.partial += theirs.partial
        return self

    def verdict(self, n_experts: int) -> Verdict:
        """Judge by all that was seen. `n_experts` is the number of experts a layer, as far as known."""
        tested = failed = 0
        bits = 0.0
        complete_tested = complete_failed = 0
        complete_bits = 0.0
        for k, tally in self._tallies.items():
            for length in np.flatnonzero(tally.complete[:, 0]).tolist():
                seen, passed = tally.complete[length].tolist()
                complete_tested += seen
                complete_failed += seen - passed
                complete_bits += passed * chance_bits(length, k, length) if passed else 0.0
            for length in np.flatnonzero(tally.partial[:, 0]).tolist():
                seen, passed = tally.partial[length].tolist()
                tested += seen
                failed += seen - passed
                bits += passed * chance_bits(length, k, n_experts) if passed else 0.0
        tested += complete_tested
        failed += complete_failed
        bits += complete_bits
        if not tested:
            return Verdict.UNKNOWN
        if failed <= TOLERATED_FAILURES * tested:
            strided = bits - _log2_choose(tested, failed) >= BITS_NEEDED
            return Verdict.STRIDED if strided else Verdict.UNKNOWN
        if complete_bits - _log2_choose(complete_tested, complete_failed) >= BITS_NEEDED:
            return Verdict.MIXED
        return (
            Verdict.SOUND
            if _tail_bits(tested, failed, TOLERATED_FAILURES) >= BITS_NEEDED
            else Verdict.UNKNOWN
        )


@lru_cache(maxsize=4096)
def chance_bits(length: int, top_k: int, n_experts: int) -> float:
    """-log2 of the chance that `length` consecutive entries of independent rows are all distinct.

    Args:
        length: entries, counted from the start of a row.
        top_k: distinct entries a row.
        n_experts: experts they are drawn from, uniformly.

    Returns:
        The strength of the evidence in bits; infinite where it cannot happen.
    """
    rows, rest = divmod(length, top_k)
    bits = sum(_disjoint_bits(n_experts, i * top_k, top_k) for i in range(rows))
    return bits + _disjoint_bits(n_experts, rows * top_k, rest)


def _disjoint_bits(n_experts: int, taken: int, drawn: int) -> float:
    """-log2 of C(E - taken, drawn) / C(E, drawn)."""
    if taken + drawn > n_experts:
        return math.inf if drawn else 0.0
    return _log2_choose(n_experts, drawn) - _log2_choose(n_experts - taken, drawn)


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _tail_bits(n: int, c: int, p: float) -> float:
    """-log2 of an upper bound on P(Binomial(n, p) >= c), c > n p: the Chernoff bound, 2^(-n KL(c/n || p))."""
    share = c / n
    bits = share * math.log2(share / p)
    if share < 1:
        bits += (1 - share) * math.log2((1 - share) / (1 - p))
    return n * bits
