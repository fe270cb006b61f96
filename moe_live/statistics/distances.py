"""Distances between the gate inputs of consecutive logged layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind, StepGates
from moe_live.statistics.exact_sum import ExactSums

DistanceMetric = Literal[
    "cosine_similarity", "cosine_distance", "euclidean", "l2_normalized", "pearson", "mean_abs_diff"
]

METRICS: tuple[DistanceMetric, ...] = get_args(DistanceMetric)

RECENT_STEPS = 120
"""Steps whose cosine similarity is kept for the time line of a pair."""

_LARGEST = 1e150  # squares of larger values overflow: they count as infinite

_EPSILON = float(np.finfo(np.float64).eps)


def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """All metrics of pairs of vectors.

    Args:
        a: (p, n), C-contiguous.
        b: (p, n), C-contiguous.

    Returns:
        (p, len(METRICS)): a.b/(|a||b|); 1 minus that; |a-b|; |a-b|/sqrt(n); the cosine of the mean-centred
        vectors; the mean of |a_i-b_i|. Cosines of a zero vector are NaN, as is the Pearson correlation of a
        constant vector or of n < 2; what is not finite in the input makes results not finite.
    """
    n = a.shape[1]
    result = np.empty((len(a), len(METRICS)))
    with np.errstate(all="ignore"):
        cosine = np.vecdot(a, b) / np.sqrt(np.vecdot(a, a) * np.vecdot(b, b))
        difference = a - b
        euclidean = np.sqrt(np.vecdot(difference, difference))
        np.abs(difference, out=difference)
        result[:, 0] = np.clip(cosine, -1, 1)
        result[:, 1] = 1 - result[:, 0]
        result[:, 2] = euclidean
        result[:, 3] = euclidean / np.sqrt(n)
        result[:, 5] = difference.mean(axis=1)
        centred_a, squared_a = _centred(a)
        centred_b, squared_b = _centred(b)
        pearson = np.vecdot(centred_a, centred_b) / np.sqrt(squared_a * squared_b)
        result[:, 4] = np.clip(pearson, -1, 1) if n > 1 else np.nan
    return result


def _centred(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The vectors (p, n) less their means, and squared lengths (p,): exactly 0 for a constant vector."""
    mean = vectors.mean(axis=1, keepdims=True)
    centred = vectors - mean
    squared = np.vecdot(centred, centred)
    # What rounding of the mean leaves of a constant vector would otherwise be taken for a direction.
    suspect = squared <= vectors.shape[1] * (4 * _EPSILON * mean[:, 0]) ** 2
    for i in np.flatnonzero(suspect).tolist():
        if vectors[i].min() == vectors[i].max():
            squared[i] = 0.0
    return centred, squared


@dataclass(frozen=True, slots=True)
class Moments:
    """A quantity over steps; every figure is NaN where `count` is 0.

    Attributes:
        count: steps in which it is a finite number.
        undefined: steps in which it is not, left out of the figures.
        mean: arithmetic mean.
        std: population standard deviation (ddof 0).
        min: smallest.
        max: largest.
        last: value in the latest step in which it is finite.
    """

    count: int
    undefined: int
    mean: float
    std: float
    min: float
    max: float
    last: float


