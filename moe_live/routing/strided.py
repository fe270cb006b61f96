"""Strided logs: how they are recognised, and which of their rows can be recovered.

A router ranks all E experts of each token; the k best are a strided view of that ranking. A logger that reads
the view as if it were contiguous writes, for a block of T tokens, the first T*k entries of the concatenated
rankings. Flatten the ids of such a block: every chunk of E entries is a permutation of 0..E-1, its first k
entries are one token's true choice, and only row 0 stands where it was written.

**The test.** A block with T*k >= E is cut into its complete chunks, each of which is or is not a permutation;
a shorter block is one chunk, whose entries are or are not all distinct. For rows that are drawn independently
and uniformly, k of E without repetition, the chance that r of them share no expert is

    prod_{i<r} C(E - i k, k) / C(E, k)

(the last factor with the remainder of the chunk in place of k). Any preference for some experts makes rows
meet more often, so this is an upper bound for independent rows. In a strided log every chunk passes.

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows
from moe_live.settings import MAX_EXPERTS

BITS_NEEDED = -math.log2(1e-12)
"""Strength of evidence a verdict needs, in bits of chance."""

TOLERATED_FAILURES = 0.01
"""Share of chunks that may fail in a log that is called strided."""

_ENTRIES = 1 << 17  # of blocks that are tested at a time


class Verdict(Enum):
    """What is known of a log's multi-row blocks."""

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

    def examine(self, rows: ExpertRows) -> ExpertRows:
        """Test whole blocks, and pick the rows of them that hold in a strided log.

        Args:
            rows: whole blocks of two or more rows each; a block starts where `token` is 0.

        Returns:
            Row 0 of each block, and where all its complete chunks are permutations of E experts the tokens j
            with j*E + k <= T*k, recovered from the k entries from j*E on. In the order of blocks, then j.
        """
        n, k = rows.experts.shape
        if not n:
            return rows
        start = np.flatnonzero(rows.token == 0)
        width = np.diff(start, append=n) * k
        flat = np.ascontiguousarray(rows.experts).reshape(-1)
        n_experts = np.maximum.reduceat(flat, start * k).astype(np.int64) + 1
        tally = self._tallies.setdefault(k, ChunkTally())
        complete = width >= n_experts
        _count_partial(tally.partial, flat, start[~complete] * k, width[~complete])
        whole = _count_complete(
            tally.complete, flat, start[complete] * k, width[complete], n_experts[complete]
        )
        believable = np.ones(len(start), np.int64)
        believable[complete] += np.where(whole, (width[complete] - k) // n_experts[complete], 0)
        block = np.repeat(np.arange(len(start)), believable)
        token = np.arange(len(block)) - np.repeat(np.cumsum(believable) - believable, believable)
        first = start[block]
        entry = first * k + token * n_experts[block]
        experts = flat[np.arange(k)[:, None] + entry].T
        return ExpertRows(rows.step[first], rows.layer[first], token, rows.whole[first], experts)

    def __iadd__(self, other: StrideEvidence) -> Self:
        """Add what another log showed."""
        for k, theirs in other._tallies.items():
            ours = self._tallies.setdefault(k, ChunkTally())
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


def _count_complete(
    tally: NDArray[np.int64],
    flat: NDArray[np.uint16],
    begin: NDArray[np.int64],
    width: NDArray[np.int64],
    n_experts: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Test the complete chunks of blocks at `begin` in `flat`; returns (b,) whether all of a block pass.

    Every chunk of E entries gets E cells; each entry marks the cell of its expert; a permutation marks all.
    """
    whole = np.empty(len(begin), np.bool_)
    chunks = width // n_experts
    for mine in _alike(n_experts * (int(chunks.max(initial=0)) + 1) + chunks, chunks * n_experts):
        length, n = int(n_experts[mine[0]]), int(chunks[mine[0]])
        entries = np.lib.stride_tricks.sliding_window_view(flat, n * length)[begin[mine]]
        cells = entries.reshape(-1, length).astype(np.int64)
        cells += np.arange(0, cells.size, length)[:, None]
        marked = np.zeros(cells.shape, np.bool_)
        marked.reshape(-1)[cells.reshape(-1)] = True
        passed = np.all(marked, axis=1)
        tally[length] += len(passed), np.count_nonzero(passed)
        whole[mine] = passed.reshape(-1, n).all(axis=1)
    return whole


def _count_partial(
    tally: NDArray[np.int64], flat: NDArray[np.uint16], begin: NDArray[np.int64], width: NDArray[np.int64]
) -> None:
    """Test blocks shorter than one chunk: are all entries distinct?"""
    for mine in _alike(width, width):
        length = int(width[mine[0]])
        entries = np.sort(np.lib.stride_tricks.sliding_window_view(flat, length)[begin[mine]], axis=1)
        passed = np.all(entries[:, 1:] != entries[:, :-1], axis=1)
        tally[length] += len(passed), np.count_nonzero(passed)


def _alike(keys: NDArray[np.int64], entries: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """The indices of each value that occurs in `keys` (b,), few at a time.

    Args:
        keys: of blocks; those that are equal have as many entries.
        entries: (b,) how many each block has.
    """
    order = np.argsort(keys, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if len(mine):
            size = max(1, _ENTRIES // int(entries[mine[0]]))
            yield from (mine[start : start + size] for start in range(0, len(mine), size))
