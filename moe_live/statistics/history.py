"""How the experts were used over the time of a run, from a sample of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import Kind
from moe_live.statistics.sampling import Sampled, SampledRows
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import count_experts, places_of


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Use of the experts in equal spans of time, from a random sample of the tokens.

    It is counted when it is asked for: what is looked at is one layer.

    Attributes:
        steps: steps of the whole run; bin i covers those from i/bins to (i+1)/bins of it.
        layers: their numbers.
        n_experts: experts a layer.
        bins: how many.
        sampled: rows, and the bin (n,) int64 of each.
    """

    steps: int
    layers: tuple[int, ...]
    n_experts: int
    bins: int
    sampled: tuple[tuple[SampledRows, NDArray[np.int64]], ...]

    @property
    def counts(self) -> NDArray[np.unsignedinteger]:
        """(bins, layers, E) unsigned, the selections of the sampled tokens."""
        return _counts(self.sampled, self.layers, self.n_experts, self.bins)

    def of_layer(self, place: int) -> NDArray[np.int64]:
        """(bins, E) int64, those of the layer at this place in `layers`."""
        layer = self.layers[place]
        own = []
        for rows, span in self.sampled:
            mine = np.flatnonzero(rows.layer == layer)
            own.append((rows.take(mine), span[mine]))
        return _counts(own, (layer,), self.n_experts, self.bins)[:, 0].astype(np.int64)


def history(
    sample: Sampled, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int, bins: int = 32
) -> History:
    """The sampled tokens of steps of these kinds, by the time of their step.

    Bins are cut when they are asked for, so they are equally long however long the run was and whatever
    logs it was merged from.
    """
    sampled = tuple(_chosen(sample.rows, sample.steps, kinds, layers, bins))
    return History(sample.steps, tuple(layers), n_experts, bins, sampled)


def _chosen(
    sampled: Iterable[SampledRows], steps: int, kinds: Iterable[Kind], layers: Sequence[int], bins: int
) -> Iterator[tuple[SampledRows, NDArray[np.int64]]]:
    """The rows of steps of these kinds and layers, and the bin of each; of so many steps in all."""
    is_told = places_of(layers) >= 0
    wanted = np.zeros(len(Kind), np.bool_)
    wanted[[int(kind) for kind in kinds]] = True
    for rows in sampled:
        counts_too = wanted.take(rows.kind) & is_told.take(rows.layer)
        chosen = rows if counts_too.all() else rows.take(np.flatnonzero(counts_too))
        yield chosen, chosen.step * bins // max(steps, 1)


def _counts(
    sampled: Iterable[tuple[SampledRows, NDArray[np.int64]]], layers: Sequence[int], n_experts: int, bins: int
) -> NDArray[np.unsignedinteger]:
    """(bins, len(layers), n_experts), of rows with the bin of each: in so many bits that all rows fit."""
    sampled = tuple(sampled)
    fitting = np.min_scalar_type(sum(len(rows) for rows, _ in sampled))
    counts = np.zeros((bins, len(layers), n_experts), np.promote_types(fitting, np.uint16))
    slot = places_of(layers)
    for rows, span in sampled:
        place = (span * len(layers) + slot.take(rows.layer)) * n_experts
        by_rank = rows.experts.T.copy()  # each rank is read by itself: in a row in half the time
        count_experts(counts.reshape(-1), place, by_rank, n_experts)
    return counts


def _make(counted: Counted) -> History:
    return history(counted.sampled, Kind, counted.layers, counted.n_experts)


HISTORY = OnDemand(name="history", make=_make, sampled=True)
