"""How often labels came up: the times under a label are the sample that tells labels apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

MAX_LABELS = 32
"""Labels whose periods are counted: the first in alphabetical order."""


class Periods:
    """Counts runs of successive steps under one label; steps without a label end them.

    >>> periods = Periods()
    >>> periods.update(np.array([0, 0, 1, 0, 2, 0]), ("math", "code", ""))
    >>> dict(periods.counts)
    {'math': 3, 'code': 1}
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: str | None = None  # the labels of the first and of the last step, None before any
        self._last: str | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Periods of each label, those of "" left out."""
        return {label: count for label, count in self._counts.items() if label}

    def update(self, label: NDArray[np.int64], names: Sequence[str]) -> None:
        """Add steps.

        Args:
            label: (s,) which of `names` each step has.
            names: of labels; "" is none.
        """
        if not len(label):
            return
        begins = np.flatnonzero(np.append(True, label[1:] != label[:-1]))
        runs = [names[which] for which in label[begins].tolist()]
        runs = [name for i, name in enumerate(runs) if not i or name != runs[i - 1]]
        self._counts.update(runs)
        self._join(runs[0], runs[-1])

    def settle(self) -> None:
        """What kind a step is of makes no difference."""

    def __iadd__(self, other: Periods) -> Self:
        """Add the steps of another log, which come after these."""
        if other._first is not None and other._last is not None:
            self._counts.update(other._counts)
            self._join(other._first, other._last)
        return self

    def _join(self, first: str, last: str) -> None:
        """Steps were counted that begin under one label and end under another."""
        if first == self._last and first in self._counts:
            self._counts[first] -= 1
        self._first, self._last = self._first if self._first is not None else first, last
        # A label that is left out once is left out for good: as many before it stay.
        for name in sorted(self._counts)[MAX_LABELS + 1 :]:
            del self._counts[name]
