"""How the experts of one layer foretell those of the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.dataclass import dataclass
from moe_live.statistics.blocks import CERTAIN
from moe_live.statistics.cells import Cells
from moe_live.statistics.columns import Columns, experts_of, moved
from moe_live.statistics.members import Member
from moe_live.statistics.planes import Slots
from moe_live.statistics.prediction import PairedRows, tested
from moe_live.statistics.rows import MAX_TOGETHER, RowsByLayer, highest_of, most_counted, same_tokens
from moe_live.statistics.sampling import TokenSample
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import roomy

MAX_CELLS = 1 << 25
"""Experts squared, summed over the layers, at most: the tables have fewer cells than that (32 to 128 MB). It
admits 127 layers of 512 experts; a larger model is not counted."""

MAX_WIDTH = 1 << 10
"""Columns of a layer at most. One that uses more experts is none of a model, and nothing is counted."""

RENEWED = 2
"""Pairs of layers that are tested anew at a time, where that is to take some milliseconds only."""

Pair = tuple[int, int]
"""A layer and the next."""

_TOGETHER = 1 << 17  # cells of the tables of pairs that are tested at once

_CHUNK = 1 << 16  # pairs handled at a time: what fits a processor's cache


class Transitions:
    """Exact counts N_ij of tokens with expert i in one layer and j in the next, over all kinds of steps.

    The next layer is the next higher one with rows anywhere in the log; counts between layers that turn out
    not to be consecutive are dropped. A token counts where both its rows stand in whole blocks, have the same
    k and name no expert twice.

    Memory: that of `Cells`, 51 KB a layer of 160 experts, 0.26 to 1 MB of 512. If a model exceeds `MAX_CELLS`
    or `MAX_WIDTH`, all counts are given up and `too_large` is set.

    Attributes:
        columns: of the tables.
        known: what was told of each pair of layers when they were asked for last.
    """

    def __init__(self) -> None:
        self.too_large = False
        self.known: Mapping[Pair, LayerTransition] = {}
        self.columns = Columns()
        self._slots = Slots()
        self._capacity = np.zeros(0, np.int64)  # columns for a layer
        # For each layer, its table of the transitions to the next: height x width cells from `base` on.
        self._next = np.zeros(0, np.int64)  # the next layer, -1 for none
        self._tokens = np.zeros(0, np.int64)
        self._height = np.zeros(0, np.int64)
        self._width = np.zeros(0, np.int64)
        self._base = np.zeros(0, np.int64)
        self._counts = Cells()

    @property
    def layers(self) -> list[int]:
        """Layers with rows, ascending."""
        return sorted(self._slots.layers)

    def update(self, tables: Sequence[RowsByLayer]) -> None:
        """Count rows."""
        where = self.columns.learn(*(table.by_rank for table in tables))
        layers, highest = highest_of(tables)
        self._notice(layers, self.columns.of(highest) + np.int64(1), where)
        if self.too_large:
            return
        self._counts.make_room(most_counted(tables, self._counts.half))
        for table in tables:
            slots = self._slots.of(table.layers)
            goes_on = np.append(table.layers[1:], -2) == self._next[slots]  # -1 stands for none
            if table.has_same_tokens and self._count_all(table, slots, goes_on):
                continue
            upper = table.of(0)
            for index, slot in enumerate(slots.tolist()):
                lower = upper
                if index + 1 < len(slots):
                    upper = table.of(index + 1)
                if goes_on[index]:
                    self._count(slot, *map(self.columns.of, same_tokens(lower, upper)))

    def settle(self) -> None:
        """A higher layer was seen: rows count here whatever the kind of their step."""

    def __iadd__(self, other: Transitions) -> Self:
        """Add the counts of another log, which comes after this one."""
        where = self.columns.include(other.columns)
        _, place = self.columns.common(other.columns.experts)
        self._notice(np.array(other._slots.layers, np.uint16), moved(other._capacity, place), where)
        if self.too_large or other.too_large:
            self._give_up()
            return self
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        theirs = np.flatnonzero((self._next[slots] == other._next) & (other._next >= 0))
        slots = slots[theirs]
        self._tokens[slots] += other._tokens[theirs]
        self._counts.make_room_for(other._counts)
        for slot, source in zip(slots.tolist(), theirs.tolist(), strict=True):
            ours, (_, width) = self._place(slot)
            begin, shape = other._place(source)
            self._counts.add(ours + _rectangle(shape, width, place), other._counts, begin)
        return self

    def tokens(self, layer: int, following: int) -> int:
        """Tokens counted from one layer to another."""
        slot = self._find(layer, following)
        return 0 if slot is None else int(self._tokens[slot])

    def counts(self, layer: int, following: int, experts: NDArray[np.int64]) -> NDArray[np.integer]:
        """Tokens (E, E) with expert i in `layer` and j in `following`, if that is next; not to be written to.

        Of these experts (E,), ascending.
        The counts of two accumulators over different rows may simply be added, as wider ones.
        """
        slot = self._find(layer, following)
        if slot is None:
            return np.zeros((len(experts), len(experts)), np.int64)
        begin, shape = self._place(slot)
        return self.columns.spread(self._counts.counts(begin, math.prod(shape)).reshape(shape), experts)

    def _find(self, layer: int, following: int) -> int | None:
        if self.too_large or layer not in self._slots.layers:
            return None
        slot = self._slots.layers.index(layer)
        return slot if self._next[slot] == following else None

    def _place(self, slot: int) -> tuple[int, tuple[int, int]]:
        """Where the table of one layer begins, and its shape."""
        return int(self._base[slot]), (int(self._height[slot]), int(self._width[slot]))

    def _count_all(self, table: RowsByLayer, slots: NDArray[np.int64], goes_on: NDArray[np.bool_]) -> bool:
        """Count a table with the same tokens in all layers, if that can be done at once."""
        base, rows = np.where(goes_on, self._base[slots], -1), self.columns.of(table.rows)
        counted = kernels.count_transitions(self._counts.low, base, self._width[slots], table.bounds, rows)
        if counted:
            self._tokens[slots[goes_on]] += table.sizes[goes_on]
        return counted

    def _count(self, slot: int, lower: NDArray[np.uint16], upper: NDArray[np.uint16]) -> None:
        """Count tokens by their experts in one layer (k, m) and in the next (l, m): there is room."""
        tokens = lower.shape[1]
        self._tokens[slot] += tokens
        begin, (height, width) = self._place(slot)
        counts = self._counts.low[begin : begin + height * width]
        pair = np.array([0, -1]), np.array([width, 0]), np.array([0, tokens, 2 * tokens])
        if kernels.count_transitions(counts, *pair, np.concatenate((lower, upper), axis=1)):
            return
        one = counts.dtype.type(1)  # a Python integer would make this a hundred times slower
        key = np.dtype(np.uint16 if len(counts) <= 1 << 16 else np.uint32).type
        chunk = max(1, _CHUNK // (len(lower) * len(upper)))
        for start in range(0, lower.shape[1], chunk):
            part = slice(start, start + chunk)
            line = lower[:, part].astype(key) * key(width)
            cell = line[:, None] + upper[:, part].astype(key, copy=False)
            np.add.at(counts, cell.reshape(-1).astype(np.int64), one)

    def _notice(self, layers: NDArray[np.uint16], width: NDArray[np.int64], where: NDArray[np.int64]) -> None:
        """Learn of layers; make room for their transitions.

        Args:
            layers: (n,) their numbers.
            width: (n,) columns that each needs at least.
            where: (columns,) where the columns so far are to be.
        """
        slot = self._slots.of(layers)
        new = len(self._slots) - len(self._next)
        if new:
            for name in ("_capacity", "_tokens", "_height", "_width", "_base"):
                setattr(self, name, np.concatenate((getattr(self, name), np.zeros(new, np.int64))))
            following = dict(pairwise(self.layers))
            before = np.concatenate((self._next, np.full(new, -1)))
            self._next = np.array([following.get(layer, -1) for layer in self._slots.layers])
            # What turns out not to be consecutive is forgotten.
            self._tokens[self._next != before] = self._height[self._next != before] = 0
        capacity = moved(self._capacity, where)
        np.maximum.at(capacity, slot, roomy(width))
        if new or (capacity > self._capacity).any():
            self._capacity = capacity
            self._lay_out(where)

    def _lay_out(self, where: NDArray[np.int64]) -> None:
        """Make each table as large as its two layers need, with the columns so far `where` they are to be."""
        # The limit must not depend on which layers were consecutive before others were seen.
        capacity = self._capacity
        if self.too_large or (capacity**2).sum() > MAX_CELLS or capacity.max(initial=0) > MAX_WIDTH:
            self._give_up()
            return
        has_next = self._next >= 0
        height, width = np.where(has_next, capacity, 0), np.zeros_like(capacity)
        width[has_next] = capacity[self._slots.of(self._next[has_next].astype(np.uint16))]
        cells = height * width
        base = np.cumsum(cells) - cells
        counts = Cells(int(cells.sum()), self._counts)
        for slot in np.flatnonzero(self._height).tolist():
            begin, shape = self._place(slot)
            counts.add(base[slot] + _rectangle(shape, int(width[slot]), where), self._counts, begin)
        self._height, self._width, self._base, self._counts = height, width, base, counts

    def _give_up(self) -> None:
        self.too_large = True
        self._counts = Cells()


def _rectangle(shape: tuple[int, int], width: int, where: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the cells of a table are in one of `width` columns once the columns are moved."""
    height, columns = shape
    place: NDArray[np.int64] = where[:height, None] * width + where[:columns]
    return place.reshape(-1)


