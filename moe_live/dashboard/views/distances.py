"""Distances between the gate inputs of consecutive layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Column, Line, Table, flow, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.text import wrap
from moe_live.dashboard.theme import BAR, CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, excerpt, longest_excerpt
from moe_live.formatting import figure, whole
from moe_live.snapshot import DistanceMetric, Moments, PairDistance, Snapshot

METRICS: tuple[DistanceMetric, ...] = get_args(DistanceMetric)

NONE = (
    "No gate inputs in this log. They show how much the hidden state changes from one MoE layer to the next; "
    "llama-server writes them as lines 'gate_input,LAYER,ROW,…' for the layers it is told to log."
)

_FEW = 30
_SORTS = ("by pair", "by metric")
_SPARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    moments: Moments


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("", 19, lambda row: row.name, right=False),
    Column("last", 10, lambda row: figure(row.moments.last), optional=1),
    Column("mean", 10, lambda row: figure(row.moments.mean)),
    Column("± std", 10, lambda row: figure(row.moments.std)),
    Column("min", 10, lambda row: figure(row.moments.min), optional=2),
    Column("max", 10, lambda row: figure(row.moments.max), optional=2),
    Column("undefined", 10, lambda row: whole(row.moments.undefined, 10), optional=3),
)


def sparkline(values: NDArray[np.float64], width: int) -> str:
    """The latest values as columns between their own minimum and maximum; blank where undefined."""
    latest = values[-width:] if width > 0 else values[:0]
    known = np.isfinite(latest)
    if not known.any():
        return ""
    low, high = float(latest[known].min()), float(latest[known].max())
    span = high - low
    scaled = (latest - low) / span if span > 0 else np.where(known, 0.5, np.nan)
    return "".join(
        [" " if math.isnan(value) else _SPARKS[min(7, int(value * 8))] for value in scaled.tolist()]
    )


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


def _pair_name(pair: PairDistance) -> str:
    return f"layers {pair.from_layer} → {pair.to_layer}"


def _groups(pairs: tuple[PairDistance, ...], sort: str, table: Table[_Row], width: int) -> list[Line]:
    """All lines: groups with a heading, an empty line between them."""
    lines: list[Line] = []
    if sort == "by metric":
        for metric in METRICS:
            lines.append((text(metric_name(metric), STRONG),))
            lines += [table.row(_Row(_pair_name(pair), pair.metrics[metric])) for pair in pairs]
            lines.append(())
        return lines[:-1]
    for pair in pairs:
        heading: Line = (text(f"{_pair_name(pair)}  ", STRONG), text(f"{whole(pair.steps)} steps  "))
        if pair.steps < _FEW:
            heading = (*heading, text("few  ", CAUTION))
        room = width - sum(piece.cell_length for piece in heading)
        lines.append((*heading, *recent(pair, min(room, 80))) if room > 24 else heading)
        lines += [table.row(_Row(metric_name(metric), pair.metrics[metric])) for metric in METRICS]
        lines.append(())
    return lines[:-1]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """Every metric of every pair, its visible part."""
    distances = snapshot.distances
    if not distances.pairs:
        if snapshot.model.gate_layers:
            layers = ", ".join(str(layer) for layer in snapshot.model.gate_layers[:8])
            reason = f"Gate inputs of layers {layers}, but no step yet with two consecutive of them."
            return [(text(line),) for line in wrap(reason, width, height)]
        return [(text(line),) for line in wrap(NONE, width, height)]
    table = Table(_COLUMNS, width)
    sort = _SORTS[state.place.sort]
    steps = "decode and prefill steps" if distances.include_prompt else "decode steps"
    title: list[Line] = [
        (text(f"Gate inputs of consecutive layers · {whole(distances.steps)} {steps}", TITLE),)
    ]
    if table.narrow:
        title.append((text(table.narrow, CAUTION),))
    pairs = distances.pairs[::-1] if state.place.reverse else distances.pairs
    body = _groups(pairs, sort, table, width)
    longest = longest_excerpt(len(body), "lines")
    rows = state.window(len(body), height - 1 - len(flow([*title, (text(longest),)], width)))
    if shown := excerpt(rows, len(body), "lines"):
        title.append((text(shown, STRONG),))
    return [*flow(title, width), table.header(), *body[rows.start : rows.stop]]


VIEW = View(
    key="5",
    title="Distances",
    render=render,
    gist="How far the router's input moves from layer to layer; cosine near 1: hardly.",
    reading=(
        "How far the input of one layer's router lies from the next one's, over steps. Cosine similarity "
        "near 1: the hidden state hardly changes direction between the layers. L2 normalized: root mean "
        "square difference. The small curve is the cosine similarity of the latest steps between its own "
        "minimum and maximum. Undefined: steps whose figure is no finite number; they are left out."
    ),
    scroll="scroll",
    sorts=_SORTS,
)
