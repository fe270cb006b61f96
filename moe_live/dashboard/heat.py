"""Shades of a heatmap: how often an expert is used, relative to uniform use.

A shade is a number 0 to 12: 0 never used, then in half octaves from below ¼ of uniform use to 8 times that
and more. What a shade looks like is said by a `Ramp`: there is one for each kind of terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rich.color import Color, ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style

from moe_live.dataclass import dataclass

_BOUNDS = 2.0 ** np.arange(-2, 3.25, 0.5)
SHADES = len(_BOUNDS) + 2


def shades(ratio: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The shade of each use relative to uniform (1 is uniform, 0 is never)."""
    found = np.searchsorted(_BOUNDS, ratio, side="right") + 1
    return np.where(ratio > 0, found, 0).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Ramp:
    """The colours of the shades above 0, which is the background of the terminal.

    Attributes:
        name: tells it from the others.
        colours: of shades 1 to 12, the farther from the background the hotter.
        dark_text: shades that black text is easier to read on than white.
        marker: the colour of a half of a cell that the cursor stands on.
        inked: whether whole cells are drawn as █ in their colour, not as blanks on it: a console of sixteen
            colours may show only eight of them behind text.
    """

    name: str
    colours: tuple[Color, ...]
    dark_text: frozenset[int]
    marker: Color
    inked: bool = False

    def colour(self, shade: int) -> Color:
        """The colour of a shade."""
        return self.colours[shade - 1] if shade else Color.default()

    def text_on(self, shade: int) -> Style:
        """The style of text on a shade."""
        return _text_style(self, shade)


def _rgb(*colours: str) -> tuple[Color, ...]:
    return tuple(map(Color.parse, colours))


def _ansi(*numbers: int) -> tuple[Color, ...]:
    return tuple(map(Color.from_ansi, numbers))


# Those of true colours are chosen so that the nearest of 256 colours still differ.
DARK = Ramp(
    "dark",
    _rgb("#1b1454", "#260e78", "#4e1482", "#761a80", "#962470", "#b42e5c")
    + _rgb("#ce4048", "#f05828", "#f47e18", "#fba614", "#f9d242", "#fdf7aa"),
    frozenset(range(7, SHADES)),
    Color.parse("#5fffaf"),
)
LIGHT = Ramp(
    "light",
    _rgb("#eee8be", "#fade8c", "#fcc460", "#faa648", "#f68440", "#ec6248")
    + _rgb("#d8425c", "#b82e70", "#94207c", "#6c187c", "#421068", "#100830"),
    frozenset(range(7)),
    Color.parse("#00875f"),
)
DARK_16 = Ramp(
    "dark, 16 colours",
    _ansi(8, 4, 4, 12, 5, 13, 1, 9, 3, 11, 7, 15),
    frozenset({4, 6, 8, 9, 10, 11, 12}),
    Color.from_ansi(10),
    inked=True,
)
LIGHT_16 = Ramp(
    "light, 16 colours",
    _ansi(7, 7, 11, 11, 3, 9, 1, 13, 5, 12, 4, 0),
    frozenset({1, 2, 3, 4, 5, 6, 8}),
    Color.from_ansi(2),
    inked=True,
)
DARK_BLANKS, LIGHT_BLANKS = (replace(ramp, inked=False) for ramp in (DARK_16, LIGHT_16))
"""The same without █."""


@cache
def _text_style(ramp: Ramp, shade: int) -> Style:
    if not shade:
        return Style(dim=True)
    black, white = (
        (Color.from_ansi(0), Color.from_ansi(15))
        if ramp.colours[0].type is ColorType.STANDARD
        else _rgb("#000000", "#ebebeb")
    )
    return Style.from_color(black if shade in ramp.dark_text else white, ramp.colour(shade))


_GLYPHS = {False: " ·░▒▓█", True: " .:+#@"}
_COARSE = (0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5)
_GLYPH_OF_SHADE = {is_ascii: "".join(known[i] for i in _COARSE) for is_ascii, known in _GLYPHS.items()}


def glyphs(row: NDArray[np.uint8], *, ascii_only: bool = False) -> str:
    """A row of shades without colour: one of six glyphs each."""
    of_shade = _GLYPH_OF_SHADE[ascii_only]
    return "".join([of_shade[shade] for shade in row.tolist()])


_RUN = re.compile(rb"(.)\1*", re.DOTALL)


@cache
def _drawn(ramp: Ramp, upper: Color, lower: Color) -> tuple[str, Style]:
    """A character that shows a colour in the upper and one in the lower half, and its style.

    The style always says what is behind the character: it may follow any other without a reset.
    """
    if upper == lower and (lower.is_default or not ramp.inked):
        return " ", Style.from_color(None, lower)
    if upper == lower:
        return "█", Style.from_color(upper, Color.default())
    if upper.is_default:
        return "▄", Style.from_color(lower, upper)
    return "▀", Style.from_color(upper, lower)


