"""Tables indexed by layer and expert that grow as more of them show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.settings import MAX_LAYERS

Number = TypeVar("Number", int, NDArray[np.int64])

BLOCK = 32
"""Tables have room for a multiple of so many experts: they seldom grow while experts show one by one."""


def roomy(n_experts: Number) -> Number:
    """How many experts a table has room for that needs room for so many: a number, or an array of them.

    >>> roomy(33), roomy(np.array([1, 32])).tolist()
    (64, [32, 32])
    """
    return -(-n_experts // BLOCK) * BLOCK


def grown(
    array: NDArray[Any], shape: tuple[int, ...], place: tuple[Any, ...] | None = None, fill: int = 0
) -> NDArray[Any]:
    """`array` in the corner of a larger one, or at another place; that is filled with `fill` elsewhere."""
    larger = np.full(shape, fill, array.dtype) if fill else np.zeros(shape, array.dtype)  # untouched so far
    larger[tuple(map(slice, array.shape)) if place is None else place] = array
    return larger


def first_at_least(rising: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each row of numbers (rows, n), ascending, has reached those that are wanted (rows, w); n for not.

    >>> first_at_least(np.array([[1, 2, 2, 5], [0, 0, 1, 1]]), np.array([[2, 6], [0, 1]])).tolist()
    [[1, 4], [0, 2]]
    """
    found = np.empty(wanted.shape, np.int64)
    for place, row, values in zip(found, rising, wanted, strict=True):
        place[:] = row.searchsorted(values)
    return found


def count_experts(
    counts: NDArray[np.integer],
    place: NDArray[np.int64],
    by_rank: NDArray[np.uint16],
    n_experts: int,
) -> None:
    """Count the experts of rows, in place; those that there is no room for are left out.

    Args:
        counts: one-dimensional.
        place: (n,) where the count of expert 0 is, for each row.
        by_rank: (k, n) the experts.
        n_experts: there is room for.
    """
    one = counts.dtype.type(1)  # one of another type would make this ten times slower
    for line in by_rank:  # one at a time: keys are four times as large
        counted = line < n_experts
        if counted.all():
            np.add.at(counts, place + line, one)
        else:
            np.add.at(counts, place[counted] + line[counted], one)


def places_of(layers: Sequence[int]) -> NDArray[np.int64]:
    """(MAX_LAYERS,) the place in `layers` of each layer number, -1 where it is none of them.

    >>> places_of([5, 3])[[3, 4, 5]].tolist()
    [1, -1, 0]
    """
    places = np.full(MAX_LAYERS, -1)
    places[list(layers)] = np.arange(len(layers))
    return places
