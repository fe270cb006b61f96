"""One frame of the dashboard: a pure function of snapshot, status and what the user chose to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from moe_live.dashboard.bindings import BINDINGS
from moe_live.dashboard.canvas import Line, fill, fit, text
from moe_live.dashboard.header import footer, header
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.text import shorten, wrap
from moe_live.dashboard.theme import FAINT, STRONG, TITLE
from moe_live.dashboard.view import excerpt
from moe_live.dashboard.views import VIEWS
from moe_live.errors import printable
from moe_live.formatting import size, whole
from moe_live.session import Status
from moe_live.snapshot import Snapshot
from moe_live.sources.source import State

MIN_WIDTH = 60
MIN_HEIGHT = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines of a frame, each exactly `width` columns: a rich renderable."""

    lines: Sequence[Line]
    width: int

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            for piece in line:
                if isinstance(piece, Segment):
                    yield piece
                else:
                    yield from piece.segments()
            yield Segment.line()

    @property
    def plain(self) -> str:
        """The frame without styles."""
        return "".join(
            segment.text
            for line in self.lines
            for piece in (*line, Segment("\n"))
            for segment in ((piece,) if isinstance(piece, Segment) else piece.segments())
        )


def compose(snapshot: Snapshot, status: Status, state: ViewState, width: int, height: int) -> Frame:
    """The frame for a terminal of this size: exactly `height` lines."""
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        needed = f"{width}x{height} is too small: {MIN_WIDTH}x{MIN_HEIGHT} needed. q quits"
        lines: list[Line] = [(text(part),) for part in wrap(needed, width, max(1, height))]
    else:
        top = header(snapshot, status, state, width, banner_lines=1 if height < 30 else 2)
        body = _body(snapshot, status, state, width, height - len(top) - 1)
        lines = [*top, *fill(body, height - len(top) - 1), footer(state, width)]
    return Frame([fit(line, width) for line in fill(lines, height)], width)


def draw_static(
    snapshot: Snapshot,
    status: Status,
    *,
    width: int,
    height: int,
    view: str = "Overview",
    colour: bool = True,
) -> Frame:
    """A view as it looks at a fixed size: for tests, pictures and documents; no terminal is needed.

    Raises:
        ValueError: there is no such view.
    """
    titles = [known.title for known in VIEWS]
    state = ViewState(view=titles.index(view), colour=colour)
    return compose(snapshot, status, state, width, height)


def _body(snapshot: Snapshot, status: Status, state: ViewState, width: int, height: int) -> list[Line]:
    if state.help:
        return _help(state, width, height)
    view = VIEWS[state.view]
    if not view.always and not snapshot.layers and not snapshot.model.gate_layers:
        return _nothing_yet(snapshot, status, width, height)
    gist: list[Line] = [(text(part, FAINT),) for part in wrap(view.gist, width, 2)]
    return [*gist, *view.render(snapshot, state, width, height - len(gist))]


def _nothing_yet(snapshot: Snapshot, status: Status, width: int, height: int) -> list[Line]:
    """Why there is nothing to see, and what will change that."""
    tally = snapshot.input.tally
    inner = width - 4
    if tally.malformed_lines:
        says = [
            f"No MoE lines found yet: {whole(tally.malformed_lines)} malformed of {whole(tally.lines)}.",
            "An expert line looks like '3,17 4 92 …', a gate line like 'gate_input,20,0,0.25 …'. "
            "These came, for example:",
        ]
    elif status.source.state is State.WAITING:
        says = [
            "Waiting for the log to appear.",
            "It is opened as soon as it is there. The server writes it once it processes its first tokens.",
        ]
    elif tally.bytes == 0 and status.source.lag:
        says = [
            "Reading the log.",
            f"It has {size(status.source.lag)} so far; what the first of them show comes in a moment.",
        ]
    elif tally.bytes == 0:
        says = [
            "The log is empty so far.",
            "The server writes its first lines when it processes the first tokens: send it a prompt.",
        ]
    else:
        says = [
            f"{whole(tally.lines)} lines so far, none with experts yet.",
            "The next ones come when the server processes tokens.",
        ]
    lines: list[Line] = [(), (text("  "), text(says[0], STRONG))]
    lines += [(text("  " + part),) for part in wrap(says[1], inner, 3)]
    lines += [(text("    " + shorten(printable(sample), inner - 2), FAINT),) for sample in tally.samples]
    return lines[:height]


def _help(state: ViewState, width: int, height: int) -> list[Line]:
    lines: list[Line] = [(text("Keys", TITLE),)]
    lines += [(text(f"  {binding.hint:<10}", STRONG), text(binding.help)) for binding in BINDINGS]
    for view in VIEWS:
        lines += [(), (text(f"How to read: {view.title}", TITLE),)]
        reading = f"{view.gist} {view.reading}".strip()
        lines += [(text("  " + part),) for part in wrap(reading, min(width, 100) - 2, 20)]
    rows = state.window(len(lines), height - 1)
    shown = excerpt(rows, len(lines), "lines")
    return [(text("Help  ", TITLE), text(shown, STRONG)), *lines[rows.start : rows.stop]]
