"""Draws the pictures of the dashboard in docs/ from a log, replayed as if a server wrote it.

Usage: scripts/picture.py LOG docs
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from moe_live.analyzer import Analyzer
from moe_live.dashboard.bindings import press
from moe_live.dashboard.frame import Frame, compose
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.session import Session
from moe_live.settings import Settings
from moe_live.sources.source import Break, SourceStatus, State

SIZES = {"locality": (200, 40)}
OTHERS = (120, 40)
TOKENS_A_SECOND = 12
WINDOW = 64
DARK, LIGHT = Look(ColorSystem.TRUECOLOR), Look(ColorSystem.TRUECOLOR, light=True)

PICTURES: dict[str, tuple[str, Sequence[str], Look]] = {
    "dashboard": ("Overview", (), DARK),
    "heatmap": ("Heatmap", ("z", "/", "1", "6", "enter"), DARK),
    "by-heat": ("Heatmap", ("s", "home"), DARK),
    "experts": ("Heatmap", ("enter", "down", "down"), DARK),
    "locality": ("Locality", ("/", "3", "1", "enter"), DARK),
    "light": ("Overview", ("down",), LIGHT),
}
"""Each by its view, the keys that are pressed there, and the terminal."""

GRAY = [
    (0, 0, 0),
    (205, 66, 66),
    (64, 180, 100),
    (214, 190, 60),
    (70, 120, 210),
    (190, 90, 190),
    (50, 170, 200),
]
BRIGHT = [(110, 110, 110), (240, 90, 90), (90, 220, 130), (240, 220, 90), (100, 150, 240), (220, 120, 220)]
ON_DARK = TerminalTheme(
    (17, 19, 24), (212, 212, 212), [*GRAY, (220, 220, 220)], [*BRIGHT, (80, 200, 230), (255, 255, 255)]
)
DEEP = [(0, 0, 0), (200, 40, 40), (0, 130, 60), (160, 140, 0), (0, 70, 170), (160, 20, 150), (0, 130, 160)]
ON_LIGHT = TerminalTheme(
    (253, 253, 248), (36, 36, 36), [*DEEP, (165, 165, 165)], [*BRIGHT, (80, 200, 230), (230, 230, 230)]
)
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8, 18, 12
EIGHTHS = {character: i for i, character in enumerate(" ▏▎▍▌▋▊▉█")}
SPARKS = {character: i for i, character in enumerate(" ▁▂▃▄▅▆▇█")}


@dataclass
class Replay:
    """A source that gives a log step by step."""

    name: str
    steps: list[bytes]
    given: int = 0
    position: int = 0
    due: list[bytes] = field(default_factory=list)

    def read(self, _limit: int) -> Sequence[bytes | Break]:
        found, self.due = self.due, []
        return found

    def give(self) -> None:
        self.due.append(self.steps[self.given])
        self.position += len(self.steps[self.given])
        self.given += 1

    def pause(self) -> float:
        return 1.0

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        return SourceStatus(
            self.name, State.FOLLOWING, position=self.position, size=self.position, watch="events"
        )

    def close(self) -> None:
        pass


def steps_of(log: bytes) -> Iterator[bytes]:
    """The log, cut where the layer goes down."""
    step, last = b"", -1
    for line in log.splitlines(keepends=True):
        fields = line.split(b",")
        number = fields[1] if fields[0] == b"gate_input" else fields[0]
        layer = int(number) if number.isdigit() else last
        if layer < last:
            yield step
            step = b""
        step, last = step + line, layer
    yield step


def replayed(path: Path) -> Session:
    """A session that has followed the log, a step of one token after the other at an even pace."""
    now = 0.0
    source = Replay(f"/var/log/{path.name}", list(steps_of(path.read_bytes())))
    session = Session(source, Analyzer(Settings(window=WINDOW)), clock=lambda: now)
    session.status()
    for _ in source.steps:
        source.give()
        session.ingest(1.0)
        session.status()
        now += 1 / TOKENS_A_SECOND
    return session


def svg(frame: Frame, theme: TerminalTheme) -> str:
    """The frame as a picture: blocks are rectangles, so that cells meet."""
    width, height = frame.width * CELL_WIDTH + 2 * MARGIN, len(frame.lines) * CELL_HEIGHT + 2 * MARGIN
    back = theme.background_color.hex
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="13.3px" '
        "font-family=\"'DejaVu Sans Mono',Menlo,Consolas,monospace\" "
        'xml:space="preserve" shape-rendering="crispEdges">',
        f'<rect width="{width}" height="{height}" rx="6" fill="{back}"/>',
    ]
    for row, line in enumerate(frame.lines):
        column = 0
        for segment in frame.segments(line):
            parts += drawn(
                segment, frame.look, theme, column * CELL_WIDTH + MARGIN, row * CELL_HEIGHT + MARGIN
            )
            column += segment.cell_length
    return "\n".join([*parts, "</svg>\n"])


def drawn(segment: Segment, look: Look, theme: TerminalTheme, x: int, y: int) -> Iterator[str]:
    """One piece of text in one style, from its upper left corner on."""
    style = look.styled(segment.style or Style.null())
    colours = [
        (colour or Color.default()).get_truecolor(theme, foreground=i == 0).hex
        for i, colour in enumerate((style.color, style.bgcolor))
    ]
    if style.reverse:
        colours.reverse()
    colour, behind = colours
    width = segment.cell_length * CELL_WIDTH
    opacity = ' opacity=".6"' if style.dim else ""
    if behind != theme.background_color.hex:
        yield rectangle(x, y, width, CELL_HEIGHT, behind)
    text = segment.text
    begin = 0
    while begin < len(text):
        character = text[begin]
        end = begin + 1
        if character in "▀▄█" or character in EIGHTHS or character in SPARKS:
            while end < len(text) and text[end] == character:
                end += 1
            if character != " ":
                yield block(character, x + begin * CELL_WIDTH, y, (end - begin) * CELL_WIDTH, colour)
        else:
            while (
                end < len(text) and text[end] not in SPARKS and text[end] not in EIGHTHS and text[end] != "▀"
            ):
                end += 1
            weight = ' font-weight="bold"' if style.bold else ""
            yield (
                f'<text x="{x + begin * CELL_WIDTH}" y="{y + 13}" textLength="{(end - begin) * CELL_WIDTH}" '
                f'fill="{colour}"{weight}{opacity}>{html.escape(text[begin:end])}</text>'
            )
        begin = end


def block(character: str, x: int, y: int, width: int, colour: str) -> str:
    """Block characters of one kind beside each other."""
    if character == "▀":
        return rectangle(x, y, width, CELL_HEIGHT / 2, colour)
    if character in SPARKS:
        high = CELL_HEIGHT * SPARKS[character] / 8
        return rectangle(x, y + CELL_HEIGHT - high, width, high, colour)
    return rectangle(x, y, CELL_WIDTH * EIGHTHS[character] / 8, CELL_HEIGHT, colour)


def rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>'


def main() -> None:
    log, directory = map(Path, sys.argv[1:])
    session = replayed(log)
    snapshot, status = session.snapshot(), session.status()
    for name, (title, keys, look) in PICTURES.items():
        size = SIZES.get(name, OTHERS)
        state = ViewState(view=[view.title for view in VIEWS].index(title), look=look, mouse=True)
        for key in keys:
            compose(snapshot, status, state, *size)
            press(state, key, snapshot)
        frame = compose(snapshot, status, state, *size)
        theme = ON_LIGHT if look.light else ON_DARK
        (directory / f"{name}.svg").write_text(svg(frame, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
