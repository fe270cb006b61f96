"""Locality along sequences: each text is followed by itself, whatever others are decoded beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.memory import unique
from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.layer_locality import LayerLocality
from moe_live.statistics.locality import Locality
from moe_live.statistics.members import Member
from moe_live.statistics.reuse_totals import ReuseTotals
from moe_live.statistics.statistic import Counted, OnDemand

MAX_SEQUENCES = 32
"""Sequences that are followed each by itself; the others are taken for one, and its steps for successive."""

_OTHERS = -1


class LocalityBySequence:
    """`Locality` of several sequences: as if the rows of one after the other had been read.

    Memory: that of a `Locality` for each sequence. One server slot is one sequence.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, Locality] = {}

    def update(
        self, tables: Iterable[ExpertRows], kind: NDArray[np.int8], sequence: NDArray[np.int64]
    ) -> None:
        """Add steps; see `Locality.update`.

        Args:
            tables: their rows.
            kind: (s,) the kind of each step.
            sequence: (s,) which text each belongs to, -1 for unknown: then one step follows the other.
        """
        tables = tuple(tables)
        counts = kind != Kind.PREFILL
        name = self._names(np.where(counts, sequence, _OTHERS))
        for one in unique(name[counts]).tolist():
            mine = counts & (name == one)
            rows = [table.select(mine[table.step]) for table in tables]
            self._of(one).update(rows, np.where(mine, kind, np.int8(Kind.PREFILL)))

    def settle(self) -> None:
        """What was undecided so far is prefill: leave it out."""
        for locality in self._sequences.values():
            locality.settle()

    def __iadd__(self, other: LocalityBySequence) -> Self:
        """Add the steps of another log, which come after these."""
        for number, locality in other._sequences.items():
            mine = self._of(number if self._follows(number) else _OTHERS)
            mine += locality
        return self

    def summary(self, kinds: Iterable[Kind], n_experts: int) -> tuple[LayerLocality, ...]:
        """See `Locality.summary`; an expert is idle since any of the sequences used it."""
        kinds, whole = tuple(kinds), self._whole().summary(tuple(kinds), n_experts)
        if len(self._sequences) < 2:
            return whole
        idle: dict[int, NDArray[np.float64]] = {}
        every = self._sequences.values()
        for layer in (layer for locality in every for layer in locality.summary(kinds, n_experts)):
            idle[layer.layer] = np.fmin(idle.get(layer.layer, layer.idle_steps), layer.idle_steps)
        return tuple(replace(layer, idle_steps=idle[layer.layer]) for layer in whole)

    def totals(self, kinds: Iterable[Kind], n_experts: int, without: Collection[int]) -> ReuseTotals:
        """See `Locality.totals`."""
        return self._whole().totals(kinds, n_experts, without)

    def _whole(self) -> Locality:
        """All sequences, one after the other."""
        first, *others = [self._sequences[number] for number in sorted(self._sequences)] or [Locality()]
        whole = deepcopy(first) if others else first
        for locality in others:
            whole += locality
        return whole

    def _names(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """(s,) The sequences as what each step is followed."""
        if (sequence == _OTHERS).all():
            return sequence
        numbers, place = np.unique(sequence, return_inverse=True)
        followed = np.array([self._follows(number) for number in numbers.tolist()])
        named: NDArray[np.int64] = np.where(followed, numbers, _OTHERS)[place]
        return named

    def _follows(self, sequence: int) -> bool:
        """Whether a sequence is followed by itself, from now on at least."""
        if sequence not in self._sequences and len(self._sequences) < MAX_SEQUENCES and sequence != _OTHERS:
            self._sequences[sequence] = Locality()
        return sequence in self._sequences

    def _of(self, name: int) -> Locality:
        return self._sequences.setdefault(name, Locality())


def _make(counted: Counted) -> tuple[LayerLocality, ...]:
    found = counted.steps[LocalityBySequence].summary(counted.decode, counted.n_experts)
    return tuple(
        entry
        # Steps of several tokens are no successive tokens.
        if entry.uses == entry.steps * counted.top_k
        else replace(entry, union=dict.fromkeys(entry.union, np.nan))
        for entry in found
        if entry.layer not in counted.drafts
    )


def _make_totals(counted: Counted) -> ReuseTotals:
    locality = counted.steps[LocalityBySequence]
    return locality.totals(counted.decode, counted.n_experts, counted.drafts)


LOCALITY = OnDemand(
    name="locality",
    steps_put_off=(
        Member(
            LocalityBySequence,
            lambda it, portion: it.update(portion.tables, portion.kind, portion.sequence),
        ),
    ),
    make=_make,
)

REUSE = OnDemand(name="reuse", make=_make_totals, rests_on=LOCALITY.name)
"""What the same accumulators come to over all layers."""
