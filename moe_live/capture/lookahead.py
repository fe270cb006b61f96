"""What the router of a layer foretells of the next layer: applied to the input of the layer before.

An engine that knows which experts the next layer will want can load them in time. The router of layer l+1 is
there before its input is, and the input of layer l is much like it: "stale gate" (published for Qwen3-30B-A3B
by the BigMoeOnEdge project: 88.6 % of the experts).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.routers import Router, RouterFile
from moe_live.dataclass import dataclass
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.routing.steps import StepAssembler
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break, State
from moe_live.statistics.latest import LatestUses

_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class LayerLookahead:
    """How much of a layer's choices is foretold, over decode steps of one token with the inputs needed.

    Attributes:
        from_layer: the layer whose input is known.
        to_layer: the next layer with a router.
        tokens: how many were tested.
        stale: share of the experts of `to_layer` among as many that its router takes for the input of
            `from_layer`.
        previous: share among the experts that the token before used there; NaN without any.
        static: share among as many that are used most there in one half of the latest steps, tested on the
            other, both ways; NaN without two steps.
        control: share of the experts of `from_layer` among those that its own router takes: 1 if the log is
            right.
    """

    from_layer: int
    to_layer: int
    tokens: int
    stale: float
    previous: float
    static: float
    control: float


@dataclass(slots=True)
class _Hits:
    """Experts that were named, and all there were."""

    hits: int = 0
    of: int = 0

    def add(self, named: NDArray[np.integer], experts: NDArray[np.integer]) -> None:
        """Add rows (n, k) that were foretold, and those that came."""
        self.hits += int((named[:, :, None] == experts[:, None, :]).any(axis=1).sum())
        self.of += experts.size

    @property
    def share(self) -> float:
        return self.hits / self.of if self.of else math.nan


@dataclass(slots=True)
class _Pair:
    tokens: int = 0
    stale: _Hits = field(default_factory=_Hits)
    previous: _Hits = field(default_factory=_Hits)
    control: _Hits = field(default_factory=_Hits)


class LookaheadCounter:
    """Tests the routers of a model on complete steps of its log, in their order.

    Args:
        routers: of the model that wrote the log.
    """

    def __init__(self, routers: RouterFile) -> None:
        self._routers = routers
        self._pairs: dict[tuple[int, int], _Pair] = defaultdict(_Pair)
        self._last: dict[int, NDArray[np.uint16]] = {}  # the experts of each layer's latest token
        self._latest = LatestUses()

    def update(self, batch: StepBatch) -> None:
        """Add complete steps. Those of one token in decode count."""
        counts = (batch.kind == Kind.DECODE) & (batch.tokens == 1)
        tables = [rows.select(counts[rows.step]) for rows in batch.single]
        self._latest.update(tables, np.where(counts, batch.kind, np.int8(Kind.PREFILL)))
        for rows in tables:
            for layer, following in pairwise(self._routers.layers):
                self._test(batch, rows, layer, following)
            for layer in np.unique(rows.layer).tolist():
                self._last[layer] = rows.experts[rows.layer == layer][-1].copy()

    def interrupt(self) -> None:
        """The steps that follow do not continue those so far."""
        self._last = {}

    def _test(self, batch: StepBatch, rows: ExpertRows, layer: int, following: int) -> None:
        """Test what is foretold of `following`."""
        mine = np.flatnonzero(rows.layer == following)
        for gates in batch.gates:
            if gates.vectors.shape[1] != self._routers.n_embd:
                continue
            there = np.flatnonzero(gates.layer == layer)
            _, i, j = np.intersect1d(rows.step[mine], gates.step[there], return_indices=True)
            inputs = gates.vectors[there[j]]
            known = np.isfinite(inputs).all(axis=1)
            i, inputs = mine[i[known]], inputs[known]
            if not len(i):
                continue
            pair = self._pairs[layer, following]
            pair.tokens += len(i)
            pair.stale.add(_taken(self._routers[following], inputs, rows.experts.shape[1]), rows.experts[i])
            self._add_previous(pair, rows, mine, i, following)
            own = np.flatnonzero(rows.layer == layer)
            _, a, b = np.intersect1d(rows.step[own], rows.step[i], return_indices=True)
            pair.control.add(
                _taken(self._routers[layer], inputs[b], rows.experts.shape[1]), rows.experts[own[a]]
            )

    def _add_previous(
        self, pair: _Pair, rows: ExpertRows, mine: NDArray[np.intp], tested: NDArray[np.intp], layer: int
    ) -> None:
        """Hold the tested rows of a layer against the rows (`mine`) before them."""
        place = np.searchsorted(mine, tested)
        later = place > 0
        pair.previous.add(rows.experts[mine[place[later] - 1]], rows.experts[tested[later]])
        before = self._last.get(layer)
        if not later.all() and before is not None:
            pair.previous.add(before[None], rows.experts[tested[~later]])

    def found(self) -> tuple[LayerLookahead, ...]:
        """The shares of each pair of layers that could be tested, ascending."""
        n_experts = max((self._routers[layer].n_experts for _, layer in self._pairs), default=0)
        static = self._static(n_experts)
        return tuple(
            LayerLookahead(
                *layers,
                pair.tokens,
                pair.stale.share,
                pair.previous.share,
                static.get(layers[1], math.nan),
                pair.control.share,
            )
            for layers, pair in sorted(self._pairs.items())
        )

    def _static(self, n_experts: int) -> dict[int, float]:
        """What the most used experts of one half of the latest steps are of the other, by layer."""
        uses = self._latest.uses([Kind.DECODE], n_experts)
        if uses.steps < 2:
            return {}
        halves = uses.halves()
        found = {}
        for row, layer in enumerate(uses.layers):
            selections = int(halves[0][row].sum() + halves[1][row].sum())
            steps = len(np.unique(uses.step[uses.slot == row]))
            k = round(selections / max(1, steps))
            hits = sum(
                int(tested[row][np.argsort(-learned[row], kind="stable")[:k]].sum())
                for learned, tested in (halves, halves[::-1])
            )
            found[layer] = hits / selections if selections else math.nan
        return found


def _taken(router: Router, inputs: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """The experts (n, k) that a router takes for inputs (n, n_embd)."""
    return np.argsort(-router.scores(inputs).value, axis=1, kind="stable")[:, :k]


def look_ahead(model: str, logs: Sequence[str]) -> tuple[LayerLookahead, ...]:
    """Test what the routers of a model foretell, on finished logs.

    Args:
        model: path of its GGUF file.
        logs: paths of the logs, .gz too.

    Returns:
        Nothing if no layer has both gate inputs and a next layer with a router in the file.

    Raises:
        UsageError: a file cannot be read, or is not what it should be.
    """
    routers = RouterFile(model)
    counter = LookaheadCounter(routers)
    decoder = LlamaServerDecoder(gate_layers=frozenset(routers.layers))
    assembler = StepAssembler()
    source = ArchiveSource(logs)
    try:
        while source.status().state is not State.ENDED:
            for item in source.read(_READ_SIZE):
                for records in decoder.restart() if isinstance(item, Break) else decoder.feed(item):
                    for batch in assembler.feed(records):
                        counter.update(batch)
                if isinstance(item, Break):
                    _end(assembler, counter)
    finally:
        source.close()
    _end(assembler, counter)
    return counter.found()


def _end(assembler: StepAssembler, counter: LookaheadCounter) -> None:
    """What follows does not continue what came."""
    for batch in assembler.interrupt():
        counter.update(batch)
    counter.interrupt()