@dataclass(frozen=True, slots=True)
class LayerTransition:
    """How well the experts of one layer foretell those of the next.

    Attributes:
        from_layer: the lower layer.
        to_layer: the next.
        tokens: tokens behind the counts.
        tested: tokens of the sample that predictions were tested on; the rates are NaN if there are none.
        hit_rate: share of a token's experts in the upper layer that are among the k predicted from its
            experts in the lower one.
        static_hit_rate: the same if the k experts most used in the upper layer are predicted every time.
        chance: k / E.
        gain: how much more of the experts is predicted from the lower layer than by the most used ones, both
            learned on one half of the sample and tested on the other, in time; NaN if a half is empty. It is
            less than the rates differ: half of a sample teaches less.
        gain_error: its standard error, from how parts of the time differ; NaN with fewer than a token a part.
    """

    from_layer: int
    to_layer: int
    tokens: int
    tested: int
    hit_rate: float
    static_hit_rate: float
    chance: float
    gain: float
    gain_error: float

    @property
    def certain(self) -> float:
        """What the gain is at least, almost certainly: `CERTAIN` errors less. NaN if that is unknown."""
        return self.gain - CERTAIN * self.gain_error


def summarize(
    accumulators: Sequence[Transitions],
    sample: TokenSample,
    n_experts: int,
    *,
    experts: NDArray[np.int64] | None = None,
    known: Mapping[Pair, LayerTransition] | None = None,
) -> tuple[LayerTransition, ...]:
    """All pairs of consecutive layers with tokens, over the rows of all `accumulators` together.

    Predictions are those of `prediction.hits`, tested on `TESTED_TOKENS` tokens at most of a `sample` of the
    same rows: the standard error of a rate is some 1 %.

    Args:
        accumulators: the counts.
        sample: of the tokens.
        n_experts: experts a layer.
        experts: (E,) those that may be chosen, ascending: all that are in rows; None for 0 to n_experts - 1.
        known: summaries made earlier: of these pairs only the `RENEWED` whose tokens have grown most since
            are tested again, the others stay as they were. None to test every pair.
    """
    if any(accumulator.too_large for accumulator in accumulators):
        return ()
    experts = np.arange(n_experts) if experts is None else experts
    tokens = {}
    for pair in pairwise(sorted({layer for accumulator in accumulators for layer in accumulator.layers})):
        if number := sum(accumulator.tokens(*pair) for accumulator in accumulators):
            tokens[pair] = number
    if not tokens:
        return ()
    summaries = {pair: summary for pair, summary in (known or {}).items() if pair in tokens}
    for pair in sorted(summaries, key=lambda pair: summaries[pair].tokens / tokens[pair])[:RENEWED]:
        del summaries[pair]
    untested = [pair for pair in tokens if pair not in summaries]
    tables = [
        PairedRows.of(rows, untested, experts)
        for rows in (sample.rows() if untested else ())
        if rows.experts.shape[1] <= MAX_TOGETHER
    ]
    step = max(1, _TOGETHER // len(experts) ** 2)
    for begin in range(0, len(untested), step):
        pairs = untested[begin : begin + step]
        counts = np.zeros((len(pairs), len(experts), len(experts)), np.int64)
        for accumulator in accumulators:
            for index, pair in enumerate(pairs):
                if accumulator.tokens(*pair):
                    counts[index] += accumulator.counts(*pair, experts)
        found = tested(counts, [table.of_pairs(begin, begin + len(pairs)) for table in tables])
        figures = zip(*(array.tolist() for array in found), strict=True)
        for pair, (number, rate, static, together, *gain) in zip(pairs, figures, strict=True):
            summaries[pair] = LayerTransition(
                *pair, tokens[pair], number, rate, static, together / n_experts, *gain
            )
    return tuple(summaries[pair] for pair in tokens)


def _make(counted: Counted) -> tuple[LayerTransition, ...]:
    """All anew, or only some, and the others as they were when asked for last."""
    accumulators = counted.of_rows(Transitions)
    *_, last = accumulators  # which rows count may change, and this one then changes too
    found = summarize(
        accumulators,
        counted.sample,
        counted.n_experts,
        experts=experts_of([accumulator.columns for accumulator in accumulators], counted.n_experts),
        known=None if counted.anew else last.known,
    )
    last.known = {(entry.from_layer, entry.to_layer): entry for entry in found}
    return tuple(entry for entry in found if entry.to_layer not in counted.drafts)


TRANSITIONS = OnDemand(
    name="transitions",
    rows_put_off=(Member(Transitions, lambda it, portion: it.update(portion.by_layer)),),
    make=_make,
    sampled=True,
)
