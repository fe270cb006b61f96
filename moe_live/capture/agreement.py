"""Whether the selections in a log are those that the model's routers make of the logged inputs.

A block of a layer with gate inputs is T gate lines and T expert rows: row t can be recomputed from gate line
t. In a strided log the true selections of some tokens stand elsewhere in the block
(`moe_live.routing.strided`); these recovered rows are compared as well.
"""

from __future__ import annotations

from collections import defaultdict
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.routers import Router, RouterFile
from moe_live.dataclass import dataclass
from moe_live.formats.records import Records
from moe_live.routing.batch import ExpertRows
from moe_live.routing.evidence import StrideEvidence, Verdict
from moe_live.routing.lines import Lines, joined
from moe_live.routing.strided import examine

MAX_HELD_LINES = 1 << 17
"""Lines of an open block that are held at most; a longer one is not compared."""

MAX_HELD_VALUES = 1 << 25
"""Numbers of gate inputs (256 MB) that are held of an open block at most; a larger one is not compared."""

MAX_SCORES = 1 << 18
"""Scores (2 MB) that are made at once: several arrays have one of each."""


class Place(IntEnum):
    """Where in the log a selection stands."""

    SINGLE = 0
    """The row of a one-row block."""
    FIRST = 1
    """Row 0 of a block of several rows."""
    LATER = 2
    """Any other row, as logged."""
    RECOVERED = 3
    """A selection that holds in a strided block, wherever it stands there: row 0 is one of them."""


class Outcome(IntEnum):
    """What comparing a selection came to."""

    RIGHT = 0
    """The same experts, in an order that their scores allow."""
    TIE = 1
    """Other experts, but only among scores that the printed digits of the input cannot tell apart."""
    WRONG = 2
    UNDEFINED = 3
    """The router's input was not finite: nothing can be said."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How the selections of a log agree with the routers.

    Attributes:
        layers: the layers compared, ascending.
        counts: (layers, places, outcomes) int64, indexed by `Place` and `Outcome`.
        verdict: what the expert rows alone show, without the routers.
        incomplete: rows of blocks in which gate lines and expert rows do not match one to one.
        without_inputs: rows of layers that log no gate inputs, or have no router in the file.
        foreign_width: how many numbers a gate input has that does not fit the routers, if there is one.
    """

    layers: tuple[int, ...]
    counts: NDArray[np.int64]
    verdict: Verdict
    incomplete: int
    without_inputs: int
    foreign_width: int | None

    def rows(self, place: Place) -> NDArray[np.int64]:
        """(outcomes,) int64: rows of a place over all layers."""
        rows: NDArray[np.int64] = self.counts[:, place].sum(axis=0)
        return rows

    @property
    def compared(self) -> int:
        """Logged rows that are right or wrong."""
        return int(self.counts[:, : Place.RECOVERED, [Outcome.RIGHT, Outcome.WRONG]].sum())

    @property
    def wrong(self) -> int:
        """Logged rows that are not what the router chose."""
        return int(self.counts[:, : Place.RECOVERED, Outcome.WRONG].sum())


