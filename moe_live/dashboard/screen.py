"""Frames to a terminal: only what changed is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from moe_live.dashboard.canvas import Line, piece_width
from moe_live.dashboard.frame import Frame
from moe_live.dashboard.heat import HeatRow
from moe_live.dashboard.theme import Look

ColorChoice = Literal["auto", "always", "never"]

# Between these the terminal shows nothing half done (DEC private mode 2026; ignored where unknown).
_BEGIN = "\x1b[?2026h"
_END = "\x1b[?2026l"

_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


def color_system(choice: ColorChoice, environ: Mapping[str, str] = os.environ) -> ColorSystem | None:
    """The colours to use; None for none. "auto" follows NO_COLOR, "always" does not."""
    if choice == "never" or (choice == "auto" and environ.get("NO_COLOR")):
        return None
    console = Console(force_terminal=True, _environ={k: v for k, v in environ.items() if k != "NO_COLOR"})
    found = console.color_system
    if found is None:
        return ColorSystem.EIGHT_BIT if choice == "always" else None
    return _SYSTEMS[found]


class Screen:
    """What the terminal shows now, and how to bring it to the next frame.

    Args:
        write: takes text for the terminal.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: list[Line] = []
        self._as: tuple[int, Look] | None = None

    def draw(self, frame: Frame, *, everything: bool = False) -> None:
        """Write what differs from what is shown, or the whole screen."""
        parts = []
        drawn_as = (frame.width, frame.look)
        if everything or drawn_as != self._as or len(frame.lines) != len(self._shown):
            parts.append("\x1b[0m\x1b[2J")
            self._shown = []
        shown: list[Line | None] = [*self._shown, *[None] * (len(frame.lines) - len(self._shown))]
        for row, (line, before) in enumerate(zip(frame.lines, shown, strict=True), 1):
            if line != before:
                parts.append(_changes(row, line, before, frame.look))
        if parts:
            self._write(_BEGIN + "".join(parts) + _END)
        self._shown = list(frame.lines)
        self._as = drawn_as


def _changes(row: int, line: Line, before: Line | None, look: Look) -> str:
    """What makes a line of the one that is shown in this row; cells of a heatmap that are alike stay."""
    whole = f"\x1b[{row};1H"
    has_cells = any(isinstance(piece, HeatRow) for piece in line)
    if before is None or not has_cells or len(line) != len(before):
        return whole + ansi(line, look)
    parts, column = [], 1
    for piece, shown in zip(line, before, strict=True):
        width = piece_width(piece)
        if piece != shown:
            if width != piece_width(shown):  # what follows has moved
                return whole + ansi(line, look)
            if isinstance(piece, HeatRow) and isinstance(shown, HeatRow):
                parts.append(piece.changes(shown, row, column, look.system or ColorSystem.EIGHT_BIT))
            else:
                parts.append(f"\x1b[{row};{column}H{ansi((piece,), look)}")
        column += width
    return "".join(parts)


def ansi(line: Line, look: Look) -> str:
    """A line with the codes that give it its styles."""
    known = _known(look)
    parts = []
    for piece in line:
        if isinstance(piece, HeatRow):
            # They are only made where shades are colours.
            parts.append(piece.ansi(look.system or ColorSystem.EIGHT_BIT))
        elif isinstance(piece, Segment):
            if piece.style is None:
                parts.append(piece.text)
            else:
                if piece.style not in known:
                    known[piece.style] = _sequences(piece.style, look)
                begin, end = known[piece.style]
                parts.append(f"{begin}{piece.text}{end}")
    return "".join(parts)


@cache
def _known(_look: Look) -> dict[Style, tuple[str, str]]:
    """Those `_sequences` that were needed so far: looked up by the style alone, they are found sooner."""
    return {}


def _sequences(style: Style, look: Look) -> tuple[str, str]:
    """What turns a style on and off."""
    style, system = look.styled(style), look.system
    if system is None:
        style, system = style.without_color, ColorSystem.STANDARD
    begin, _, end = style.render("x", color_system=system).partition("x")
    return begin, end