@dataclass(slots=True, eq=False)
class _Pair:
    """What is kept of one pair of layers, a plane for each kind of step.

    Attributes:
        sums: (kinds x metrics) exact sums.
        finite: (kinds, metrics) int64, finite values.
        steps: (kinds,) int64.
        least, largest: (kinds, metrics) float64.
        last: (kinds, metrics) float64, latest finite value.
        last_step: (kinds, metrics) int64, the number of the step it stems from, -1 for none.
        recent: for each kind, (w,) float64 cosine similarities of the latest steps.
        recent_step: for each kind, (w,) int64, the numbers of those steps.
    """

    sums: ExactSums
    finite: NDArray[np.int64]
    steps: NDArray[np.int64]
    least: NDArray[np.float64]
    largest: NDArray[np.float64]
    last: NDArray[np.float64]
    last_step: NDArray[np.int64]
    recent: list[NDArray[np.float64]]
    recent_step: list[NDArray[np.int64]]

    @classmethod
    def new(cls) -> _Pair:
        shape = (len(Kind), len(METRICS))
        return cls(
            sums=ExactSums(len(Kind) * len(METRICS)),
            finite=np.zeros(shape, np.int64),
            steps=np.zeros(len(Kind), np.int64),
            least=np.full(shape, np.inf),
            largest=np.full(shape, -np.inf),
            last=np.full(shape, np.nan),
            last_step=np.full(shape, -1),
            recent=[np.empty(0)] * len(Kind),
            recent_step=[np.empty(0, np.int64)] * len(Kind),
        )

    def update(self, kind: NDArray[np.int8], step: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Add the metrics (p, len(METRICS)) of steps (p,) of these kinds (p,); steps ascending."""
        for plane in np.unique(kind).tolist():
            mine = kind == plane
            rows, numbers = values[mine], step[mine]
            finite = np.abs(rows) <= _LARGEST
            self.steps[plane] += len(rows)
            self.finite[plane] += np.count_nonzero(finite, axis=0)
            at, metric = np.nonzero(finite)
            self.sums.add(plane * len(METRICS) + metric, rows[at, metric])
            self.least[plane] = np.minimum(
                self.least[plane], np.min(rows, axis=0, initial=np.inf, where=finite)
            )
            self.largest[plane] = np.maximum(
                self.largest[plane], np.max(rows, axis=0, initial=-np.inf, where=finite)
            )
            latest = np.max(np.where(finite, np.arange(len(rows))[:, None], -1), axis=0)
            known = np.flatnonzero(latest >= 0)
            self.last[plane, known] = rows[latest[known], known]
            self.last_step[plane, known] = numbers[latest[known]]
            self._remember(plane, numbers, rows[:, 0])

    def absorb(self, source: _Pair, source_plane: int, plane: int, shift: int) -> None:
        """Add one plane of `source` to `plane`; its step numbers are `shift` lower than ours."""
        metrics = np.arange(len(METRICS))
        self.sums.merge(plane * len(METRICS) + metrics, source.sums, source_plane * len(METRICS) + metrics)
        self.finite[plane] += source.finite[source_plane]
        self.steps[plane] += source.steps[source_plane]
        self.least[plane] = np.minimum(self.least[plane], source.least[source_plane])
        self.largest[plane] = np.maximum(self.largest[plane], source.largest[source_plane])
        theirs = source.last_step[source_plane] + shift
        later = (source.last_step[source_plane] >= 0) & (theirs > self.last_step[plane])
        self.last[plane, later] = source.last[source_plane, later]
        self.last_step[plane, later] = theirs[later]
        self._remember(plane, source.recent_step[source_plane] + shift, source.recent[source_plane])

    def _remember(self, plane: int, step: NDArray[np.int64], cosine: NDArray[np.float64]) -> None:
        steps = np.concatenate((self.recent_step[plane], step))
        order = np.argsort(steps, kind="stable")[-RECENT_STEPS:]
        self.recent[plane] = np.concatenate((self.recent[plane], cosine))[order]
        self.recent_step[plane] = steps[order]

    def moments(self) -> dict[DistanceMetric, Moments]:
        """The moments of each metric over the PREFILL plane, into which others were absorbed."""
        moments: dict[DistanceMetric, Moments] = {}
        for i, metric in enumerate(METRICS):
            count = int(self.finite[0, i])
            undefined = int(self.steps[0]) - count
            if not count:
                moments[metric] = Moments(0, undefined, *[float("nan")] * 5)
                continue
            mean, std = self.sums.mean_and_std(i, count)
            extremes = float(self.least[0, i]), float(self.largest[0, i])
            moments[metric] = Moments(count, undefined, mean, std, *extremes, float(self.last[0, i]))
        return moments


@dataclass(frozen=True, slots=True, eq=False)
class PairDistance:
    """Distances between the gate inputs of two consecutive logged layers.

    Attributes:
        from_layer: the lower layer.
        to_layer: the higher layer.
        steps: steps with a gate input of both.
        metrics: the moments of each of `METRICS`.
        recent: (w,) float64, cosine similarity in the latest steps, oldest first; NaN where undefined.
    """

    from_layer: int
    to_layer: int
    steps: int
    metrics: Mapping[DistanceMetric, Moments]
    recent: NDArray[np.float64]


class GateDistances:
    """Distances of every pair of consecutive logged layers in row 0 of each step, for each kind of step.

    A pair counts in the steps that have both its layers. Only pairs with no logged layer between them are
    kept, so memory is bounded by the number of layers: some 30 KB each.

    Sums are exact: means and deviations do not depend on how steps are grouped or merged.
    """

    def __init__(self) -> None:
        self._layers: set[int] = set()
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._steps = 0
        self._paired_steps = np.zeros(len(Kind), np.int64)

    def update(self, gates: Iterable[StepGates], kind: NDArray[np.int8]) -> None:
        """Add steps.

        Args:
            gates: gate inputs; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
        """
        for inputs in gates:
            paired = np.flatnonzero(
                (inputs.step[1:] == inputs.step[:-1]) & (inputs.layer[1:] > inputs.layer[:-1])
            )
            self._notice(set(np.unique(inputs.layer).tolist()))
            if not len(paired):
                continue
            steps = inputs.step[paired]
            values = distances(inputs.vectors[paired], inputs.vectors[paired + 1])
            np.add.at(self._paired_steps, kind[np.unique(steps)], 1)
            below, above = inputs.layer[paired], inputs.layer[paired + 1]
            layers = sorted(self._layers)
            for pair in pairwise(layers):
                mine = (below == pair[0]) & (above == pair[1])
                if mine.any():
                    accumulator = self._pairs.setdefault(pair, _Pair.new())
                    accumulator.update(kind[steps[mine]], steps[mine] + self._steps, values[mine])
        self._steps += len(kind)

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        self._paired_steps[Kind.PREFILL] += self._paired_steps[Kind.UNDECIDED]
        self._paired_steps[Kind.UNDECIDED] = 0
        for key, pair in self._pairs.items():
            self._pairs[key] = _regrouped(
                pair, {Kind.PREFILL: Kind.PREFILL, Kind.UNDECIDED: Kind.PREFILL, Kind.DECODE: Kind.DECODE}
            )

    def __iadd__(self, other: GateDistances) -> Self:
        """Add the steps of another log, which come after these."""
        self._notice(other._layers)
        for key in pairwise(sorted(self._layers)):
            if key in other._pairs:
                pair = self._pairs.setdefault(key, _Pair.new())
                for kind in Kind:
                    pair.absorb(other._pairs[key], kind, kind, self._steps)
        self._paired_steps += other._paired_steps
        self._steps += other._steps
        return self

    def steps(self, kinds: Iterable[Kind]) -> int:
        """Steps of these kinds with at least one pair."""
        return int(self._paired_steps[list(kinds)].sum())

    def summary(self, kinds: Iterable[Kind]) -> tuple[PairDistance, ...]:
        """All pairs over steps of these kinds."""
        target = dict.fromkeys(kinds, Kind.PREFILL)
        summaries = []
        for (below, above), pair in sorted(self._pairs.items()):
            together = _regrouped(pair, target)
            summaries.append(
                PairDistance(below, above, int(together.steps[0]), together.moments(), together.recent[0])
            )
        return tuple(summaries)

    def _notice(self, layers: set[int]) -> None:
        """Learn of layers; forget pairs that turn out not to be consecutive."""
        if layers <= self._layers:
            return
        self._layers |= layers
        consecutive = set(pairwise(sorted(self._layers)))
        self._pairs = {key: pair for key, pair in self._pairs.items() if key in consecutive}


def _regrouped(pair: _Pair, target: dict[Kind, Kind]) -> _Pair:
    """A copy of `pair` with the planes of `target` added up as it says and the others left out."""
    result = _Pair.new()
    for source, plane in target.items():
        result.absorb(pair, source, plane, 0)
    return result
