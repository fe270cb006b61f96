"""Text for terminals, or fonts, that have nothing but ASCII."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.segment import Segment

from moe_live.dashboard.canvas import Line

_ALIKE = str.maketrans(
    {
        **dict(zip("–…×·±Δ≥←→↑↓", "-~x|~d><>^v", strict=True)),
        **dict(zip("●○■▶▲▼◆•", "*o#>^v+o", strict=True)),
        **dict(zip("▏▎▍▌▋▊▉█", "---====#", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇", "_.-=+*%", strict=True)),
    }
)
"""What looks most like it; all of one column."""

_INFINITE = re.compile("  (-?)∞")


def to_ascii(text: str) -> str:
    """The text in ASCII, in as many columns; ? for what nothing looks like."""
    if text.isascii():
        return text
    alike = _INFINITE.sub(r"\1inf", text).translate(_ALIKE)
    return "".join([c if c.isascii() else "?" * cell_len(c) for c in alike])


def ascii_line(line: Line) -> Line:
    """The line with all of its text in ASCII; cells then are blanks on a colour."""
    return tuple(
        Segment(to_ascii(piece.text), piece.style) if isinstance(piece, Segment) else piece for piece in line
    )
