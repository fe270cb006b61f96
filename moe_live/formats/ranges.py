"""Ranges of offsets, all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def offsets(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """The offsets `start` to before `start + length` of all ranges (n,), one range after the other.

    >>> offsets(np.array([3, 10]), np.array([2, 3])).tolist()
    [3, 4, 10, 11, 12]
    """
    end = np.cumsum(length)
    return np.arange(length.sum()) + np.repeat(start - end + length, length)
