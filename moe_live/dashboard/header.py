"""What is always visible: at the top how the run is going, at the bottom the keys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from moe_live.dashboard.bindings import BINDINGS
from moe_live.dashboard.canvas import NOWHERE, Line, Piece, bar, fit, flow, line_width, pressing, text
from moe_live.dashboard.graph import sparkline
from moe_live.dashboard.moves import HOW_TO_GO, view_of
from moe_live.dashboard.state import Asking, Prompt, ViewState
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
from moe_live.dashboard.views import INPUT, VIEWS
from moe_live.errors import printable
from moe_live.formats.sniff import USUAL
from moe_live.formatting import duration, percent, ranges, short, size, whole
from moe_live.routing.evidence import Verdict
from moe_live.running import Status
from moe_live.settings import RowMode
from moe_live.snapshot import Rows, Snapshot
from moe_live.sources.source import State
from moe_live.wrapping import shorten, text_width, wrap

_ROOMY = 118
"""From this width on words are spelled out, and there is room for tokens a second over time."""

_TALL = 30
"""From this height on a trouble or warning may take two lines."""

_TWO_ROWS = 24
"""From this height on tabs may, rather than have short names."""

_FEWEST_SPARKS, _MOST_SPARKS = 8, 60
"""Columns of tokens a second over time."""

_MOST_BANNERS = 2
_LOG = 26
"""Columns of the name of a log in a warning."""

_NOT_BY_CLICK = ("q", "R")
"""Keys that a slip of the mouse shall not press."""


def header(snapshot: Snapshot, status: Status, state: ViewState, width: int, height: int) -> list[Line]:
    """The lines at the top, of a screen of this size."""
    roomy, tall = width >= _ROOMY, height >= _TALL
    separator = "   " if roomy else "  "
    lines = [_headline(status, state, width)]
    if status.source.detail:
        most = 2 if tall else 1
        lines += [(text(part, CAUTION),) for part in wrap(printable(status.source.detail), width, most)]
    health, speed = _health(snapshot, status, roomy=roomy), _speed(status)
    beside_tokens = speed if roomy else health
    lines += flow([*_model(snapshot), *(health if roomy else speed)], width, separator)
    lines += flow([*_tokens(snapshot, status, beside_tokens, width), *beside_tokens], width, separator)
    if not state.folded:
        lines += _banners(snapshot, width, tall=tall)
    here = None if state.help else state.view
    return [*lines, *_tabs(here, len(snapshot.warnings), width, 1 if height < _TWO_ROWS else 2)]


def _banners(snapshot: Snapshot, width: int, *, tall: bool) -> list[Line]:
    """The first warnings, each after the key that tells more; what matters most comes first."""
    key = VIEWS[INPUT].key
    lines: list[Line] = []
    for warning in snapshot.warnings[:_MOST_BANNERS]:
        about_rows = warning == snapshot.rows.verdict
        said = _about_rows(snapshot.rows) if about_rows else printable(warning)
        style = BANNER if about_rows else CAUTION
        hint = f" {key}  "
        room = width - len(hint) - 1
        parts = wrap(said, room, 2) if tall else [_clause(said, room)]
        for j, part in enumerate(parts):
            begin = hint if j == 0 else " " * len(hint)
            lines.append(
                (
                    pressing(key),
                    text(f"{begin}{part}".ljust(width) if about_rows else f"{begin}{part}", style),
                )
            )
    return lines


def _about_rows(rows: Rows) -> str:
    """What is wrong with the rows, how many are concerned before all."""
    extent = "most" if rows.soundness is Verdict.STRIDED else "some"
    share = percent(rows.unrecoverable / max(1, rows.logged))
    what = "are wrong, and counted as asked" if rows.mode is RowMode.LOGGED else "left out"
    told = f"{share} of rows {what}: {extent} prompt rows are not real selections"
    if rows.wrong_logs:
        told = f"{share} of rows {what}: prompt rows of {shorten(rows.wrong_logs, _LOG)} are not real"
    return "; ".join(filter(None, (told, rows.run_verdict)))


def _clause(sentence: str, width: int) -> str:
    """As much of a sentence as fits, cut where a part of it ends if one does."""
    if text_width(sentence) <= width:
        return sentence
    (shown,) = wrap(sentence, width, 1)
    ends = [shown.rfind(mark) for mark in (": ", ", ", "; ")]
    return f"{shown[: max(ends)]} …" if max(ends) > width // 3 else shown


def footer(state: ViewState, width: int) -> Line:
    """The keys that work now, the most needed first."""
    if state.prompt is not None:
        return _prompt_line(state.prompt, width)
    if state.confirming:
        return (text(" Press R again to start all statistics anew; any other key: go on. ", BANNER),)
    if state.note:
        return (text(f" {shorten(state.note, width - 2)} ", CAUTION),)
    view = view_of(state)
    return _keys(tuple(binding.label(state, view) for binding in BINDINGS), width)


@lru_cache(maxsize=8)
def _keys(labels: Sequence[str], width: int) -> Line:
    """The keys with what each does now, as many as there is room for; "" for nothing."""
    line: list[Piece] = []
    room = width
    for binding, label in zip(BINDINGS, labels, strict=True):
        needed = len(binding.hint) + len(label) + 2
        if not label or needed > room:
            continue
        clicked = NOWHERE if binding.keys[0] in _NOT_BY_CLICK else pressing(binding.keys[0])
        line += [clicked, text(f" {binding.hint}", STRONG), text(f" {label}", FAINT)]
        room -= needed
    return (*line, NOWHERE)


_NAMES = {Asking.LABEL: " Label ", Asking.GO_TO: " Go to ", Asking.WRITE: " Write "}
_HINTS = {
    Asking.LABEL: " Enter sets it, Esc cancels ",
    Asking.GO_TO: f" {HOW_TO_GO} ",
    Asking.WRITE: " j JSON, t tables, h page, p picture; Esc cancels ",
}


def _prompt_line(prompt: Prompt, width: int) -> Line:
    """What was typed so far, its end if it is long, and what to type."""
    name, hint = _NAMES[prompt.asking], _HINTS[prompt.asking]
    shown = prompt.typed
    while shown and text_width(shown) > width - len(hint) - len(name) - 3:
        shown = shown[1:]
    return (text(name, BANNER), text(f" {shown}"), text(" ", SELECTED), text(hint, FAINT))


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


def _model(snapshot: Snapshot) -> list[Line]:
    """The model's shape, as far as it is known."""
    model = snapshot.model
    layers = shorten(ranges(model.layers, "–"), 20)
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
    if snapshot.input.format not in {"", USUAL}:
        items.insert(0, (text(snapshot.input.format, STRONG),))
    if model.gate_layers:
        numbers = "" if model.n_embd is None else f"×{model.n_embd}"
        items.append((text("gates "), text(shorten(ranges(model.gate_layers, "–"), 20) + numbers, STRONG)))
    return items


