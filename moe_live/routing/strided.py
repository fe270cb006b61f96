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

What follows from it is for `moe_live.routing.evidence` to say.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows
from moe_live.routing.evidence import StrideEvidence

_ENTRIES = 1 << 17  # of blocks that are tested at a time


def examine(rows: ExpertRows, evidence: StrideEvidence) -> ExpertRows:
    """Test whole blocks, and pick the rows of them that hold in a strided log.

    Args:
        rows: whole blocks of two or more rows each; a block starts where `token` is 0.
        evidence: is shown how they look.

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
    tally = evidence.tally(k)
    complete = width >= n_experts
    _count_partial(tally.partial, flat, start[~complete] * k, width[~complete])
    whole = _count_complete(tally.complete, flat, start[complete] * k, width[complete], n_experts[complete])
    believable = np.ones(len(start), np.int64)
    believable[complete] += np.where(whole, (width[complete] - k) // n_experts[complete], 0)
    block = np.repeat(np.arange(len(start)), believable)
    token = np.arange(len(block)) - np.repeat(np.cumsum(believable) - believable, believable)
    first = start[block]
    entry = first * k + token * n_experts[block]
    experts = flat[np.arange(k)[:, None] + entry].T
    return ExpertRows(rows.step[first], rows.layer[first], token, rows.whole[first], experts)


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
