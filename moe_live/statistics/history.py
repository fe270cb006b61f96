"""How the experts were used over the time of a run, from a sample of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.statistics.sampling import TokenSample
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
    slot = places_of(layers)
    tokens = np.zeros(bins, np.int64)
    counts = np.zeros(bins * len(layers) * n_experts, np.int64)
    wanted = np.zeros(len(Kind), np.bool_)
    wanted[[int(kind) for kind in kinds]] = True
    for sampled in sample.rows():
        counts_too = wanted[sampled.kind] & (slot[sampled.layer] >= 0)
        rows = sampled if counts_too.all() else sampled.take(np.flatnonzero(counts_too))
        span = rows.step * bins // max(sample.steps, 1)
        first = np.flatnonzero(np.append(True, rows.rank[1:] != rows.rank[:-1])[: len(rows)])
        tokens += np.bincount(span[first], minlength=bins)
        place = (span * len(layers) + slot[rows.layer]) * n_experts
        count_experts(counts, place, rows.experts.T, n_experts)
    return History(sample.steps, tokens, counts.reshape(bins, len(layers), n_experts))


def _make(counted: Counted) -> History:
    return history(counted.sample, Kind, counted.layers, counted.n_experts)


HISTORY = OnDemand(name="history", make=_make, sampled=True)
