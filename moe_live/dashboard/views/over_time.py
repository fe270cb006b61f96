"""Whether use changes: the latest steps beside the whole run, and one layer's use over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, Table, beside, flow, text
from moe_live.dashboard.heat import legend, shades
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import ALERT, CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, absent, around, chosen_layer
from moe_live.dashboard.views.heatmap import Grid, cells_of
from moe_live.formatting import fraction, whole
from moe_live.snapshot import Drift, Section, Snapshot
from moe_live.verdicts import FEW

_GAP = 2
_LABEL = 5
"""Columns left of the cells: how far into the run."""

_NARROWEST = 26
"""Columns the heatmap takes at least, for its legend."""

_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer's divergence, the level expected and the limit, in bits; whether it is beyond chance."""

    layer: int
    js: float
    expected: float
    limit: float
    real: bool
    chosen: bool


def _marked(row: _Row, cell: str) -> str | Segment:
    return text(cell, STRONG) if row.chosen else cell


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("", 1, lambda row: "▶" if row.chosen else " "),
    Column("layer", 5, lambda row: _marked(row, str(row.layer))),
    Column("drift", 5, lambda row: _marked(row, fraction(row.js, 3))),
    Column("noise", 5, lambda row: fraction(row.expected, 3), optional=1),
    Column("limit", 5, lambda row: fraction(row.limit, 3)),
    Column("", 4, lambda row: text("real", ALERT) if row.real else ""),
)
_TABLE = sum(column.width + 2 for column in _COLUMNS) - 2


def _rows(snapshot: Snapshot, drift: Drift, chosen: int) -> list[_Row]:
    found = drift.divergence
    figures = (found.js.tolist(), found.expected.tolist(), found.limit.tolist(), found.real.tolist())
    return [
        _Row(entry.layer, js, expected, limit, real, chosen=i == chosen)
        for i, (entry, js, expected, limit, real) in enumerate(zip(snapshot.layers, *figures, strict=True))
    ]


def _verdict(snapshot: Snapshot, drift: Drift, title: Line, width: int) -> list[Line]:
    """The chosen layer, the window, and which layers drift."""
    notes: list[Line] = [
        title,
        (
            text("Drift", TITLE),
            text(f" of the latest {whole(drift.steps)} of {whole(snapshot.steps.decode)} decode steps"),
        ),
    ]
    if drift.steps >= snapshot.steps.decode:
        notes.append((text("they are the whole run so far: no drift to see", CAUTION),))
        return flow(notes, width)
    found = drift.divergence
    drifting = np.flatnonzero(found.real)
    if len(drifting):
        farthest = drifting[np.argsort(-found.js[drifting], kind="stable")][:_MOST_NAMED].tolist()
        names = ", ".join(str(snapshot.layers[i].layer) for i in farthest)
        share = f"drift in {len(drifting)} of {len(snapshot.layers)} layers, most in {names}"
        notes.append((text(share, ALERT),))
    else:
        notes.append((text("no layer drifts beyond chance"),))
    return flow(notes, width)


def _spans(counts: NDArray[np.int64], steps: int, most: int) -> NDArray[np.int64]:
    """Counts (bins, E) with neighbouring bins added up: `most` at most, and none shorter than a step."""
    while len(counts) > 1 and len(counts) > max(1, min(most, steps)):
        counts = counts[0::2] + counts[1::2]
    return counts


def heat_over_time(
    counts: NDArray[np.int64], steps: int, title: Line, width: int, height: int, *, colour: bool
) -> list[Line]:
    """A row a span of time, the latest last; a column an expert.

    Args:
        counts: (bins, E) selections of one layer, bins a power of two.
        steps: steps of the run.
        title: stands above.
        width: columns.
        height: lines.
        colour: whether shades are colours; then a line may show two spans.
    """
    key = legend(width, colour=colour)
    grid = Grid.fitting(counts.shape[1], width - _LABEL)
    notes: list[Line] = [title]
    if grid.group > 1:
        notes.append((text(f"one cell = {grid.group} experts", FAINT),))
    noisy: Line = (text("few tokens: noisy", CAUTION),)
    room = max(1, height - 2 - len(flow([*notes, noisy], width)))
    spans = _spans(counts, steps, 2 * room if colour else room)
    if spans.sum(axis=1).max() * grid.group < FEW * counts.shape[1]:
        notes.append(noisy)
    ratios = grid.ratios(spans)
    found = shades(ratios)
    half = 2 if len(spans) > room else 1
    lines = [*flow(notes, width), (text("run".ljust(_LABEL) + grid.axis(), FAINT),)]
    for i in range(0, len(spans), half):
        label = text(f"{100 * i // len(spans):>3}% ", FAINT)
        lines.append((label, *cells_of(None, found[i : i + half], grid, colour=colour)))
    return [*lines, key]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """Drift of the layers at the left, the chosen one over time at the right."""
    if snapshot.drift is None or snapshot.history is None:
        return absent(snapshot)
    chosen, title = chosen_layer(snapshot, state)
    head = _verdict(snapshot, snapshot.drift, title, width)
    room = height - len(head)
    rows = _rows(snapshot, snapshot.drift, chosen)
    left_width = min(_TABLE, width - _GAP - _NARROWEST)
    table = Table(_COLUMNS, left_width)
    visible = around(chosen, len(rows), room - 1)
    left = [table.header(), *[table.row(row) for row in rows[visible.start : visible.stop]]]
    history = snapshot.history
    right = heat_over_time(
        history.counts[:, chosen],
        history.steps,
        (text(f"Layer {snapshot.layers[chosen].layer} over time", TITLE),),
        width - left_width - _GAP,
        room,
        colour=state.colour,
    )
    return [*head, *beside(left[:room], right[:room], left_width, _GAP)]


VIEW = View(
    key="t",
    title="Time",
    render=render,
    gist="Drift: how far the latest steps lie from the run. Below the limit: noise.",
    reading=(
        "Drift is the Jensen-Shannon divergence, in bits (0 the same, 1 no expert in common), of the "
        "latest decode steps (--window) from all of them; noise is what chance gives on average, the "
        "limit what it exceeds once in a thousand; 'real' exceeds that. The heatmap shows the chosen "
        "layer from the beginning of the run to now, prefill included, from a random sample of its "
        "tokens; shades are relative to uniform use. A change of topic shows as columns that begin or "
        "end."
    ),
    sections=frozenset({Section.DRIFT, Section.HISTORY}),
    scroll="choose a layer",
)
