"""What caches of so many bytes would have served: the sizes that were asked for."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.caching import POLICIES, gain_sentence, slots_sentence
from moe_live.formatting import chosen_size, memory
from moe_live.reports.numbers import decimals, number, percent
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import Budget, CacheSizing, Snapshot
from moe_live.statistics.sizing import CacheSize


def sizing_lines(sizing: CacheSizing, steps: int, bandwidth: int | None = None) -> Iterator[str]:
    """The figures for people.

    Args:
        sizing: what was tried.
        steps: decode steps of the whole log.
        bandwidth: bytes a second at which experts are loaded; None to leave times out.
    """
    between = f"; {sizing.prefill} prefill steps pass through" if sizing.prefill else ""
    yield f"cache size: the latest {sizing.steps} of {steps} decode steps replayed{between}"
    low, high = (memory(int(count)) for count in (sizing.expert_bytes.min(), sizing.expert_bytes.max()))
    each = low if low == high else f"{low} to {high}"
    yield (
        f"cache size: experts of {each}, {memory(sizing.total)} in all; a decode token uses "
        f"{memory(sizing.token_bytes)}"
    )
    yield "cache size: share of uses found in caches that are empty at first"
    yield "cache size: *: a cache a layer, of an equal part, or of a step if that is larger"
    yield "cache size: static: the most used experts of one half of the steps tested on the other"
    yield "cache size             of all" + "".join(f"{name:>8}" for name in POLICIES.values())
    for entry in sizing.sizes:
        rates = "".join(f"{percent(getattr(entry.rates, name).rate):>8}" for name in POLICIES)
        yield f"cache size {chosen_size(entry.rates.bytes):>9} {percent(entry.chance):>7}{rates}"
    if bandwidth is not None:
        yield f"cache time: milliseconds a decode token to load what is missing at {chosen_size(bandwidth)}/s"
        for entry in sizing.sizes:
            times = (1000 * getattr(entry.rates, name).missed / bandwidth for name in POLICIES)
            cells = "".join(f"{decimals(time, 1):>8}" for time in times)
            yield f"cache time {chosen_size(entry.rates.bytes):>9} {'':>7}{cells}"
    for entry in sizing.sizes:
        yield f"cache at {chosen_size(entry.rates.bytes)}: {gain_sentence(entry)}"


def rates_json(entry: CacheSize) -> Json:
    """The rates of one size, shares from 0 to 1, and what its `best` has beyond chance."""
    rates = {name: number(getattr(entry.rates, name).rate) for name in POLICIES}
    return {
        "bytes": entry.rates.bytes,
        **rates,
        "chance": number(entry.chance),
        "best": entry.best,
        "gain": number(entry.served.rate - entry.chance),
        "gain_error": number(entry.served.error),
        "gains": entry.gains,
    }


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if snapshot.cache is None:
        return
    yield ""
    yield from sizing_lines(snapshot.cache, snapshot.steps.decode)
    for entry in snapshot.cache.sizes:
        yield slots_sentence(entry, snapshot.cache.layers)


def _keys(snapshot: Snapshot) -> Keys:
    sizing = snapshot.cache
    if sizing is None:
        return Keys({"cache": [], "budget": [_budget(budget) for budget in snapshot.budgets]})
    return Keys(
        {
            "cache": [rates_json(entry) | {"steps": sizing.steps} for entry in sizing.sizes],
            "budget": [budget_json(entry) for entry in sizing.sizes],
        }
    )


def budget_json(entry: CacheSize) -> Json:
    """What stays best in a cache of one size."""
    return {
        "experts": int(entry.slots.sum()),
        "bytes": entry.rates.bytes,
        "share_uniform": number(entry.even_share),
        "share_best": number(entry.best_share),
        "slots": entry.slots.tolist(),
    }


def _budget(budget: Budget) -> Json:
    return {
        "experts": budget.experts,
        "bytes": None,
        "share_uniform": number(budget.even),
        "share_best": number(budget.best),
        "slots": list(budget.slots),
    }


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    if snapshot.cache is not None and snapshot.cache.sizes:
        facts = [
            f"{chosen_size(entry.rates.bytes)}: {gain_sentence(entry)}" for entry in snapshot.cache.sizes
        ]
        yield Gist("budget", facts)


SECTION = ReportSection("cache sizes", _lines, _keys, _gists)