class AgreementCounter:
    """Compares the selections of a log, read with the gate inputs of every row, with a model's routers.

    Args:
        routers: of the model that wrote the log.
    """

    def __init__(self, routers: RouterFile) -> None:
        self._routers = routers
        self._evidence = StrideEvidence()
        self._counts: dict[int, NDArray[np.int64]] = defaultdict(
            lambda: np.zeros((len(Place), len(Outcome)), np.int64)
        )
        self._held: list[Lines] = []  # the open block
        self._n_experts = 0
        self._incomplete = self._without_inputs = 0
        self._foreign_width: int | None = None

    def feed(self, records: Records) -> None:
        """Compare the blocks that `records` complete."""
        lines = Lines.of(records)
        starts = _block_starts(lines, self._held[-1] if self._held else None)
        if len(starts):
            last = int(starts[-1])
            complete = joined([*self._held, lines.part(0, last)])
            begins = starts[:-1] + len(complete) - last
            self._compare(complete, np.append(0, begins) if self._held else begins)
            self._held = []
            lines = lines.part(last, len(lines))
        self._held.append(lines.copy())
        if (
            sum(map(len, self._held)) > MAX_HELD_LINES
            or sum(lines.values for lines in self._held) > MAX_HELD_VALUES
        ):
            self.interrupt()

    def interrupt(self) -> None:
        """The lines that follow do not continue those fed so far."""
        if self._held:
            self._compare(joined(self._held), np.zeros(1, np.intp))
        self._held = []

    def agreement(self) -> Agreement:
        """The comparison so far, without an open block."""
        layers = tuple(sorted(self._counts))
        verdict = self._evidence.verdict(self._n_experts)
        counts = np.array([self._counts[layer] for layer in layers], np.int64)
        counts = counts.reshape(len(layers), len(Place), len(Outcome))
        if verdict not in (Verdict.STRIDED, Verdict.MIXED):
            counts[:, Place.RECOVERED] = 0  # chunks that look strided by chance
        return Agreement(layers, counts, verdict, self._incomplete, self._without_inputs, self._foreign_width)

    def _compare(self, lines: Lines, starts: NDArray[np.intp]) -> None:
        """Compare whole blocks, which begin at the lines `starts`."""
        block = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(lines)))
        layer = lines.layer[starts]
        is_row = lines.row < 0
        row_block, gate_block = block[is_row], block[~is_row]
        n_rows, n_gates = (np.bincount(of, minlength=len(starts)) for of in (row_block, gate_block))
        k = lines.experts.widths()
        one_k = np.ones(len(starts), np.bool_)
        one_k[row_block[1:][(k[1:] != k[:-1]) & (row_block[1:] == row_block[:-1])]] = False

        has_inputs = np.isin(layer, self._routers.layers) & (n_gates > 0)
        width = _widths(lines.vectors)
        fits = width == self._routers.n_embd
        if not fits.all():
            self._foreign_width = int(width[~fits][0])
        inputs_block = block[lines.has_vector][fits]
        n_inputs = np.bincount(inputs_block, minlength=len(starts))
        comparable = has_inputs & one_k & (n_rows == n_gates) & (n_inputs == n_gates)
        ordered = lines.row[~is_row] == _index_in_block(gate_block, n_gates)
        comparable[gate_block[~ordered]] = False
        self._without_inputs += int(n_rows[~has_inputs].sum())
        self._incomplete += int(n_rows[has_inputs & ~comparable].sum())

        inputs = np.concatenate(
            [np.empty((0, self._routers.n_embd))]
            + [run for run in lines.vectors if run.shape[1] == self._routers.n_embd]
        )
        first_input = np.cumsum(n_inputs) - n_inputs
        token = _index_in_block(row_block, n_rows)
        row_layer = layer[row_block].astype(np.uint16)
        for experts in lines.experts.tables:
            mine = k == experts.shape[1]
            rows = ExpertRows(  # their step is the block
                row_block[mine], row_layer[mine], token[mine], np.ones(len(experts), np.bool_), experts
            ).select(one_k[row_block[mine]])
            self._n_experts = max(self._n_experts, int(rows.experts.max(initial=0)) + 1)
            _, recovered = examine(rows.select(n_rows[rows.step] > 1), self._evidence)
            place = np.where(rows.token > 0, Place.LATER, Place.FIRST)
            place[n_rows[rows.step] == 1] = Place.SINGLE
            for found, places in ((rows, place), (recovered, np.full(len(recovered), Place.RECOVERED))):
                chosen = comparable[found.step]
                self._count(found.select(chosen), places[chosen], inputs, first_input)

    def _count(
        self,
        rows: ExpertRows,
        place: NDArray[np.int64],
        inputs: NDArray[np.float64],
        first_input: NDArray[np.int64],
    ) -> None:
        """Compare rows of one k with the inputs of their tokens; `first_input` is by block."""
        for layer in np.unique(rows.layer).tolist():
            router = self._routers[layer]
            its_rows = np.flatnonzero(rows.layer == layer)
            at_once = max(1, MAX_SCORES // router.n_experts)
            for begin in range(0, len(its_rows), at_once):
                mine = its_rows[begin : begin + at_once]
                its_inputs = inputs[first_input[rows.step[mine]] + rows.token[mine]]
                outcome = compare(router, its_inputs, rows.experts[mine])
                np.add.at(self._counts[layer], (place[mine], outcome), 1)


def compare(router: Router, inputs: NDArray[np.float64], experts: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Compare selections with those that a router makes.

    Args:
        router: of the layer.
        inputs: (n, n_embd) float64, as printed.
        experts: (n, k) uint16, the selections, best first.

    Returns:
        (n,) int64, values of `Outcome`.
    """
    outcome = np.full(len(experts), Outcome.WRONG, np.int64)
    k = experts.shape[1]
    if k > router.n_experts:
        return outcome
    scores = router.scores(inputs)
    possible = np.flatnonzero((experts < router.n_experts).all(axis=1))
    chosen = experts[possible].astype(np.intp)
    value, low, high = (part[possible] for part in (scores.value, scores.low, scores.high))
    # Going down the selection, no score may be certainly higher than one before it; nor may one left out.
    low_chosen, high_chosen = (np.take_along_axis(part, chosen, axis=1) for part in (low, high))
    np.put_along_axis(low, chosen, -np.inf, axis=1)
    limit = np.minimum.accumulate(high_chosen, axis=1)
    left_out = low.max(axis=1) <= limit[:, -1]
    distinct = (np.diff(np.sort(chosen, axis=1), axis=1) > 0).all(axis=1)
    in_order = (low_chosen[:, 1:] <= limit[:, :-1]).all(axis=1)
    allowed = left_out & distinct & in_order
    best = np.argsort(-value, axis=1, kind="stable")[:, :k]
    same = (np.sort(best, axis=1) == np.sort(chosen, axis=1)).all(axis=1)
    outcome[possible[allowed]] = np.where(same[allowed], Outcome.RIGHT, Outcome.TIE)
    outcome[np.isnan(scores.value).any(axis=1)] = Outcome.UNDEFINED
    return outcome


def _block_starts(lines: Lines, before: Lines | None) -> NDArray[np.intp]:
    """Where blocks begin: at another layer, and at a gate line that does not go on from the line before."""
    layer = np.concatenate((before.layer[-1:] if before else [-1], lines.layer))
    row = np.concatenate((before.row[-1:] if before else [-1], lines.row))
    gate_again = (row[1:] >= 0) & ((row[:-1] < 0) | (row[1:] <= row[:-1]))
    return np.flatnonzero((layer[1:] != layer[:-1]) | gate_again)


def _widths(runs: tuple[NDArray[np.float64], ...]) -> NDArray[np.int64]:
    """(n,) int64: the width of the run that each row is in."""
    return np.repeat(np.array([run.shape[1] for run in runs], np.int64), [len(run) for run in runs])


def _index_in_block(block: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """For lines with ascending `block`, of which each block has `length`: which of its block each is."""
    return np.arange(len(block)) - (np.cumsum(length) - length)[block]
