"""Which experts the latest steps use: what caches and placements are tried out on."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind, StepBatch, repeats
from moe_live.settings import DEFAULT_LATEST_USES
from moe_live.statistics.members import Member
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import places_of

_CELLS = 1 << 20  # of the table in which repeated uses of a block meet


@dataclass(frozen=True, slots=True, eq=False)
class Uses:
    """The experts that each layer of some successive steps uses, each once, in the order of the log.

    A step computes its layers one after the other, and a layer all its tokens at once: the uses of one step
    and layer are wanted together. An expert that several tokens of them choose stands where the last one
    names it.

    Attributes:
        layers: numbers of the layers, ascending.
        n_experts: experts a layer.
        decode: (s,) bool, which steps are decode; all others are prefill.
        tokens: (s,) int64, tokens of each step, as far as their rows are known.
        step: (n,) int64, index of the step, ascending.
        slot: (n,) int64, index of the layer, ascending within a step.
        expert: (n,) int64.
        count: (n,) int64, how many tokens of the step chose it, 1 or more.
    """

    layers: tuple[int, ...]
    n_experts: int
    decode: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    step: NDArray[np.int64]
    slot: NDArray[np.int64]
    expert: NDArray[np.int64]
    count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def steps(self) -> int:
        """Decode steps."""
        return int(np.count_nonzero(self.decode))

    @property
    def decode_tokens(self) -> int:
        """Tokens of decode steps."""
        return int(self.tokens[self.decode].sum())

    def latest(self, most: int) -> Uses:
        """The latest whole steps that have so many uses at most; the last one at least."""
        if len(self) <= most:
            return self
        uses = np.cumsum(np.bincount(self.step, minlength=len(self.decode))[::-1])
        first = len(self.decode) - max(1, int(np.searchsorted(uses, most, "right")))
        begin = int(np.searchsorted(self.step, first))
        return replace(
            self,
            decode=self.decode[first:],
            tokens=self.tokens[first:],
            step=self.step[begin:] - first,
            slot=self.slot[begin:],
            expert=self.expert[begin:],
            count=self.count[begin:],
        )

    @property
    def in_second(self) -> NDArray[np.bool_]:
        """(n,) which uses are in the second half of the decode steps."""
        return np.arange(len(self)) >= self._second

    @property
    def _second(self) -> int:
        """How many uses come before the second half of the decode steps."""
        step = np.searchsorted(np.cumsum(self.decode), (self.steps + 1) // 2, "right")
        return int(np.searchsorted(self.step, step))

    def without(self, layers: Collection[int]) -> Uses:
        """The same without these layers."""
        left = [slot for slot, layer in enumerate(self.layers) if layer not in layers]
        if len(left) == len(self.layers):
            return self
        kept = np.isin(self.slot, left)
        return replace(
            self,
            layers=tuple(self.layers[slot] for slot in left),
            step=self.step[kept],
            slot=np.searchsorted(left, self.slot[kept]),
            expert=self.expert[kept],
            count=self.count[kept],
        )

    def halves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Selections (layers, n_experts) of the first and of the second half of the decode steps."""
        shape, second = (len(self.layers), self.n_experts), self._second
        item = self.slot * self.n_experts
        item += self.expert
        is_one = bool(self.decode.all()) and self.count.max(initial=1) == 1  # as where one text is decoded
        count = None if is_one else self.count * self.decode[self.step]
        before, after = (
            np.bincount(item[half], None if count is None else count[half], shape[0] * shape[1])
            for half in (slice(second), slice(second, None))
        )
        return before.astype(np.int64).reshape(shape), after.astype(np.int64).reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Uses (n,) of some steps in their order; `step` is the number of a step in the log."""

    step: NDArray[np.int64]
    layer: NDArray[np.uint16]
    expert: NDArray[np.uint16]
    count: NDArray[np.int32]

    def part(self, which: slice | NDArray[np.intp]) -> _Piece:
        return _Piece(*(getattr(self, field.name)[which].copy() for field in fields(self)))


def _joined(pieces: Iterable[_Piece]) -> _Piece:
    every = [*pieces]
    return _Piece(
        *(np.concatenate([getattr(piece, each.name) for piece in every]) for each in fields(_Piece))
    )


_NOTHING = _Piece(
    np.zeros(0, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.uint16), np.zeros(0, np.int32)
)


class _Rows(NamedTuple):
    """Rows of some steps of one token each: what these use is found out when somebody asks.

    Attributes:
        tables: the rows.
        first: number of the step in the log that their steps are counted from.
        last: number of the last step with rows.
    """

    tables: tuple[ExpertRows, ...]
    first: int
    last: int

    def uses(self, first: int) -> _Piece:
        """Those of the step of this number, and later ones."""
        tables = (rows.select(rows.step >= first - self.first) for rows in self.tables)
        piece = _uses([rows for rows in tables if len(rows)])
        return replace(piece, step=piece.step + self.first)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The uses of some steps, whatever came before.

    Attributes:
        steps: how many; those with uses are told of below.
        number: (s,) index of each.
        kind: (s,) of each.
        tokens: (s,) of each.
        uses: (s,) of each.
        piece: all of them, or the rows that tell them, whose steps are counted from 0.
    """

    steps: int
    number: NDArray[np.int64]
    kind: NDArray[np.int8]
    tokens: NDArray[np.int64]
    uses: NDArray[np.int64]
    piece: _Piece | _Rows


