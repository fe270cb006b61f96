"""Shades of a heatmap: how often an expert is used, relative to uniform use.

A shade is a number 0 to 12: 0 never used, then in half octaves from below ¼ of uniform use to 8 times that
and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rich.color import Color, ColorSystem
from rich.segment import Segment
from rich.style import Style

_BOUNDS = 2.0 ** np.arange(-2, 3.25, 0.5)

# Ever lighter; chosen so that the nearest of 256 colours still differ.
_COLOURS = (
    (30, 30, 30),
    (27, 20, 84),
    (38, 14, 120),
    (78, 20, 130),
    (118, 26, 128),
    (150, 36, 112),
    (180, 46, 92),
    (206, 64, 72),
    (240, 88, 40),
    (244, 126, 24),
    (251, 166, 20),
    (249, 210, 66),
    (253, 247, 170),
)
SHADES = len(_COLOURS)

_COARSE = (0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5)
_GLYPHS = " ·░▒▓█"
_GLYPH_OF_SHADE = "".join(_GLYPHS[i] for i in _COARSE)

_BRIGHT = 7  # from this shade on, dark text is easier to read on it


def shades(ratio: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The shade of each use relative to uniform (1 is uniform, 0 is never)."""
    found = np.searchsorted(_BOUNDS, ratio, side="right") + 1
    return np.where(ratio > 0, found, 0).astype(np.uint8)


def glyphs(row: NDArray[np.uint8]) -> str:
    """A row of shades without colour: one of six glyphs each."""
    return "".join([_GLYPH_OF_SHADE[shade] for shade in row.tolist()])


@cache
def shade_style(shade: int) -> Style:
    """The style for text on a shade."""
    text = Color.from_rgb(0, 0, 0) if shade >= _BRIGHT else Color.from_rgb(235, 235, 235)
    return Style(color=text, bgcolor=Color.from_rgb(*_COLOURS[shade]))


@cache
def _half_style(upper: int, lower: int) -> Style:
    if upper == lower:
        return Style(bgcolor=Color.from_rgb(*_COLOURS[lower]))
    return Style(color=Color.from_rgb(*_COLOURS[upper]), bgcolor=Color.from_rgb(*_COLOURS[lower]))


@cache
def _sequences(system: ColorSystem) -> list[str]:
    """For each pair of shades (upper * SHADES + lower) what selects its colours."""
    return [
        _half_style(upper, lower).render("x", color_system=system).partition("x")[0]
        for upper in range(SHADES)
        for lower in range(SHADES)
    ]


@dataclass(frozen=True, slots=True)
class Cells:
    """A row of coloured cells, each an upper and a lower half, one column wide.

    Attributes:
        upper: a shade a column.
        lower: a shade a column.
    """

    upper: bytes
    lower: bytes

    @property
    def cell_length(self) -> int:
        """Columns it takes."""
        return len(self.upper)

    def segments(self) -> Iterator[Segment]:
        """The cells as rich segments, equal neighbours drawn together."""
        for upper, lower, run in self._runs():
            yield Segment((" " if upper == lower else "▀") * run, _half_style(upper, lower))

    def ansi(self, system: ColorSystem) -> str:
        """The cells as one string of escape sequences: what `segments` renders to, several times faster."""
        sequences = _sequences(system)
        return (
            "".join(
                [
                    sequences[upper * SHADES + lower] + (" " if upper == lower else "▀") * run
                    for upper, lower, run in self._runs()
                ]
            )
            + "\x1b[0m"
        )

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        run, last = 0, (-1, -1)
        for pair in zip(self.upper, self.lower, strict=True):
            if pair == last:
                run += 1
                continue
            if run:
                yield *last, run
            run, last = 1, pair
        if run:
            yield *last, run


_BETWEEN = {1: "¼", 3: "½", 5: "1", 7: "2", 9: "4", 11: "8"}
"""What lies between a shade and the next, in multiples of uniform use."""


def legend(width: int, *, colour: bool) -> tuple[Segment, ...]:
    """What the shades mean, in one line; from 25 columns on it fits."""
    if not colour:
        names = ("never", "<½", "½–2", "2–4", "4–8", "≥8×")
        full = "  ".join(f"[{glyph}] {name}" for glyph, name in zip(_GLYPHS, names, strict=True))
        brief = " ".join(glyph + name for glyph, name in zip(_GLYPHS[1:], names[1:], strict=True))
        return (Segment(full if len(full) <= width else brief),)
    roomy = width >= 56
    swatch = "  " if roomy else " "
    pieces = [Segment("never " if roomy else "0"), Segment(swatch, shade_style(0)), Segment("  ")]
    for shade in range(1, SHADES):
        pieces.append(Segment(swatch, shade_style(shade)))
        if shade in _BETWEEN:
            pieces.append(Segment(_BETWEEN[shade]))
    pieces.append(Segment(" × uniform use" if roomy else " ×"))
    return tuple(pieces)
