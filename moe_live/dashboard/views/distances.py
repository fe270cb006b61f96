"""Distances between the gate inputs of consecutive layers."""

from __future__ import annotations

from typing import get_args

import numpy as np
from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, Table, text
from moe_live.dashboard.graph import sparkline
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, FAINT, TITLE
from moe_live.dashboard.view import View, absent
from moe_live.dataclass import dataclass
from moe_live.formatting import figure, short, whole
from moe_live.snapshot import DistanceMetric, Moments, PairDistance, Snapshot
from moe_live.wrapping import wrap

METRICS: tuple[DistanceMetric, ...] = get_args(DistanceMetric)

NONE = (
    "No gate inputs in this log. They show how much the hidden state changes from one MoE layer to the next; "
    "llama-server writes them as lines 'gate_input,LAYER,ROW,…' for the layers it is told to log."
)

_FEW = 30
_DETAILS = len(METRICS) + 3
"""Lines about the chosen pair."""

_WIDEST_SPARKS = 80


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    moments: Moments


_DETAIL: tuple[Column[_Row], ...] = (
    Column("", 19, lambda row: row.name, right=False),
    Column("mean", 10, lambda row: figure(row.moments.mean)),
    Column("± std", 10, lambda row: figure(row.moments.std)),
    Column("min", 10, lambda row: figure(row.moments.min), optional=2),
    Column("max", 10, lambda row: figure(row.moments.max), optional=2),
    Column("last", 10, lambda row: figure(row.moments.last), optional=1),
    Column("undefined", 10, lambda row: whole(row.moments.undefined, 10), optional=3),
)


def _mean(title: str, metric: DistanceMetric, optional: int = 0) -> Column[PairDistance]:
    return Column(title, 9, lambda pair: figure(pair.metrics[metric].mean), optional=optional)


def _steps(pair: PairDistance) -> str | Segment:
    return text(short(pair.steps), CAUTION) if pair.steps < _FEW else short(pair.steps)


_COLUMNS: tuple[Column[PairDistance], ...] = (
    Column("layers", 9, lambda pair: f"{pair.from_layer} → {pair.to_layer}", right=False),
    Column("steps", 5, _steps),
    _mean("cosine", "cosine_similarity"),
    Column("± std", 9, lambda pair: figure(pair.metrics["cosine_similarity"].std), optional=1),
    _mean("Pearson", "pearson", 2),
    _mean("L2 norm.", "l2_normalized"),
    _mean("Euclid", "euclidean", 3),
    _mean("mean |Δ|", "mean_abs_diff", 4),
)
_LISTING: Listing[PairDistance] = Listing(
    lambda pair: pair.from_layer,
    (
        Order("layers", lambda pair: pair.from_layer, ascending=True),
        Order("cosine", lambda pair: pair.metrics["cosine_similarity"].mean, ascending=True),
        Order("L2 norm.", lambda pair: pair.metrics["l2_normalized"].mean),
    ),
)


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(snapshot.distances.pairs, state)


def recent(pair: PairDistance, width: int) -> Line:
    """The pair's latest cosine similarities, with their range."""
    values = pair.recent[np.isfinite(pair.recent)]
    if not len(values):
        return ()
    bounds = f" {values.min():.3f} to {values.max():.3f}"
    return (text(sparkline(pair.recent, width - len(bounds)), BAR), text(bounds, FAINT))


def metric_name(metric: str) -> str:
    """A metric as people write it."""
    return (
        metric.replace("_", " ")
        .replace("l2", "L2")
        .replace("pearson", "Pearson")
        .replace("euclidean", "Euclidean")
    )


def _details(pair: PairDistance, width: int) -> list[Line]:
    """Everything about one pair."""
    title: Line = (
        text(f"Layers {pair.from_layer} → {pair.to_layer}", TITLE),
        text(f"  {whole(pair.steps)} steps"),
    )
    if pair.steps < _FEW:
        title = (*title, text("  few", CAUTION))
    table = Table(_DETAIL, width)
    latest: Line = (text("latest cosines  ", FAINT), *recent(pair, min(width - 16, _WIDEST_SPARKS)))
    rows = [table.row(_Row(metric_name(metric), pair.metrics[metric])) for metric in METRICS]
    return [title, latest, table.header(), *rows]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """A row a pair, and everything about the chosen one."""
    distances = snapshot.distances
    if snapshot.counts_only or snapshot.lacks_rows:
        return absent(snapshot)
    if not distances.pairs:
        if snapshot.model.gate_layers:
            layers = ", ".join(str(layer) for layer in snapshot.model.gate_layers[:8])
            reason = f"Gate inputs of layers {layers}, but no step yet with two consecutive of them."
            return [(text(line),) for line in wrap(reason, width, height)]
        return [(text(line),) for line in wrap(NONE, width, height)]
    steps = "decode and prefill steps" if distances.include_prompt else "decode steps"
    title: list[Line] = [
        (text(f"Gate inputs of consecutive layers · {whole(distances.steps)} {steps}", TITLE),)
    ]
    room = max(4, height - _DETAILS - 1)
    table = _LISTING.lines(distances.pairs, _columns(width), state, width=width, height=room, title=title)
    chosen = _LISTING.axis(distances.pairs, state).at
    pair = _LISTING.ordered(distances.pairs, state.place)[chosen]
    return [*table, (), *_details(pair, width)][:height]


def _columns(width: int) -> list[Column[PairDistance]]:
    """Those of the table, with a curve where there is room for one."""
    spare = width - GUTTER - sum(column.width + 2 for column in _COLUMNS)
    if spare < 20:
        return list(_COLUMNS)
    length = min(spare, _WIDEST_SPARKS)
    curve: Column[PairDistance] = Column(
        "latest cosines",
        length,
        lambda pair: text(sparkline(pair.recent, length), BAR),
        right=False,
        optional=5,
    )
    return [*_COLUMNS, curve]


VIEW = View(
    key="5",
    title="Distances",
    brief="Dis",
    render=render,
    gist="How far the router's input moves from layer to layer; cosine near 1: hardly.",
    reading=(
        "How far the input of one layer's router lies from the next one's, over steps; below the table "
        "everything about the chosen pair. Cosine similarity near 1: the hidden state hardly changes "
        "direction between the layers. L2 normalized: root mean square difference. The small curve is the "
        "cosine similarity of the latest steps between its own minimum and maximum. Undefined: steps whose "
        "figure is no finite number; they are left out."
    ),
    rows=_axis,
    details=True,
    opens=True,
    sorts=_LISTING.sorts,
)
