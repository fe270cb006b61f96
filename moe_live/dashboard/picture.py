"""A frame as a picture, in the colours of a terminal."""

from __future__ import annotations

import html
from collections.abc import Iterator

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from moe_live.dashboard.frame import Frame
from moe_live.dashboard.theme import Look

_GRAY = [
    (0, 0, 0),
    (205, 66, 66),
    (64, 180, 100),
    (214, 190, 60),
    (70, 120, 210),
    (190, 90, 190),
    (50, 170, 200),
]
_BRIGHT = [(110, 110, 110), (240, 90, 90), (90, 220, 130), (240, 220, 90), (100, 150, 240), (220, 120, 220)]
_ON_DARK = TerminalTheme(
    (17, 19, 24), (212, 212, 212), [*_GRAY, (220, 220, 220)], [*_BRIGHT, (80, 200, 230), (255, 255, 255)]
)
_DEEP = [(0, 0, 0), (200, 40, 40), (0, 130, 60), (160, 140, 0), (0, 70, 170), (160, 20, 150), (0, 130, 160)]
_ON_LIGHT = TerminalTheme(
    (253, 253, 248), (36, 36, 36), [*_DEEP, (165, 165, 165)], [*_BRIGHT, (80, 200, 230), (230, 230, 230)]
)
_CELL_WIDTH, _CELL_HEIGHT, _MARGIN = 8, 18, 12
_EIGHTHS = {character: i for i, character in enumerate(" ▏▎▍▌▋▊▉█")}
_SPARKS = {character: i for i, character in enumerate(" ▁▂▃▄▅▆▇█")}


def svg(frame: Frame) -> str:
    """The frame as SVG: blocks are rectangles, so that cells meet."""
    theme = _ON_LIGHT if frame.look.light else _ON_DARK
    width, height = frame.width * _CELL_WIDTH + 2 * _MARGIN, len(frame.lines) * _CELL_HEIGHT + 2 * _MARGIN
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
            parts += _drawn(
                segment, frame.look, theme, column * _CELL_WIDTH + _MARGIN, row * _CELL_HEIGHT + _MARGIN
            )
            column += segment.cell_length
    return "\n".join([*parts, "</svg>\n"])


def _drawn(segment: Segment, look: Look, theme: TerminalTheme, x: int, y: int) -> Iterator[str]:
    """One piece of text in one style, from its upper left corner on."""
    style = look.styled(segment.style or Style.null())
    colours = [
        (colour or Color.default()).get_truecolor(theme, foreground=i == 0).hex
        for i, colour in enumerate((style.color, style.bgcolor))
    ]
    if style.reverse:
        colours.reverse()
    colour, behind = colours
    width = segment.cell_length * _CELL_WIDTH
    opacity = ' opacity=".6"' if style.dim else ""
    if behind != theme.background_color.hex:
        yield _rectangle(x, y, width, _CELL_HEIGHT, behind)
    text = segment.text
    begin = 0
    while begin < len(text):
        character = text[begin]
        end = begin + 1
        if character in "▀▄█" or character in _EIGHTHS or character in _SPARKS:
            while end < len(text) and text[end] == character:
                end += 1
            if character != " ":
                yield _block(character, x + begin * _CELL_WIDTH, y, (end - begin) * _CELL_WIDTH, colour)
        else:
            while (
                end < len(text)
                and text[end] not in _SPARKS
                and text[end] not in _EIGHTHS
                and text[end] != "▀"
            ):
                end += 1
            weight = ' font-weight="bold"' if style.bold else ""
            left, wide = x + begin * _CELL_WIDTH, (end - begin) * _CELL_WIDTH
            yield (
                f'<text x="{left}" y="{y + 13}" textLength="{wide}" '
                f'fill="{colour}"{weight}{opacity}>{html.escape(text[begin:end])}</text>'
            )
        begin = end


def _block(character: str, x: int, y: int, width: int, colour: str) -> str:
    """Block characters of one kind beside each other."""
    if character == "▀":
        return _rectangle(x, y, width, _CELL_HEIGHT / 2, colour)
    if character in _SPARKS:
        high = _CELL_HEIGHT * _SPARKS[character] / 8
        return _rectangle(x, y + _CELL_HEIGHT - high, width, high, colour)
    return _rectangle(x, y, _CELL_WIDTH * _EIGHTHS[character] / 8, _CELL_HEIGHT, colour)


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>'
