"""How soon each layer's experts are used again in decode: the sums that `layer_locality` makes figures of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.memory import Scratch
from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.columns import Columns
from moe_live.statistics.layer_locality import LayerLocality, summarize
from moe_live.statistics.planes import Slots
from moe_live.statistics.recency import Listing
from moe_live.statistics.reuse import Reuse
from moe_live.statistics.reuse_totals import ReuseTotals

_FEW_LISTINGS = 4
_NO_LAYER = np.empty(0, np.uint16)


class Locality:
    """Reuse of experts over decode steps, with and without those that may yet turn out to be prefill.

    Memory: that of a `Reuse`, and as much again while there are undecided steps.

    >>> zero, one = np.zeros(4, np.int64), np.ones(4, np.bool_)
    >>> experts = np.array([[0, 1], [1, 2], [0, 1], [0, 1]], np.uint16)
    >>> rows = ExpertRows(np.arange(4), zero.astype(np.uint16), zero, one, experts)
    >>> locality = Locality()
    >>> locality.update([rows], np.full(4, Kind.DECODE, np.int8))
    >>> (layer,) = locality.summary([Kind.DECODE], n_experts=4)
    >>> layer.overlap[1], layer.reuse_median, layer.lru_hit_rate.tolist()
    (0.6666666666666666, 1.0, [0.25, 0.5, 0.625, 0.625])
    """

    def __init__(self) -> None:
        self._slots = Slots()
        self._columns = Columns()
        self._decided = Reuse()
        self._with_undecided: Reuse | None = None  # None as long as it would be the same
        self._scratch = Scratch()

    def update(self, tables: Iterable[ExpertRows], kind: NDArray[np.int8]) -> None:
        """Add steps.

        Args:
            tables: expert rows, the steps ascending in each; their `step` indexes `kind`. All rows of a step
                that count, in tables of one k each.
            kind: (s,) the kind of each step.
        """
        tables = tuple(tables)
        self._slots.of(np.concatenate([_NO_LAYER, *(rows.layer for rows in tables)]))
        self._reserve(self._columns.learn(*(rows.experts for rows in tables)))
        undecided = kind == Kind.UNDECIDED
        if self._with_undecided is None and undecided.any():
            self._with_undecided = deepcopy(self._decided)
        self._add(self._decided, tables, kind == Kind.DECODE)
        if self._with_undecided is not None:
            self._add(self._with_undecided, tables, undecided | (kind == Kind.DECODE))

    def settle(self) -> None:
        """What was undecided so far is prefill: leave it out."""
        self._with_undecided = None

    def __iadd__(self, other: Locality) -> Self:
        """Add the steps of another log, which come after these."""
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        self._reserve(self._columns.include(other._columns))
        _, where = self._columns.common(other._columns.experts)
        if self._with_undecided is None and other._with_undecided is not None:
            self._with_undecided = deepcopy(self._decided)
        if self._with_undecided is not None:
            self._with_undecided.merge(other._with_undecided or other._decided, slots, where)
        self._decided.merge(other._decided, slots, where)
        return self

    def summary(self, kinds: Iterable[Kind], n_experts: int) -> tuple[LayerLocality, ...]:
        """Locality of the layers with decode steps, ascending.

        Args:
            kinds: those that count as decode: with or without `Kind.UNDECIDED`.
            n_experts: experts of a layer, at least the highest id plus one.
        """
        return summarize(self._of(kinds), self._slots.layers, self._columns.experts, n_experts)

    def totals(self, kinds: Iterable[Kind], n_experts: int, without: Collection[int]) -> ReuseTotals:
        """What it comes to over all layers but those; see `summary`."""
        reuse = self._of(kinds)
        slots = [slot for slot in range(len(reuse.steps)) if self._slots.layers[slot] not in without]
        return ReuseTotals.of(reuse, slots, n_experts)

    def _of(self, kinds: Iterable[Kind]) -> Reuse:
        """The sums over the steps of these kinds."""
        if self._with_undecided is not None and Kind.UNDECIDED in kinds:
            return self._with_undecided
        return self._decided

    def _add(self, reuse: Reuse, tables: Iterable[ExpertRows], counts: NDArray[np.bool_]) -> None:
        """Add the steps that count."""
        n_steps = int(np.count_nonzero(counts))
        if n_steps < len(counts):
            tables = [rows.select(counts[rows.step]) for rows in tables]
        tables = [rows for rows in tables if len(rows)]
        if tables:
            self._add_rows(reuse, tables, counts, n_steps)
        reuse.passed += n_steps

    def _add_rows(
        self, reuse: Reuse, tables: Sequence[ExpertRows], counts: NDArray[np.bool_], n_steps: int
    ) -> None:
        """Add the rows of `n_steps` steps, those that count."""
        slots = [self._slots.of(rows.layer) for rows in tables]
        number = np.cumsum(counts) - 1
        k = max(rows.experts.shape[1] for rows in tables)
        listings = [
            Listing(
                number[rows.step], slot, number[rows.step], rows.token * k, self._columns.of(rows.experts.T)
            )
            for rows, slot in zip(tables, slots, strict=True)
        ]
        if kernels.can_count_uses(len(self._columns)):
            rows = _in_order_of_use(listings, len(self._slots))
            reuse.count(rows.step, rows.slot, rows.by_rank)
            return
        if len(listings) > _FEW_LISTINGS:
            rows = _one_by_one(listings)
            listings = [_taken(rows, np.argsort(rows.time, kind="stable"))]
        listings, passed = _in_layer_time(listings, n_steps, len(self._slots))
        by_passed = np.argsort(passed, kind="stable")[np.count_nonzero(passed == 0) :]
        size = reuse.batch_layers()
        for first in range(0, len(by_passed), size):
            some = by_passed[first : first + size]
            self._add_layers(reuse, some, passed[some], _of_layers(listings, some, len(passed)))

    def _add_layers(
        self,
        reuse: Reuse,
        slots: NDArray[np.int64],
        passed: NDArray[np.int64],
        listings: list[Listing],
    ) -> None:
        """Add steps of some layers.

        Args:
            reuse: where to add them.
            slots: (l,) the layers.
            passed: (l,) steps of each, ascending.
            listings: their rows; `slot` is an index of `slots`.
        """
        per_step = max(int(rows.place.max()) + len(rows.by_rank) for rows in listings)
        begin = done = 0
        while done < len(slots):
            end = min(begin + reuse.batch_size(len(slots) - done, per_step), int(passed[done]))
            run = []
            for rows in listings:
                part = slice(*np.searchsorted(rows.time, (begin, end)))
                if part.start < part.stop:
                    time, slot = rows.time[part] - begin, rows.slot[part] - done
                    step, place = rows.step[part], rows.place[part]
                    run.append(Listing(time, slot, step, place, rows.by_rank[:, part]))
            reuse.update(slots[done:], end - begin, run, self._scratch)
            begin, done = end, int(np.searchsorted(passed, end, "right"))

    def _reserve(self, where: NDArray[np.int64]) -> None:
        """Room for all layers and columns, those so far `where` they are now."""
        for reuse in (self._decided, self._with_undecided):
            if reuse is not None:
                reuse.reserve(len(self._slots), len(self._columns), where)


def _one_by_one(listings: list[Listing]) -> Listing:
    """The same experts in rows of one each, so that rows of many different k are looked at together.

    They are in no order: those of each listing follow those of the one before.
    """
    return Listing(
        np.concatenate([np.repeat(rows.time, len(rows.by_rank)) for rows in listings]),
        np.concatenate([np.repeat(rows.slot, len(rows.by_rank)) for rows in listings]),
        np.concatenate([np.repeat(rows.step, len(rows.by_rank)) for rows in listings]),
        np.concatenate([(rows.place[:, None] + np.arange(len(rows.by_rank))).ravel() for rows in listings]),
        np.concatenate([rows.by_rank.T.reshape(-1) for rows in listings])[None],
    )


def _as_wide(listings: list[Listing]) -> Listing:
    """The same experts in rows of one k, in no order: the last one of a shorter row is named again.

    If that made them many more, they are in rows of one each.
    """
    k = max(len(rows.by_rank) for rows in listings)
    if k * sum(len(rows.time) for rows in listings) > 2 * sum(rows.by_rank.size for rows in listings):
        return _one_by_one(listings)
    return Listing(
        np.concatenate([rows.time for rows in listings]),
        np.concatenate([rows.slot for rows in listings]),
        np.concatenate([rows.step for rows in listings]),
        np.concatenate([rows.place for rows in listings]),
        np.concatenate(
            [rows.by_rank.take(np.minimum(np.arange(k), len(rows.by_rank) - 1), axis=0) for rows in listings],
            axis=1,
        ),
    )


def _in_order_of_use(listings: list[Listing], n_layers: int) -> Listing:
    """The rows with those of one step and layer beside each other, in the order of use."""
    rows = listings[0] if len(listings) == 1 else _as_wide(listings)
    order = (rows.step * n_layers + rows.slot) * (rows.place.max() + 1) + rows.place
    return rows if (order[1:] >= order[:-1]).all() else _taken(rows, np.argsort(order, kind="stable"))


def _in_layer_time(
    listings: list[Listing], n_steps: int, n_layers: int
) -> tuple[list[Listing], NDArray[np.int64]]:
    """Count time in steps of each layer, whatever steps other layers have.

    Args:
        listings: rows, ascending by `time`, which counts all steps.
        n_steps: how many.
        n_layers: all layers.

    Returns:
        The same, ascending by the time of their layers, and how much of it (n_layers,) passes.
    """
    if n_steps * n_layers <= 8 * sum(len(rows.time) for rows in listings):  # no more memory than they take
        has_rows = np.zeros((n_steps, n_layers), np.bool_)
        for rows in listings:
            has_rows[rows.time, rows.slot] = True
        passed = np.count_nonzero(has_rows, axis=0)
        if ((passed == 0) | (passed == n_steps)).all():
            return listings, passed
    step, place = np.unique(
        np.concatenate([rows.slot * n_steps + rows.time for rows in listings]), return_inverse=True
    )
    slot = step // n_steps
    passed = np.bincount(slot, minlength=n_layers)
    time = np.split(
        (np.arange(len(step)) - (np.cumsum(passed) - passed)[slot])[place],
        np.cumsum([len(rows.time) for rows in listings[:-1]]),
    )
    in_layer = [replace(rows, time=own) for rows, own in zip(listings, time, strict=True)]
    return [_taken(rows, np.argsort(rows.time, kind="stable")) for rows in in_layer], passed


def _of_layers(listings: list[Listing], slots: NDArray[np.int64], n_layers: int) -> list[Listing]:
    """The rows of some of `n_layers` layers; their `slot` is an index of `slots`."""
    if np.array_equal(slots, np.arange(n_layers)):
        return listings
    index = np.full(n_layers, -1)
    index[slots] = np.arange(len(slots))
    found = [replace(rows, slot=index[rows.slot]) for rows in listings]
    return [_taken(rows, np.flatnonzero(rows.slot >= 0)) for rows in found if rows.slot.max() >= 0]


def _taken(rows: Listing, which: NDArray[np.intp]) -> Listing:
    """The rows at these indices (n,)."""
    return Listing(
        rows.time[which],
        rows.slot[which],
        rows.step[which],
        rows.place[which],
        np.take(rows.by_rank, which, axis=1),
    )
