"""A snapshot as metrics of Prometheus, in its text format and in OpenMetrics. Needs the extra `metrics`.

Names begin with `moe_live_`, units are base units. What can only grow is a counter; counts of rows and of
selections are gauges, since rows are left out again once a log is proven to hold wrong ones. What is not
defined, or not known, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import generate_latest as as_text
from prometheus_client.openmetrics.exposition import generate_latest as as_open_metrics
from prometheus_client.registry import Collector

from moe_live.judgement import WORDS, Subject
from moe_live.reports.sections.locality import CAPACITIES
from moe_live.running import Status
from moe_live.snapshot import LayerLocality, PhaseCount, Section, Snapshot
from moe_live.sources.source import State
from moe_live.verdicts import verdicts
from moe_live.version import __version__

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MAX_SERIES = 50_000
"""Series of single experts; of a larger model there are none, or a database would drown in them."""


class Exposition:
    """Makes metrics.

    Args:
        by_expert: whether each expert has a series.
        cache_sizes: experts a layer of the caches whose hits are told; None for shares of all experts.
    """

    sections = frozenset({Section.LOCALITY})

    def __init__(self, *, by_expert: bool = False, cache_sizes: Sequence[int] | None = None) -> None:
        self._by_expert = by_expert
        self._cache_sizes = cache_sizes

    def text(self, snapshot: Snapshot, status: Status | None) -> bytes:
        """In Prometheus' own text format; without a status nothing is said of the source."""
        return as_text(_Families(self._families(snapshot, status)))

    def open_metrics(self, snapshot: Snapshot, status: Status | None) -> bytes:
        """In OpenMetrics."""
        write: Callable[[Collector], bytes] = as_open_metrics  # the package leaves it untyped
        return write(_Families(self._families(snapshot, status)))

    def _families(self, snapshot: Snapshot, status: Status | None) -> Iterator[Metric]:
        yield InfoMetricFamily("moe_live_build", "The program.", {"version": __version__})
        yield from _of_source(status)
        yield from _of_log(snapshot)
        yield from _of_rows(snapshot)
        yield from _of_model(snapshot)
        yield from _of_balance(snapshot)
        yield from _of_locality(snapshot.locality or (), self._cache_sizes)
        if self._by_expert:
            yield _of_experts(snapshot)


class _Families(Collector):
    """Metrics that are there already, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them, once."""
        return self._families


def _of_source(status: Status | None) -> Iterator[Metric]:
    if status is None:
        return
    source = status.source
    yield StateSetMetricFamily(
        "moe_live_source_state",
        "What the source of the log does.",
        {state.value: state is source.state for state in State},
    )
    if source.size is not None:
        yield GaugeMetricFamily(
            "moe_live_source_lag_bytes", "Bytes written and not yet analyzed.", source.lag
        )


def _of_log(snapshot: Snapshot) -> Iterator[Metric]:
    source = snapshot.input
    tally = source.tally
    for name, text, value in (
        ("log_bytes", "Bytes of the log read.", tally.bytes),
        ("log_lines", "Complete lines read.", tally.lines),
        ("log_malformed_lines", "Lines that are malformed and left out.", tally.malformed_lines),
        ("log_dropped_steps", "Steps that are not in the log, as it says itself.", tally.dropped_steps),
        ("log_incomplete_lines", "Lines that the log broke off, left out.", tally.incomplete_lines),
        ("log_nul_bytes", "NUL bytes skipped: the log was emptied while it was written.", tally.nul_bytes),
        ("log_restarts", "Times the log was emptied or rewritten.", source.restarts),
        ("log_rotations", "Times the log's path came to name another file.", source.rotations),
    ):
        yield CounterMetricFamily(f"moe_live_{name}", text, value)
    yield _by_phase(
        CounterMetricFamily("moe_live_steps", "Forward passes.", labels=["phase"]), snapshot.steps
    )
    yield _by_phase(CounterMetricFamily("moe_live_tokens", "Tokens.", labels=["phase"]), snapshot.tokens)


