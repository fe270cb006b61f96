"""The distances of each step, in the order of the log, beside the sums that `distances` keeps of them."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from moe_live.routing.batch import Kind, StepBatch
from moe_live.settings import Phase
from moe_live.statistics.distances import METRICS, distances

MAX_HELD = 1000
"""Steps that wait until it is known whether they are decode, at most."""


class StepDistance(NamedTuple):
    """How far the gate inputs of two consecutive logged layers are apart in one step; row 0 of each.

    Attributes:
        step: number of the step, from 1; prefill and decode are counted together.
        phase: what the step did.
        from_layer: the lower layer.
        to_layer: the higher layer.
        cosine_similarity, cosine_distance, euclidean, l2_normalized, pearson, mean_abs_diff: see `distances`;
            not finite where they are not defined.
    """

    step: int
    phase: Phase
    from_layer: int
    to_layer: int
    cosine_similarity: float
    cosine_distance: float
    euclidean: float
    l2_normalized: float
    pearson: float
    mean_abs_diff: float


HEADER = ("step", "phase", "from", "to", *METRICS)
"""What the fields are called in a table."""


class StepDistances:
    """Collects the distances of every pair of consecutive logged layers in each step, until they are taken.

    What of a step cannot be told yet, whether it is decode, holds up those after it, `MAX_HELD` steps at
    most. Then it is told by what is known, and so it is at the end of the input.

    A pair is two layers with no logged layer between them, as far as the log has shown until then.

    Args:
        include_prompt: whether steps of prefill are wanted.
    """

    def __init__(self, *, include_prompt: bool) -> None:
        self._include_prompt = include_prompt
        self._layers: set[int] = set()
        self._consecutive: set[tuple[int, int]] = set()
        self._number = 0
        self._held: deque[tuple[Kind, list[StepDistance]]] = deque()
        self._decided: list[StepDistance] = []

    def update(self, batch: StepBatch, *, last_layer_known: bool) -> None:
        """Add complete steps.

        Args:
            batch: the steps.
            last_layer_known: whether steps whose kind is undecided are decode.
        """
        numbers = self._number + np.cumsum(batch.begins)
        if len(numbers):
            self._number = int(numbers[-1])
        found: dict[int, list[StepDistance]] = {}
        for inputs in batch.gates:
            step, layer = inputs.step.tolist(), inputs.layer.tolist()
            values = distances(inputs.vectors).tolist() if len(step) > 1 else []
            self._notice(set(layer))
            for i, metrics in enumerate(values):
                if step[i] == step[i + 1] and (layer[i], layer[i + 1]) in self._consecutive:
                    row = StepDistance(int(numbers[step[i]]), Phase.PREFILL, layer[i], layer[i + 1], *metrics)
                    found.setdefault(step[i], []).append(row)
        self._held += [(Kind(batch.kind[step]), rows) for step, rows in sorted(found.items())]
        self._decide(decode=last_layer_known)

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self._held = deque(
            (Kind.PREFILL if kind is Kind.UNDECIDED else kind, rows) for kind, rows in self._held
        )

    def finish(self) -> None:
        """Nothing more comes that would decide what waits."""
        self.settle()
        self._decide(decode=False)

    def take(self) -> list[StepDistance]:
        """What was decided since it was asked for last."""
        taken, self._decided = self._decided, []
        return taken

    def _notice(self, layers: set[int]) -> None:
        if not layers <= self._layers:
            self._layers |= layers
            self._consecutive = set(pairwise(sorted(self._layers)))

    def _decide(self, *, decode: bool) -> None:
        """Pass on what is known of the steps that come first."""
        while self._held and (decode or self._held[0][0] is not Kind.UNDECIDED or len(self._held) > MAX_HELD):
            kind, rows = self._held.popleft()
            if kind is Kind.DECODE or (kind is Kind.UNDECIDED and decode):
                self._decided += [row._replace(phase=Phase.DECODE) for row in rows]
            elif self._include_prompt:
                self._decided += rows
