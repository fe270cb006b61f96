"""What each of several sources has in the figures of all, where they are shown as one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.statistics.divergence import compare
from moe_live.statistics.hot_set import HotExpert

Counts = Mapping[int, NDArray[np.int64]]
"""(n_experts,) int64, selections by layer."""


@dataclass(frozen=True, slots=True)
class SourceNow:
    """A source at one moment.

    Attributes:
        state: what it is doing, in the words of `State`; "" of a state that others write.
        age: seconds since that was written; None of a log.
        lines_per_second: over the last few seconds; None where that is not known.
        decode_per_second: tokens of decode steps, likewise.
    """

    state: str = ""
    age: float | None = None
    lines_per_second: float | None = None
    decode_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class SourceShare:
    """One of several logs, or states.

    Attributes:
        name: its path, or that of the state without its ending.
        left_out: why nothing of it is in the figures; "" if it is in them, and all that follows is of it.
        bytes, lines, malformed_lines: read.
        rows, counted: as logged, and those behind the figures.
        row_word, row_verdict: what its own rows show, in a word and in a sentence.
        warnings: what must be known of it alone before its figures are believed.
        steps, decode_steps, tokens, decode_tokens: complete ones.
        hottest: the expert that serves most of decode.
        apart: Jensen-Shannon divergence, in bits, of its use of the experts from that of all others together,
            mean of layers; of decode where all have some. NaN if nothing can be held against it.
        by_chance: what that would be if all were drawn from the same use, tokens being independent.
        now: how it is at the moment of the view; None if nobody looked.
    """

    name: str
    left_out: str = ""
    bytes: int = 0
    lines: int = 0
    malformed_lines: int = 0
    rows: int = 0
    counted: int = 0
    row_word: str = ""
    row_verdict: str = ""
    warnings: tuple[str, ...] = ()
    steps: int = 0
    decode_steps: int = 0
    tokens: int = 0
    decode_tokens: int = 0
    hottest: HotExpert | None = None
    apart: float = math.nan
    by_chance: float = math.nan
    now: SourceNow | None = None


def named(warning: str, sources: Sequence[SourceShare]) -> str:
    """A warning of all together, with the sources that are warned of alike, but for numbers.

    Args:
        warning: of all.
        sources: all of them. Of what is so in each nothing is added.

    >>> bad, good = SourceShare("a.log", warnings=("1 of 2 lines are malformed",)), SourceShare("b.log")
    >>> named("1 of 9 lines are malformed", [bad, good])
    '1 of 9 lines are malformed (in a.log)'
    """
    used = [source for source in sources if not source.left_out]
    found = [source.name for source in used if _words(warning) in map(_words, source.warnings)]
    if not found or len(found) == len(used):
        return warning
    return f"{warning} (in {printable(found[0]) if len(found) == 1 else f'{len(found)} of {len(used)}'})"


@lru_cache(maxsize=1024)
def _words(sentence: str) -> str:
    """The same without its numbers."""
    return re.sub(r"\d[\d,.]*", "", sentence)


def distances(sources: Sequence[Counts], top_k: int | None) -> list[tuple[float, float]]:
    """How far the use of each lies from that of all others together: `apart` and `by_chance`.

    >>> one, other = np.array([90, 10]), np.array([10, 90])
    >>> [(round(js, 2), by_chance < js) for js, by_chance in distances([{3: one}, {3: other}], 1)]
    [(0.53, True), (0.53, True)]
    """
    layers = sorted(set().union(*sources))
    width = max((len(counts) for each in sources for counts in each.values()), default=0)
    own = np.zeros((len(sources), len(layers), width), np.int64)
    for i, each in enumerate(sources):
        for layer, counts in each.items():
            own[i, layers.index(layer), : len(counts)] = counts
    total = own.sum(axis=0)
    found = []
    for counts in own:
        others = total - counts
        known = (counts.sum(axis=1) > 0) & (others.sum(axis=1) > 0)
        if top_k is None or not known.any():
            found.append((math.nan, math.nan))
        else:
            apart = compare(counts[known], others[known], top_k)
            found.append((float(apart.js.mean()), float(apart.expected.mean())))
    return found
