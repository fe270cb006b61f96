"""Distances between the gate inputs of consecutive logged layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.memory import unique
from moe_live.routing.batch import Kind, StepGates
from moe_live.statistics.exact_sum import ExactSums
from moe_live.statistics.members import Member
from moe_live.statistics.statistic import Statistic

DistanceMetric = Literal[
    "cosine_similarity", "cosine_distance", "euclidean", "l2_normalized", "pearson", "mean_abs_diff"
]

METRICS: tuple[DistanceMetric, ...] = get_args(DistanceMetric)

RECENT_STEPS = 120
"""Steps whose cosine similarity is kept for the time line of a pair."""

_ENOUGH = 1 << 12
"""Rows of metrics that are collected, for a few hundred kilobytes, and then added together: more if there are
many pairs of layers, so that each has some of them."""

_OF_A_PAIR = 1 << 6

_LARGEST = 1e150  # squares of larger values overflow: they count as infinite

_EPSILON = float(np.finfo(np.float64).eps)


def distances(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """All metrics of each vector and the next.

    Args:
        vectors: (m, n), C-contiguous.

    Returns:
        (m - 1, len(METRICS)), for vectors a and b: a.b/(|a||b|); 1 minus that; |a-b|; |a-b|/sqrt(n); the
        cosine of the mean-centred vectors; the mean of |a_i-b_i|. Cosines of a zero vector are NaN, as is the
        Pearson correlation of a constant vector or of n < 2; what is not finite in the input makes results
        not finite.
    """
    n = vectors.shape[1]
    result = np.empty((len(vectors) - 1, len(METRICS)))
    with np.errstate(all="ignore"):
        result[:, 0] = _cosine(vectors, np.vecdot(vectors, vectors))
        result[:, 1] = 1 - result[:, 0]
        difference = vectors[:-1] - vectors[1:]
        euclidean = np.sqrt(np.vecdot(difference, difference))
        result[:, 2] = euclidean
        result[:, 3] = euclidean / np.sqrt(n)
        result[:, 4] = _cosine(*_centred(vectors)) if n > 1 else np.nan
        result[:, 5] = np.abs(difference, out=difference).mean(axis=1)
    return result


def _cosine(vectors: NDArray[np.float64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosine (m - 1,) of each vector (m, n) and the next, whose squared lengths are (m,)."""
    cosine: NDArray[np.float64] = np.vecdot(vectors[:-1], vectors[1:]) / np.sqrt(squared[:-1] * squared[1:])
    return cosine.clip(-1, 1)


def _centred(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The vectors (m, n) less their means, and squared lengths (m,): exactly 0 for a constant vector."""
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
        for plane in unique(kind).tolist():
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


class _Rows(NamedTuple):
    """Metrics of pairs (p,) of layers, in the order of the steps.

    Attributes:
        below: (p,) int64, the lower layer.
        above: (p,) int64, the higher layer.
        kind: (p,) int8, of the step.
        step: (p,) int64, its number.
        values: (p, len(METRICS)).
    """

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    kind: NDArray[np.int8]
    step: NDArray[np.int64]
    values: NDArray[np.float64]


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
        self._pending: list[_Rows] = []
        self._pending_rows = 0

    def update(self, gates: Iterable[StepGates], kind: NDArray[np.int8]) -> None:
        """Add steps.

        Args:
            gates: gate inputs; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
        """
        for inputs in gates:
            self._notice(set(inputs.layer.tolist()))
            step, layer = inputs.step, inputs.layer
            paired = np.flatnonzero((step[1:] == step[:-1]) & (layer[1:] > layer[:-1]))
            if not len(paired):
                continue
            of_step = kind[step[paired]]
            new_step = np.diff(step[paired], prepend=-1) > 0
            self._paired_steps += np.bincount(of_step[new_step], minlength=len(Kind))
            values = distances(inputs.vectors)[paired]
            rows = _Rows(layer[paired], layer[paired + 1], of_step, step[paired] + self._steps, values)
            self._pending.append(rows)
            self._pending_rows += len(paired)
        self._steps += len(kind)
        if self._pending_rows >= max(_ENOUGH, _OF_A_PAIR * len(self._layers)):
            self._flush()

    def _flush(self) -> None:
        """Add what was collected."""
        if not self._pending:
            return
        rows = _Rows(*map(np.concatenate, zip(*self._pending, strict=True)))
        self._pending, self._pending_rows = [], 0
        for pair in pairwise(sorted(self._layers)):
            mine = np.flatnonzero((rows.below == pair[0]) & (rows.above == pair[1]))
            if len(mine):
                accumulator = self._pairs.setdefault(pair, _Pair.new())
                accumulator.update(rows.kind[mine], rows.step[mine], rows.values[mine])

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        self._flush()
        self._paired_steps[Kind.PREFILL] += self._paired_steps[Kind.UNDECIDED]
        self._paired_steps[Kind.UNDECIDED] = 0
        for key, pair in self._pairs.items():
            self._pairs[key] = _regrouped(
                pair, {Kind.PREFILL: Kind.PREFILL, Kind.UNDECIDED: Kind.PREFILL, Kind.DECODE: Kind.DECODE}
            )

    def __iadd__(self, other: GateDistances) -> Self:
        """Add the steps of another log, which come after these."""
        self._flush()
        other._flush()
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
        self._flush()
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


DISTANCES = Statistic(
    name="distances", batches=(Member(GateDistances, lambda it, batch: it.update(batch.gates, batch.kind)),)
)
