"""Whether use changes: the latest steps beside the whole run, and one layer's use over time."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from moe_live.dashboard.canvas import Column, Line, bar, beside, flow, text
from moe_live.dashboard.grid import Grid
from moe_live.dashboard.heat import legend, shades
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import ALERT, BAR, CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.trend_line import trend_line
from moe_live.dashboard.verdict import verdict_lines
from moe_live.dashboard.view import View, absent, layer_index, relative_use
from moe_live.dashboard.views.heatmap import cells_of
from moe_live.dataclass import dataclass
from moe_live.formatting import fraction, percent
from moe_live.judgement import Subject
from moe_live.snapshot import Drift, Section, Snapshot
from moe_live.verdicts import FEW
from moe_live.wrapping import wrap

_GAP = 3
_LABEL = 5
"""Columns left of the cells: how far into the run."""

_NARROWEST = 26
"""Columns the heatmap takes at least, for its legend."""

_MOST_NAMED, _MOST_EXPERTS, _MOST_LINES = 4, 3, 2
"""Layers that drift most, experts of each, and lines for them."""

_BAR = 10
_FULL_BAR = 0.5
"""Bits of drift that fill the bar."""

_CLEAR, _LARGE = 0.05, 0.2
"""Bits of drift from which on it is coloured: there is more to it than that it is beyond chance."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer's divergence, the level expected and the limit, in bits; whether it is beyond chance."""

    layer: int
    js: float
    expected: float
    limit: float
    real: bool

    @property
    def style(self) -> Style | None:
        """By the size of what is beyond chance."""
        if not self.real or self.js < _CLEAR:
            return None
        return ALERT if self.js >= _LARGE else CAUTION


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer)),
    Column("drift", 6, lambda row: text(fraction(row.js, 3), row.style)),
    Column("noise", 5, lambda row: fraction(row.expected, 3), optional=2),
    Column("limit", 5, lambda row: fraction(row.limit, 3), optional=1),
    Column("", 4, lambda row: text("real", row.style) if row.real else ""),
    Column(
        "", _BAR, lambda row: text(bar(row.js / _FULL_BAR, _BAR), row.style or BAR), right=False, optional=3
    ),
)
_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("layer", lambda row: row.layer, ascending=True),
        Order("drift", lambda row: row.js),
    ),
)
_TABLE = GUTTER + sum(column.width + 2 for column in _COLUMNS) - 2


def _rows(snapshot: Snapshot) -> list[_Row]:
    if snapshot.drift is None:
        return []
    found = snapshot.drift.divergence
    figures = (found.js.tolist(), found.expected.tolist(), found.limit.tolist(), found.real.tolist())
    layers = [entry.layer for entry in snapshot.layers]
    return [_Row(*row) for row in zip(layers, *figures, strict=True)]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot), state)


def _changed(snapshot: Snapshot, drift: Drift) -> list[Line]:
    """The experts that changed most in the layers that drift most, before and in the latest steps."""
    found = drift.divergence
    drifting = np.flatnonzero(found.real)
    lines: list[Line] = []
    for i in drifting[np.argsort(-found.js[drifting], kind="stable")][:_MOST_NAMED].tolist():
        before, now = drift.before[i], drift.counts[i]
        shares = np.stack((before / max(1, before.sum()), now / max(1, now.sum())))
        most = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:_MOST_EXPERTS].tolist()
        experts = ", ".join(f"#{j} {percent(shares[0, j])}→{percent(shares[1, j])}" for j in most)
        lines.append((text(f"layer {snapshot.layers[i].layer} ", STRONG), text(experts)))
    return lines


def _spans(counts: NDArray[np.int64], steps: int, most: int) -> NDArray[np.int64]:
    """Counts (bins, E) with neighbouring bins added up: `most` at most, and none shorter than a step."""
    while len(counts) > 1 and len(counts) > max(1, min(most, steps)):
        counts = counts[0::2] + counts[1::2]
    return counts


