"""A sample of the tokens of a log that does not depend on how the log is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind

SAMPLED_SELECTIONS = 1 << 18
"""Budget of the sample of a log: 368 tokens of 89 layers and 8 experts, 11 for each of the 32 bins of a
history; 278 tokens of 94 layers and 10 experts."""

_CHUNK = 1 << 14  # rows handled at a time: what fits a processor's cache
_HASHED_EXPERTS = 4  # of a row; a token has rows of many layers
_ODD_1 = np.uint64(0x9E3779B97F4A7C15)
_ODD_2 = np.uint64(0xBF58476D1CE4E5B9)
_ODD_3 = np.uint64(0x94D049BB133111EB)
_LARGEST = np.uint64(0xFFFFFFFFFFFFFFFF)
_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class SampledRows:
    """Rows of sampled tokens, all with the same k, by rank and then by layer.

    Attributes:
        hash: (n,) uint64, the hash of the row's token.
        step: (n,) int64, the number of its step in the log.
        token: (n,) int64, its index in the step.
        kind: (n,) int8, the kind of the step.
        layer: (n,) uint16.
        experts: (n, k) uint16.
        rank: (n,) int64, the place of the token in the sample: those below any number are a sample too.
    """

    hash: NDArray[np.uint64]
    step: NDArray[np.int64]
    token: NDArray[np.int64]
    kind: NDArray[np.int8]
    layer: NDArray[np.uint16]
    experts: NDArray[np.uint16]
    rank: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.layer)

    def take(self, rows: NDArray[np.intp]) -> SampledRows:
        """These rows."""
        return SampledRows(*(getattr(self, field.name).take(rows, axis=0) for field in fields(self)))

    def below(self, limit: np.uint64) -> SampledRows:
        """The rows of the tokens with lower hashes."""
        near = self.hash < limit
        number = np.count_nonzero(near)
        if near[:number].all():  # as in those that are in order already: nothing is copied
            return self.first(int(number))
        return self.take(np.flatnonzero(near))

    def first(self, number: int) -> SampledRows:
        """So many of the first rows."""
        if number == len(self):
            return self
        return SampledRows(*(getattr(self, field.name)[:number] for field in fields(self)))


class Sampled(NamedTuple):
    """The rows of a sample, in no order, and how many steps the log has that it is of."""

    steps: int
    rows: tuple[SampledRows, ...]


class TokenSample:
    """The rows of a random sample of tokens: those with the lowest hashes of what they chose.

    A bottom-k sample (Cohen and Kaplan, PODC 2007): every token whose hash is below a limit, the highest at
    which they have at most `budget` selections together. It is a function of the set of tokens alone, so
    neither batches nor merging show in it. Tokens with the same experts throughout are in it together or not
    at all: where a log repeats few different tokens many times, the sample is of few of them.

    Only rows of whole blocks belong to a token. One whose layers differ in k is a token for each k.

    Memory: about 2 + 60/k bytes a selection of twice the budget, and 1.5 times it between updates.

    Args:
        budget: selections (expert ids) to keep.
        steps: steps of the log that come before.
    """

    def __init__(self, budget: int, *, steps: int = 0) -> None:
        self.steps = steps
        self._budget = budget
        self._held: dict[int, list[SampledRows]] = {}
        self._selections = 0
        self._limit = _LARGEST
        self._pruned = True

    @property
    def empty(self) -> bool:
        """Whether no token has come so far."""
        return not self._held and self._limit == _LARGEST

    def update(self, tables: Iterable[ExpertRows], kind: NDArray[np.int8]) -> None:
        """Consider the tokens of some steps.

        Args:
            tables: expert rows; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
        """
        for table in tables:
            rows = table if table.whole.all() else table.select(table.whole)
            if not len(rows):
                continue
            number = _token_numbers(rows)
            hashes = _token_hashes(rows, number)
            near = hashes < self._limit
            chosen = np.flatnonzero(near.take(number)) if near.any() else _NO_ROWS
            if len(chosen) * rows.experts.shape[1] > self._budget:  # most would not stay: do not copy them
                selections = np.bincount(number) * rows.experts.shape[1]
                self._limit = min(self._limit, _limit(hashes, selections, self._budget))
                self._pruned = False
                chosen = np.flatnonzero((hashes < self._limit)[number])
            if not len(chosen):
                continue
            step = rows.step.take(chosen)
            self._hold(
                SampledRows(
                    hash=hashes.take(number.take(chosen)),
                    step=step + self.steps,
                    token=rows.token.take(chosen),
                    kind=kind.take(step),
                    layer=rows.layer.take(chosen),
                    experts=rows.experts.take(chosen, axis=0),
                    rank=np.zeros(len(chosen), np.int64),
                )
            )
        self.steps += len(kind)

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        for parts in self._held.values():
            for rows in parts:
                rows.kind[rows.kind == Kind.UNDECIDED] = Kind.PREFILL

    def __iadd__(self, other: TokenSample) -> Self:
        """Add the tokens of another log, which come after these."""
        self._add(other, self.steps)
        self.steps += other.steps
        return self

    def add_rows(self, other: TokenSample) -> None:
        """Add other tokens of the same steps."""
        self._add(other, 0)
        self.steps = max(self.steps, other.steps)

    def _add(self, other: TokenSample, shift: int) -> None:
        self._limit = min(self._limit, other._limit)
        self._pruned = False
        for parts in other._held.values():
            for rows in parts:
                self._hold(replace(rows, step=rows.step + shift))

    def rows(self) -> tuple[SampledRows, ...]:
        """The sample, one entry for each k, ascending."""
        if not self._pruned:
            self._prune()
        return tuple(part for k in sorted(self._held) for part in self._held[k])

    def unordered(self) -> Sampled:
        """The same rows in few pieces, in no order and without ranks, which takes less."""
        self._lower_limit()
        for parts in self._held.values():
            if len(parts) > 2:
                parts[1:] = [_joined(parts[1:])]  # the first has most of them, in order
        rows = (rows.below(self._limit) for parts in self._held.values() for rows in parts)
        return Sampled(self.steps, tuple(rows))

    def _hold(self, rows: SampledRows) -> None:
        self._held.setdefault(rows.experts.shape[1], []).append(rows)
        self._selections += rows.experts.size
        self._pruned = False
        if 2 * self._selections > 3 * self._budget:
            self._prune()

    def _lower_limit(self) -> None:
        """See to it that tokens below the limit are no more than the budget allows."""
        if self._selections > self._budget:
            held = [part for parts in self._held.values() for part in parts]
            hashes = np.concatenate([part.hash for part in held])
            selections = np.repeat([part.experts.shape[1] for part in held], [len(part) for part in held])
            self._limit = min(self._limit, _limit(hashes, selections, self._budget))

    def _prune(self) -> None:
        """Leave one part for each k, and only tokens below the limit that the budget sets."""
        self._pruned = True
        self._lower_limit()
        # What stays is picked before it is joined: of the rest nothing is copied.
        parts = [_joined([rows.below(self._limit) for rows in self._held.pop(k)]) for k in sorted(self._held)]
        self._selections = 0
        if not parts:
            return
        hashes, step, token, layer = (
            np.concatenate(columns)
            for columns in zip(
                *((part.hash, part.step, part.token, part.layer) for part in parts), strict=True
            )
        )
        width = np.repeat([part.experts.shape[1] for part in parts], [len(part) for part in parts])
        order = _order(hashes, width, step, token, layer)
        begins = np.arange(len(order)) == 0
        for key in (hashes, width, step, token):
            ordered = key.take(order)
            begins[1:] |= ordered[1:] != ordered[:-1]
        rank = np.cumsum(begins) - 1
        first = 0
        for part in parts:
            mine: NDArray[np.bool_] | slice = slice(None)
            if len(parts) > 1:
                mine = (order >= first) & (order < first + len(part))
            places = order[mine] - first
            if len(places):
                taken = part.take(places)
                taken.rank[:] = rank[mine]
                self._held[part.experts.shape[1]] = [taken]
                self._selections += taken.experts.size
            first += len(part)


def _joined(parts: list[SampledRows]) -> SampledRows:
    if len(parts) == 1:
        return parts[0]
    return SampledRows(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(SampledRows))
    )


def _limit(hashes: NDArray[np.uint64], selections: NDArray[np.int64], budget: int) -> np.uint64:
    """The lowest hash up to which tokens (n,) have more `selections` (n,) than `budget`; there is one."""
    k = int(selections[0])
    if (selections == k).all():
        place = budget // k
        nearest: np.uint64 = np.partition(hashes, place)[place]
        return nearest
    order = np.argsort(hashes)
    limit: np.uint64 = hashes[order[np.searchsorted(np.cumsum(selections[order]), budget, side="right")]]
    return limit


def _order(*keys: NDArray[np.integer]) -> NDArray[np.intp]:
    """What puts rows in the order of their keys (n,), of which the first matters most.

    Rows come sorted but for the first one, as a rule: only what is alike in that can tell.
    """
    first, *others = keys
    order = np.argsort(first, kind="stable")
    # Where two neighbours are alike in all keys before this one, it must not go down.
    ordered = first.take(order)
    alike = ordered[1:] == ordered[:-1]
    for key in others:
        ordered = key.take(order)
        if (alike & (ordered[1:] < ordered[:-1])).any():
            return np.lexsort(keys[::-1])
        alike &= ordered[1:] == ordered[:-1]
    return order


def _token_numbers(rows: ExpertRows) -> NDArray[np.int64]:
    """A small number (n,) for each row that rows of one step and token share."""
    if not rows.token.any():
        return rows.step
    tokens = np.zeros(int(rows.step.max()) + 1, np.int64)
    np.maximum.at(tokens, rows.step, rows.token + 1)
    numbers: NDArray[np.int64] = (np.cumsum(tokens) - tokens)[rows.step] + rows.token
    return numbers


def _token_hashes(rows: ExpertRows, number: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A hash (max(number) + 1,) of the rows of each token, whatever their order."""
    token = np.zeros(int(number.max()) + 1, np.uint64)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        row = rows.layer[part].astype(np.uint64)
        row += np.uint64(rows.experts.shape[1] << 16)
        for expert in rows.experts.T[:_HASHED_EXPERTS, part]:
            row *= _ODD_1
            row += expert
        row ^= row >> np.uint64(29)
        row *= _ODD_2
        row ^= row >> np.uint64(32)
        np.add.at(token, number[part], row)
    # The finalizer of SplitMix64 (Steele et al., OOPSLA 2014).
    token ^= token >> np.uint64(30)
    token *= _ODD_2
    token ^= token >> np.uint64(27)
    token *= _ODD_3
    token ^= token >> np.uint64(31)
    return token
