"""Draft heads: layers that come in steps of their own, told from the model's layers.

A head (multi-token prediction) is numbered after the model's last layer and computed by itself: once for
every token of a pass, then once for each token it drafts. In a log its rows follow those of the pass as if
they were one more layer of it; what tells them is that there are more of them than the pass has tokens, which
no layer of a model has:

    4 rows of each layer of the model, 4 + 3 rows of the head, 4 rows of each layer of the model, ...

The pass itself is then judged by the layers below; see `apart`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.records import Records
from moe_live.memory import unique
from moe_live.settings import MAX_LAYERS

OFTEN = 3
"""Passes that a layer has to come apart from to be called a head."""

_BEYOND_DRAFTS = 8
"""Tokens that a pass may have beyond twice those that are drafted after it, and yet verify drafts: a head
drafts about as many tokens after a pass as before it. A pass of far more tokens reads a prompt."""


class Heads:
    """Which layers come apart from passes, and how often passes are irregular otherwise; adds up.

    Two servers that write one log, or lines that are lost, make rows of any layer come in numbers that do not
    agree: a head is believed where it comes apart more often than that happens.

    Attributes:
        told: those that the log says are heads.

    >>> heads = Heads()
    >>> heads.see(np.array([10, 10, 10]), irregular=1)
    >>> heads.layers
    frozenset({10})
    """

    def __init__(self) -> None:
        self._apart = np.zeros(MAX_LAYERS, np.int64)
        self._irregular = 0
        self.told: frozenset[int] = frozenset()

    @property
    def layers(self) -> frozenset[int]:
        """Those that are heads, as far as is known."""
        needed = max(OFTEN, self._irregular + 1)
        return self.told.union(np.flatnonzero(self._apart >= needed).tolist())

    def tell(self, layers: Collection[int]) -> None:
        """Take these for heads, as the log says."""
        self.told = self.told.union(layers)

    def see(self, apart: NDArray[np.int64], irregular: int) -> None:
        """Count passes.

        Args:
            apart: (n,) the layers that came apart from a pass, each as often as it did.
            irregular: passes whose lower layers have different numbers of rows.
        """
        self._apart += np.bincount(apart, minlength=MAX_LAYERS)
        self._irregular += irregular

    def __iadd__(self, other: Heads) -> Self:
        """Add the passes of another log."""
        self._apart += other._apart
        self._irregular += other._irregular
        self.told |= other.told
        return self


class DraftLayers:
    """The layers that a log tells to be of draft heads; their rows stand between the steps of the model.

    A log that has rows of such layers only is one of drafts: there they are what there is to look at.
    """

    def __init__(self) -> None:
        self._is_draft = np.zeros(MAX_LAYERS, np.bool_)
        self._told = False  # whether any is
        self._model_seen = False

    def tell(self, layers: Collection[int]) -> None:
        """The log says that these are of draft heads."""
        self._is_draft[list(layers)] = True
        self._told |= len(layers) > 0

    def split(self, records: Records) -> tuple[Records, Records | None]:
        """The lines of the model, and rows of drafts that come after the first of these; None for none."""
        if not self._told:
            self._model_seen |= len(records.layer) > 0
            return records, None
        is_draft = self._is_draft[records.layer]
        if is_draft.all() and not self._model_seen:
            return records, None
        after = np.logical_or.accumulate(np.append(self._model_seen, ~is_draft))
        self._model_seen = bool(after[-1])
        gone = is_draft & after[:-1]
        gates = self._is_draft[records.gates.layer] & after[records.gates.position]
        if not gone.any() and not gates.any():
            return records, None
        every = np.ones(len(records.gates.layer), np.bool_)
        return records.without(gone, gates), records.without(~gone, every)

    def forget(self) -> None:
        """Another log follows."""
        self._is_draft[:] = False
        self._told = self._model_seen = False


def reads_prompt(tokens: NDArray[np.int64], drafted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(s,) Whether passes from which a head comes apart have more tokens than drafts that are verified.

    Args:
        tokens: (s,) of each pass.
        drafted: (s,) rows of the head beyond these.
    """
    return tokens > 2 * drafted + _BEYOND_DRAFTS


def apart(
    step: NDArray[np.int64], length: NDArray[np.int64], tokens: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], int]:
    """Which blocks of rows come apart from their passes, and how many passes are irregular.

    Args:
        step: (b,) the pass of each block, ascending, and layers ascending in each.
        length: (b,) rows of the blocks.
        tokens: (s,) tokens of the passes.

    Returns:
        (b,) True for the highest block of a pass if it has more rows than the pass has tokens, and all the
        others, two at least, have as many; and how many passes have blocks below the two highest that have
        not.
    """
    uneven = length != tokens[step]
    if not uneven.any():
        return uneven, 0
    steps = np.arange(len(tokens))
    begin, end = np.searchsorted(step, steps), np.searchsorted(step, steps, side="right")
    from_above = end[step] - 1 - np.arange(len(step))
    even = end - begin > 2
    even[step[uneven & (from_above > 0)]] = False
    irregular = unique(step[uneven & (from_above > 1)])
    return (from_above == 0) & (length > tokens[step]) & even[step], len(irregular)
