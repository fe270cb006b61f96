"""A snapshot as tables, one for each subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from moe_live.dataclass import dataclass
from moe_live.snapshot import Snapshot
from moe_live.statistics.distances import METRICS
from moe_live.statistics.hot_set import COVERED_PERCENT
from moe_live.statistics.layer_locality import WINDOWS
from moe_live.statistics.reuse import LAGS
from moe_live.tables.columns import Column, Names, Piece, Type

_LAYER = Column("layer", Type.UINT16, "the layer, as the log numbers it")
_EXPERT = Column("expert", Type.UINT16, "the expert")
_FROM = Column("from_layer", Type.UINT16, "the lower layer")
_TO = Column("to_layer", Type.UINT16, "the higher layer")


@dataclass(frozen=True, slots=True)
class Subject:
    """A table that is made of a snapshot.

    Attributes:
        name: of its file, without the ending.
        columns: of the table.
        lines: makes them, in portions, each with a value for every column; None and NaN are missing.
    """

    name: str
    columns: tuple[Column, ...]
    lines: Callable[[Snapshot], Iterable[Sequence[tuple[Any, ...]]]]

    def pieces(self, snapshot: Snapshot) -> Iterator[Piece]:
        """The lines."""
        return (piece_of(self.columns, portion) for portion in self.lines(snapshot) if portion)


def piece_of(columns: Sequence[Column], lines: Sequence[tuple[Any, ...]]) -> Piece:
    """Lines (n,), one at least, as columns of values."""
    return {
        column.name: _values(column, values)
        for column, values in zip(columns, zip(*lines, strict=True), strict=True)
    }


def _values(column: Column, values: Sequence[Any]) -> np.ndarray[Any, Any] | Names:
    if column.type is Type.STRING:
        names = list(dict.fromkeys(value for value in values if value is not None))
        code = {name: place for place, name in enumerate(names)}
        return Names(np.array([code.get(value, -1) for value in values], np.int32), names)
    if column.type is Type.FLOAT64:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, column.type.value)


def _float(name: str, what: str) -> Column:
    return Column(name, Type.FLOAT64, what, nullable=True)


_BALANCE = {
    "entropy": "entropy of the load, in bits",
    "entropy_normalized": "the same over its maximum: 1 is even",
    "effective_experts": "2 to the entropy: so many experts used alike have it",
    "gini": "Gini coefficient: 0 is even",
    "cv": "coefficient of variation of the counts",
    "jain": "Jain's fairness: 1 is even",
    "max_violation": "MaxVio: the largest count over the mean, less 1",
    "max_violation_bound": "the most that can be",
    "balancedness": "the mean count over the largest",
    "kl_uniform": "Kullback-Leibler divergence from equal shares, in bits",
    "dead_experts": "experts that were never chosen",
    "dead_expected": "so many are expected if all are alike",
}

LAYERS = (
    _LAYER,
    Column("experts", Type.INT64, "how many it has"),
    Column("count", Type.INT64, "choices of its experts, in all phases"),
    Column("prefill", Type.INT64, "those in prefill"),
    Column("decode", Type.INT64, "those in decode"),
    *(_float(name, what) for name, what in _BALANCE.items()),
    *(
        Column(f"coverage_{percent}", Type.INT64, f"experts that have {percent} % of the choices")
        for percent in COVERED_PERCENT
    ),
    _float("steps", "decode steps with rows of it"),
    _float("uses", "experts used in these, each once a step"),
    *(_float(f"overlap_{lag}", f"share of a step's experts that were used {lag} before too") for lag in LAGS),
    _float("overlap_chance", "the same by chance"),
    _float("reuse_median", "steps until an expert is used again, half of the times; inf for more than 1,000"),
    _float("reuse_p90", "the same, 90 % of the times"),
    _float("never_again", "share of the uses that none of the same expert followed"),
    *(_float(f"working_set_{steps}", f"experts that {steps} steps in a row use") for steps in WINDOWS),
)
EXPERTS = (
    _LAYER,
    _EXPERT,
    Column("count", Type.INT64, "how often it was chosen, in all phases"),
    Column("prefill", Type.INT64, "in prefill"),
    Column("decode", Type.INT64, "in decode"),
    _float("share", "of the layer's choices"),
    _float("idle_steps", "decode steps since its last use; inf for 1,000 and more, null for none"),
    _float("gate_mass", "its share of the sum of the layer's weights; null without weights"),
)
PAIRS = (
    _LAYER,
    Column("a", Type.UINT16, "an expert"),
    Column("b", Type.UINT16, "another"),
    Column("count", Type.INT64, "rows with both"),
    Column("rows", Type.INT64, "rows counted"),
    _float("expected", "rows with both, if experts were independent"),
    _float("lift", "how many times more often both are chosen than by their counts"),
    _float("pmi", "log2 of it; -inf for never"),
    _float("b_given_a", "share of the rows with a that have b"),
    _float("a_given_b", "share of the rows with b that have a"),
    _float("z", "how far `count` is from `expected`, in standard deviations"),
)
TRANSITIONS = (
    _FROM,
    _TO,
    Column("tokens", Type.INT64, "tokens counted"),
    Column("tested", Type.INT64, "tokens that predictions were tested on"),
    _float("hit_rate", "share of the higher layer's experts among those predicted from the lower layer's"),
    _float("static_hit_rate", "the same if the most used ones are predicted every time"),
    _float("chance", "the same by chance"),
    _float("gain", "of the first over the second, learned on one half and tested on the other"),
    _float("gain_error", "its standard error"),
)
LOCALITY = (
    _LAYER,
    Column("size", Type.INT64, "experts that a cache of the layer holds"),
    _float("lru_hit_rate", "share of the uses in decode found in it, if it keeps those used last"),
    _float("static_hit_rate", "the same if it keeps those with the most uses, known with hindsight"),
)
DISTANCES = (
    Column("step", Type.INT64, "number of the forward pass, from 1; prefill and decode are counted together"),
    Column("phase", Type.STRING, "`prefill` or `decode`"),
    _FROM,
    _TO,
    *(_float(name, "of the gate inputs of both layers") for name in METRICS),
)
LABELS = (
    Column("label", Type.STRING, "the label"),
    _LAYER,
    _EXPERT,
    Column("count", Type.INT64, "how often the expert was chosen under it"),
    _float("share", "of the label's tokens that chose it"),
    _float("share_elsewhere", "of other tokens; this and what follows of the label's specific experts alone"),
    _float("log_odds", "log2 of the ratio of its odds under the label and elsewhere"),
    _float("z", "the same in standard deviations"),
)
SOURCES = (
    Column("source", Type.STRING, "its path"),
    Column("left_out", Type.STRING, "why nothing of it is in the figures; null if it is", nullable=True),
    Column("rows", Type.INT64, "as logged"),
    Column("verdict", Type.STRING, "what its own rows show, in a word; null for none", nullable=True),
    Column("steps", Type.INT64, "forward passes"),
    Column("decode_steps", Type.INT64, "those in decode"),
    _float("hottest_layer", "layer of the expert that serves most of decode"),
    _float("hottest_expert", "that expert"),
    _float("hottest_share", "its share of the layer's choices in decode"),
    _float("apart", "Jensen-Shannon divergence of its use of the experts from that of all others, in bits"),
    _float("apart_by_chance", "the same if all were drawn from one use, tokens being independent"),
)


def _layers(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    locality = {entry.layer: entry for entry in snapshot.locality or ()}
    per_layer = zip(
        snapshot.layers, snapshot.layer_sizes, snapshot.balance, snapshot.coverage.tolist(), strict=True
    )
    lines = []
    for entry, size, balance, coverage in per_layer:
        usage, found = entry.usage, locality.get(entry.layer)
        figures: list[float | None] = [None] * (6 + len(LAGS) + len(WINDOWS))
        if found is not None:
            figures = [
                found.steps,
                found.uses,
                *(found.overlap[lag] for lag in LAGS),
                found.overlap_chance,
                found.reuse_median,
                found.reuse_p90,
                found.never_again,
                *(found.working_set[steps] for steps in WINDOWS),
            ]
        counts = usage.every.sum(), usage.prefill.sum(), usage.decode.sum()
        named = (getattr(balance, name) for name in _BALANCE)
        lines.append((entry.layer, size, *map(int, counts), *named, *coverage, *figures))
    yield lines


def _experts(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    idle = {entry.layer: entry.idle_steps.tolist() for entry in snapshot.locality or ()}
    mass = {entry.layer: entry.mass.tolist() for entry in snapshot.gate_mass}
    for entry, size in zip(snapshot.layers, snapshot.layer_sizes, strict=True):
        nothing, total = [None] * len(entry.usage.every), max(int(entry.usage.every.sum()), 1)
        columns = (
            entry.usage.every.tolist(),
            entry.usage.prefill.tolist(),
            entry.usage.decode.tolist(),
            (entry.usage.every / total).tolist(),
            idle.get(entry.layer, nothing),
            mass.get(entry.layer, nothing),
        )
        lines = zip(*columns, strict=True)
        yield [(entry.layer, expert, *line) for expert, line in zip(range(size), lines, strict=False)]


def _pairs(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    figures = [column.name for column in PAIRS if column.type is Type.FLOAT64]
    for layer, pairs in (snapshot.pairs or {}).items():
        yield [
            (layer, pair.a, pair.b, pair.count, pairs.rows, *(getattr(pair, name) for name in figures))
            for pair in (*pairs.strongest, *reversed(pairs.weakest))
        ]


def _transitions(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    names = [column.name for column in TRANSITIONS]
    yield [tuple(getattr(pair, name) for name in names) for pair in snapshot.transitions or ()]


def _locality(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    for entry in snapshot.locality or ():
        rates = (entry.of_caches(rates).tolist() for rates in (entry.lru_hit_rate, entry.static_hit_rate))
        yield [(entry.layer, size, *found) for size, found in enumerate(zip(*rates, strict=True), 1)]


def _labels(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    for usage in snapshot.labels.usages if snapshot.labels is not None else ():
        specific = {
            (each.layer, each.expert): (each.share_elsewhere, each.log_odds, each.z)
            for each in usage.specific
        }
        of_layers = zip(snapshot.layers, snapshot.layer_sizes, usage.counts, usage.share, strict=True)
        for entry, size, counts, share in of_layers:
            figures = zip(range(size), counts.tolist(), share.tolist(), strict=False)
            yield [
                (usage.label, entry.layer, expert, *found, *specific.get((entry.layer, expert), (None,) * 3))
                for expert, *found in figures
            ]


def _sources(snapshot: Snapshot) -> Iterator[list[tuple[Any, ...]]]:
    lines = []
    for share in snapshot.input.sources:
        hot = share.hottest
        hottest = (None, None, None) if hot is None else (hot.layer, hot.expert, hot.share)
        read = share.left_out or None, share.rows, share.row_word or None, share.steps, share.decode_steps
        lines.append((share.name, *read, *hottest, share.apart, share.by_chance))
    yield lines


SUBJECTS = (
    Subject("layers", LAYERS, _layers),
    Subject("experts", EXPERTS, _experts),
    Subject("pairs", PAIRS, _pairs),
    Subject("transitions", TRANSITIONS, _transitions),
    Subject("locality", LOCALITY, _locality),
    Subject("labels", LABELS, _labels),
    Subject("sources", SOURCES, _sources),
)
"""Those that are made at the end; distances are written as they happen."""
