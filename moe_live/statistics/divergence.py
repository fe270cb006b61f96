"""How far two usages of a layer's experts lie apart, and how far chance alone sets them apart."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass

FALSE_ALARMS = 1e-3
"""Chance that a divergence due to sampling alone is taken for a real one."""

ENOUGH = 30
"""Selections for each expert used, both samples together, below which no divergence is called real: there the
noise, estimated from the samples themselves, comes out too small by up to a third."""

_SELECTIONS_LOG2 = np.arange(-10.0, 7.0)  # effective selections of an expert at which noise is tabulated


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """Jensen-Shannon divergences of some layers; NaN where a layer has no selections on one side.

    Attributes:
        js: (layers,) float64, in bits: 0 equal usage, 1 no expert in common.
        expected: (layers,) float64, its mean if both samples were drawn from the same usage.
        limit: (layers,) float64, what it exceeds with probability `FALSE_ALARMS` in that case.
        real: (layers,) bool, whether it exceeds that, and rests on `ENOUGH`.
    """

    js: NDArray[np.float64]
    expected: NDArray[np.float64]
    limit: NDArray[np.float64]
    real: NDArray[np.bool_]


def jensen_shannon(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence (base 2, J. Lin, IEEE Trans. Inf. Theory 1991) of counts (..., E) each."""
    with np.errstate(all="ignore"):
        p, q = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
        mean = (p + q) / 2
        terms = np.where(p > 0, p * np.log2(p / mean), 0) + np.where(q > 0, q * np.log2(q / mean), 0)
        some = (a.sum(axis=-1) > 0) & (b.sum(axis=-1) > 0)
        return np.where(some, np.maximum(terms.sum(axis=-1) / 2, 0.0), np.nan)


def compare(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    top_k: float,
    *,
    clustering: NDArray[np.float64] | float = 1.0,
) -> Divergence:
    """The divergence of two samples, and that of samples of one usage.

    To second order each expert adds u / (8 ln 2) on average, u = 1/n_a + 1/n_b; where an expert has few
    selections it adds what two Poisson counts do (tabulated). The k experts of a row are distinct, so an
    expert in a share s of the rows varies less than in independent draws: by 1 - s. The limit is that of the
    gamma distribution with the mean and variance so found (Wilson and Hilferty, PNAS 1931).

    Tokens are taken to be independent, unless `clustering` says how much they are not.

    Args:
        a: (layers, E) selections.
        b: (layers, E) selections.
        top_k: experts a row.
        clustering: (layers,) how many times more counts vary than in independent tokens.
    """
    n_a, n_b = a.sum(axis=-1).astype(np.float64), b.sum(axis=-1).astype(np.float64)
    pooled = (a + b).astype(np.float64)
    with np.errstate(all="ignore"):
        usage = pooled / pooled.sum(axis=-1, keepdims=True)
        unit = clustering * (1 / n_a + 1 / n_b)
        imbalance = ((n_a - n_b) / (n_a + n_b)) ** 2
        mean, variance = _tabulated(usage / unit[..., None], imbalance[..., None])
        free = np.maximum(1 - top_k * usage, 0.0)
        unit = unit / (8 * math.log(2))
        expected = unit * (mean * free).sum(axis=-1)
        freedom = expected**2 / (unit**2 * (variance * free**2).sum(axis=-1))
        deviation = NormalDist().inv_cdf(1 - FALSE_ALARMS)
        ratio = np.maximum(1 - 2 / (9 * freedom) + deviation * np.sqrt(2 / (9 * freedom)), 0.0) ** 3
        limit = np.where(expected > 0, expected * ratio, expected)
        js = jensen_shannon(a, b)
        return Divergence(js, expected, limit, (js > limit) & comparable(a, b))


def comparable(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(layers,) whether selections (layers, E) are enough for a difference to be called real, or none."""
    both = a + b
    enough: NDArray[np.bool_] = both.sum(axis=-1) >= ENOUGH * np.count_nonzero(both, axis=-1)
    return enough & a.any(axis=-1) & b.any(axis=-1)


def _tabulated(
    selections: NDArray[np.float64], imbalance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and half the variance of what an expert adds, in units of its large-sample mean.

    Args:
        selections: (..., E) expected selections, harmonic: ab / (a + b).
        imbalance: (..., 1) 0 if both samples are of one size, 1 if one is far larger: ((a-b) / (a+b))^2,
            which interpolates between the two within a few percent.
    """
    some = selections > 0
    known = 2.0 ** _SELECTIONS_LOG2[[0, -1]]
    place = np.log2(np.clip(np.where(some, selections, 1.0), *known))
    node = np.floor(place)
    column, beyond = (node - _SELECTIONS_LOG2[0]).astype(np.intp), place - node
    table = _noise_table()
    rise = np.diff(table, append=table[:, -1:])
    # Straight lines between the nodes, one after the other: they have the same nodes.
    mean_even, mean_uneven, variance_even, variance_uneven = (
        slope[column] * beyond + value[column] for slope, value in zip(rise, table, strict=True)
    )
    mean = np.where(some, mean_even + imbalance * (mean_uneven - mean_even), 0.0)
    variance = np.where(some, variance_even + imbalance * (variance_uneven - variance_even), 0.0)
    return mean, variance


@lru_cache(maxsize=1)
def _noise_table() -> NDArray[np.float64]:
    """(4, len(_SELECTIONS_LOG2)): mean and half variance, each for samples of one size and of very uneven."""
    columns = []
    for selections in (2.0**_SELECTIONS_LOG2).tolist():
        count, probability = _poisson(2 * selections)
        even = _moments(count[:, None], count, probability[:, None] * probability, 4 * math.log(2))
        count, probability = _poisson(selections)
        uneven = _moments(count, np.array(selections), probability, 8 * math.log(2))
        columns.append((even[0], uneven[0], even[1], uneven[1]))
    return np.array(columns).T


def _poisson(mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The counts that occur and their probabilities."""
    count = np.arange(int(mean + 9 * math.sqrt(mean) + 12), dtype=np.float64)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(count[1:]))))
    return count, np.exp(count * math.log(mean) - mean - log_factorial)


def _moments(
    a: NDArray[np.float64], b: NDArray[np.float64], probability: NDArray[np.float64], unit: float
) -> tuple[float, float]:
    """Mean and half the variance of the terms of counts a and b, times `unit`."""
    with np.errstate(all="ignore"):
        terms = np.where(a > 0, a * np.log2(2 * a / (a + b)), 0) + np.where(
            b > 0, b * np.log2(2 * b / (a + b)), 0
        )
    terms *= unit / 2
    mean = float((probability * terms).sum())
    return mean, float((probability * terms**2).sum() - mean**2) / 2
