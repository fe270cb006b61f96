"""What is always visible: at the top how the run is going, at the bottom the keys."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from moe_live.dashboard.bindings import BINDINGS
from moe_live.dashboard.canvas import Line, Piece, bar, fit, flow, line_width, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.text import ranges, shorten, wrap
from moe_live.dashboard.theme import (
    ALERT,
    BANNER,
    BAR,
    BUSY,
    CAUTION,
    FAINT,
    GOOD,
    SELECTED,
    STRONG,
    TITLE,
)
from moe_live.dashboard.views import VIEWS
from moe_live.errors import printable
from moe_live.formatting import duration, percent, short, size, whole
from moe_live.session import Status
from moe_live.snapshot import Snapshot
from moe_live.sources.source import State

_ROOMY = 100
"""From this width on words are spelled out."""


def header(
    snapshot: Snapshot, status: Status, state: ViewState, width: int, *, banner_lines: int
) -> list[Line]:
    """The lines at the top; a trouble or verdict gets `banner_lines` of them."""
    roomy = width >= _ROOMY
    separator = "   " if roomy else "  "
    lines = [_headline(status, state, width)]
    if status.source.detail:
        lines += [
            (text(part, CAUTION),) for part in wrap(printable(status.source.detail), width, banner_lines)
        ]
    lines += flow(_shape(snapshot, roomy=roomy), width, separator)
    lines += flow(_speed(snapshot, status, roomy=roomy), width, separator)
    if snapshot.rows.strided:
        verdict = wrap(printable(snapshot.rows.verdict), width, banner_lines)
        lines += [(text(set_cell_size(part, width), BANNER),) for part in verdict]
    lines.append(_tabs(state, len(snapshot.warnings), width))
    return lines


def footer(state: ViewState, width: int) -> Line:
    """The keys that work now, the most needed first."""
    if state.entry is not None:
        return _entry_line(state.entry, width)
    if state.confirming:
        return (text(" Press R again to start all statistics anew; any other key: go on. ", BANNER),)
    line: list[Piece] = []
    room = width
    for binding in BINDINGS:
        label = binding.label(state, VIEWS[state.view])
        needed = len(binding.hint) + len(label) + 3
        if not label or needed > room:
            continue
        line += [text(f" {binding.hint}", STRONG), text(f" {label} ", FAINT)]
        room -= needed
    return tuple(line)


def _entry_line(typed: str, width: int) -> Line:
    """What was typed so far, its end if it is long, and the keys that work meanwhile."""
    keys = " Enter sets it, Esc cancels "
    shown = typed
    while cell_len(shown) > width - len(keys) - 10:
        shown = shown[1:]
    return (text(" Label ", BANNER), text(f" {shown}"), text(" ", SELECTED), text(keys, FAINT))


def _headline(status: Status, state: ViewState, width: int) -> Line:
    badge = _badge(status, state)
    if status.label:
        label = shorten(printable(status.label), 20)
        badge = (text("label ", FAINT), text(label, STRONG), text("  "), *badge)
    title = "moe-live  "
    name = shorten(printable(status.source.name), width - line_width(badge) - len(title) - 2)
    left: Line = (text(title, TITLE), text(name, STRONG))
    return (*fit(left, width - line_width(badge)), *badge)


def _badge(status: Status, state: ViewState) -> Line:
    source = status.source
    if source.state is State.READING:
        progress = status.progress
        if progress is None:
            badge: Line = (text("reading", BUSY),)
        else:
            left = "" if status.seconds_left is None else f"  {duration(status.seconds_left)} left"
            badge = (
                text("catching up ", BUSY),
                text(bar(progress, 10), BAR),
                text(f" {int(100 * progress):>3} %{left}", BUSY),
            )
    elif source.state is State.FOLLOWING:
        badge = (text("● following", GOOD),)
    elif source.state is State.WAITING:
        badge = (text("○ waiting", CAUTION),)
    else:
        badge = (text("■ ended", STRONG),)
    if state.paused:
        return (text(" PAUSED ", BANNER), text("  "), *badge)
    return badge


def _shape(snapshot: Snapshot, *, roomy: bool) -> list[Line]:
    model, tokens = snapshot.model, snapshot.tokens
    layers = shorten(ranges(model.layers), 20)
    items: list[Line] = [
        (
            text(str(len(model.layers) or "–"), STRONG),
            text(" layer " if len(model.layers) == 1 else " layers "),
            text(layers),
        ),
        (text(str(model.n_experts or "–"), STRONG), text(" experts")),
    ]
    if model.top_k is not None:
        items[-1] = (*items[-1], text(" top-"), text(str(model.top_k), STRONG))
    if model.gate_layers:
        numbers = "" if model.n_embd is None else f"×{model.n_embd}"
        items.append((text("gates "), text(shorten(ranges(model.gate_layers), 20) + numbers, STRONG)))
    shown = whole if roomy else short
    items.append(
        (
            text(shown(tokens.prefill), STRONG),
            text(" prefill + "),
            text(shown(tokens.decode), STRONG),
            text(" decode tokens" if roomy else " decode"),
        )
    )
    return items


def _speed(snapshot: Snapshot, status: Status, *, roomy: bool) -> list[Line]:
    source, tally = status.source, snapshot.input.tally
    # Figures that change from frame to frame keep their width, or the line would dance.
    items: list[Line] = [
        (text(f"{short(status.tokens_per_second):>5}", STRONG), text(" tok/s")),
        (text(f"{short(status.lines_per_second):>5}", STRONG), text(" lines/s")),
        (text(f"{status.bytes_per_second / 1e6:.2f}".rjust(5), STRONG), text(" MB/s")),
        (
            text("behind " if roomy else "lag "),
            text(f"{size(source.lag):>7}", CAUTION if source.lag > 1e6 else STRONG),
        ),
    ]
    bad: Line = (
        text("bad lines " if roomy else "bad "),
        text(short(tally.malformed_lines), ALERT if tally.malformed_lines else STRONG),
    )
    if tally.malformed_lines and roomy:
        bad = (*bad, text(f" ({percent(tally.malformed_lines / max(1, tally.lines))})"))
    items.append(bad)
    items.append((text("restarts "), text(str(source.restarts), CAUTION if source.restarts else STRONG)))
    if source.rotations:
        items.append((text("rotations "), text(str(source.rotations), STRONG)))
    if source.watch:
        items.append((text("watch " if roomy else ""), text(source.watch, STRONG)))
    return items


def _tabs(state: ViewState, warnings: int, width: int) -> Line:
    """Every view's key; the titles of the present one and of as many around it as fit."""
    mark = f" {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    room = width - sum(len(view.key) + 2 for view in VIEWS)
    if len(mark) + len(VIEWS[state.view].title) + 1 > room:
        mark = f" {warnings}!"
    room -= len(mark)
    named = set()
    for i in sorted(range(len(VIEWS)), key=lambda i: abs(i - state.view)):
        needed = len(VIEWS[i].title) + 1
        if needed > room:
            break
        named.add(i)
        room -= needed
    tabs = []
    for i, view in enumerate(VIEWS):
        name = f" {view.key} {view.title} " if i in named else f" {view.key} "
        tabs.append(text(name, SELECTED if i == state.view and not state.help else FAINT))
    return (*tabs, text(mark, ALERT))