def _of_rows(snapshot: Snapshot) -> Iterator[Metric]:
    rows, usage = snapshot.rows, snapshot.overall
    yield CounterMetricFamily("moe_live_rows_logged", "Expert rows as written.", rows.logged)
    for name, text, value in (
        ("rows_counted", "Expert rows that the figures rest on.", rows.counted),
        ("rows_dropped", "Logged rows that are not real selections.", rows.unrecoverable),
        ("rows_recovered", "Real rows that were recovered from those.", rows.recovered),
        ("warnings", "Sentences that limit what can be concluded.", len(snapshot.warnings)),
    ):
        yield GaugeMetricFamily(f"moe_live_{name}", text, value)
    words = [verdict.word for verdict in verdicts(snapshot) if verdict.subject is Subject.ROWS]
    yield StateSetMetricFamily(
        "moe_live_row_verdict",
        "Whether the log's rows are real selections.",
        {word.value: word in words for word in WORDS[Subject.ROWS]},
    )
    by_phase = PhaseCount(int(usage.prefill.sum()), int(usage.decode.sum()))
    family = GaugeMetricFamily(
        "moe_live_selections", "Selections of experts in the rows that count.", labels=["phase"]
    )
    yield _by_phase(family, by_phase)


def _of_model(snapshot: Snapshot) -> Iterator[Metric]:
    model = snapshot.model
    for name, text, value in (
        ("model_layers", "MoE layers seen.", len(model.layers)),
        ("model_experts", "Experts a layer.", model.n_experts),
        ("model_top_k", "Experts a row.", model.top_k),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"moe_live_{name}", text, value)


def _of_balance(snapshot: Snapshot) -> Iterator[Metric]:
    layers = [str(entry.layer) for entry in snapshot.layers]
    for name, text, figure in (
        ("entropy_ratio", "Entropy of a layer's load over its maximum: 1 is even.", "entropy_normalized"),
        ("effective_experts", "Two to the entropy: so many experts used alike have it.", "effective_experts"),
        ("max_violation", "MaxVio: the largest load over the mean, less 1.", "max_violation"),
        ("unused_experts", "Experts of a layer that were never selected.", "dead_experts"),
        ("unused_experts_by_chance", "So many are expected if all are alike.", "dead_expected"),
    ):
        family = GaugeMetricFamily(f"moe_live_layer_{name}", text, labels=["layer"])
        for layer, balance in zip(layers, snapshot.balance, strict=True):
            _add(family, [layer], getattr(balance, figure))
        yield family


def _of_locality(layers: Sequence[LayerLocality], sizes: Sequence[int] | None) -> Iterator[Metric]:
    overlap = GaugeMetricFamily(
        "moe_live_layer_overlap_ratio",
        "Share of a decode step's experts that the step `lag` before used too.",
        labels=["layer", "lag"],
    )
    chance = GaugeMetricFamily(
        "moe_live_layer_overlap_by_chance_ratio", "The same by chance.", labels=["layer"]
    )
    hits = GaugeMetricFamily(
        "moe_live_layer_lru_hit_ratio",
        "Share of uses in decode found in a cache of so many of the layer's experts, the last used.",
        labels=["layer", "experts"],
    )
    for entry in layers:
        layer = str(entry.layer)
        for lag, value in entry.overlap.items():
            _add(overlap, [layer, str(lag)], value)
        _add(chance, [layer], entry.overlap_chance)
        n_experts = len(entry.lru_hit_rate)
        shares = (max(1, round(share * n_experts)) for share in CAPACITIES)
        for size in sorted(set(shares if sizes is None else sizes)):
            if entry.held <= size <= n_experts:
                _add(hits, [layer, str(size)], entry.lru_hit_rate[size - 1])
    yield from (overlap, chance, hits)


def _of_experts(snapshot: Snapshot) -> Metric:
    number = int(np.prod(snapshot.counts.shape))
    text = f"Selections of each expert: {number:,} series, of at most {MAX_SERIES:,}"
    is_too_large = number > MAX_SERIES
    family = GaugeMetricFamily(
        "moe_live_expert_selections",
        f"{text}, and so left out." if is_too_large else f"{text}.",
        labels=["layer", "expert"],
    )
    if not is_too_large:
        for entry in snapshot.layers:
            layer = str(entry.layer)
            for expert, count in enumerate(entry.usage.counts.tolist()):
                family.add_metric([layer, str(expert)], count)
    return family


def _by_phase(
    family: CounterMetricFamily | GaugeMetricFamily, count: PhaseCount
) -> CounterMetricFamily | GaugeMetricFamily:
    family.add_metric(["prefill"], count.prefill)
    family.add_metric(["decode"], count.decode)
    return family


def _add(family: GaugeMetricFamily, labels: Sequence[str], value: float) -> None:
    """A sample, if there is a figure."""
    if math.isfinite(value):
        family.add_metric(labels, float(value))
