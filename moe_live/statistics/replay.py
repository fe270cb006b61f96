"""What caches of experts would have served, had they been there: uses replayed under several policies.

The engine that is thought of computes one layer of a step after the other. All experts of a step and layer
are looked up at once; those that are missing are loaded, and only then experts are given up, until what is
left fits: never one that this step and layer use, though these alone may be more than fits. That is how the
BigMoeOnEdge project replays its traces (docs/bench-data/2026-07-20-cache-replay), whose published rates these
functions reproduce.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import blocks, share
from moe_live.statistics.latest import Uses

_CHUNK = 1 << 9  # uses whose depths are found at a time, each against each


@dataclass(frozen=True, slots=True)
class Served:
    """What a cache served of the uses in decode steps.

    Attributes:
        rate: share of the uses that were found in it; NaN without uses.
        error: its standard error, see `Share`.
        missed: bytes that were loaded, a decode token.
    """

    rate: float
    error: float
    missed: float


@dataclass(frozen=True, slots=True)
class CacheRates:
    """What a cache of one size serves, by policy.

    Attributes:
        bytes: its size.
        optimum: gives up what is needed last in the future (Belady 1966): a bound, as nobody knows that.
            Where experts differ in size it is a little below the best there could be.
        lru: gives up what was used least recently; one cache over all layers, as the optimum.
        lfu: gives up what was used least often so far, in the cache or not; of equals the least recent.
        layer_lru, layer_lfu: the same, where each layer has its own cache, an equal part of the bytes.
        static_unseen: what never changes: the most used experts for their size of one half of the decode
            steps, tested on the other half, both ways.
    """

    bytes: int
    optimum: Served
    lru: Served
    lfu: Served
    layer_lru: Served
    layer_lfu: Served
    static_unseen: Served


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Uses in the order in which one cache, or one cache after the other, sees them.

    Attributes:
        block: (n,) int64, the part of the decode steps that the use is in, -1 in a prefill step.
        item: (n,) int64, slot * n_experts + expert.
        size: (n,) int64, bytes of the expert.
        batch: (n,) int64, ascending: uses of one number are looked up together.
        begins: (b + 1,) int64, where each batch begins, and n.
        caches: (c,) int64, where the uses of each cache begin.
        before: (n,) int64, the use of the same expert before, -1 for none.
        after: (n,) int64, the next one, n for none.
    """

    block: NDArray[np.int64]
    item: NDArray[np.int64]
    size: NDArray[np.int64]
    batch: NDArray[np.int64]
    begins: NDArray[np.int64]
    caches: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item)


def stream(uses: Uses, sizes: NDArray[np.int64], *, by_layer: bool = False) -> Stream:
    """The uses as a cache sees them.

    Args:
        uses: of some steps.
        sizes: (len(uses.layers),) bytes of an expert of each layer.
        by_layer: all of the first layer come first, as a cache of its own sees them, then the next one's.
    """
    order = np.argsort(uses.slot, kind="stable") if by_layer else np.arange(len(uses))
    step, slot = uses.step[order], uses.slot[order]
    item = slot * uses.n_experts + uses.expert[order]
    n = len(item)
    is_first = np.ones(n, np.bool_)
    is_first[1:] = (step[1:] != step[:-1]) | (slot[1:] != slot[:-1])
    by_item = np.argsort(item, kind="stable")
    same = np.flatnonzero(item[by_item[1:]] == item[by_item[:-1]])
    before, after = np.full(n, -1), np.full(n, n)
    before[by_item[same + 1]] = by_item[same]
    after[by_item[same]] = by_item[same + 1]
    return Stream(
        block=blocks(uses.decode)[step],
        item=item,
        size=sizes[slot],
        batch=np.cumsum(is_first) - 1,
        begins=np.append(np.flatnonzero(is_first), n),
        caches=np.flatnonzero(np.diff(slot, prepend=-1)) if by_layer else np.zeros(1, np.int64),
        before=before,
        after=after,
    )


def lru_depths(stream: Stream) -> NDArray[np.int64]:
    """The smallest caches (n,), in bytes, that find each use under LRU; -1 if none does.

    What is cached are the experts used last, as many as fit: a larger cache holds all that a smaller one
    does, and one pass tells all sizes (Mattson et al. 1970). The depth of a use is the size of all experts
    used since the same expert was used last, those that its batch lists after it included, and of itself.
    What the very batch before used is there in any case: 0.
    """
    n = len(stream)
    depth = np.full(n, -1)
    latest = np.zeros(0, np.int64)  # where each expert's latest use before the chunk is, ascending
    first = 0
    while first < n:
        # Whole batches, whose uses are looked up before any of them counts.
        end = int(stream.begins[np.searchsorted(stream.begins, first + _CHUNK, "right") - 1])
        if end <= first:
            end = int(stream.begins[stream.batch[first] + 1])
        chunk = slice(first, end)
        above = np.append(np.cumsum(stream.size[latest][::-1])[::-1], 0)
        before, size = stream.before[chunk], stream.size[chunk]
        used = np.flatnonzero(before >= 0)
        last = before[used]
        depth[first + used] = above[np.searchsorted(latest, last, "right")] + size[used]
        # A use within the chunk brings its expert above those last used between its own last use and this.
        place = np.arange(first, end)
        over = (before <= last[:, None]) & (last[:, None] < place)
        over &= stream.batch[chunk] < stream.batch[chunk][used, None]
        depth[first + used] += over @ size
        latest = np.concatenate((latest, place))
        latest = latest[stream.after[latest] >= end]
        first = end
    adjacent = np.flatnonzero(stream.before >= 0)
    adjacent = adjacent[stream.batch[stream.before[adjacent]] == stream.batch[adjacent] - 1]
    depth[adjacent] = 0
    return depth