class LatestUses:
    """The uses of the latest steps: as many whole steps as have `capacity` uses at most.

    What is kept does not depend on how the steps come in batches. Prefill steps are among them: what a prompt
    uses is in a cache when its answer begins.

    Memory: 16 bytes a use, 6 MB in all, less while nobody asks; tables of 8 MB for a moment.

    Args:
        capacity: uses to keep.
    """

    def __init__(self, capacity: int = DEFAULT_LATEST_USES) -> None:
        self._capacity = capacity
        self._steps = 0
        self._number = np.zeros(0, np.int64)  # of the steps that are kept, with their kinds, tokens and uses
        self._kind = np.zeros(0, np.int8)
        self._tokens = np.zeros(0, np.int64)
        self._uses = np.zeros(0, np.int64)
        self._has_dropped = False
        self._pieces: deque[_Piece | _Rows] = deque()

    def __getstate__(self) -> dict[str, Any]:
        """All in few arrays."""
        pieces = deque([_joined(self._found_out())] if self._pieces else ())
        return {**vars(self), "_pieces": pieces}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was."""
        vars(self).update(state)

    def update(
        self,
        tables: Sequence[ExpertRows],
        kind: NDArray[np.int8],
        begins: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add steps.

        Args:
            tables: all rows of the steps that count; `step` indexes `kind`.
            kind: (s,) the kind of each step.
            begins: (s,) False where a step belongs to the forward pass of the one before: they are one here,
                and prefill if one of them is. None for no such steps.
        """
        self.take(_part(tables, kind, begins))

    def take(self, part: _Part) -> None:
        """Add the steps of a part."""
        piece, before = part.piece, self._steps
        if isinstance(piece, _Rows):
            piece = _Rows(piece.tables, piece.first + before, piece.last + before)
        else:
            piece = replace(piece, step=piece.step + before)
        pieces = [piece] if len(part.number) else []
        self._append(part.number + before, part.kind, part.tokens, part.uses, pieces)
        self._steps += part.steps

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self._kind = np.where(self._kind == Kind.UNDECIDED, np.int8(Kind.PREFILL), self._kind)

    def copy(self) -> LatestUses:
        """The same, which goes on by itself. What is kept already is shared: nothing changes it."""
        same = LatestUses(self._capacity)
        same += self
        return same

    def __iadd__(self, other: LatestUses) -> Self:
        """Add the steps of another log, which come after these."""
        if other._has_dropped:  # and so is all that comes before
            self._number = self._number[:0]
            self._kind, self._tokens, self._uses = self._kind[:0], self._tokens[:0], self._uses[:0]
            self._has_dropped = True
            self._pieces.clear()
        pieces = [replace(piece, step=piece.step + self._steps) for piece in other._found_out()]
        self._append(other._number + self._steps, other._kind, other._tokens, other._uses, pieces)
        self._steps += other._steps
        return self

    def uses(self, kinds: Collection[Kind], n_experts: int) -> Uses:
        """What is kept.

        Args:
            kinds: those that count as decode: with or without `Kind.UNDECIDED`.
            n_experts: experts of a layer, at least the highest id plus one.
        """
        pieces = self._found_out() or [_NOTHING]
        layer = np.concatenate([piece.layer for piece in pieces])
        layers = np.flatnonzero(np.bincount(layer)).tolist()
        return Uses(
            tuple(layers),
            n_experts,
            np.isin(self._kind, [int(kind) for kind in kinds]),
            self._tokens,
            np.repeat(np.arange(len(self._number)), self._uses),
            places_of(layers).take(layer),  # in half the time that an index takes
            np.concatenate([piece.expert for piece in pieces], dtype=np.int64),
            np.concatenate([piece.count for piece in pieces], dtype=np.int64),
        )

    def _found_out(self) -> list[_Piece]:
        """All pieces; what rows tell is kept instead of these."""
        pieces = [
            piece.uses(int(self._number[0])) if isinstance(piece, _Rows) else piece for piece in self._pieces
        ]
        self._pieces = deque(pieces)
        return pieces

    def _append(
        self,
        number: NDArray[np.int64],
        kind: NDArray[np.int8],
        tokens: NDArray[np.int64],
        uses: NDArray[np.int64],
        pieces: Sequence[_Piece | _Rows],
    ) -> None:
        """Add steps that come after these, and drop as many of the oldest as must go."""
        number = np.concatenate((self._number, number))
        uses = np.concatenate((self._uses, uses))
        first = len(number) - int(np.count_nonzero(np.cumsum(uses[::-1]) <= self._capacity))
        self._has_dropped |= first > 0
        last_dropped = number[first - 1] if first else -1
        self._number, self._uses = number[first:], uses[first:]
        self._kind = np.concatenate((self._kind, kind))[first:]
        self._tokens = np.concatenate((self._tokens, tokens))[first:]
        self._pieces.extend(pieces)
        while self._pieces and _last_step(self._pieces[0]) <= last_dropped:
            self._pieces.popleft()
        if self._pieces and isinstance(oldest := self._pieces[0], _Piece) and oldest.step[0] <= last_dropped:
            begin = int(np.searchsorted(oldest.step, last_dropped, "right"))
            self._pieces[0] = oldest.part(slice(begin, None))


