"""How the experts were used over the time of a run, from a sample of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import Kind
from moe_live.statistics.sampling import SampledRows, TokenSample
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import count_experts, places_of


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Use of the experts in equal spans of time, from a random sample of the tokens.

    Attributes:
        steps: steps of the whole run; bin i covers those from i/bins to (i+1)/bins of it.
        tokens: (bins,) int64, sampled tokens.
        counts: (bins, layers, E) int64, their selections.
    """

    steps: int
    tokens: NDArray[np.int64]
    counts: NDArray[np.int64]


def history(
    sample: TokenSample, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int, bins: int = 32
) -> History:
    """The sampled tokens of steps of these kinds, by the time of their step.

    Bins are cut when they are asked for, so they are equally long however long the run was and whatever
    logs it was merged from. A token whose layers differ in k counts once for each k.
    """
    tokens = np.zeros(bins, np.int64)
    counts = np.zeros((bins, len(layers), n_experts), np.int64)
    for rows, span in _chosen(sample.rows(), sample.steps, kinds, layers, bins):
        first = np.flatnonzero(np.append(True, rows.rank[1:] != rows.rank[:-1])[: len(rows)])
        tokens += np.bincount(span[first], minlength=bins)
        _count(counts, rows, span, layers)
    return History(sample.steps, tokens, counts)


def counts_in_parts(
    sample: TokenSample, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int, bins: int
) -> NDArray[np.int64]:
    """(bins, len(layers), n_experts) int64, the counts of `history` alone."""
    counts = np.zeros((bins, len(layers), n_experts), np.int64)
    for rows, span in _chosen(sample.unordered(), sample.steps, kinds, layers, bins):
        _count(counts, rows, span, layers)
    return counts


def _chosen(
    sampled: Iterable[SampledRows], steps: int, kinds: Iterable[Kind], layers: Sequence[int], bins: int
) -> Iterator[tuple[SampledRows, NDArray[np.int64]]]:
    """The rows of steps of these kinds and layers, and the bin of each; of so many steps in all."""
    is_told = places_of(layers) >= 0
    wanted = np.zeros(len(Kind), np.bool_)
    wanted[[int(kind) for kind in kinds]] = True
    for rows in sampled:
        counts_too = wanted[rows.kind] & is_told[rows.layer]
        chosen = rows if counts_too.all() else rows.take(np.flatnonzero(counts_too))
        yield chosen, chosen.step * bins // max(steps, 1)


def _count(
    counts: NDArray[np.int64], rows: SampledRows, span: NDArray[np.int64], layers: Sequence[int]
) -> None:
    """Add rows to counts (bins, layers, E), each in its bin."""
    _, n_layers, n_experts = counts.shape
    place = (span * n_layers + places_of(layers)[rows.layer]) * n_experts
    count_experts(counts.reshape(-1), place, rows.experts.T, n_experts)


def _make(counted: Counted) -> History:
    return history(counted.sample, Kind, counted.layers, counted.n_experts)


HISTORY = OnDemand(name="history", make=_make, sampled=True)
