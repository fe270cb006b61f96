"""How often each expert of each layer is chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import ExpertRows, Kind
from moe_live.statistics.planes import Slots, settle
from moe_live.statistics.tables import grown, roomy

_CHUNK = 1 << 13  # rows handled at a time


class Frequency:
    """Exact counts of selections per layer and expert, for each kind of step, and of rows.

    Memory: 24 bytes for each layer that occurs and expert up to the highest id seen.

    >>> layer, experts = np.array([3], np.uint16), np.array([[5, 1]], np.uint16)
    >>> zero, whole = np.array([0]), np.array([True])
    >>> rows = ExpertRows(step=zero, layer=layer, token=zero, whole=whole, experts=experts)
    >>> frequency = Frequency()
    >>> frequency.update([rows], np.array([Kind.DECODE], np.int8))
    >>> frequency.layers, frequency.counts([Kind.DECODE], n_experts=8).tolist()
    ([3], [[0, 1, 0, 0, 0, 1, 0, 0]])

    Attributes:
        rows: all rows counted.
        n_experts: highest expert seen plus one.
    """

    def __init__(self) -> None:
        self._slots = Slots()
        self._selections = np.zeros((len(Kind), 0, 0), np.int64)
        self.rows = 0
        self.n_experts = 0

    @property
    def layers(self) -> list[int]:
        """Layers that occur, ascending."""
        return sorted(self._slots.layers)

    def update(self, tables: Iterable[ExpertRows], kind: NDArray[np.int8]) -> None:
        """Count rows.

        Args:
            tables: expert rows; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
        """
        for rows in tables:
            slot = self._slots.of(rows.layer)
            self.n_experts = max(self.n_experts, int(rows.experts.max()) + 1)
            self._reserve()
            self.rows += len(rows)
            is_one_kind = kind.min() == kind.max()
            add_selections(self._selections, kind[:1] if is_one_kind else kind.take(rows.step), slot, rows)

    def add(
        self, layer: NDArray[np.uint16], expert: NDArray[np.uint16], count: NDArray[np.int64], kind: Kind
    ) -> None:
        """Add what was counted elsewhere, (c,) each, as of one kind of step."""
        slot = self._slots.of(layer)
        self.n_experts = max(self.n_experts, int(expert.max()) + 1)
        self._reserve()
        np.add.at(self._selections[kind], (slot, expert), count)

    def settle(self) -> None:
        """Count as prefill what was undecided so far."""
        settle(self._selections)

    def __iadd__(self, other: Frequency) -> Self:
        """Add the counts of another log."""
        slots = self._slots.of(np.array(other._slots.layers, np.uint16))
        self.n_experts = max(self.n_experts, other.n_experts)
        self._reserve()
        self._selections[:, slots, : other.n_experts] += other._selections[:, : len(slots), : other.n_experts]
        self.rows += other.rows
        return self

    def counts(self, kinds: Iterable[Kind], n_experts: int) -> NDArray[np.int64]:
        """Selections (len(layers), n_experts) in steps of these kinds; layers ascending."""
        chosen = np.zeros((len(self._slots), n_experts), np.int64)
        seen = min(n_experts, self.n_experts)
        for kind in kinds:
            chosen[:, :seen] += self._selections[kind, : len(self._slots), :seen]
        return chosen[np.argsort(self._slots.layers)]

    def _reserve(self) -> None:
        """Room for every layer and expert that occurs."""
        _, n_slots, n_experts = self._selections.shape
        if len(self._slots) <= n_slots and self.n_experts <= n_experts:
            return
        wanted = roomy(max(self.n_experts, n_experts))
        slots = max(len(self._slots), n_slots)
        self._selections = grown(self._selections, (len(Kind), slots, wanted))


def add_selections(
    counts: NDArray[np.int64], plane: NDArray[np.integer], slot: NDArray[np.int64], rows: ExpertRows
) -> None:
    """Count the experts of rows (n,).

    Args:
        counts: (planes, slots, experts), contiguous.
        plane: (n,) or (1,), where each row counts.
        slot: (n,), the slot of each row's layer.
        rows: whose experts are below those there is room for.
    """
    _, n_slots, n_experts = counts.shape
    # Adding short integers and widening the sum is faster than adding wide ones.
    short = np.uint16 if counts.size <= 1 << 16 else np.int64
    row_key = np.multiply(slot.astype(short), n_experts, dtype=short)
    row_key += (plane * np.int64(n_slots * n_experts)).astype(short)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        key = np.add(rows.experts.T[:, part], row_key[part], dtype=short)
        np.add.at(counts.reshape(-1), key.reshape(-1).astype(np.int64, copy=False), 1)
