"""Lines of a frame: made of styled pieces, always of an exact width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style

from moe_live.dashboard.heat import HeatRow
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.theme import BAR, COLD_BAR, FAINT, TITLE
from moe_live.dataclass import dataclass
from moe_live.wrapping import text_width

Target = Callable[[int], Selection | str | None]
"""What a click does so many columns from where it holds: it chooses, or presses a key."""


@dataclass(frozen=True, slots=True)
class Spot:
    """From here to the next one in a line a click does something. It takes no columns and cannot be seen.

    All are equal: a line that looks the same need not be written again.
    """

    target: Target | None = None

    cell_length: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spot)

    def __hash__(self) -> int:
        return hash(Spot)


Piece = Segment | HeatRow | Spot
Line = tuple[Piece, ...]

BLANK: Line = ()
NOWHERE = Spot()


def text(string: str, style: Style | None = None) -> Segment:
    """A piece of text in one style; it must be printable."""
    return Segment(string, style)


def choosing(selection: Selection) -> Spot:
    """A click from here on chooses this."""
    return Spot(lambda _: selection)


def pressing(key: str) -> Spot:
    """A click from here on presses this key."""
    return Spot(lambda _: key)


def target(line: Line, column: int) -> Selection | str | None:
    """What a click in this column of the line does; None for nothing."""
    spot, begin, end = NOWHERE, 0, 0
    for piece in line:
        if isinstance(piece, Spot):
            spot, begin = piece, end
        end += piece.cell_length
        if column < end:
            return None if spot.target is None else spot.target(column - begin)
    return None


def highlighted(line: Line, width: int) -> Line:
    """The line in exactly `width` columns, as the one that is chosen; bars stay as they are."""
    return tuple(
        Segment(piece.text, (piece.style or Style.null()) + _REVERSE)
        if isinstance(piece, Segment) and piece.style not in _BARS
        else piece
        for piece in fit(line, width)
    )


def line_width(line: Line) -> int:
    """Columns the line takes."""
    return sum(
        [text_width(piece.text) if isinstance(piece, Segment) else piece.cell_length for piece in line]
    )


def piece_width(piece: Piece) -> int:
    """Columns a piece takes."""
    return text_width(piece.text) if isinstance(piece, Segment) else piece.cell_length


def fit(line: Line, width: int) -> Line:
    """The line in exactly `width` columns: filled with blanks, or cut with … at the end.

    Cutting is the last resort: whoever makes a line sees to it that it fits.
    """
    missing = width - line_width(line)
    if missing > 0:
        return (*line, Segment(" " * missing))
    if missing == 0:
        return line
    kept: list[Piece] = []
    room = width - 1
    for piece in line:
        if piece.cell_length > room:
            if isinstance(piece, Segment):
                kept.append(Segment(set_cell_size(piece.text, room), piece.style))
                room = 0
            break
        kept.append(piece)
        room -= piece.cell_length
    return (*kept, Segment(" " * room + "…", FAINT)) if width > 0 else ()


def fill(lines: Sequence[Line], height: int) -> list[Line]:
    """Exactly `height` lines: blank ones added below, or the last ones left out."""
    return [*lines[:height], *[BLANK] * (height - len(lines))]


def beside(left: Sequence[Line], right: Sequence[Line], left_width: int, gap: int = 2) -> list[Line]:
    """Two columns of lines next to each other."""
    height = max(len(left), len(right))
    return [
        (*fit(a, left_width + gap), NOWHERE, *b)
        for a, b in zip(fill(left, height), fill(right, height), strict=True)
    ]


def flow(items: Iterable[Line], width: int, separator: str = "   ") -> list[Line]:
    """Items one after the other, on as many lines as they need."""
    lines: list[Line] = []
    room = 0
    for item in items:
        needed = line_width(item)
        if lines and needed + len(separator) <= room:
            lines[-1] = (*lines[-1], NOWHERE, Segment(separator), *item)
            room -= needed + len(separator)
        else:
            lines.append(item)
            room = width - needed
    return lines


_REVERSE = Style(reverse=True)
_BARS = (BAR, COLD_BAR)
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int) -> str:
    """A bar of `width` columns, filled to `share` (0 to 1) in eighths of a column."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


_MOST_NAMED = 3

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        title: its heading.
        width: columns it takes.
        cell: its entry for a row, text or a styled piece, no wider than `width`.
        right: whether entries stand at the right edge.
        optional: where the table is too wide, columns with the highest number go first; 0 always stays.
    """

    title: str
    width: int
    cell: Callable[[Row], str | Segment]
    right: bool = True
    optional: int = 0


class Table(Generic[Row]):
    """Rows in fixed columns: those that fit into the width.

    Attributes:
        hidden: titles of the columns that do not; those without a title do not count.
    """

    _GAP = 2

    def __init__(self, columns: Sequence[Column[Row]], width: int) -> None:
        shown = list(columns)
        while self._needed(shown) > width and (most := max(column.optional for column in shown)):
            shown.remove(next(column for column in reversed(shown) if column.optional == most))
        self.hidden = tuple(column.title for column in columns if column.title and column not in shown)
        self._columns = shown

    @property
    def width(self) -> int:
        """Columns it takes."""
        return self._needed(self._columns)

    def _needed(self, columns: Sequence[Column[Row]]) -> int:
        return sum(column.width + self._GAP for column in columns) - self._GAP

    @property
    def narrow(self) -> str:
        """What the width left out, in a few words; "" for nothing."""
        if not self.hidden:
            return ""
        many = len(self.hidden) > _MOST_NAMED
        return "too narrow for " + (f"{len(self.hidden)} columns" if many else ", ".join(self.hidden))

    def header(self, sorted_by: str = "", *, arrow: str = "") -> Line:
        """The headings; the one the rows are sorted by carries the arrow, if need be in the gap beside it."""
        line, begin = "", 0
        for column in self._columns:
            title = column.title + (arrow if column.title == sorted_by else "")
            place = begin + (column.width - len(title) if column.right else 0)
            line = line.ljust(max(place, len(line) + 1 if line else 0)) + title
            begin += column.width + self._GAP
        return (Segment(line.ljust(self.width), TITLE),)

    def row(self, row: Row) -> Line:
        """One row."""
        line: list[Piece] = []
        plain = ""
        for column in self._columns:
            cell = column.cell(row)
            string = cell if isinstance(cell, str) else cell.text
            blanks = " " * (column.width - text_width(string))
            before, after = (blanks, "") if column.right else ("", blanks)
            if isinstance(cell, str):
                plain += before + string + after
            else:
                line += [Segment(plain + before), cell]
                plain = after
            plain += " " * self._GAP
        line.append(Segment(plain[: -self._GAP]))
        return tuple(line)