def optimum(stream: Stream, capacity: int) -> NDArray[np.bool_]:
    """Which uses (n,) a cache of so many bytes finds that gives up what is needed last in the future."""
    found = stream.before >= 0
    size, item_size = stream.size.tolist(), np.add.reduceat(stream.size, stream.begins[:-1]).tolist()
    after, begins = stream.after.tolist(), stream.begins.tolist()
    n, kept = len(size), found.tolist()
    held, heap = 0, list[int]()  # of what is held: by its next use, the last of them first
    for batch, wanted in enumerate(item_size):
        begin, end = begins[batch], begins[batch + 1]
        for use in range(begin, end):
            if kept[use]:
                held -= size[use]
        while held + wanted > capacity and held:
            use = -heappop(heap)
            kept[use] = False
            held -= size[use]
        for use in range(begin, end):
            if after[use] < n:
                heappush(heap, -after[use])
                held += size[use]
    return np.array(kept, np.bool_)


def lfu(stream: Stream, capacity: int) -> NDArray[np.bool_]:
    """Which uses (n,) are found by caches of so many bytes that give up what was used least often so far."""
    item, size, begins = stream.item.tolist(), stream.size.tolist(), stream.begins.tolist()
    n, own = len(item), set(stream.caches.tolist())
    found = [False] * n
    often = [0] * (max(item, default=-1) + 1)
    rank = often.copy()  # of what is held: how often, and when last; 0 of what is not
    held, heap = 0, list[int]()
    for begin, end in pairwise(begins):
        if begin in own:
            held, heap = 0, []
        for use in range(begin, end):
            name = item[use]
            if rank[name]:
                found[use] = True
            else:
                held += size[use]
            often[name] += 1
            rank[name] = often[name] * n + use
        while held > capacity and heap:  # what this batch uses is not in there yet
            lowest = heappop(heap)
            use = lowest % n
            if rank[item[use]] == lowest:
                held -= size[use]
                rank[item[use]] = 0
        for use in range(begin, end):
            heappush(heap, rank[item[use]])
    return np.array(found, np.bool_)


def static_unseen(uses: Uses, sizes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """Which uses (n,) the most used experts of one half of the decode steps serve in the other, both ways.

    Args:
        uses: of some steps.
        sizes: (len(uses.layers),) bytes of an expert of each layer.
        capacity: bytes; the experts with most uses a byte, of those that were used, as far as they fit.
    """
    item_size = np.repeat(sizes, uses.n_experts)
    item, decode = uses.slot * uses.n_experts + uses.expert, uses.decode[uses.step]
    in_second = uses.in_second
    found = np.zeros(len(uses), np.bool_)
    for tested in (in_second, ~in_second):
        learned = np.bincount(item[decode & ~tested], minlength=len(item_size))
        resident = most_used(learned, item_size, capacity)
        found |= tested & decode & resident[item]
    return found


def most_used(counts: NDArray[np.int64], sizes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """The items (n,) with most uses a byte, of those that were used, as far as they fit in so many bytes."""
    order = np.argsort(-counts / sizes, kind="stable")
    fits = (np.cumsum(sizes[order]) <= capacity) & (counts[order] > 0)
    resident = np.zeros(len(sizes), np.bool_)
    resident[order[fits]] = True
    return resident


def served(seen: Stream, found: NDArray[np.bool_], tokens: int) -> Served:
    """What a cache served.

    Args:
        seen: the uses.
        found: (n,) those that were found in it.
        tokens: of the decode steps.
    """
    missed = seen.size[(seen.block >= 0) & ~found].sum()
    return Served(*share(seen.block, found), int(missed) / tokens if tokens else math.nan)


class Replay(NamedTuple):
    """Uses that were replayed.

    Attributes:
        rates: what caches of the sizes asked for served.
        seen: the uses, as one cache over all layers sees them.
        depth: (n,) the smallest ones that find each of them under LRU, as `lru_depths` has them.
    """

    rates: tuple[CacheRates, ...]
    seen: Stream
    depth: NDArray[np.int64]


def replay(
    uses: Uses,
    sizes: NDArray[np.int64],
    capacities: Sequence[int],
    progress: Callable[[float], object] = lambda _: None,
) -> Replay:
    """What caches of some sizes would have served of the uses in decode steps; they are empty at first.

    Args:
        uses: of some steps. Prefill steps pass through the caches too.
        sizes: (len(uses.layers),) bytes of an expert of each layer, 1 or more.
        capacities: bytes of each cache.
        progress: is told the share that is done, 0 to 1, every second or so.
    """
    together, apart = stream(uses, sizes), stream(uses, sizes, by_layer=True)
    depth, own_depth = lru_depths(together), lru_depths(apart)
    rates = []
    for done, capacity in enumerate(capacities):
        own = capacity // max(1, len(sizes))
        best = optimum(together, capacity)
        progress((done + 0.3) / len(capacities))
        frequent = lfu(together, capacity)
        progress((done + 0.6) / len(capacities))
        own_frequent = lfu(apart, own)
        progress((done + 0.9) / len(capacities))
        *online, static = (
            served(seen, found, uses.decode_tokens)
            for seen, found in (
                (together, best),
                (together, (depth >= 0) & (depth <= capacity)),
                (together, frequent),
                (apart, (own_depth >= 0) & (own_depth <= own)),
                (apart, own_frequent),
                (together, static_unseen(uses, sizes, capacity)),
            )
        )
        # What makes the halves alike by chance shows in both ways of testing: twice the variance.
        static = replace(static, error=math.sqrt(2) * static.error)
        rates.append(CacheRates(capacity, *[*online, static]))
    progress(1.0)
    return Replay(tuple(rates), together, depth)