# Figures that change from frame to frame keep their width, or the line would dance.


def _speed(status: Status) -> list[Line]:
    """How fast the log is read."""
    return [
        (text(f"{short(status.lines_per_second):>5}", STRONG), text(" lines/s")),
        (text(f"{status.bytes_per_second / 1e6:.2f}".rjust(5), STRONG), text(" MB/s")),
    ]


def _tokens(snapshot: Snapshot, status: Status, others: list[Line], width: int) -> list[Line]:
    """Tokens, and how fast they come: of prompts and of decode; over time where the others leave room."""
    tokens, roomy = snapshot.tokens, width >= _ROOMY
    shown, what, columns = (whole, " tokens", 5) if roomy else (short, "", 4)
    counted = _counted_prefill(snapshot)
    items: list[Line] = [
        (text(f"{of}{shown(count)}", STRONG), text(f" {phase}{what} {short(pace.now):>{columns}}/s"))
        for of, count, phase, pace in (
            ("" if counted is None else f"{shown(counted)} of ", tokens.prefill, "prefill", status.prefill),
            ("", tokens.decode, "decode", status.decode),
        )
    ]
    taken = sum(line_width(item) + 3 for item in (*items, *others))
    columns = min(_MOST_SPARKS, (width - taken) // 2 - 1)
    if columns < _FEWEST_SPARKS:
        return items
    return [
        (*item, text(f" {sparkline(np.array(pace.lately), columns, low=0.0):<{columns}}", BAR))
        for item, pace in zip(items, (status.prefill, status.decode), strict=True)
    ]


def _counted_prefill(snapshot: Snapshot) -> int | None:
    """Prompt tokens whose rows are in the figures of the first layer; None where none is left out."""
    rows, top_k = snapshot.rows, snapshot.model.top_k
    if rows.mode is RowMode.LOGGED or not (rows.unrecoverable and top_k and snapshot.layers):
        return None
    counted = int(snapshot.layers[0].usage.prefill.sum()) // top_k
    return counted if counted < snapshot.tokens.prefill else None


def _health(snapshot: Snapshot, status: Status, *, roomy: bool) -> list[Line]:
    """Whether all is well with the input."""
    source, tally = status.source, snapshot.input.tally
    bad: Line = (
        text("bad lines " if roomy else "bad "),
        text(short(tally.malformed_lines), ALERT if tally.malformed_lines else STRONG),
    )
    if tally.malformed_lines and roomy:
        bad = (*bad, text(f" ({percent(tally.malformed_lines / max(1, tally.lines))})"))
    items: list[Line] = [
        (
            text("behind " if roomy else "lag "),
            text(f"{size(source.lag):>7}", CAUTION if source.lag > 1e6 else STRONG),
        ),
        bad,
        (text("restarts "), text(str(source.restarts), CAUTION if source.restarts else STRONG)),
    ]
    if source.command is not None and source.command.logged is not None:
        items.append((text("log "), text(size(source.command.logged), STRONG)))
    if source.rotations:
        items.append((text("rotations "), text(str(source.rotations), STRONG)))
    if source.watch and (roomy or source.watch != "events"):  # where there is little room what is usual goes
        items.append((text("watch " if roomy else ""), text(source.watch, STRONG)))
    return items


@lru_cache(maxsize=8)
def _tabs(here: int | None, warnings: int, width: int, most: int) -> Sequence[Line]:
    """Every view's key and name, on so many lines at most.

    Names are as long as fits: for all, or else for those near the present one, of which there is none in the
    help.
    """
    mark = f" {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    tabs: Sequence[tuple[str, str]] = [(f" {view.key}", f" {view.title} ") for view in VIEWS]
    if _width(tabs) + len(mark) > width:
        mark = f" {warnings}!" if warnings else ""
        tabs = [_joined(view.key, view.title) for view in VIEWS]
    lines = flow(_drawn(tabs, here), width - len(mark), "")
    if len(lines) > most:
        lines = flow(_drawn(_brief_tabs(here or 0, width - len(mark)), here), width, "")
    return [*lines[:-1], (*lines[-1], pressing(VIEWS[INPUT].key), text(mark, ALERT))]


def _drawn(tabs: Sequence[tuple[str, str]], here: int | None) -> list[Line]:
    """Tabs to click on, that of the present view marked."""
    drawn: list[Line] = []
    for i, (view, (key, name)) in enumerate(zip(VIEWS, tabs, strict=True)):
        if i == here:
            drawn.append((pressing(view.key), text(key + name, SELECTED)))
        else:
            drawn.append((pressing(view.key), text(key, STRONG), text(name, FAINT)))
    return drawn


def _joined(key: str, name: str) -> tuple[str, str]:
    """A key and the name right behind it; a letter that the name begins with stands for both."""
    return f" {key}", name[1:] if name[0].lower() == key.lower() else name


def _width(tabs: Sequence[tuple[str, str]]) -> int:
    return sum(len(key) + len(name) for key, name in tabs)


def _brief_tabs(present: int, width: int) -> Sequence[tuple[str, str]]:
    """Keys with short names behind them, as many as fit: those nearest to the present view first.

    Where all of them fit, the nearest have their names in full, as many as fit again.
    """
    tabs = [(f" {view.key}", "") for view in VIEWS]
    nearest = sorted(range(len(VIEWS)), key=lambda i: abs(i - present))
    for names in ([view.brief for view in VIEWS], [view.title for view in VIEWS]):
        for i in nearest:
            longer = [*tabs[:i], _joined(VIEWS[i].key, names[i]), *tabs[i + 1 :]]
            if _width(longer) > width:
                return tabs
            tabs = longer
    return tabs
