"""Text brought to a width, and runs of numbers."""

from __future__ import annotations

import re

_NARROW = re.compile("[ -~\u00a0-\u02ff\u2010-\u2027\u2190-\u22ff\u2500-\u25c6]*").fullmatch
"""Text of one column a character: letters, and what the dashboard draws with."""


def text_width(text: str) -> int:
    """How many columns the text takes: `cell_len`, for texts that change from frame to frame.

    That looks most letters up in a table, and all of them again when a digit has changed.
    """
    if (text.isascii() and text.isprintable()) or _NARROW(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, its middle replaced by … : both ends of a path tell something."""
    if text_width(text) <= width:
        return text
    if width < 1:
        return ""
    from rich.cells import set_cell_size

    head = (width - 1) // 3
    tail = width - 1 - head
    end = text
    while text_width(end) > tail:
        end = end[1:]
    return set_cell_size(text, head) + "…" + end


def wrap(text: str, width: int, most: int) -> list[str]:
    """The text in at most `most` lines of `width` columns; the last ends in … if there was more."""
    from rich.cells import chop_cells, set_cell_size

    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if text_width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width)
        lines += full
    if line:
        lines.append(line)
    if len(lines) > most:
        rest = set_cell_size(" ".join(lines[most - 1 :]), width - 1)
        lines[most - 1 :] = [rest.rstrip() + "…"]
    return lines
