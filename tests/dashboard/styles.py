"""What a frame looks like, as short text: which styles stand where, whatever colours they are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import groupby

from rich.segment import Segment
from rich.style import Style

from moe_live.dashboard import theme
from moe_live.dashboard.canvas import Line
from moe_live.dashboard.frame import Frame
from moe_live.dashboard.heat import SHADES, HeatRow, Ramp, marked_half

_REVERSED = Style(reverse=True)
_DIGITS = "0123456789abc"


def halves(cells: HeatRow) -> tuple[list[int], list[int]]:
    """The shades of the upper and of the lower halves."""
    return [shade // SHADES for shade in cells.shades], [shade % SHADES for shade in cells.shades]


@cache
def names(ramp: Ramp | None) -> dict[Style | None, str]:
    """What the styles are called where shades look like this."""
    known: dict[Style | None, str] = {
        style: name.lower()
        for name, style in vars(theme).items()
        if name.isupper() and isinstance(style, Style)
    }
    found: dict[Style | None, str] = {None: "", Style.null(): "", **known}
    if ramp is not None:
        found |= {Style.from_color(None, ramp.colour(shade)): "swatch" for shade in range(1, SHADES)}
        found |= {ramp.text_on(shade): "on a shade" for shade in range(1, SHADES)}
        for half, upper in (("upper half marked", True), ("lower half marked", False)):
            found |= {marked_half(ramp, shade, upper=upper).style: half for shade in range(SHADES)}
    reversed_ = {
        (style or Style.null()) + _REVERSED: f"reversed {name}".strip() for style, name in found.items()
    }
    return reversed_ | found


def _runs(line: Line, ramp: Ramp | None) -> Iterator[str]:
    """Columns of each style; shades as a digit each, those of upper halves before those of lower ones."""
    named: list[tuple[str, int]] = []
    for piece in line:
        if isinstance(piece, Segment) and piece.text:
            named.append((names(ramp)[piece.style], piece.cell_length))
        elif isinstance(piece, HeatRow) and piece.shades:
            digits = ["".join(_DIGITS[shade] for shade in half) for half in halves(piece)]
            named.append(("/".join(dict.fromkeys(digits)), 0))
    for name, run in groupby(named, key=lambda entry: entry[0]):
        columns = sum(width for _, width in run)
        yield f"{name}*{columns}" if columns > 1 else name or "-"


def styles(frame: Frame) -> str:
    """A line for each line of the frame."""
    return "".join(", ".join(_runs(line, frame.look.ramp)).rstrip() + "\n" for line in frame.lines)