@cache
def _sequences(ramp: Ramp, system: ColorSystem) -> tuple[list[str], list[str]]:
    """For each pair of shades (upper * SHADES + lower) its character, and that with its colours."""
    drawn = [
        _drawn(ramp, ramp.colour(upper), ramp.colour(lower))
        for upper in range(SHADES)
        for lower in range(SHADES)
    ]
    colours = [style.render("x", color_system=system).partition("x")[0] for _, style in drawn]
    characters = [character for character, _ in drawn]
    return characters, [colour + character for colour, character in zip(colours, characters, strict=True)]


def marked_half(ramp: Ramp, other: int, *, upper: bool) -> Segment:
    """A cell whose upper or lower half the cursor stands on, with the shade of its other half."""
    halves = (ramp.marker, ramp.colour(other))
    return Segment(*_drawn(ramp, *(halves if upper else reversed(halves))))


_GAP = 2
"""To move the cursor over so many cells costs less than to write them again."""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A row of coloured cells, each an upper and a lower half, one column wide.

    Attributes:
        shades: for each column the shade of its upper half, times `SHADES`, and that of its lower half.
        ramp: how shades look.
    """

    shades: bytes
    ramp: Ramp

    @classmethod
    def of(cls, upper: NDArray[np.uint8], lower: NDArray[np.uint8], ramp: Ramp) -> HeatRow:
        """Cells with these shades (n,)."""
        return cls((upper * SHADES + lower).tobytes(), ramp)

    @property
    def cell_length(self) -> int:
        """Columns it takes."""
        return len(self.shades)

    def segments(self) -> Iterator[Segment]:
        """The cells as rich segments, equal neighbours drawn together."""
        for run in _RUN.finditer(self.shades):
            upper, lower = divmod(run[0][0], SHADES)
            character, style = _drawn(self.ramp, self.ramp.colour(upper), self.ramp.colour(lower))
            yield Segment(character * len(run[0]), style)

    def ansi(self, system: ColorSystem) -> str:
        """The cells as one string of escape sequences: what `segments` renders to, several times faster."""
        same, other = _sequences(self.ramp, system)
        before = b"\xff" + self.shades  # no shades are 255: the first cell differs
        parts = [
            same[cell] if cell == left else other[cell]
            for cell, left in zip(self.shades, before, strict=False)
        ]
        return "".join(parts) + "\x1b[0m"

    def changes(self, shown: HeatRow, row: int, column: int, system: ColorSystem) -> str:
        """What makes these cells of others, as many, that are shown in this row from this column on."""
        cells, before = (np.frombuffer(each.shades, np.uint8) for each in (self, shown))
        changed = np.flatnonzero(cells != before).tolist()
        if self.ramp is not shown.ramp or 2 * len(changed) > len(cells):
            return f"\x1b[{row};{column}H{self.ansi(system)}"
        same, other = _sequences(self.ramp, system)
        parts, after, drawn = [], -_GAP, -1  # the cell after those that were written, and what is selected
        for place in changed:
            first = after
            if place - after >= _GAP:
                first = place
                parts.append(f"\x1b[{row};{column + place}H")
            for cell in self.shades[first : place + 1]:
                parts.append(same[cell] if cell == drawn else other[cell])
                drawn = cell
            after = place + 1
        return "".join(parts) + "\x1b[0m"


_BETWEEN = {1: ("¼", ".25"), 3: ("½", ".5"), 5: ("1", "1"), 7: ("2", "2"), 9: ("4", "4"), 11: ("8", "8")}
"""What lies between a shade and the next, in multiples of uniform use; also in ASCII."""


def legend(width: int, ramp: Ramp | None, *, ascii_only: bool = False) -> tuple[Segment, ...]:
    """What the shades mean, in one line; from 26 columns on it fits.

    Args:
        width: columns.
        ramp: how shades look; None for glyphs.
        ascii_only: whether glyphs are ASCII.
    """
    if ramp is None:
        half = ".5" if ascii_only else "½"
        names = ("never", f"<{half}", f"{half}–2", "2–4", "4–8", "8×–")
        known = _GLYPHS[ascii_only]
        full = "  ".join(f"[{glyph}] {name}" for glyph, name in zip(known, names, strict=True))
        brief = " ".join(glyph + name for glyph, name in zip(known[1:], names[1:], strict=True))
        return (Segment(full if len(full) <= width else brief),)
    roomy = width >= 60
    swatch = "  " if roomy else " "
    pieces = [Segment("blank never  " if roomy else "0 ")]
    for shade in range(1, SHADES):
        pieces.append(Segment(swatch, Style.from_color(None, ramp.colour(shade))))
        if shade in _BETWEEN:
            pieces.append(Segment(_BETWEEN[shade][ascii_only]))
    pieces.append(Segment(" × uniform use" if roomy else " ×"))
    return tuple(pieces)
