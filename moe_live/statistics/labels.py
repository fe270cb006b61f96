"""Use of the experts by label (type of prompt), and the experts that set a label apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.memory import unique
from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.dependence import bins, variance_of_stretches
from moe_live.statistics.divergence import Divergence, comparable, compare
from moe_live.statistics.frequency import add_selections
from moe_live.statistics.history import history
from moe_live.statistics.members import Member
from moe_live.statistics.periods import Periods
from moe_live.statistics.planes import Slots, settle
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import roomy

MAX_LABELS = 32
"""Labels that are told apart: the first in alphabetical order. All others are counted as `OTHER`."""

MAX_CELLS = 5 << 20
"""Counts (42 MB) of all labels at most: of 94 layers of 512 experts all labels are told apart, of a log that
shows more than any model has fewer of them."""

OTHER = "(other)"

PERIODS = 4
"""Periods that each of two labels must have had for them to be told apart."""

FALSE_ALARMS = 1e-2
"""Chance that a label whose tokens are like all others has any specific expert (Bonferroni over all)."""


class LabelCounts:
    """Exact counts of selections by label.

    Which labels are counted apart depends on all their names, and on how many layers and experts there are,
    not on which came first: however a log is cut or merged, a label that is told apart was so at any time.

    Memory: 24 bytes for each label, layer and expert up to the highest seen under any label: 0.3 MB a label
    of 89 layers and 160 experts. `MAX_CELLS` bounds it.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._slots = Slots()
        self._n_experts = 0
        self._counts = np.zeros((len(Kind), 0, 0, 0), np.int64)  # of each kind, name, slot and expert

    @property
    def labels(self) -> list[str]:
        """Labels with rows, in alphabetical order; `OTHER` is last, if there are more than are told apart."""
        return sorted(self._names, key=lambda label: (label == OTHER, label))

    def update(
        self,
        tables: Sequence[ExpertRows],
        kind: NDArray[np.int8],
        label: NDArray[np.int64],
        names: Sequence[str],
    ) -> None:
        """Count rows.

        Args:
            tables: expert rows; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
            label: (s,) which of `names` each step has.
            names: of labels; what is called "" has none and is not counted.
        """
        if not any(names):
            return
        is_named = np.array([bool(name) for name in names])[label]
        tables = [rows for rows in (rows.select(is_named[rows.step]) for rows in tables) if len(rows)]
        if not tables:
            return
        used = unique(np.concatenate([label[unique(rows.step)] for rows in tables])).tolist()
        slots = [self._slots.of(rows.layer) for rows in tables]
        self._reserve({names[index] for index in used}, max(int(rows.experts.max()) + 1 for rows in tables))
        place = np.zeros(len(names), np.int64)
        place[used] = [self._place(names[index]) for index in used]
        _, n_names, n_slots, n_experts = self._counts.shape
        planes = self._counts.reshape(len(Kind) * n_names, n_slots, n_experts)
        plane = kind * np.int64(n_names) + place[label]
        for rows, slot in zip(tables, slots, strict=True):
            add_selections(planes, plane[rows.step], slot, rows)

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        settle(self._counts)

    def __iadd__(self, other: LabelCounts) -> Self:
        """Add the counts of another log."""
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        self._reserve(set(other._names), other._n_experts)
        for name, counts in zip(other._names, np.moveaxis(other._counts, 1, 0), strict=True):
            self._counts[:, self._place(name), slots, : counts.shape[2]] += counts[:, : len(slots)]
        return self

    def counts(
        self, label: str, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int
    ) -> NDArray[np.int64]:
        """Selections (len(layers), n_experts) under a label in steps of these kinds.

        The counts of two accumulators over different rows may simply be added.
        """
        counts = np.zeros((len(layers), n_experts), np.int64)
        if label in self._names:
            at = [index for index, layer in enumerate(layers) if layer in self._slots.layers]
            slots = self._slots.of(np.array([layers[index] for index in at], np.uint16))
            seen = self._counts[list(kinds), self._names.index(label)].sum(axis=0)[slots, :n_experts]
            counts[at, : seen.shape[1]] = seen
        return counts

    def _place(self, name: str) -> int:
        """Where a label is counted."""
        return self._names.index(name if name in self._names else OTHER)

    def _reserve(self, names: set[str], n_experts: int) -> None:
        """Room for these labels, every layer that occurs and so many experts; too many labels become `OTHER`.

        Which are too many depends on nothing but what was seen in all.
        """
        before = self._names
        self._n_experts = max(self._n_experts, n_experts)
        shape = len(self._slots), roomy(self._n_experts)
        if names <= set(before) and shape == self._counts.shape[2:]:
            return
        most = min(MAX_LABELS, max(1, MAX_CELLS // (len(Kind) * math.prod(shape)) - 1))
        every = names.union(before)
        kept = sorted(every - {OTHER})[:most]
        self._names = kept if len(kept) == len(every) else [*kept, OTHER]
        counts, self._counts = self._counts, np.zeros((len(Kind), len(self._names), *shape), np.int64)
        slots, experts = counts.shape[2:]
        for index, name in enumerate(before):
            self._counts[:, self._place(name), :slots, :experts] += counts[:, index]


@dataclass(frozen=True, slots=True)
class SpecificExpert:
    """An expert that a label uses more than the others do.

    Attributes:
        layer: its layer.
        expert: its id.
        count: selections under the label, N_eD.
        share: share of the label's tokens that use it, N_eD / N_D.
        share_elsewhere: share of all other tokens that do.
        log_odds: log2 of the ratio of its odds under the label and elsewhere, drawn towards 0 by the prior.
        z: `log_odds` in standard deviations, clustering of the tokens taken into account.
    """

    layer: int
    expert: int
    count: int
    share: float
    share_elsewhere: float
    log_odds: float
    z: float


@dataclass(frozen=True, slots=True, eq=False)
class LabelUsage:
    """Use of the experts under one label.

    Attributes:
        label: its name.
        tokens: rows of the layer that has the most under this label.
        counts: (layers, E) int64, selections N_eD.
        share: (layers, E) float64, domain specialization N_eD / N_D: share of the label's tokens that use the
            expert; NaN in a layer without any. By chance it is k / E.
        specific: the most specific experts, highest z first.
    """

    label: str
    tokens: int
    counts: NDArray[np.int64]
    share: NDArray[np.float64]
    specific: tuple[SpecificExpert, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelDivergence:
    """How far the usages of two labels lie apart.

    Attributes:
        a, b: the labels.
        layers: Jensen-Shannon divergence for each layer, with its noise.
        js: mean over the layers in which both have selections, NaN if there are none.
        expected: mean of what chance alone gives there.
        real_layers: layers in which it is more than chance gives; None where that cannot be told.
    """

    a: str
    b: str
    layers: Divergence
    js: float
    expected: float
    real_layers: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The use of experts by label.

    Attributes:
        usages: one entry a label, alphabetically.
        divergences: one entry for every two labels.
        periods: how often each came up.
    """

    usages: tuple[LabelUsage, ...]
    divergences: tuple[LabelDivergence, ...]
    periods: Mapping[str, int]


def usages(
    counts: Mapping[str, NDArray[np.int64]],
    layers: Sequence[int],
    top_k: int,
    n: int = 10,
    *,
    clustering: NDArray[np.float64] | float = 1.0,
) -> tuple[LabelUsage, ...]:
    """The usage of each label.

    Args:
        counts: (len(layers), E) selections of each label.
        layers: the layers of the counts.
        top_k: experts a row.
        n: specific experts a label at most.
        clustering: (len(layers),) how many times more counts vary than over independent tokens, 1 or more.
    """
    deviation = np.broadcast_to(np.sqrt(clustering), len(layers))[:, None]
    total = np.sum(list(counts.values()), axis=0)
    return tuple(
        LabelUsage(
            label,
            round(int(own.sum(axis=1).max(initial=0)) / top_k),
            own,
            _share(own, top_k),
            _specific(own, total - own, layers, top_k, n=n, deviation=deviation),
        )
        for label, own in counts.items()
    )


def divergences(
    counts: Mapping[str, NDArray[np.int64]],
    top_k: int,
    periods: Mapping[str, int],
    *,
    clustering: NDArray[np.float64] | float = 1.0,
) -> tuple[LabelDivergence, ...]:
    """The divergence of every two labels, in their order.

    Two texts of one label differ by more than independent tokens do. The periods of a label are the sample:
    with fewer than `PERIODS` of either, what differs may as well be the time. Nor can it be told where no
    layer has enough selections.

    Args:
        counts: (layers, E) selections of each label.
        top_k: experts a row.
        periods: how many each label had.
        clustering: (layers,) how many times more counts of periods vary than over independent tokens.
    """
    found = []
    for a, b in combinations(counts, 2):
        layers = compare(counts[a], counts[b], top_k, clustering=clustering)
        both = np.isfinite(layers.js)
        js, expected = (
            float(values[both].mean()) if both.any() else np.nan for values in (layers.js, layers.expected)
        )
        told = min(periods.get(a, 0), periods.get(b, 0)) >= PERIODS and comparable(counts[a], counts[b]).any()
        real = int(np.count_nonzero(layers.real)) if told else None
        found.append(LabelDivergence(a, b, layers, js, expected, real))
    return tuple(found)


def log_odds(
    own: NDArray[np.int64], rest: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratio (in bits) of each expert in `own` against `rest` (layers, E), and its z.

    With an informative Dirichlet prior (Monroe, Colaresi and Quinn, Political Analysis 2008, eq. 16 and 22):
    E pseudo-selections a layer in the proportions of all selections together. Where either has no
    selections, or the expert none at all, both figures are 0.

    Tokens are taken to be independent; those of one text are not, so |z| is then too large (divide it by the
    root of their clustering). Rows of k distinct experts vary less than the independent draws of the model,
    which errs the other way.
    """
    y, x = own.astype(np.float64), rest.astype(np.float64)
    pooled = y + x
    with np.errstate(all="ignore"):
        prior = own.shape[-1] * pooled / pooled.sum(axis=-1, keepdims=True)
        y, x = y + prior, x + prior
        odds_own, odds_rest = (part / (part.sum(axis=-1, keepdims=True) - part) for part in (y, x))
        ratio = np.log(odds_own / odds_rest)
        z = ratio / np.sqrt(1 / y + 1 / x)
    known = np.isfinite(z) & (own.sum(axis=-1, keepdims=True) > 0) & (rest.sum(axis=-1, keepdims=True) > 0)
    return np.where(known, ratio / np.log(2), 0.0), np.where(known, z, 0.0)


def _specific(
    own: NDArray[np.int64],
    rest: NDArray[np.int64],
    layers: Sequence[int],
    top_k: int,
    *,
    n: int,
    deviation: NDArray[np.float64],
) -> tuple[SpecificExpert, ...]:
    """The experts with the highest z, as far as chance alone rarely gives any so far off.

    What would be a standard deviation of independent tokens is `deviation` (layers, 1) times as much.
    """
    ratio, z = log_odds(own, rest)
    z, excess = z / deviation, _excess(own, rest) / deviation
    tested = np.count_nonzero(own + rest)
    if not tested:
        return ()
    layer, expert = np.nonzero(excess >= NormalDist().inv_cdf(1 - FALSE_ALARMS / tested))
    order = np.lexsort((expert, layer, -z[layer, expert]))[:n]
    share, elsewhere = _share(own, top_k), _share(rest, top_k)
    return tuple(
        SpecificExpert(
            layer=layers[i],
            expert=e,
            count=int(own[i, e]),
            share=float(share[i, e]),
            share_elsewhere=float(elsewhere[i, e]),
            log_odds=float(ratio[i, e]),
            z=float(z[i, e]),
        )
        for i, e in zip(layer[order].tolist(), expert[order].tolist(), strict=True)
    )


def _excess(own: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[np.float64]:
    """How unlikely so many selections in `own` are, as a normal deviate; 0 where they are not too many.

    The root of the binomial deviance with a continuity correction. Of few selections it tells the truth where
    the z of a log-odds ratio, which takes logarithms of counts for normal, is too large.
    """
    both = own + rest
    with np.errstate(all="ignore"):
        expected = both * (own.sum(axis=-1, keepdims=True) / both.sum(axis=-1, keepdims=True))
        count = np.maximum(own - 0.5, expected)
        left = both - count
        deviance = count * np.log(count / expected)
        deviance += np.where(left > 0, left * np.log(left / (both - expected)), 0.0)
        return np.where(own > expected, np.sqrt(2 * np.maximum(deviance, 0.0)), 0.0)


def _share(counts: NDArray[np.int64], top_k: int) -> NDArray[np.float64]:
    """Share of tokens (layers, E) that use each expert."""
    share = np.full(counts.shape, np.nan)
    selections = counts.sum(axis=-1, keepdims=True)
    np.divide(counts * top_k, selections, out=share, where=selections > 0)
    return share


def _make(counted: Counted) -> Labels:
    accumulators = counted.of_rows(LabelCounts)
    if counted.repeating:
        accumulators.append(counted.batches[LabelCounts])
    names = sorted({label for labels in accumulators for label in labels.labels})
    counts = {
        name: sum(
            (labels.counts(name, Kind, counted.layers, counted.n_experts) for labels in accumulators),
            np.zeros((len(counted.layers), counted.n_experts), np.int64),
        )
        for name in names
    }
    if not counts:
        return Labels((), (), {})
    periods = counted.batches[Periods].counts
    apart = _between_periods(counted, np.sum(list(counts.values()), axis=0), sum(periods.values()))
    return Labels(
        usages(counts, counted.layers, counted.top_k, clustering=apart),
        divergences(counts, counted.top_k, periods, clustering=apart),
        periods,
    )


def _between_periods(counted: Counted, labelled: NDArray[np.int64], periods: int) -> NDArray[np.float64]:
    """How many times more counts of periods vary than over independent tokens, by layer.

    Args:
        counted: what the sample is of.
        labelled: (layers, E) selections under any label.
        periods: how many periods there are of them.
    """
    total = float(labelled.sum(axis=1).max()) / counted.top_k
    stretch = total / max(periods, 1)
    n_parts = bins(total, stretch, labelled.size)
    parts = history(counted.sampled, Kind, counted.layers, counted.n_experts, n_parts)
    return variance_of_stretches(parts.counts, counted.top_k, total, stretch)


LABELS = OnDemand(
    name="labels",
    rows=(
        Member(
            LabelCounts,
            lambda it, rows: it.update(rows.tables, rows.batch.kind, rows.batch.label, rows.batch.labels),
        ),
    ),
    batches=(
        # In the rows that name an expert twice; nothing else can be told of them.
        Member(
            LabelCounts,
            lambda it, batch: it.update(batch.repeating, batch.kind, batch.label, batch.labels),
        ),
        Member(Periods, lambda it, batch: it.update(batch.label, batch.labels)),
    ),
    make=_make,
    sampled=True,
)
