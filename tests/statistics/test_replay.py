"""Caches replayed, against plain references: dictionaries and, for the optimum, a search of all ways."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics import replay as replay_module
from moe_live.statistics.latest import LatestUses, Uses
from moe_live.statistics.replay import (
    lfu,
    lru_depths,
    optimum,
    replay,
    static_unseen,
    stream,
)
from tests.statistics.drawn_steps import DrawnStep, Row, chosen, decode_rows, drawn_steps, tables

Item = tuple[int, int]
Batch = list[Item]
EXPERTS = 40


def uses_of(steps: list[DrawnStep]) -> Uses:
    accumulator = LatestUses()
    accumulator.update(*tables(steps))
    return accumulator.uses([Kind.DECODE], EXPERTS)


def batches(uses: Uses) -> Iterator[tuple[bool, Batch]]:
    """What is looked up together, as (layer's index, expert), and whether it is decode."""
    keys = list(zip(uses.step.tolist(), uses.slot.tolist(), strict=True))
    for step, slot in sorted(set(keys)):
        here = [use for use, key in enumerate(keys) if key == (step, slot)]
        yield bool(uses.decode[step]), [(slot, int(uses.expert[use])) for use in here]


def plain(uses: Uses, sizes: list[int], capacity: float, rank: Callable[[int, int], object]) -> list[bool]:
    """Which uses are found in a cache that gives up the items of the lowest rank(how often, when last)."""
    held: dict[Item, object] = {}
    often: dict[Item, int] = {}
    found, now = [], 0
    for _, batch in batches(uses):
        found += [item in held for item in batch]
        for item in batch:
            often[item] = often.get(item, 0) + 1
            now += 1
            held[item] = rank(often[item], now)
        for item in sorted(held, key=lambda name: held[name]):  # type: ignore[arg-type, return-value]
            if sum(sizes[slot] for slot, _ in held) > capacity and item not in batch:
                del held[item]
    return found


def ordered_lru(uses: Uses, sizes: list[int], capacity: float) -> list[bool]:
    """The same for LRU, as people write it."""
    held: OrderedDict[Item, None] = OrderedDict()
    found = []
    for _, batch in batches(uses):
        found += [item in held for item in batch]
        for item in batch:
            held[item] = None
            held.move_to_end(item)
        while sum(sizes[slot] for slot, _ in held) > capacity and next(iter(held)) not in batch:
            held.popitem(last=False)
    return found


def most_hits(uses: Uses, capacity: int) -> int:
    """The most uses that any cache of so many experts can find: all ways are tried."""
    wanted = [frozenset(batch) for _, batch in batches(uses)]

    @cache
    def best(at: int, held: frozenset[Item]) -> int:
        if at == len(wanted):
            return 0
        now = wanted[at]
        others = sorted(held - now)
        room = max(0, capacity - len(now))
        rest = max(best(at + 1, now | set(kept)) for kept in combinations(others, min(room, len(others))))
        return len(held & now) + rest

    return best(0, frozenset())


def of_layer(uses: Uses, slot: int) -> Uses:
    mine = uses.slot == slot
    columns = (uses.step, uses.slot, uses.expert, uses.count)
    return Uses(uses.layers, EXPERTS, uses.decode, uses.tokens, *(column[mine] for column in columns))


def layer_sizes(uses: Uses, *, equal: bool) -> NDArray[np.int64]:
    return np.array([3 if equal else 2 + slot for slot in range(len(uses.layers))], np.int64)


def lru(seen: replay_module.Stream, capacity: int) -> list[bool]:
    depth = lru_depths(seen)
    found: list[bool] = ((depth >= 0) & (depth <= capacity)).tolist()
    return found


@given(drawn_steps(), st.booleans(), st.integers(0, 60), st.sampled_from([1, 3, 512]))
def test_lru_of_one_cache(steps: list[DrawnStep], equal: bool, capacity: int, chunk: int) -> None:
    uses = uses_of(steps)
    sizes = layer_sizes(uses, equal=equal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_module, "_CHUNK", chunk)
        found = lru(stream(uses, sizes), capacity)
    assert found == plain(uses, sizes.tolist(), capacity, lambda _, last: last)
    assert found == ordered_lru(uses, sizes.tolist(), capacity)


@given(drawn_steps(), st.booleans(), st.integers(0, 60))
def test_lfu_of_one_cache(steps: list[DrawnStep], equal: bool, capacity: int) -> None:
    uses = uses_of(steps)
    sizes = layer_sizes(uses, equal=equal)
    found = lfu(stream(uses, sizes), capacity)
    assert found.tolist() == plain(uses, sizes.tolist(), capacity, lambda often, last: (often, last))


@given(drawn_steps(), st.integers(0, 30))
def test_caches_of_the_layers(steps: list[DrawnStep], capacity: int) -> None:
    uses = uses_of(steps)
    sizes = layer_sizes(uses, equal=False)
    seen = stream(uses, sizes, by_layer=True)
    by_frequency = lfu(seen, capacity).tolist()
    by_recency = lru(seen, capacity)
    assert np.array_equal(np.flatnonzero(seen.before < 0), np.flatnonzero(lru_depths(seen) < 0))
    for slot in range(len(uses.layers)):
        own = of_layer(uses, slot)
        often = plain(own, sizes.tolist(), capacity, lambda often, last: (often, last))
        begin, end = np.searchsorted(np.sort(uses.slot), [slot, slot + 1])
        assert by_frequency[begin:end] == often
        recent = plain(own, sizes.tolist(), capacity, lambda _, last: last)
        assert by_recency[begin:end] == recent


@st.composite
def short_logs(draw: st.DrawFn) -> Uses:
    """Few uses of few experts, so that all ways can be tried."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_layers, n_experts, k = draw(st.integers(1, 2)), draw(st.integers(3, 5)), draw(st.integers(1, 2))
    steps = [
        DrawnStep(
            Kind.DECODE,
            {
                layer: [tuple(rng.choice(n_experts, k, replace=False).tolist()) for _ in range(tokens)]
                for layer in range(n_layers)
            },
        )
        for tokens in rng.choice([1, 1, 2], draw(st.integers(1, 6)))
    ]
    return uses_of(steps)


@given(short_logs(), st.integers(0, 8))
def test_no_cache_finds_more_than_the_optimum(uses: Uses, capacity: int) -> None:
    found = optimum(stream(uses, np.full(len(uses.layers), 7)), 7 * capacity)
    assert found.sum() == most_hits(uses, capacity)


@given(drawn_steps(), st.integers(0, 60))
def test_the_optimum_by_bytes_gives_up_what_is_needed_last(steps: list[DrawnStep], capacity: int) -> None:
    uses = uses_of(steps)
    sizes = layer_sizes(uses, equal=False).tolist()
    every = [batch for _, batch in batches(uses)]
    held: set[Item] = set()
    found = []
    for at, batch in enumerate(every):
        found += [item in held for item in batch]
        held |= set(batch)
        needed = {
            item: next((i for i in range(at + 1, len(every)) if item in every[i]), len(every))
            for item in held
        }
        for item in sorted(held - set(batch), key=lambda name: -needed[name]):
            if sum(sizes[slot] for slot, _ in held) > capacity:
                held.discard(item)
    assert optimum(stream(uses, np.array(sizes, np.int64)), capacity).sum() == sum(found)


@given(drawn_steps())
def test_a_larger_cache_finds_all_that_a_smaller_one_does(steps: list[DrawnStep]) -> None:
    """The stack law, where sizes are equal."""
    uses = uses_of(steps)
    seen = stream(uses, layer_sizes(uses, equal=True))
    best = np.zeros(len(uses), np.bool_)
    recent = best
    for capacity in range(0, 60, 3):
        smaller, best = best, optimum(seen, capacity)
        assert best.sum() >= smaller.sum()
        smaller, recent = recent, np.array(lru(seen, capacity), np.bool_)
        assert not (smaller & ~recent).any()
        assert best.sum() >= max(recent.sum(), lfu(seen, capacity).sum())


def test_static_caches_are_tested_on_the_other_half() -> None:
    def found(uses: Uses, capacity: int) -> int:
        return int(static_unseen(uses, np.array([10]), capacity).sum())

    row: dict[str, list[Row]] = {"a": [(0, 1)], "b": [(2, 3)]}
    steps = [DrawnStep(Kind.DECODE, {0: row[name]}) for name in "aaabbb"]
    uses = uses_of([DrawnStep(Kind.PREFILL, {0: row["b"]}), *steps])
    assert found(uses, 20) == 0
    assert found(uses, 39) == 0  # what was never used is not taken
    uses = uses_of([DrawnStep(Kind.DECODE, {0: row[name]}) for name in "aababb"])
    assert found(uses, 20) == 2 + 2
    assert found(uses, 40) == 12


def test_nothing_to_replay() -> None:
    (rates,) = replay(uses_of([]), np.zeros(0, np.int64), [100]).rates
    assert rates.bytes == 100
    assert np.isnan(rates.optimum.rate)
    assert np.isnan(rates.static_unseen.missed)


def test_missed_bytes_are_those_of_a_token() -> None:
    steps = [DrawnStep(Kind.DECODE, {0: [(0, 1), (1, 2)], 1: [(0, 1), (1, 2)]}) for _ in range(4)]
    told: list[float] = []
    (rates,) = replay(uses_of(steps), np.array([10, 1]), [33], told.append).rates
    for policy in (rates.optimum, rates.lru, rates.lfu):
        assert (policy.rate, policy.missed) == (18 / 24, 33 / 8)  # the first step alone is missed
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_random_rows_gain_nothing_over_chance() -> None:
    """Without structure no policy but the one that knows the future finds more than its share of experts."""
    rng = np.random.default_rng(7)
    rows = decode_rows(chosen(rng, np.zeros((3, 64)), 4, (2000, 3)), range(3))
    accumulator = LatestUses()
    accumulator.update([rows], np.full(2000, Kind.DECODE, np.int8))
    uses = accumulator.uses([Kind.DECODE], 64)
    for rates in replay(uses, np.full(3, 1), [48, 96, 144]).rates:
        chance = rates.bytes / (3 * 64)
        deviation = (chance * (1 - chance) / len(uses)) ** 0.5
        for policy in (rates.lru, rates.lfu, rates.layer_lru, rates.layer_lfu, rates.static_unseen):
            # What is in use at the moment cannot come next in the layer: some cells are lost to it.
            assert policy.rate < chance + 4 * deviation
            assert policy.rate > chance - 0.1
        assert rates.optimum.rate > chance + 0.15


PUBLISHED = {  # MiB: optimum, LRU, LFU, LRU by layer, LFU by layer; BigMoeOnEdge, 2026-07-20-cache-replay
    500: (45.3, 0.0, 26.6, 38.3, 38.3),
    1000: (62.7, 37.7, 40.2, 42.3, 45.1),
    2000: (79.4, 56.5, 58.6, 59.4, 63.3),
    3000: (87.8, 70.6, 71.3, 71.1, 74.2),
    4000: (92.7, 80.3, 80.8, 79.7, 81.7),
    6000: (96.6, 92.1, 92.0, 90.3, 91.0),
}


def published_trace(path: Path) -> tuple[Uses, NDArray[np.int64]]:
    """The uses of the trace, its prompt as one step, and the bytes of an expert of each layer."""
    rows: dict[tuple[int, int, int], list[int]] = {}  # by step, layer and token
    sizes = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        if line.startswith("# layer="):
            sizes.append(int(line.split("expert_bytes=")[1].split()[0]))
        elif line[:1].isdigit():
            _, phase, step, layer, _, expert = map(int, line.split(",")[:6])
            key = (step + 1, layer, 0) if phase else (0, layer, step)
            rows.setdefault(key, []).append(expert)
    step_of, layer_of, token_of = zip(*sorted(rows), strict=True)
    table = ExpertRows(
        np.array(step_of, np.int64),
        np.array(layer_of, np.uint16),
        np.array(token_of, np.int64),
        np.ones(len(rows), np.bool_),
        np.array([rows[key] for key in sorted(rows)], np.uint16),
    )
    kind = np.full(step_of[-1] + 1, Kind.DECODE, np.int8)
    kind[0] = Kind.PREFILL
    accumulator = LatestUses()
    accumulator.update([table], kind)
    return accumulator.uses([Kind.DECODE], 128), np.array(sizes, np.int64)


def test_published_rates_are_reproduced(real_logs: Path) -> None:
    uses, sizes = published_trace(real_logs / "qwen3-30b-a3b.route.csv.gz")
    assert (uses.steps, uses.decode_tokens, int(uses.tokens[0])) == (128, 128, 28)
    for rates, published in zip(
        replay(uses, sizes, [size << 20 for size in PUBLISHED]).rates, PUBLISHED.values(), strict=True
    ):
        policies = (rates.optimum, rates.lru, rates.lfu, rates.layer_lru, rates.layer_lfu)
        assert [100 * policy.rate for policy in policies] == pytest.approx(published, abs=0.06)
        assert 0 < rates.static_unseen.rate < rates.optimum.rate
