"""Experts of a layer that are chosen together more, or less, often than chance would have it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from moe_live.dashboard.canvas import Column, Line, Table, beside, choosing, flow, text
from moe_live.dashboard.listing import GUTTER, marked
from moe_live.dashboard.selection import NO_AXIS, Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, TITLE
from moe_live.dashboard.view import View, absent, layer_axis, layer_index, layer_title
from moe_live.formatting import fraction, percent, short, whole
from moe_live.snapshot import ExpertPair, LayerPairs, Section, Snapshot
from moe_live.wrapping import wrap

_GAP = 4

_COLUMNS: tuple[Column[ExpertPair], ...] = (
    Column("experts", 11, lambda pair: f"#{pair.a} #{pair.b}", right=False),
    Column("together", 8, lambda pair: short(pair.count)),
    Column("expected", 8, lambda pair: short(pair.expected)),
    Column("lift", 6, lambda pair: short(pair.lift)),
    Column("PMI bits", 8, lambda pair: _signed(pair.pmi), optional=1),
    Column("z", 6, lambda pair: _signed(pair.z, 1)),
    Column("b if a", 6, lambda pair: percent(pair.b_given_a), optional=2),
    Column("a if b", 6, lambda pair: percent(pair.a_given_b), optional=2),
)
_SIDE_BY_SIDE = 2 * (53 + GUTTER) + _GAP
"""From this width on the strongest and the weakest stand next to each other."""


def _signed(value: float, digits: int = 2) -> str:
    return "-∞" if value == -math.inf else f"{value:+.{digits}f}"


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """Up and down: the pairs of the chosen layer."""
    if not snapshot.layers:
        return NO_AXIS
    layer = snapshot.layers[layer_index(snapshot, state.selection)].layer
    found = (snapshot.pairs or {}).get(layer)
    if found is None:
        return NO_AXIS
    pairs = (*found.strongest, *found.weakest)
    chosen = (state.selection.expert, state.selection.partner)
    at = next((i for i, pair in enumerate(pairs) if (pair.a, pair.b) == chosen), 0)
    return Axis(
        len(pairs),
        at,
        lambda i: replace(state.selection, layer=layer, expert=pairs[i].a, partner=pairs[i].b),
    )


def _table(
    pairs: Sequence[ExpertPair], first: int, axis: Axis, title: str, *, width: int, height: int
) -> list[Line]:
    """Some of the pairs that the axis goes over, from its `first` on."""
    if not pairs:
        none: Line = (text(title, TITLE), text("  none stands out", FAINT))
        return [none][:height]
    table = Table(_COLUMNS, width - GUTTER)
    lines: list[Line] = [(text(title, TITLE),), (text(" "), *table.header())]
    for i, pair in enumerate(pairs, first):
        line = marked(table.row(pair), min(width, table.width + GUTTER), chosen=i == axis.at)
        lines.append((choosing(axis.choice(i)), *line))
    return lines[:height]


def _tables(pairs: LayerPairs, axis: Axis, width: int, height: int) -> list[Line]:
    above, below = "More often together", "Less often together"
    strongest, weakest, n = pairs.strongest, pairs.weakest, len(pairs.strongest)
    if width >= _SIDE_BY_SIDE:
        half = (width - _GAP) // 2
        return beside(
            _table(strongest, 0, axis, above, width=half, height=height),
            _table(weakest, n, axis, below, width=half, height=height),
            half,
            _GAP,
        )
    # The shorter of the two takes what it needs, the other what is left.
    most = (height - 1) // 2
    needed = len(weakest) + 2 if weakest else 1
    first = _table(strongest, 0, axis, above, width=width, height=max(most, height - 1 - needed))
    return [*first, (), *_table(weakest, n, axis, below, width=width, height=height - 1 - len(first))]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The pairs of the chosen layer that stand out most."""
    if snapshot.pairs is None:
        return absent(snapshot)
    chosen, title = layer_title(snapshot, state)
    pairs = snapshot.pairs.get(snapshot.layers[chosen].layer)
    if pairs is None:
        return [title, *absent(snapshot)]
    notes: list[Line] = [title, (text(f"{whole(pairs.rows)} rows"),)]
    if pairs.tested:
        notes.append((text(f"{whole(pairs.tested)} pairs tested, |z| of {pairs.z_needed:.1f} needed"),))
        notes.append((text(f"chance lift {fraction(pairs.chance_lift)}"),))
        head = flow(notes, width)
        return [*head, *_tables(pairs, _axis(snapshot, state), width, height - len(head))]
    reason = "Too few rows: no two experts are expected together in five of them."
    if not pairs.rows and snapshot.layers[chosen].usage.selections:
        reason = "Pairs are not counted: the model is too large, or its rows name experts twice."
    return [*flow(notes, width), *[(text(part, CAUTION),) for part in wrap(reason, width, 3)]]


VIEW = View(
    key="9",
    title="Pairs",
    brief="Pai",
    render=render,
    gist="Lift 2: together twice as often as unrelated experts. Only beyond chance.",
    reading=(
        "Together: rows with both experts; expected: rows with both if choices were independent, but for "
        "the experts of a row being distinct. Lift is N_ab T / (N_a N_b); chance lift, slightly under 1, "
        "is what pairs of a layer whose experts are all alike have. PMI is its logarithm. z: how far the "
        "count is off in standard deviations, with successive tokens being alike taken into account. A "
        "pair is listed only if in a layer without structure there would be none in a thousand such "
        "tables. Experts that go together are worth placing on the same device."
    ),
    sections=frozenset({Section.PAIRS}),
    rows=_axis,
    columns=layer_axis,
    opens=True,
)
