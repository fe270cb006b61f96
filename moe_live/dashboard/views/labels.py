"""Use of the experts by label: which experts set a type of prompt apart, and how far types differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, Table, beside, choosing, flow, text
from moe_live.dashboard.listing import GUTTER, marked
from moe_live.dashboard.selection import NO_AXIS, Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import ALERT, CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, absent
from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.formatting import fraction, percent, short, whole
from moe_live.snapshot import Labels, LabelUsage, Section, Snapshot, SpecificExpert
from moe_live.wrapping import shorten, wrap

HOW = (
    "Press l and type a name: what comes from then on is counted under it.",
    "--label NAME gives the whole run one label.",
    "--label-file PATH: the label is what stands in that file; a benchmark script writes it there.",
    "A line '# label: NAME' in a piped log labels what comes after it.",
)

_GAP = 3
_FEW_TOKENS = 100
_NAME = 14


@dataclass(frozen=True, slots=True)
class _Other:
    """A label beside the chosen one: its divergence, the level expected, layers beyond chance, if known."""

    usage: LabelUsage
    js: float
    expected: float
    real_layers: int | None


def _name(label: str) -> str:
    return shorten(printable(label), _NAME)


def _beyond(row: _Other) -> str | Segment:
    if row.real_layers is None:
        return "–"
    return text(str(row.real_layers), ALERT) if row.real_layers else "0"


_LABELS: tuple[Column[_Other], ...] = (
    Column("label", _NAME, lambda row: _name(row.usage.label), right=False),
    Column("tokens", 6, lambda row: short(row.usage.tokens), optional=2),
    Column("differs", 7, lambda row: fraction(row.js, 3)),
    Column("noise", 5, lambda row: fraction(row.expected, 3), optional=1),
    Column("layers", 6, _beyond),
)
_EXPERTS: tuple[Column[SpecificExpert], ...] = (
    Column("layer", 5, lambda found: str(found.layer)),
    Column("expert", 6, lambda found: f"#{found.expert}"),
    Column("here", 5, lambda found: percent(found.share), optional=1),
    Column("else", 5, lambda found: percent(found.share_elsewhere), optional=2),
    Column("z", 5, lambda found: f"{found.z:.1f}" if found.z < 999 else short(found.z)),
    Column("log-odds", 8, lambda found: f"{found.log_odds:+.2f}", optional=3),
    Column("count", 6, lambda found: short(found.count), optional=4),
)


_WIDTH = GUTTER + sum(column.width + 2 for column in _LABELS) - 2
_NARROWEST = 34
_NEEDED_FOR_EXPERTS = 35


def _others(labels: Labels, chosen: int) -> list[_Other]:
    """All labels, each beside the chosen one."""
    name = labels.usages[chosen].label
    apart = {}
    for divergence in labels.divergences:
        if name in (divergence.a, divergence.b):
            apart[divergence.b if divergence.a == name else divergence.a] = divergence
    rows = []
    for usage in labels.usages:
        found = apart.get(usage.label)
        figures = (
            (float("nan"), float("nan"), None)
            if found is None
            else (found.js, found.expected, found.real_layers)
        )
        rows.append(_Other(usage, *figures))
    return rows


def _specific(usage: LabelUsage, others: Sequence[_Other], width: int, height: int) -> list[Line]:
    """The experts most specific to a label; `others` are all labels beside it."""
    title: Line = (text(shorten(f"Most specific to {_name(usage.label)}", width), TITLE),)
    if not usage.specific:
        if len(others) < 2:
            reason = "one label so far: nothing to hold it against"
        elif any(other.real_layers is not None for other in others):
            reason = "none beyond chance"
        else:
            reason = "too few periods or tokens to tell"
        return [title, *[(text(part, FAINT),) for part in wrap(reason, width, 3)]]
    table = Table(_EXPERTS, width)
    return [title, table.header(), *map(table.row, usage.specific)][:height]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    """Up and down: the labels."""
    names = [usage.label for usage in snapshot.labels.usages] if snapshot.labels is not None else []
    if not names:
        return NO_AXIS
    at = names.index(state.selection.label) if state.selection.label in names else 0
    return Axis(len(names), at, lambda i: replace(state.selection, label=names[i]))


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The labels beside the chosen one at the left, its specific experts at the right."""
    labels = snapshot.labels
    if labels is None:
        return absent(snapshot)
    if not labels.usages:
        lines: list[Line] = [(text("No labels so far. A label says what kind of prompts run.", STRONG),), ()]
        for way in HOW:
            for i, part in enumerate(wrap(way, width - 4, 3)):
                lines.append((text(("  • " if i == 0 else "    ") + part),))
        return lines[:height]
    axis = _axis(snapshot, state)
    usage = labels.usages[axis.at]
    rows = _others(labels, axis.at)
    head = flow(
        [
            (
                text(f"Labels, beside {_name(usage.label)}", TITLE),
                text("  ↑↓", STRONG),
                text(" choose", FAINT),
            ),
            (text(f"{whole(usage.tokens)} tokens"),),
            *([(text("few tokens", CAUTION),)] if usage.tokens < _FEW_TOKENS else []),
        ],
        width,
    )
    room = height - len(head)
    left_width = min(_WIDTH, max(_NARROWEST, width - _GAP - _NEEDED_FOR_EXPERTS))
    table = Table(_LABELS, left_width - GUTTER)
    visible = state.place.rows.around(len(rows), room - 1, state.selection, axis.at)
    left = [
        (text(" "), *table.header()),
        *[
            (choosing(axis.choice(i)), *marked(table.row(rows[i]), left_width, chosen=i == axis.at))
            for i in visible
        ],
    ]
    right = _specific(usage, rows, width - left_width - _GAP, room)
    return [*head, *beside(left, right, left_width, _GAP)]


VIEW = View(
    key="L",
    title="Labels",
    brief="La",
    render=render,
    gist="Do prompt types use other experts? Layers: in how many, by more than noise.",
    reading=(
        "Differs: Jensen-Shannon divergence in bits of the label's use from the chosen one's, mean over "
        "the layers; noise: what chance alone gives; layers: how many differ by more. Two texts of one "
        "label differ by more than noise too. Specific experts: here and else are the shares of the "
        "label's and of all other tokens that use the expert; log-odds (base 2, drawn towards 0 where "
        "there is little) with z, their standard deviations; none is listed that chance gives more than "
        "once in a hundred labels. " + " ".join(HOW)
    ),
    sections=frozenset({Section.LABELS}),
    rows=_axis,
)
