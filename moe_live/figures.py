"""The sections of a snapshot: figures that take time, from the accumulators of the rows that count."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind
from moe_live.snapshot import Labels
from moe_live.statistics.coactivation import Coactivation, LayerPairs, notable_pairs
from moe_live.statistics.collection import Chosen
from moe_live.statistics.columns import Columns
from moe_live.statistics.dependence import bins, variance_of_stretches
from moe_live.statistics.drift import Drift, RecentSteps, Window, drift
from moe_live.statistics.history import History, history
from moe_live.statistics.labels import LabelCounts, divergences, usages
from moe_live.statistics.latest import Uses
from moe_live.statistics.locality import LayerLocality
from moe_live.statistics.sampling import SAMPLED_SELECTIONS, TokenSample
from moe_live.statistics.sequences import LocalityBySequence
from moe_live.statistics.tables import BLOCK
from moe_live.statistics.transitions import LayerTransition, Transitions, summarize


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Makes sections from the accumulators over one choice of rows.

    Attributes:
        chosen: what was found in the rows that count.
        repeating: use by label in those that name an expert twice, where they count.
        decode: kinds that are decode.
        layers: layers of the snapshot.
        drafts: layers that are none of the model's.
        usage: (len(layers), n_experts) selections in decode steps.
        top_k: experts a row.
        periods: how often each label came up.
    """

    chosen: Chosen
    repeating: LabelCounts | None
    decode: Sequence[Kind]
    layers: Sequence[int]
    drafts: Collection[int]
    usage: NDArray[np.int64]
    top_k: int
    periods: Mapping[str, int]

    @property
    def n_experts(self) -> int:
        """Experts a layer."""
        return int(self.usage.shape[1])

    def drift(self) -> Drift:
        """The latest decode steps beside all."""
        self.chosen.steps.flush()
        recent = self.chosen.steps.put_off[RecentSteps]
        steps, blocks = recent.counts(self.decode, self.layers, self.n_experts)
        total, stretch = (
            float(part.sum(axis=-1).max(initial=0)) for part in (self.usage, blocks.sum(axis=0))
        )
        parts = self._history(self.decode, bins(total, stretch, self.usage.size)).counts
        return drift(Window(recent.window, steps, blocks), self.usage, parts, self.top_k)

    def locality(self) -> tuple[LayerLocality, ...]:
        """How soon experts are used again in decode, and what caches would serve."""
        self.chosen.steps.flush()
        found = self.chosen.steps.put_off[LocalityBySequence].summary(self.decode, self.n_experts)
        return tuple(
            entry
            # Steps of several tokens are no successive tokens.
            if entry.uses == entry.steps * self.top_k
            else replace(entry, union=dict.fromkeys(entry.union, np.nan))
            for entry in found
            if entry.layer not in self.drafts
        )

    def latest_uses(self) -> Uses | None:
        """Which experts the latest steps use."""
        if self.chosen.latest is None:
            return None
        return self.chosen.latest.uses(self.decode, self.n_experts).without(self.drafts)

    def pairs(self, layers: Iterable[int]) -> dict[int, LayerPairs]:
        """Experts chosen together, of those of the layers with rows; of none if it is too much."""
        self._flush_rows()
        every = [rows.put_off[Coactivation] for rows in self.chosen.rows]
        if any(pairs.too_large for pairs in every):
            return {}
        found = {}
        for layer in [layer for layer in layers if layer in self.layers]:
            accumulators = [pairs for pairs in every if pairs.rows(layer)]
            experts = self._experts([pairs.columns for pairs in accumulators])
            counts = sum(
                (accumulator.counts(layer, experts) for accumulator in accumulators),
                np.zeros((len(experts), len(experts)), np.int64),
            )
            rows = sum(accumulator.rows(layer) for accumulator in accumulators)
            found[layer] = notable_pairs(counts, rows, experts=experts)
        return found

    def _experts(self, columns: Sequence[Columns]) -> NDArray[np.int64]:
        """The experts (m,) that tables have, ascending: all of a layer, unless far more are never used."""
        used = np.unique(np.concatenate([np.zeros(0, np.int64), *(each.experts for each in columns)]))
        if self.n_experts - len(used) < BLOCK:
            return np.arange(self.n_experts)
        return used[used < self.n_experts]

    def given_up(self) -> tuple[str, ...]:
        """What is not told because there are too many experts for it."""
        found = {
            "which are chosen together": [rows.put_off[Coactivation].too_large for rows in self.chosen.rows],
            "which follow in the next layer": [
                rows.put_off[Transitions].too_large for rows in self.chosen.rows
            ],
        }
        return tuple(name for name, too_large in found.items() if any(too_large))

    def transitions(self, *, anew: bool) -> tuple[LayerTransition, ...]:
        """How the experts of each layer foretell those of the next.

        Args:
            anew: test every pair of layers; otherwise most are as they were when asked for last.
        """
        self._flush_rows()
        accumulators = [rows.put_off[Transitions] for rows in self.chosen.rows]
        *_, last = self.chosen.rows  # which rows count may change, and this one then changes too
        found = summarize(
            accumulators,
            self._sample(),
            self.n_experts,
            experts=self._experts([accumulator.columns for accumulator in accumulators]),
            known=None if anew else last.known_transitions,
        )
        last.known_transitions = {(entry.from_layer, entry.to_layer): entry for entry in found}
        return tuple(entry for entry in found if entry.to_layer not in self.drafts)

    def history(self) -> History:
        """Use of the experts over the time of the run."""
        return self._history(Kind)

    def _history(self, kinds: Iterable[Kind], parts: int = 32) -> History:
        self._flush_rows()
        return history(self._sample(), kinds, self.layers, self.n_experts, parts)

    def _sample(self) -> TokenSample:
        """A sample of the tokens of all rows."""
        first, *others = [rows.put_off[TokenSample] for rows in self.chosen.rows]
        if all(other.empty for other in others):
            return first
        sample = TokenSample(SAMPLED_SELECTIONS)
        for each in (first, *others):
            sample.add_rows(each)
        return sample

    def _flush_rows(self) -> None:
        for rows in self.chosen.rows:
            rows.flush()

    def labels(self) -> Labels:
        """Use of the experts by label."""
        accumulators = [rows.at_once[LabelCounts] for rows in self.chosen.rows]
        if self.repeating is not None:
            accumulators.append(self.repeating)
        names = sorted({label for labels in accumulators for label in labels.labels})
        counts = {
            name: sum(
                (labels.counts(name, Kind, self.layers, self.n_experts) for labels in accumulators),
                np.zeros((len(self.layers), self.n_experts), np.int64),
            )
            for name in names
        }
        if not counts:
            return Labels((), (), {})
        apart = self._between_periods(np.sum(list(counts.values()), axis=0), sum(self.periods.values()))
        return Labels(
            usages(counts, self.layers, self.top_k, clustering=apart),
            divergences(counts, self.top_k, self.periods, clustering=apart),
            self.periods,
        )

    def _between_periods(self, labelled: NDArray[np.int64], periods: int) -> NDArray[np.float64]:
        """How many times more counts of periods vary than over independent tokens, by layer.

        Args:
            labelled: (len(layers), n_experts) selections under any label.
            periods: how many periods there are of them.
        """
        total = float(labelled.sum(axis=1).max()) / self.top_k
        stretch = total / max(periods, 1)
        parts = self._history(Kind, bins(total, stretch, self.usage.size)).counts
        return variance_of_stretches(parts, self.top_k, total, stretch)
