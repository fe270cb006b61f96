"""Whether two logs choose the same experts for the same tokens, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, StepBatch
from moe_live.settings import MAX_LAYERS
from moe_live.statistics.blocks import CERTAIN

SPANS = 64
"""Parts of the log, in time, for which agreement is kept; they become longer with it."""

_TOKENS = 1 << 24  # rows of a block that are told apart
_FEW_SPANS = 8


_NONE = np.iinfo(np.int64).max


class FirstDifference(NamedTuple):
    """The first row in which two logs differ: step, layer, place of the row in its block, and both rows."""

    step: int
    layer: int
    token: int
    experts: tuple[tuple[int, ...], tuple[int, ...]]


class Spans:
    """What rows have in common over time, in at most `SPANS` parts of as many steps each.

    Attributes:
        length: steps of a part.
        sums: (4, SPANS) int64: experts in common of rows that belong together, and all of them; the same of
            rows that do not.
    """

    def __init__(self) -> None:
        self.length = 1
        self.sums = np.zeros((4, SPANS), np.int64)

    def add(self, step: NDArray[np.int64], common: NDArray[np.int64], width: int, *, shifted: bool) -> None:
        """Add pairs of rows: their steps (n,) and how many of `width` experts they have in common (n,)."""
        self._reach(int(step.max(initial=0)))
        of_pairs = self.sums[2:] if shifted else self.sums[:2]
        span = step // self.length
        of_pairs[0] += np.bincount(span, common, SPANS).astype(np.int64)
        of_pairs[1] += np.bincount(span, minlength=SPANS) * width

    def _reach(self, step: int) -> None:
        while step >= SPANS * self.length:
            halves = self.sums.reshape(4, -1, 2).sum(axis=2)
            self.sums = np.concatenate((halves, np.zeros_like(halves)), axis=1)
            self.length *= 2

    def __iadd__(self, other: Spans) -> Self:
        """Add other pairs of the same logs."""
        longer = max(self.length, other.length)
        for spans in (self, other):
            spans._reach(SPANS * longer - 1)
        self.sums += other.sums
        return self

    def share(self, *, shifted: bool) -> float:
        """Experts in common over all experts; NaN without rows."""
        common, every = self.sums[2:].sum(axis=1) if shifted else self.sums[:2].sum(axis=1)
        return float(common / every) if every else math.nan

    def quarters(self) -> list[float]:
        """The same of rows that belong together, in each quarter of the time; nothing for few steps."""
        known = np.flatnonzero(self.sums[1])
        if len(known) < 4:
            return []
        parts = np.array_split(self.sums[:2, : known[-1] + 1], 4, axis=1)
        return [float(part[0].sum() / part[1].sum()) if part[1].sum() else math.nan for part in parts]

    def belong_together(self) -> bool | None:
        """Whether rows have certainly more in common than rows that do not belong together: one text.

        Two texts have as much in common as if one were shifted, whatever experts both use most. None where
        too few steps can tell.
        """
        there = np.flatnonzero((self.sums[1] > 0) & (self.sums[3] > 0))
        if len(there) < _FEW_SPANS:
            return None
        common, every, shifted, of_shifted = self.sums[:, there]
        beyond = common / every - shifted / of_shifted
        return bool(beyond.mean() > CERTAIN * beyond.std(ddof=1) / len(there) ** 0.5)


@dataclass(slots=True, eq=False)
class RowAgreement:
    """What rows of the same step, layer and token have in common; adds up.

    Attributes:
        rows: (MAX_LAYERS,) int64, pairs of rows.
        width: (MAX_LAYERS,) int64, the experts of the wider row of each, summed.
        common: (MAX_LAYERS,) int64, experts in common.
        top: (MAX_LAYERS,) int64, pairs whose best experts are one.
        same: (MAX_LAYERS,) int64, pairs that choose the same experts, in any order.
        differs: (MAX_LAYERS,) int64, the key of the first pair that does not.
        first: the first of these; None so far.
        spans: what they have in common over time, beside each layer's rows in one batch held against those
            half a batch later: rows that do not belong together.
    """

    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_LAYERS, np.int64))
    width: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_LAYERS, np.int64))
    common: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_LAYERS, np.int64))
    top: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_LAYERS, np.int64))
    same: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_LAYERS, np.int64))
    differs: NDArray[np.int64] = field(default_factory=lambda: np.full(MAX_LAYERS, _NONE))
    first: FirstDifference | None = None
    spans: Spans = field(default_factory=Spans)

    def update(self, key: NDArray[np.int64], a: NDArray[np.uint16], b: NDArray[np.uint16]) -> None:
        """Add pairs of rows.

        Args:
            key: (n,) step, layer and token as one number, ascending.
            a: (n, k) experts in the first log.
            b: (n, j) experts in the second.
        """
        layer, step = key // _TOKENS % MAX_LAYERS, key // (_TOKENS * MAX_LAYERS)
        width = max(a.shape[1], b.shape[1])
        common = _in_common(a, b)
        is_same = common == width
        for table, values in (
            (self.rows, np.ones(len(key), np.int64)),
            (self.width, np.full(len(key), width)),
            (self.common, common),
            (self.top, (a[:, 0] == b[:, 0]).astype(np.int64)),
            (self.same, is_same.astype(np.int64)),
        ):
            np.add.at(table, layer, values)
        np.minimum.at(self.differs, layer[~is_same], key[~is_same])
        if not is_same.all():
            at = int(np.argmin(is_same))
            both = tuple(a[at].tolist()), tuple(b[at].tolist())
            found = FirstDifference(int(step[at]), int(layer[at]), int(key[at] % _TOKENS), both)
            self.first = found if self.first is None else min(self.first, found)
        self.spans.add(step, common, width, shifted=False)
        mine, other = _shifted(layer, step)
        if len(mine):
            self.spans.add(step[mine], _in_common(a[mine], b[other]), width, shifted=True)

    def __iadd__(self, other: RowAgreement) -> Self:
        """Add other pairs of the same logs."""
        for name in ("rows", "width", "common", "top", "same"):
            getattr(self, name).__iadd__(getattr(other, name))
        np.minimum(self.differs, other.differs, out=self.differs)
        if other.first is not None:
            self.first = other.first if self.first is None else min(self.first, other.first)
        self.spans += other.spans
        return self

    def first_step(self, layer: int) -> int | None:
        """The step of the first pair of a layer that differs; None if none does."""
        key = int(self.differs[layer])
        return None if key == _NONE else key // (_TOKENS * MAX_LAYERS)


def _shifted(layer: NDArray[np.int64], step: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows (m,), and for each one of its layer, half of the layer's rows later, that is of another step."""
    order = np.argsort(layer, kind="stable")
    begins = np.flatnonzero(np.diff(layer[order], prepend=-1))
    sizes = np.diff(np.append(begins, len(order)))
    begin, size = np.repeat(begins, sizes), np.repeat(sizes, sizes)
    partner = order[begin + (np.arange(len(order)) - begin + size // 2) % size]
    apart = step[partner] != step[order]
    return order[apart], partner[apart]


class Pairing:
    """Brings the rows of two logs together that come a batch at a time, in any turns.

    Rows are held until both logs have come to their step: read them in turns, and that is little.

    Attributes:
        single, written, verified: over the sets of rows of that name, those that are proven in both of the
            last; see `StepBatch`.
        rows: all rows of `certain` and `written` of each log.
    """

    def __init__(self) -> None:
        self.single, self.written, self.verified = RowAgreement(), RowAgreement(), RowAgreement()
        self.rows = [0, 0]
        self._steps = [0, 0]
        self._held: list[list[list[_Rows]]] = [[[], [], []], [[], [], []]]

    def add(self, log: int, batch: StepBatch) -> None:
        """Add complete steps of log 0 or 1."""
        number = np.arange(len(batch.kind)) + self._steps[log]
        self._steps[log] += len(batch.kind)
        self.rows[log] += sum(map(len, (*batch.certain, *batch.written)))
        sets = batch.single, (*batch.proven, *batch.written), (*batch.proven, *batch.verified)
        for held, tables in zip(self._held[log], sets, strict=True):
            held += [_Rows(_keys(rows, number), rows.experts.copy()) for rows in tables if len(rows)]
        self._pair(min(self._steps) - 1)

    def finish(self) -> None:
        """No more will come."""
        self._pair(max(self._steps))

    def behind(self) -> int:
        """The log that has come less far."""
        return int(self._steps[1] < self._steps[0])

    def agreement(self, *, as_written: bool) -> RowAgreement:
        """Of all rows, or of those that hold in strided logs."""
        found = RowAgreement()
        found += self.single
        found += self.written if as_written else self.verified
        return found

    def _pair(self, before: int) -> None:
        """Pair what is held of the steps before this one."""
        limit = before * MAX_LAYERS * _TOKENS
        for index, agreement in enumerate((self.single, self.written, self.verified)):
            sides = []
            for log in (0, 1):
                due = [rows.part(rows.key < limit) for rows in self._held[log][index]]
                left = [rows.part(rows.key >= limit) for rows in self._held[log][index]]
                self._held[log][index] = [rows for rows in left if len(rows.key)]
                sides.append([rows for rows in due if len(rows.key)])
            for a in _by_width(sides[0]):
                for b in _by_width(sides[1]):
                    key, i, j = np.intersect1d(a.key, b.key, assume_unique=True, return_indices=True)
                    if len(key):
                        agreement.update(key, a.experts[i], b.experts[j])


class _Rows(NamedTuple):
    """Rows of one log: keys (n,) and experts (n, k)."""

    key: NDArray[np.int64]
    experts: NDArray[np.uint16]

    def part(self, which: NDArray[np.bool_]) -> _Rows:
        return self if which.all() else _Rows(self.key[which], self.experts[which])


def _by_width(tables: Sequence[_Rows]) -> list[_Rows]:
    """The rows in one table for each k."""
    widths = sorted({rows.experts.shape[1] for rows in tables})
    of_width = ([rows for rows in tables if rows.experts.shape[1] == width] for width in widths)
    return [
        _Rows(np.concatenate([rows.key for rows in some]), np.concatenate([rows.experts for rows in some]))
        for some in of_width
    ]


def _keys(rows: ExpertRows, number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Step, layer and token of each row as one number."""
    key: NDArray[np.int64] = (number[rows.step] * MAX_LAYERS + rows.layer) * _TOKENS + rows.token % _TOKENS
    return key


def _in_common(a: NDArray[np.uint16], b: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many experts rows (n, k) and (n, j) have in common."""
    found: NDArray[np.int64] = (a[:, :, None] == b[:, None, :]).any(axis=2).sum(axis=1)
    return found
