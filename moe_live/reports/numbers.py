"""Numbers as reports write them: undefined ones as null in JSON, as n/a in text."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from moe_live.snapshot import PhaseCount


def number(value: float) -> float | None:
    """The value for JSON, None where it is undefined."""
    return float(value) if math.isfinite(value) else None


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """The same of each."""
    found: list[float | None] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        found[place] = None
    return found


def percent(share: float) -> str:
    """A share with one decimal: 7.3%."""
    return f"{share:.1%}" if math.isfinite(share) else "n/a"


def decimals(value: float, digits: int = 3) -> str:
    """A value with so many decimals; what is next to nothing has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "n/a"


def significant(value: float) -> str:
    """A value with four significant digits, or all those before the point as far as they are readable."""
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def phases(count: PhaseCount) -> str:
    """How many in all, and in which phase."""
    return f"{count.total} (prefill {count.prefill}, decode {count.decode})"
