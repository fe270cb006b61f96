"""Text brought to a width, and runs of numbers."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells, set_cell_size


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, its middle replaced by … : both ends of a path tell something."""
    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    head = (width - 1) // 3
    tail = width - 1 - head
    end = text
    while cell_len(end) > tail:
        end = end[1:]
    return set_cell_size(text, head) + "…" + end


def wrap(text: str, width: int, most: int) -> list[str]:
    """The text in at most `most` lines of `width` columns; the last ends in … if there was more."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
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
