"""How evenly the selections of a layer fall on its experts. Logarithms in bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HARDLY = 1e-8


class Balance(NamedTuple):
    """Load balance of one layer: N selections, c of them of an expert, E experts, k chosen by each row.

    What is a ratio of selections is NaN where nothing was selected. All of them rest on N selections: with
    few rows for each expert they look less even than the router is; `dead_expected` tells how much that is.

    Attributes:
        entropy: H = -sum p log2 p with p = c / N, 0 to log2 E (Shannon 1948).
        entropy_normalized: H / log2 E, 0 to 1; NaN for a single expert.
        effective_experts: 2^H, 1 to E: Hill's number of order 1 (Hill 1973).
        gini: 0 for equal counts, 1 - 1/E for one expert alone (Gini 1912).
        cv: coefficient of variation of the counts, population standard deviation over mean.
        jain: Jain's fairness N^2 / (E sum c^2) = 1 / (1 + cv^2), 1/E to 1 (Jain, Chiu and Hawe 1984).
        max_violation: MaxVio = max c / mean c - 1 (Wang et al. 2024, arXiv 2408.15664).
        max_violation_bound: the most that MaxVio can be: E/k - 1, an expert that every row chooses.
        balancedness: mean c / max c, above 0 and at most 1, as SGLang and vLLM have it; elsewhere its inverse
            goes by that name.
        kl_uniform: Kullback-Leibler divergence from equal shares, log2 E - H.
        dead_experts: experts that were never selected.
        dead_expected: how many of them to expect when all experts are alike: E (1 - k/E)^(N/k); NaN while k
            is unknown.
    """

    entropy: float
    entropy_normalized: float
    effective_experts: float
    gini: float
    cv: float
    jain: float
    max_violation: float
    max_violation_bound: float
    balancedness: float
    kl_uniform: float
    dead_experts: int
    dead_expected: float


def balance(counts: NDArray[np.int64], top_k: int | None) -> tuple[Balance, ...]:
    """The load balance of each layer.

    Args:
        counts: (layers, n_experts) selections.
        top_k: experts that a row chooses; None while unknown.

    >>> even, alone = balance(np.array([[5, 5, 5, 5], [0, 9, 0, 0]]), 1)
    >>> even.entropy, even.gini, even.jain, even.max_violation
    (2.0, 0.0, 1.0, 0.0)
    >>> alone.entropy, alone.gini, alone.jain, alone.max_violation, alone.dead_experts
    (0.0, 0.75, 0.25, 3.0, 3)
    """
    n_layers, n_experts = counts.shape
    if not n_experts:
        nan = float("nan")
        return (Balance(nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, 0, 0.0),) * len(counts)
    # Dividing by NaN instead of 0 makes what is undefined NaN without a warning.
    selections = counts.sum(axis=1)
    total = np.where(selections > 0, selections, np.nan)
    mean = total / n_experts
    entropy = _entropy(counts, total)
    uniform = math.log2(n_experts)
    weight = 2 * np.arange(1, n_experts + 1) - n_experts - 1
    gini = (np.sort(counts, axis=1) * weight).sum(axis=1) / (n_experts * total)
    cv = np.sqrt(((counts - mean[:, None]) ** 2).mean(axis=1)) / mean
    largest = counts.max(axis=1)
    columns = (
        entropy,
        entropy / (uniform or np.nan),
        np.exp2(entropy),
        gini,
        cv,
        1 / (1 + cv**2),
        largest / mean - 1,
        np.full(n_layers, n_experts / top_k - 1 if top_k else np.nan),
        mean / np.where(largest > 0, largest, np.nan),
        np.maximum(uniform - entropy, 0.0),
        n_experts - np.count_nonzero(counts, axis=1),
        _dead_expected(selections, n_experts, top_k),
    )
    return tuple(map(Balance._make, zip(*(column.tolist() for column in columns), strict=True)))


def effective_experts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(layers,) that of `Balance`, of selections (layers, n_experts), 1 expert or more; NaN without any."""
    selections = counts.sum(axis=1)
    return np.asarray(np.exp2(_entropy(counts, np.where(selections > 0, selections, np.nan))))


def _entropy(counts: NDArray[np.int64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(layers,) in bits, of selections (layers, n_experts) that add up to `total`; NaN where that is."""
    share = counts / total[:, None]
    bits: NDArray[np.float64] = (share * np.log2(np.where(counts > 0, share, 1.0))).sum(axis=1)
    return -bits + 0.0


def layer_sizes(counts: NDArray[np.int64], top_k: int) -> tuple[int, ...]:
    """How many experts each layer seems to have, where some may have fewer than others.

    Expert numbers are arbitrary: if a layer had n experts, the u that were used would lie below m, the
    highest used plus one, with a chance of C(m, u) / C(n, u). Of all m of layers the largest is taken with
    which that is 1e-8 at least. A layer that uses hardly more experts than a row has always chooses the same,
    however many it has; and if none uses all E, who said that there are so many knows more.

    Args:
        counts: (layers, E) selections.
        top_k: experts that a row chooses.

    >>> layer_sizes(np.array([[1] * 64, [1] * 31 + [0] * 33, [1] * 32 + [0] * 32, [9] * 8 + [0] * 56]), 6)
    (64, 32, 32, 64)
    """
    n_layers, n_experts = len(counts), counts.shape[1]
    if not n_experts:
        return (0,) * n_layers
    is_used = counts > 0
    used = np.count_nonzero(is_used, axis=1).tolist()
    highest = np.where(is_used.any(axis=1), n_experts - np.argmax(is_used[:, ::-1], axis=1), 0).tolist()
    if max(highest, default=0) < n_experts:
        return (n_experts,) * n_layers
    highest = [own if own > 2 * top_k else n_experts for own in highest]
    known = sorted(set(highest), reverse=True)

    def is_possible(size: int, highest: int, used: int) -> bool:
        places = np.arange(used)
        return size >= highest and bool(np.prod((highest - places) / (size - places)) >= _HARDLY)

    return tuple(
        own if own == n_experts else next(size for size in known if is_possible(size, own, many))
        for own, many in zip(highest, used, strict=True)
    )


def _dead_expected(selections: NDArray[np.int64], n_experts: int, top_k: int | None) -> NDArray[np.float64]:
    """Experts (layers,) that rows of k different experts, all equally likely, leave out on average."""
    if not top_k:
        return np.full(len(selections), np.nan)
    missed = max(0.0, 1 - top_k / n_experts)
    return n_experts * np.power(missed, selections / top_k)
