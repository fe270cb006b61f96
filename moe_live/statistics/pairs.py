"""Which experts of a layer are chosen together more, or less, often than chance would have it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.dataclass import dataclass

SUPPORT = 5.0
"""Rows in which a pair must be expected by chance to be tested at all."""

FALSE_ALARMS = 1e-3
"""Chance that a layer without structure shows any pair as standing out (Bonferroni over its pairs)."""

MIN_DEVIATION = 1.1
"""Least factor between count and expectation of a pair that stands out. Where an expert is in most rows, ways
to draw distinct experts independently differ by some percent, and enough rows would prove any of them."""

ENOUGH_PAIRS = 20
"""Pairs that must be tested for how much pairs vary to be known; with fewer none is said to stand out."""

_TAILS = 1.4, 2.5
# How many times more is needed than of a normal distribution, where pairs vary as in independent rows and
# where they vary far more: what topics do shows in a few pairs first. Found in the simulations of the tests.
_BINS, _BIN = 8, 25  # of pairs by expectation, and pairs in each at least
_FITTING_ROUNDS = 40
_CELLS = 1 << 16  # of a table of pairs, expected at a time


@dataclass(frozen=True, slots=True)
class ExpertPair:
    """Two experts of a layer, a < b, chosen together more or less often than chance would have it.

    Attributes:
        a, b: the experts.
        count: rows with both, N_ab.
        expected: rows with both, if the experts of a row were independent but for being distinct.
        lift: N_ab T / (N_a N_b).
        pmi: log2 of it, in bits; -inf where it is 0.
        b_given_a: N_ab / N_a.
        a_given_b: N_ab / N_b.
        z: how far `count` is from `expected`, in standard deviations.
    """

    a: int
    b: int
    count: int
    expected: float
    lift: float
    pmi: float
    b_given_a: float
    a_given_b: float
    z: float


@dataclass(frozen=True, slots=True)
class LayerPairs:
    """The pairs of a layer that stand out.

    Attributes:
        rows: rows counted, T.
        chance_lift: the lift of every pair, were all experts alike: (k-1)E / (k(E-1)), slightly under 1.
        tested: pairs expected in at least `SUPPORT` rows.
        spread: how many times more the counts of most pairs vary than in independent rows, 1 or more: rows of
            a text resemble those before, and its topics prefer some experts together; NaN without any tested.
        z_needed: |z| from which on a pair that is `MIN_DEVIATION` off stands out: in a layer without
            structure none does, but for a chance of `FALSE_ALARMS`.
        strongest: pairs above expectation, by descending lift.
        weakest: pairs below, by ascending lift.
    """

    rows: int
    chance_lift: float
    tested: int
    spread: float
    z_needed: float
    strongest: tuple[ExpertPair, ...]
    weakest: tuple[ExpertPair, ...]


def notable_pairs(
    counts: NDArray[np.integer],
    rows: int,
    n: int = 10,
    *,
    experts: NDArray[np.int64] | None = None,
    factor: NDArray[np.float64] | None = None,
) -> LayerPairs:
    """The strongest and weakest pairs of a layer.

    Counts are held against `expected_together`. z is the signed root of the Poisson deviance with a
    continuity correction, which follows the normal distribution far into the tails even where few rows are
    expected, over the spread of most pairs of the layer (an empirical null, Efron, JASA 2004): what
    successive rows have in common makes all pairs vary, what is between two experts only theirs. Where pairs
    vary more than in independent rows, the tails are heavier than normal, and as much more is needed.

    Args:
        counts: (E, E) rows with both experts, symmetric; with the expert on the diagonal.
        rows: rows counted.
        n: pairs of each end at most.
        experts: (E,) their numbers, ascending; None if these are 0 to E - 1.
        factor: (E,) what `factors` has for them; None to find it.
    """
    if not rows:
        return LayerPairs(0, math.nan, 0, math.nan, math.nan, (), ())
    single, chance = np.diagonal(counts).astype(np.int64), _chance_lift(counts, rows)
    untested = LayerPairs(rows, chance, 0, math.nan, math.nan, (), ())
    # Experts of a row are distinct: fewer than N_a N_b / T are expected, which tells enough of few rows.
    if math.prod(np.sort(single)[-2:].tolist()) < 0.99 * SUPPORT * rows:
        return untested
    supported, expected = _supported(single, rows, factors(single / rows) if factor is None else factor)
    if not len(supported):
        return untested
    count = counts.take(supported).astype(np.int64)
    z = _deviance_root(count, expected)
    variance, spread = _variance(z, expected)
    z /= np.sqrt(variance)
    tested = len(z)
    least, most = _TAILS
    tail = float(most - (most - least) / variance.max())
    needed = -tail * NormalDist().inv_cdf(FALSE_ALARMS / 2 / tested)
    certain = np.flatnonzero((np.abs(z) >= needed) & (tested >= ENOUGH_PAIRS))
    a, b = np.divmod(supported[certain], len(counts))
    count, expected, z = count[certain], expected[certain], z[certain]
    lift = count * rows / (single[a].astype(np.float64) * single[b])

    def pairs(chosen: NDArray[np.intp], order: NDArray[np.float64]) -> tuple[ExpertPair, ...]:
        if len(chosen) > n:  # with all that tie with the n-th
            chosen = chosen[order[chosen] <= np.partition(order[chosen], n - 1)[n - 1]]
        chosen = chosen[np.lexsort((b[chosen], a[chosen], -expected[chosen], order[chosen]))][:n]
        return tuple(
            ExpertPair(
                a=int(a[i] if experts is None else experts[a[i]]),
                b=int(b[i] if experts is None else experts[b[i]]),
                count=int(count[i]),
                expected=float(expected[i]),
                lift=float(lift[i]),
                pmi=math.log2(lift[i]) if lift[i] else -math.inf,
                b_given_a=float(count[i] / single[a[i]]),
                a_given_b=float(count[i] / single[b[i]]),
                z=float(z[i]),
            )
            for i in chosen.tolist()
        )

    strongest = pairs(np.flatnonzero((z > 0) & (count >= expected * MIN_DEVIATION)), -lift)
    weakest = pairs(np.flatnonzero((z < 0) & (count <= expected / MIN_DEVIATION)), lift)
    return LayerPairs(rows, chance, tested, spread, needed, strongest, weakest)


def _supported(
    single: NDArray[np.int64], rows: int, factor: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs (p,) that are expected in enough rows, as ascending flat indices of (E, E); how many."""
    n_experts = len(single)
    step = max(1, _CELLS // n_experts)  # the whole table would be as large as the counts
    found, expected = [], []
    for begin in range(0, n_experts, step):
        part = range(begin, min(begin + step, n_experts))
        pairs = kernels.supported_pairs(single, rows, factor, part, SUPPORT)
        if pairs is None:
            some = np.arange(part.start, part.stop)
            together = expected_together(single, rows, factor, some)
            above_diagonal = np.arange(n_experts) > some[:, None]
            supported = np.flatnonzero((together >= SUPPORT) & above_diagonal)
            pairs = begin * n_experts + supported, together.take(supported)
        found.append(pairs[0])
        expected.append(pairs[1])
    return np.concatenate(found), np.concatenate(expected)


def _variance(z: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """How much most of the pairs vary (p,), 1 or more: a + b times what is expected; and its median.

    The line goes through the medians of bins by repeated medians (Siegel, Biometrika 1982): what belongs
    together in a few pairs shows in all pairs of their experts, and these are in few of the bins.
    """
    # The median of |z| is 0.6745 standard deviations, whatever a few pairs do.
    unit = NormalDist().inv_cdf(0.75) ** 2
    if len(z) < _BINS * _BIN:
        # As much as it may be, being known of so few.
        alike = float(_median(np.abs(z))) ** 2 / unit * (1 + 3 / math.sqrt(len(z)))
        return np.full(len(z), max(alike, 1.0)), max(alike, 1.0)
    order = np.argsort(expected)
    ordered = expected[order]
    _settle_ties(order, ordered)
    middle = np.concatenate([_middle(part) for part in _bins(ordered)])
    found = np.concatenate([_median(part) for part in _bins(np.abs(z[order]))]) ** 2 / unit
    with np.errstate(all="ignore"):
        slopes = (found[:, None] - found) / (middle[:, None] - middle)
    slopes[~np.isfinite(slopes)] = np.nan
    slopes.sort(axis=1)  # what is not known comes last
    n_known = np.count_nonzero(~np.isnan(slopes), axis=1)
    known = np.flatnonzero(n_known)
    n_known = n_known[known]
    of_each = (slopes[known, (n_known - 1) // 2] + slopes[known, n_known // 2]) / 2
    slope = max(float(_median(of_each)), 0.0) if len(known) else 0.0
    base = max(float(_median(found - slope * middle)), 1.0)
    variance: NDArray[np.float64] = base + slope * expected
    return variance, float(_middle(base + slope * ordered))


def _settle_ties(order: NDArray[np.int64], ordered: NDArray[np.float64]) -> None:
    """Put what is equal at the border of two bins in the order of its indices: elsewhere that does not show.

    Args:
        order: (p,) indices; changed.
        ordered: (p,) the values that they put in order.
    """
    borders = np.cumsum([part.shape[1] for part in _bins(ordered) for _ in part])[:-1]
    for value in ordered[borders][ordered[borders] == ordered[borders - 1]]:
        first, last = np.searchsorted(ordered, value), np.searchsorted(ordered, value, "right")
        order[first:last].sort()


def _bins(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`_BINS` bins of successive values as rows of two tables: the first bins have one more."""
    size, longer = divmod(len(values), _BINS)
    cut = longer * (size + 1)
    return values[:cut].reshape(longer, size + 1), values[cut:].reshape(_BINS - longer, size)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of the last axis (..., n), as those of `np.median`, which does much besides."""
    return _middle(np.sort(values, axis=-1))


def _middle(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of the last axis (..., n), which is in order."""
    n = ordered.shape[-1]
    median: NDArray[np.float64] = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
    return median


def expected_together(
    single: NDArray[np.int64], rows: int, factor: NDArray[np.float64], some: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rows with both experts (s, E) if experts were chosen independently, but distinct within a row.

    The experts of a row are distinct: N_a N_b / T, which ignores that, is too many. Of a row that is drawn
    with the shares p of its experts and nothing else in common (the maximum entropy design), the covariance
    of two experts is close to -c_a c_b, see `factors`. None is above min(N_a, N_b): an expert that every row
    has is expected with each as often as that occurs. For experts that are all alike it gives the baseline
    (k-1)E / (k(E-1)) of N_a N_b / T. With itself it is 0.

    Args:
        single: (E,) rows with each expert.
        rows: rows counted, 1 or more.
        factor: (E,) c.
        some: (s,) indices of the first of each two experts.
    """
    share = single / rows
    table: NDArray[np.float64] = np.outer(share[some], share)
    table -= np.outer(factor[some], factor)
    table *= rows
    most = single.astype(np.float64)
    np.minimum(table, np.minimum.outer(most[some], most), out=table)
    np.maximum(table, 0.0, out=table)
    table[np.arange(len(some)), some] = 0.0
    return table


def factors(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors c (..., E) such that the covariance of two experts of a row is -c_a c_b.

    Each expert's variance p (1 - p) is made up for by the others (Deville's fixed-point approximation; Matei
    and Tille, J. Official Statistics 2005).

    Args:
        share: (..., E) share of the rows that have each expert, p.
    """
    variance = share * (1 - share)
    factor: NDArray[np.float64] = variance / np.sqrt(np.maximum(variance.sum(axis=-1, keepdims=True), 1e-300))
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_FITTING_ROUNDS):
            others = factor.sum(axis=-1, keepdims=True) - factor
            wanted = variance / others
            wanted[others <= 0] = 0
            factor = np.sqrt(factor * wanted)  # the geometric mean does not overshoot
    return factor


def _chance_lift(counts: NDArray[np.integer], rows: int) -> float:
    """The lift of every pair if all experts were alike; for rows of one k it is (k-1)E / (k(E-1))."""
    n_experts = len(counts)
    selections = int(np.trace(counts))
    together = int(counts.sum()) - selections
    return together * rows * n_experts / ((n_experts - 1) * selections**2) if together else math.nan


def _deviance_root(count: NDArray[np.int64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed root of the Poisson deviance (p,), the counts moved towards `expected` by a half."""
    difference = count - expected
    moved = expected + np.sign(difference) * np.maximum(np.abs(difference) - 0.5, 0.0)
    ratio = np.where(moved > 0, moved, 1.0) / expected
    deviance = 2 * (moved * np.log(ratio) - (moved - expected))
    root: NDArray[np.float64] = np.sign(difference) * np.sqrt(np.maximum(deviance, 0.0))
    return root
