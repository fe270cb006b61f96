"""Use of the experts by label (type of prompt), and the experts that set a label apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.divergence import Divergence, compare
from moe_live.statistics.frequency import Frequency

MAX_LABELS = 32
"""Labels that are told apart: the first in alphabetical order. All others are counted as `OTHER`."""

OTHER = "(other)"

FALSE_ALARMS = 1e-2
"""Chance that a label whose tokens are like all others has any specific expert (Bonferroni over all)."""


class LabelCounts:
    """Exact counts of selections by label.

    Which labels are counted apart depends on their names alone, not on which came first: however a log is cut
    or merged, a label among the first `MAX_LABELS` of all was so at any time.

    Memory: that of a `Frequency` for each label, 0.3 MB for 89 layers of 160 experts.
    """

    def __init__(self) -> None:
        self._labels: dict[str, Frequency] = {}

    @property
    def labels(self) -> list[str]:
        """Labels with rows, in alphabetical order; `OTHER` is last, if there are more than are told apart."""
        return sorted(self._labels, key=lambda label: (label == OTHER, label))

    def update(self, tables: Sequence[ExpertRows], kind: NDArray[np.int8], label: str) -> None:
        """Count rows of one label.

        Args:
            tables: expert rows; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
            label: what to count them under.
        """
        if tables:
            self._of(label).update(tables, kind)
            self._restrict()

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        for frequency in self._labels.values():
            frequency.settle()

    def __iadd__(self, other: LabelCounts) -> Self:
        """Add the counts of another log."""
        for label, frequency in other._labels.items():
            ours = self._of(label)
            ours += frequency
        self._restrict()
        return self

    def counts(
        self, label: str, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int
    ) -> NDArray[np.int64]:
        """Selections (len(layers), n_experts) under a label in steps of these kinds.

        The counts of two accumulators over different rows may simply be added.
        """
        counts = np.zeros((len(layers), n_experts), np.int64)
        frequency = self._labels.get(label)
        if frequency is not None:
            at = {layer: i for i, layer in enumerate(layers)}
            for layer, row in zip(frequency.layers, frequency.counts(kinds, n_experts), strict=True):
                if layer in at:
                    counts[at[layer]] = row
        return counts

    def _of(self, label: str) -> Frequency:
        return self._labels.setdefault(label, Frequency())

    def _restrict(self) -> None:
        """Leave at most `MAX_LABELS` labels and `OTHER`."""
        for label in [label for label in self.labels if label != OTHER][MAX_LABELS:]:
            frequency, other = self._labels.pop(label), self._of(OTHER)
            other += frequency


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
        real_layers: layers in which it is more than chance gives.
    """

    a: str
    b: str
    layers: Divergence
    js: float
    expected: float
    real_layers: int


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
    counts: Mapping[str, NDArray[np.int64]], top_k: int, *, clustering: NDArray[np.float64] | float = 1.0
) -> tuple[LabelDivergence, ...]:
    """The divergence of every two labels, in their order.

    Two texts of one label differ by more than noise: a real divergence of two labels with few texts each may
    be one of texts.

    Args:
        counts: (layers, E) selections of each label.
        top_k: experts a row.
        clustering: as `usages` takes it.
    """
    found = []
    for a, b in combinations(counts, 2):
        layers = compare(counts[a], counts[b], top_k, clustering=clustering)
        both = np.isfinite(layers.js)
        js, expected = (
            float(values[both].mean()) if both.any() else np.nan for values in (layers.js, layers.expected)
        )
        found.append(LabelDivergence(a, b, layers, js, expected, int(np.count_nonzero(layers.real))))
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
