"""Small graphs made of characters: a line of columns, and a curve over a range."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment

from moe_live.dashboard.canvas import Line, text
from moe_live.dashboard.theme import BAR, COLD_BAR, FAINT, STRONG

_SPARKS = "▁▂▃▄▅▆▇█"
_CURVE = np.array([" ", *_SPARKS, "•"])
_STYLES = (COLD_BAR, BAR, STRONG)
_FLOOR, _AREA, _DOTS = range(len(_STYLES))
_LABEL = 5
"""Columns left of a curve."""

LOWEST_CURVE = 6
"""Lines below which a curve tells nothing."""


def sparkline(values: NDArray[np.float64], width: int, *, low: float | None = None) -> str:
    """The latest values as columns; blank where undefined.

    Args:
        values: (n,) any numbers.
        width: columns; those values that do not fit are the oldest.
        low: what the lowest column stands for; None for the smallest value. The highest is the largest one.
    """
    latest = values[-width:] if width > 0 else values[:0]
    known = latest[np.isfinite(latest)]
    if not len(known):
        return ""
    bottom = float(known.min()) if low is None else low
    span = float(known.max()) - bottom
    flat = 0.5 if low is None else 0.0
    scaled = (latest - bottom) / span if span > 0 else np.where(np.isfinite(latest), flat, np.nan)
    return "".join(
        [" " if math.isnan(value) else _SPARKS[max(0, min(7, int(value * 8)))] for value in scaled.tolist()]
    )


def curve(
    values: NDArray[np.float64],
    floor: NDArray[np.float64],
    other: NDArray[np.float64],
    *,
    width: int,
    height: int,
    marks: Sequence[str],
) -> list[Line]:
    """Shares over a range as an area, in another colour up to a floor, and a second curve as dots.

    Args:
        values: (n,) shares, 0 to 1.
        floor: (n,) what part of them needs no explanation.
        other: (n,) shares that are shown as dots.
        width: columns.
        height: lines, at least `LOWEST_CURVE`.
        marks: what stands below the area, from its left to its right.
    """
    columns, rows = width - _LABEL, height - 1
    at = np.minimum(np.arange(columns) * len(values) // columns, len(values) - 1)
    filled = np.rint(values[at] * rows * 8).astype(int)
    plain = np.rint(floor[at] * rows).astype(int)
    dots = np.minimum((other[at] * rows).astype(int), rows - 1)
    lines: list[Line] = []
    for row in range(rows - 1, -1, -1):
        label = {rows - 1: "100%", rows // 2: " 50%", 0: "  0%"}.get(row, "")
        eighths = np.clip(filled - 8 * row, 0, 8)
        style = np.where(row < plain, _FLOOR, _AREA)
        is_dot = (dots == row) & (eighths < 8)
        lines.append(
            (
                text(label.ljust(_LABEL), FAINT),
                *_runs(_CURVE[np.where(is_dot, 9, eighths)], np.where(is_dot, _DOTS, style)),
            )
        )
    return [*lines, (text(" " * _LABEL + _spread(marks, columns), FAINT),)]


def _runs(characters: NDArray[np.str_], styles: NDArray[np.int64]) -> list[Segment]:
    """Characters (n,), those of one style together."""
    bounds = [0, *(np.flatnonzero(np.diff(styles)) + 1).tolist(), len(styles)]
    return [text("".join(characters[a:b]), _STYLES[styles[a]]) for a, b in itertools.pairwise(bounds)]


def _spread(marks: Sequence[str], width: int) -> str:
    """Marks at even distances, the first at the left and the last at the right."""
    row = [" "] * width
    for i, mark in enumerate(marks):
        begin = (width - len(mark)) * i // max(1, len(marks) - 1)
        row[begin : begin + len(mark)] = mark
    return "".join(row)
