"""At which layer steps begin: where several servers write one log, at any."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind, StepBatch
from moe_live.settings import MAX_LAYERS
from moe_live.statistics.planes import settle

FEW_STEPS = 20
"""Steps below which nothing is said."""

TORN = 0.1
"""Share of the steps that begin elsewhere than at the `USUAL` layers, from which on they are torn."""

USUAL = 3
"""Layers that steps begin with at most: the first of the model, of a draft model, and a draft head."""


class Pieces(NamedTuple):
    """Of steps: how many of each kind (kinds,), and their tokens."""

    steps: NDArray[np.int64]
    tokens: NDArray[np.int64]


class Beginnings:
    """Counts steps and their tokens by the layer that they begin with.

    Memory: 48 KB.
    """

    def __init__(self) -> None:
        self._steps = np.zeros((len(Kind), MAX_LAYERS), np.int64)
        self._tokens = np.zeros_like(self._steps)

    def update(self, batch: StepBatch) -> None:
        """Add complete steps."""
        first = np.full(len(batch.kind), MAX_LAYERS)
        steps = np.arange(len(batch.kind))
        for rows in filter(len, (*batch.certain, *batch.written, *batch.repeating)):
            begin = rows.step.searchsorted(steps)  # rows are in the order of steps
            step = np.flatnonzero(rows.step.take(begin, mode="clip") == steps)
            first[step] = np.minimum(first[step], rows.layer[begin[step]])
        known = batch.begins & (first < MAX_LAYERS)
        where = batch.kind[known], first[known]
        np.add.at(self._steps, where, 1)
        np.add.at(self._tokens, where, batch.tokens[known])

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        settle(self._steps)
        settle(self._tokens)

    def __iadd__(self, other: Beginnings) -> Self:
        """Add the steps of another log."""
        self._steps += other._steps
        self._tokens += other._tokens
        return self

    @property
    def torn(self) -> bool:
        """Whether steps are torn to pieces by those of another server."""
        steps = self._steps.sum(axis=0)
        steps = steps[steps > 0]
        if len(steps) <= USUAL:  # as nearly always: this is asked for with each frame
            return False
        steps.sort()
        return bool(steps.sum() >= FEW_STEPS and steps[:-USUAL].sum() >= TORN * steps.sum())

    def pieces(self) -> Pieces:
        """Of torn steps, those that do not begin with the first layer; none if steps are whole."""
        if not self.torn:
            return Pieces(np.zeros(len(Kind), np.int64), np.zeros(len(Kind), np.int64))
        first = int(np.flatnonzero(self._steps.sum(axis=0))[0])
        return Pieces(self._steps[:, first + 1 :].sum(axis=1), self._tokens[:, first + 1 :].sum(axis=1))