def heat_over_time(
    counts: NDArray[np.int64], steps: int, title: Line, state: ViewState, *, width: int, height: int
) -> list[Line]:
    """A row a span of time, the latest last; a column an expert.

    Args:
        counts: (bins, E) selections of one layer, bins a power of two.
        steps: steps of the run.
        title: stands above.
        state: how cells are shown; where halves can differ, a line may show two spans.
        width: columns.
        height: lines.
    """
    look = state.look
    key = legend(width, look.ramp, ascii_only=look.ascii_only)
    grid = Grid.fitting(counts.shape[1], width - _LABEL)
    cells = range(grid.cells)
    notes: list[Line] = [title]
    if grid.group > 1:
        notes.append((text(f"cell: {state.cell_of.value} of {grid.group}", FAINT),))
    noisy: Line = (text("few tokens: noisy", CAUTION),)
    room = max(1, height - 2 - len(flow([*notes, noisy], width)))
    spans = _spans(counts, steps, 2 * room if look.halves else room)
    if spans.sum(axis=1).max() * grid.group < FEW * counts.shape[1]:
        notes.append(noisy)
    found = shades(grid.of_cells(relative_use(spans), state.cell_of))
    half = 2 if len(spans) > room else 1
    axis = grid.axis(cells, range(counts.shape[1]))
    lines = [*flow(notes, width), (text("run".ljust(_LABEL) + axis, FAINT),)]
    for i in range(0, len(spans), half):
        label = text(f"{100 * i // len(spans):>3}% ", FAINT)
        lines.append((label, *cells_of(None, found[i : i + half], grid, look)))
    return [*lines, key]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """Drift of the layers at the left, the chosen one over time at the right."""
    if snapshot.input.is_several:
        several = "Several sources are shown as one: what changes in them over time shows in each by itself."
        return [
            *trend_line(state.trend, width),
            *[(text(part, CAUTION),) for part in wrap(several, width, 2)],
        ]
    if snapshot.drift is None or snapshot.history is None:
        return absent(snapshot)
    drift = snapshot.drift
    verdict = verdict_lines(Subject.DRIFT, snapshot, width)
    head = [*verdict, *flow(_changed(snapshot, drift), width)[:_MOST_LINES], *trend_line(state.trend, width)]
    room = height - len(head)
    left_width = min(_TABLE, width - _GAP - _NARROWEST)
    if width < 2 * _TABLE + _GAP:  # the heatmap needs the columns of the bar
        left_width = min(left_width, _TABLE - _BAR - 2)
    rows = _rows(snapshot)
    chosen = layer_index(snapshot, _LISTING.axis(rows, state).moved(0))
    title = text(f"Layer {snapshot.layers[chosen].layer} over time", TITLE)
    over_time = partial(
        heat_over_time, snapshot.history.of_layer(chosen), snapshot.history.steps, state=state, height=room
    )
    if drift.is_whole_run:  # nothing to compare with: no figures
        choose = (title, text("  ↑↓", STRONG), text(" choose", FAINT))
        return [*head, *over_time(title=choose, width=width)[:room]]
    left = _LISTING.lines(rows, _COLUMNS, state, width=left_width, height=room)
    right = over_time(title=(title,), width=width - left_width - _GAP)
    return [*head, *beside(left[:room], right[:room], left_width, _GAP)]


VIEW = View(
    key="t",
    title="Time",
    brief="Ti",
    render=render,
    gist="Drift: how far the latest steps lie from the run. Below the limit: noise.",
    reading=(
        "First the verdict; where layers drift, those that do so most, with the experts whose share "
        "changed most: before, and in the latest steps. Then the last minutes of decode, at most two: hits "
        "of a cache of a fourth of each layer's experts, the share of experts that the step before used "
        "too, and the effective experts of the median layer. "
        "Drift is the Jensen-Shannon divergence, in bits (0 the same, 1 no expert in common), of the "
        "latest decode steps (--window) from all of them; noise is what chance gives on average, the "
        "limit what it exceeds once in a thousand; 'real' exceeds that, and is coloured by its size, from "
        f"{_CLEAR} and from {_LARGE} bits on. The heatmap shows the chosen "
        "layer from the beginning of the run to now, prefill included, from a random sample of its "
        "tokens; shades are relative to uniform use. A change of topic shows as columns that begin or "
        "end."
    ),
    sections=frozenset({Section.DRIFT, Section.HISTORY, Section.REUSE}),
    of_trend=frozenset({Section.REUSE}),
    rows=_axis,
    details=True,
    opens=True,
    sorts=_LISTING.sorts,
)