def _last_step(piece: _Piece | _Rows) -> int:
    """The number of the last step that uses something."""
    return piece.last if isinstance(piece, _Rows) else int(piece.step[-1])


class LatestSteps:
    """The uses of the latest steps, of both choices of rows.

    Args:
        capacity: uses to keep of each; 0 if none are wanted.

    Attributes:
        logged: over `certain` + `written` rows of the batches; see `StepBatch`.
        verified: over `certain` + `verified` rows.
    """

    def __init__(self, capacity: int) -> None:
        self.wanted = capacity > 0
        self.logged = LatestUses(capacity)
        self.verified = LatestUses(capacity)

    def update(self, batch: StepBatch) -> None:
        """Add complete steps, whose rows nobody changes any more."""
        if not self.wanted:
            return
        blocks = any(map(len, (*batch.written, *batch.verified)))
        if blocks or not batch.begins.all() or any(rows.token.any() for rows in batch.certain):
            part = _part((*batch.certain, *batch.written), batch.kind, batch.begins)
        else:
            part = _of_single_rows(batch.certain, batch.kind)
        self.logged.take(part)
        if blocks:
            part = _part((*batch.certain, *batch.verified), batch.kind, batch.begins)
        self.verified.take(part)

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        self.logged.settle()
        self.verified.settle()

    def end_run(self, *, verified: bool) -> None:
        """What comes now is of another run of the server; of the last one the rows of one choice count."""
        kept = self.verified if verified else self.logged
        self.logged, self.verified = kept, kept.copy()

    def __iadd__(self, other: LatestSteps) -> Self:
        """Add the steps of another log, which come after these."""
        self.logged += other.logged
        self.verified += other.verified
        return self


