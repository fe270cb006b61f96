"""One frame of the dashboard: a pure function of snapshot, status and what the user chose to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment

from moe_live.dashboard.bindings import BINDINGS
from moe_live.dashboard.canvas import Line, fill, fit, target, text
from moe_live.dashboard.header import footer, header
from moe_live.dashboard.heat import HeatRow
from moe_live.dashboard.moves import view_of
from moe_live.dashboard.plain_text import ascii_line
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import FAINT, STRONG, TITLE, Look
from moe_live.dashboard.view import View, excerpt, phase_of
from moe_live.dashboard.views import VIEWS
from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.formats.nearest import nearest
from moe_live.formatting import size, whole
from moe_live.running import Status
from moe_live.snapshot import Snapshot
from moe_live.sources.source import State
from moe_live.wrapping import shorten, wrap

MIN_WIDTH = 60
MIN_HEIGHT = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines of a frame, each exactly `width` columns: a rich renderable.

    Attributes:
        lines: from the top down.
        width: columns of each.
        look: what the terminal can show.
        top: how many of the lines are the header, which is always visible.
    """

    lines: Sequence[Line]
    width: int
    look: Look = field(default_factory=Look)
    top: int = 0

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            for segment in self.segments(line):
                style = None if segment.style is None else self.look.styled(segment.style)
                yield Segment(segment.text, style)
            yield Segment.line()

    @property
    def plain(self) -> str:
        """The frame without styles."""
        return "".join("".join(segment.text for segment in self.segments(line)) + "\n" for line in self.lines)

    def has_room_for(self, top: Sequence[Line], width: int, height: int, look: Look) -> bool:
        """Whether what is below this header in a frame of this size takes as many lines as here."""
        return (len(top), width, height, look) == (self.top, self.width, len(self.lines), self.look)

    def target(self, column: int, row: int) -> Selection | str | None:
        """What a click there does, both counted from 0: it chooses, or presses a key; None for nothing."""
        return target(self.lines[row], column) if 0 <= row < len(self.lines) else None

    @staticmethod
    def segments(line: Line) -> Iterator[Segment]:
        """A line in pieces of one style each."""
        for piece in line:
            if isinstance(piece, HeatRow):
                yield from piece.segments()
            elif isinstance(piece, Segment):
                yield piece


def compose(
    snapshot: Snapshot,
    status: Status,
    state: ViewState,
    width: int,
    height: int,
    *,
    before: Frame | None = None,
) -> Frame:
    """The frame for a terminal of this size: exactly `height` lines.

    Args:
        snapshot: the figures.
        status: how the run is going.
        state: what the user has chosen to see.
        width: columns.
        height: lines.
        before: a frame of which all below the header is to stay; None to make all anew. It is made anew too
            where the header leaves it another size.
    """
    top: list[Line] = []
    lines: list[Line]
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        needed = f"{width}x{height} is too small: {MIN_WIDTH}x{MIN_HEIGHT} needed. q quits"
        lines = [(text(part),) for part in wrap(needed, width, max(1, height))]
    else:
        # What a command says, and how a source is, may be news of which the figures know nothing.
        if snapshot.input.sources or status.source.command is not snapshot.input.command:
            sources = tuple(
                replace(each, now=status.sources.get(each.name)) for each in snapshot.input.sources
            )
            read = replace(snapshot.input, command=status.source.command, sources=sources)
            snapshot = snapshot.having(input=read)
        top = header(snapshot, status, state, width, height)
        if before is not None and before.has_room_for(top, width, height, state.look):
            lines = [*_fitting(top, width, state.look), *before.lines[before.top :]]
            return Frame(lines, width, state.look, len(top))
        body = _body(snapshot, status, state, width, height - len(top) - 1)
        lines = [*top, *fill(body, height - len(top) - 1), footer(state, width)]
    return Frame(_fitting(fill(lines, height), width, state.look), width, state.look, len(top))


def _fitting(lines: Iterable[Line], width: int, look: Look) -> list[Line]:
    """Lines of exactly this width, of what the terminal can show."""
    fitting = [fit(line, width) for line in lines]
    return list(map(ascii_line, fitting)) if look.ascii_only else fitting


def draw_static(
    snapshot: Snapshot,
    status: Status,
    *,
    width: int,
    height: int,
    view: str = "Overview",
    look: Look | None = None,
) -> Frame:
    """A view as it looks at a fixed size: for tests, pictures and documents; no terminal is needed.

    Raises:
        ValueError: there is no such view.
    """
    titles = [known.title for known in VIEWS]
    state = ViewState(view=titles.index(view), look=look or Look(), phase=phase_of(snapshot))
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
    samples: Sequence[str] = [printable(sample) for sample in tally.samples]
    if tally.malformed_lines:
        says = [
            f"No MoE lines found yet: {whole(tally.malformed_lines)} malformed of {whole(tally.lines)}.",
            f"{near[0].upper()}{near[1:]}. These came, for example:"
            if (near := nearest(tally.samples))
            else "An expert line looks like '3,17 4 92 …', a gate line like 'gate_input,20,0,0.25 …'. "
            "These came, for example:",
        ]
    elif (command := status.source.command) is not None:
        says = [
            f"{printable(status.source.name)} has computed nothing with experts yet: send it a prompt.",
            f"It says, in {printable(command.output)}:" if command.said else "It has said nothing so far.",
        ]
        samples = command.said[-max(0, height - 6) :]
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
    lines += [(text("    " + shorten(sample, inner - 2), FAINT),) for sample in samples]
    return lines[:height]


def _reading(view: View, width: int) -> list[Line]:
    reading = f"{view.gist} {view.reading}".strip()
    return [
        (text(f"How to read: {view.title}", TITLE),),
        *[(text("  " + part),) for part in wrap(reading, min(width, 100) - 2, 20)],
    ]


def _help(state: ViewState, width: int, height: int) -> list[Line]:
    """How to read the present view, then the keys, then the other views."""
    lines = _reading(view_of(state), width)
    lines += [(), (text("Keys", TITLE),)]
    lines += [(text(f"  {binding.hint:<10}", STRONG), text(binding.help)) for binding in BINDINGS]
    for view in VIEWS:
        if view is not view_of(state):
            lines += [(), *_reading(view, width)]
    rows = state.place.rows.over(len(lines), height - 1)
    shown = excerpt(rows, len(lines), "lines")
    return [(text("Help  ", TITLE), text(shown, STRONG)), *lines[rows.start : rows.stop]]
