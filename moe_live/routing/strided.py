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

**A sound step** among strided ones shows by its blocks that fail. A strided block fails where a line is
damaged, one in 100 at most; that of a sound step passes with the chance above at most. A step is proven sound
if its blocks are 1,000 times likelier so. It is only tried where almost every sound step would be: where all
blocks pass with a chance below one in a million. Of shorter ones those would be believed whose tokens have
most in common.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows
from moe_live.routing.evidence import TOLERATED_FAILURES, StrideEvidence, chance_bits
from moe_live.settings import MAX_EXPERTS

_ENTRIES = 1 << 16  # of blocks that are tested at a time


_PROOF_BITS = 10.0
"""How much likelier, in bits, the blocks of a step that is proven sound are in a sound log."""

_POWER_BITS = 20.0
"""-log2 of the chance that all blocks of a sound step pass, from which on it can be told."""


def examine(
    rows: ExpertRows, evidence: StrideEvidence, doubtful: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.bool_], ExpertRows]:
    """Test whole blocks, and pick the rows of them that hold in a strided log.

    Args:
        rows: whole blocks of two or more rows each; a block starts where `token` is 0.
        evidence: is shown how they look.
        doubtful: (d,) steps that are not to be proven sound; None for none.

    Returns:
        Which of the `rows` (n,) are of steps that are proven sound; and of the others row 0 of each block,
        and where all its complete chunks are permutations of E experts the tokens j with j*E + k <= T*k,
        recovered from the k entries from j*E on. In the order of blocks, then j.
    """
    n, k = rows.experts.shape
    if not n:
        return np.zeros(0, np.bool_), rows
    start = np.flatnonzero(rows.token == 0)
    width = np.diff(start, append=n) * k
    flat = np.ascontiguousarray(rows.experts).reshape(-1)
    n_experts = np.maximum.reduceat(flat, start * k).astype(np.int64) + 1
    tally = evidence.tally(k)
    complete = width >= n_experts
    chunks = np.where(complete, width // n_experts, 1)
    passed = np.empty(len(start), np.int64)
    passed[~complete] = _count_partial(tally.partial, flat, start[~complete] * k, width[~complete])
    passed[complete] = _count_complete(
        tally.complete, flat, start[complete] * k, width[complete], n_experts[complete]
    )
    is_sound = np.zeros(len(start), np.bool_)
    if not passed.all():
        length = np.where(complete, n_experts, width)
        is_sound = _sound(k, _Tested(rows.step[start], length, chunks, passed, n_experts))
        if doubtful is not None and len(doubtful):
            is_sound &= ~np.isin(rows.step[start], doubtful)
    believable = (~is_sound).astype(np.int64)
    recovers = complete & (passed == chunks) & ~is_sound
    believable[recovers] += (width[recovers] - k) // n_experts[recovers]
    block = np.repeat(np.arange(len(start)), believable)
    token = np.arange(len(block)) - np.repeat(np.cumsum(believable) - believable, believable)
    first = start[block]
    entry = first * k + token * n_experts[block]
    experts = flat[np.arange(k)[:, None] + entry].T
    verified = ExpertRows(rows.step[first], rows.layer[first], token, rows.whole[first], experts)
    return np.repeat(is_sound, width // k), verified


class _Tested(NamedTuple):
    """Blocks that were tested, (b,) int64 each.

    Attributes:
        step: of each, ascending.
        length: entries of its chunks.
        chunks: how many it has.
        passed: how many of these passed.
        n_experts: the highest expert in it, plus one.
    """

    step: NDArray[np.int64]
    length: NDArray[np.int64]
    chunks: NDArray[np.int64]
    passed: NDArray[np.int64]
    n_experts: NDArray[np.int64]


def _sound(top_k: int, blocks: _Tested) -> NDArray[np.bool_]:
    """Which blocks (b,) are of steps that are proven sound."""
    step, length, chunks, passed, n_experts = blocks
    begins = np.flatnonzero(np.append(True, step[1:] != step[:-1]))
    size = np.diff(begins, append=len(step))
    # A block that is shorter than a chunk does not tell E; the others of its step do.
    of_step = np.repeat(np.maximum.reduceat(n_experts, begins), size)
    experts = np.where(length == n_experts, n_experts, of_step)
    _, one, place = np.unique(length * MAX_EXPERTS + experts, return_index=True, return_inverse=True)
    lengths = zip(length[one].tolist(), experts[one].tolist(), strict=True)
    bits = np.array([chance_bits(entries, top_k, n) for entries, n in lengths])[place] * chunks
    fails = np.log2(np.maximum(1 - 2.0**-bits, TOLERATED_FAILURES) / TOLERATED_FAILURES)
    proof = np.add.reduceat(np.where(passed == 0, fails, -bits), begins)
    told = (proof >= _PROOF_BITS) & (np.add.reduceat(bits, begins) >= _POWER_BITS)
    return np.repeat(told, size)


def _count_complete(
    tally: NDArray[np.int64],
    flat: NDArray[np.uint16],
    begin: NDArray[np.int64],
    width: NDArray[np.int64],
    n_experts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Test the complete chunks of blocks at `begin` in `flat`; returns (b,) how many of a block pass.

    Every chunk of E entries gets E cells; each entry marks the cell of its expert; a permutation marks all.
    """
    found = np.empty(len(begin), np.int64)
    chunks = width // n_experts
    for mine in _alike(n_experts * (int(chunks.max(initial=0)) + 1) + chunks, chunks * n_experts):
        length, n = int(n_experts[mine[0]]), int(chunks[mine[0]])
        entries = _windows(flat, n * length)[begin[mine]]
        # Adding short integers and widening the sum is faster than adding wide ones.
        short = np.uint16 if entries.size <= 1 << 16 else np.int64
        chunk = np.arange(0, entries.size, length, dtype=short)[:, None]
        cells = np.add(entries.reshape(-1, length), chunk, dtype=short)
        marked = np.zeros(cells.size, np.bool_)
        marked[cells.reshape(-1).astype(np.int64, copy=False)] = True
        passed = np.all(marked.reshape(-1, length), axis=1)
        tally[length] += len(passed), np.count_nonzero(passed)
        found[mine] = np.count_nonzero(passed.reshape(-1, n), axis=1)
    return found


def _count_partial(
    tally: NDArray[np.int64], flat: NDArray[np.uint16], begin: NDArray[np.int64], width: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Test blocks shorter than one chunk: are all entries (b,) distinct?"""
    found = np.empty(len(begin), np.bool_)
    for mine in _alike(width, width):
        length = int(width[mine[0]])
        entries = np.sort(_windows(flat, length)[begin[mine]], axis=1)
        passed = np.all(entries[:, 1:] != entries[:, :-1], axis=1)
        tally[length] += len(passed), np.count_nonzero(passed)
        found[mine] = passed
    return found


def _windows(flat: NDArray[np.uint16], size: int) -> NDArray[np.uint16]:
    """(n - size + 1, size) What follows each of (n,) entries: `sliding_window_view`, sooner."""
    return np.ndarray((len(flat) - size + 1, size), flat.dtype, flat, strides=2 * flat.strides)


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