def _part(tables: Sequence[ExpertRows], kind: NDArray[np.int8], begins: NDArray[np.bool_] | None) -> _Part:
    """The uses of steps; see `LatestUses.update`."""
    steps = len(kind)
    tables = [rows for rows in tables if len(rows)]
    if not tables:
        none = np.zeros(0, np.int64)
        return _Part(steps, none, kind[:0], none, none, _NOTHING)
    tokens = np.zeros(steps, np.int64)
    for rows in tables:
        np.maximum.at(tokens, rows.step, rows.token + 1)
    if begins is not None and not begins[1:].all():
        first = np.flatnonzero(np.concatenate(([True], begins[1:])))
        number = np.cumsum(np.concatenate(([False], begins[1:])))
        tables = [replace(rows, step=number[rows.step]) for rows in tables]
        kind, tokens = np.minimum.reduceat(kind, first), np.add.reduceat(tokens, first)
    piece = _uses(tables)
    uses = np.bincount(piece.step, minlength=len(kind))
    used = np.flatnonzero(uses)
    return _Part(len(kind), used, kind[used], tokens[used], uses[used], piece)


def _of_single_rows(tables: Sequence[ExpertRows], kind: NDArray[np.int8]) -> _Part:
    """The same of rows of one token a step that name no expert twice: they need not be looked at for that."""
    uses = np.zeros(len(kind), np.int64)
    for table in tables:
        uses += np.bincount(table.step, minlength=len(kind)) * table.experts.shape[1]
    used = np.flatnonzero(uses)
    last = int(used[-1]) if len(used) else 0
    ones = np.ones(len(used), np.int64)
    return _Part(len(kind), used, kind[used], ones, uses[used], _Rows(tuple(tables), 0, last))


def _uses(tables: Sequence[ExpertRows]) -> _Piece:
    """The uses of rows by step and layer, each once, where it stands last."""
    width = np.concatenate([np.full(len(rows), rows.experts.shape[1]) for rows in tables])
    block = np.concatenate([(rows.step << 16) + rows.layer for rows in tables])
    expert = np.concatenate([rows.experts.reshape(-1) for rows in tables])
    if (block[1:] < block[:-1]).any():  # rows of one block are in several tables, or in several sequences
        order = np.lexsort((np.concatenate([rows.token for rows in tables]), block))
        begin = np.cumsum(width) - width
        block, begin, width = block[order], begin[order], width[order]
        expert = expert[np.repeat(begin - np.cumsum(width) + width, width) + np.arange(len(expert))]
    step, layer, once = block >> 16, (block & 0xFFFF).astype(np.uint16), np.ones(len(expert), np.int32)
    every = _Piece(np.repeat(step, width), np.repeat(layer, width), expert, once)
    is_first = np.concatenate(([True], block[1:] != block[:-1]))
    if is_first.all() and all(repeats(rows.experts.T) is None for rows in tables):
        return every
    number = np.repeat(np.cumsum(is_first) - 1, width)
    bounds = np.append((np.cumsum(width) - width)[is_first], len(expert))
    n_experts = int(expert.max()) + 1
    at_once = max(1, _CELLS // n_experts)
    kept, counts = [], []
    for first in range(0, len(bounds) - 1, at_once):
        last = min(first + at_once, len(bounds) - 1)
        selections = slice(bounds[first], bounds[last])
        place = np.full((last - first) * n_experts, -1)
        # Where an index comes more than once, the last of its values stays.
        cell = (number[selections] - first) * n_experts + expert[selections]
        place[cell] = np.arange(bounds[first], bounds[last])
        kept.append(np.sort(place[place >= 0]))
        counts.append(np.bincount(cell)[cell[kept[-1] - bounds[first]]])
    return replace(every.part(np.concatenate(kept)), count=np.concatenate(counts).astype(np.int32))


def _make(counted: Counted) -> Uses | None:
    """None if they were not wanted."""
    latest = counted.batches[LatestSteps]
    if not latest.wanted:
        return None
    kept = latest.verified if counted.verified else latest.logged
    return kept.uses(counted.decode, counted.n_experts).without(counted.drafts)


LATEST = OnDemand(
    name="latest steps",
    batches=(
        Member(
            LatestSteps,
            lambda it, batch: it.update(batch),
            new=lambda settings: LatestSteps(settings.latest_uses),
        ),
    ),
    make=_make,
)
