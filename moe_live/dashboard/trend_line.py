"""The last minutes of decode in a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dashboard.canvas import Line, flow, text
from moe_live.dashboard.graph import sparkline
from moe_live.dashboard.theme import BAR, FAINT, TITLE
from moe_live.dashboard.trend import PERIOD, POINTS, Trend
from moe_live.formatting import duration, percents, tenths

_GAP = 3
_FEWEST_SPARKS = 8
"""With fewer the figures stand alone: what they were at first, and now."""

_PARTS = 4
"""What they were is the mean of the first of so many parts."""


def _means(values: Sequence[float], most: int) -> NDArray[np.float64]:
    """At most so many values: the means of those that are defined, of parts of equal length."""
    if len(values) <= most:
        return np.array([value if math.isfinite(value) else math.nan for value in values])
    parts = np.array_split(np.array(values), most)
    return np.array([part[np.isfinite(part)].mean() if np.isfinite(part).any() else np.nan for part in parts])


def trend_line(trend: Trend, width: int) -> list[Line]:
    """The last minutes of decode in a line, as graphs where there is room; nothing if there were none."""
    if not trend.hits:
        return []
    minutes = duration(len(trend.hits) * PERIOD)
    figures = (
        ("cache hits", trend.hits, percents),
        ("used again", trend.overlap, percents),
        ("effective", trend.effective, tenths),
    )
    taken = len(minutes) + sum(len(name) + _GAP + 8 for name, _, _ in figures)
    columns = min(POINTS, (width - taken) // len(figures))
    line: list[Line] = [(text(minutes, TITLE),)]
    for name, values, shown in figures:
        if columns >= _FEWEST_SPARKS:
            graph = sparkline(_means(values, columns), columns, low=0.0)
            line.append((text(f"{name} ", FAINT), text(graph, BAR), text(f" {shown(values[-1]):>6}")))
        else:
            before = shown(float(_means(values, _PARTS)[0]))
            line.append((text(f"{name} ", FAINT), text(f"{before}→{shown(values[-1])}")))
    return flow(line, width)
