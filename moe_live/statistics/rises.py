"""Whether decode steps of several tokens are of several texts, or verify the drafts of one."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.routing.batch import Kind

OFTEN = 3
"""Rises that say something at least."""

SHARE = 0.1
"""Share of the steps of several tokens that are rises, from which on these verify drafts: a request whose
prompt was known already adds a token to the steps unseen, but once for many of them."""


class Rises:
    """Counts decode steps of several tokens that have more of them than the decode step just before.

    A sequence joins in after its prompt was read, so steps of several sequences have more tokens than before
    only where a prompt stands between. Drafts of varying length, verified together with the token before
    them, make steps longer and shorter all the time.

    >>> rises = Rises()
    >>> rises.update(np.full(4, Kind.UNDECIDED, np.int8), np.array([2, 5, 3, 4]))
    >>> rises.count
    2

    Attributes:
        count: these steps.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first: int | None = None  # tokens of the first step if it is undecided, else 0
        self._last = 0  # tokens of the last step if it is not prefill
        self._last_is_undecided = False

    def update(self, kind: NDArray[np.int8], tokens: NDArray[np.int64]) -> None:
        """Add steps (s,) in their order."""
        if not len(kind):
            return
        undecided = kind == Kind.UNDECIDED
        if self._first is None:
            self._first = int(tokens[0]) if undecided[0] else 0
        if undecided.any():
            shown = np.where(kind == Kind.PREFILL, 0, tokens)
            before = np.concatenate(([self._last], shown[:-1]))
            self.count += int(np.count_nonzero(undecided & (before > 0) & (tokens > before)))
        self._last = 0 if kind[-1] == Kind.PREFILL else int(tokens[-1])
        self._last_is_undecided = bool(undecided[-1])

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill, and nothing has risen."""
        self.count = 0
        if self._first is not None:
            self._first = 0
        if self._last_is_undecided:
            self._last, self._last_is_undecided = 0, False

    def __iadd__(self, other: Rises) -> Self:
        """Add the steps of another log, which come after these."""
        if other._first is None:
            return self
        self.count += other.count + (other._first > self._last > 0)
        if self._first is None:
            self._first = other._first
        self._last, self._last_is_undecided = other._last, other._last_is_undecided
        return self

    def verify_drafts(self, several: int) -> bool:
        """Whether steps of several tokens, so many of them, verify drafts."""
        return self.count >= max(OFTEN, SHARE * several)
