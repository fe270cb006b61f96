"""How fast tokens come, second by second: those of prompts and those of decode."""

from __future__ import annotations

import math
from collections import deque

from moe_live.dataclass import dataclass

SECONDS = 120
"""Seconds that are told apart."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Tokens a second of one phase.

    Attributes:
        now: over the last few seconds.
        lately: in each of the last seconds, the present one, which is not over yet, left out. NaN where what
            was read is older: its pace is that of reading.
    """

    now: float = 0.0
    lately: tuple[float, ...] = ()


UNTIMED = Pace(math.nan, ())
"""Of tokens in a finished log: how fast they came when it was written is not known."""


class PaceCounter:
    """Cuts a growing number of tokens into seconds."""

    def __init__(self) -> None:
        self._second = 0
        self._total = 0
        self._lately: deque[float] = deque([0.0], maxlen=SECONDS + 1)

    def update(self, elapsed: float, total: int, *, older: bool) -> None:
        """Note how many there are.

        Args:
            elapsed: seconds since the beginning; they do not go back.
            total: tokens so far.
            older: whether some of those that are new were there before, and are only read now.
        """
        for _ in range(min(int(elapsed) - self._second, SECONDS + 1)):
            self._lately.append(0.0)
        self._second = int(elapsed)
        self._lately[-1] += math.nan if older else max(0, total - self._total)
        self._total = total

    @property
    def lately(self) -> tuple[float, ...]:
        """As in `Pace`."""
        return tuple(self._lately)[:-1]
