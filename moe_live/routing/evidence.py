"""How blocks of several rows look, and whether a logger that strides over rows wrongly has written them.

See `moe_live.routing.strided`, which tests their chunks.

**The evidence** that chunks pass more often than those of a sound log is the chance that as many pass, by
Chernoff's bound (1952) on the sum of what the chunks that pass weigh, -log2 of their own chance. Rows of some
routers meet less often than independent ones: of those that choose whole groups of experts, or each in turn.
Rows that stand alone in their block, and the first ones of others, are right whatever the logger does; laid
side by side they tell. Where they pass more often than independent rows would, the evidence is how far chunks
and these lie apart (the likelihood ratio of two rates against one).

**The verdict.** Strided: that chance is below 1e-12, and at most 1 % of the chunks fail (a damaged line).
Mixed, strided and sound rows in one run: more fail, and the chance is below 1e-12 though at least 5 % pass
beyond it, or it is for those alone that hardly pass by chance. Sound: so many fail as in a strided log with a
chance below 1e-12, and no more pass than by chance. Otherwise not enough was seen.

**Power.** Blocks of a strided log that suffice for the verdict, by rows a block:

    experts  top-k    2 rows   4 rows  16 rows  64 rows
          8      2        45        6        2        1
         64      6        45        7        1        1
        128      8        52        9        1        1
        160      8        66       11        1        1
        512     10       139       23        2        1

A model has a block a layer and step: the first prompt settles it, or the first few steps of two slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.settings import MAX_EXPERTS

BITS_NEEDED = -math.log2(1e-12)
"""Strength of evidence a verdict needs, in bits of chance."""

TOLERATED_FAILURES = 0.01
"""Share of chunks that may fail in a log that is called strided."""


STRONG_BITS = 10.0
"""Chunks that pass with a chance of 1 in 1,000 or less show strided rows among sound ones, if ever so few."""

MIXED_SHARE = 0.05
"""Share of all chunks that must pass beyond chance to show that: texts with little in common may make up for
less."""

BITS_OF_CHANCE = 10.0
"""Less evidence than this is nothing: 1 in 1,000 sound logs have as much."""

LAID_ROWS = 1 << 13
"""Rows that are laid side by side at most."""


class Verdict(Enum):
    """What is known of the multi-row blocks of a run of the server."""

    UNKNOWN = "not enough seen"
    SOUND = "sound"
    STRIDED = "strided"
    MIXED = "strided in part"


@dataclass(slots=True, eq=False)
class ChunkTally:
    """Chunks tested and passed, for one k.

    Attributes:
        complete: (MAX_EXPERTS + 1, 2) int64, at the chunk length E: chunks tested, permutations.
        partial: (MAX_EXPERTS + 1, 2) int64, at the chunk length T*k: blocks tested, all distinct.
    """

    complete: NDArray[np.int64] = field(default_factory=lambda: np.zeros((MAX_EXPERTS + 1, 2), np.int64))
    partial: NDArray[np.int64] = field(default_factory=lambda: np.zeros((MAX_EXPERTS + 1, 2), np.int64))


class StrideEvidence:
    """Accumulates how the chunks of multi-row blocks look, and rows beside them that are right."""

    def __init__(self) -> None:
        self._tallies: dict[int, ChunkTally] = {}
        self._laid: dict[tuple[str, int], SideBySide] = {}

    def tally(self, top_k: int) -> ChunkTally:
        """Of rows of so many experts, to count on."""
        return self._tallies.setdefault(top_k, ChunkTally())

    def add(self, other: StrideEvidence, steps: int) -> None:
        """Add what the blocks show that come after so many steps of the run."""
        for k, theirs in other._tallies.items():
            ours = self.tally(k)
            ours.complete += theirs.complete
            ours.partial += theirs.partial
        for key, laid in other._laid.items():
            self._laid.setdefault(key, SideBySide()).extend(laid, steps)

    def wants(self, where: str, top_k: int) -> bool:
        """Whether there are to be more rows with so many experts for `lay`."""
        laid = self._laid.get((where, top_k))
        return laid is None or laid.rows < LAID_ROWS

    def lay(
        self, where: str, step: NDArray[np.int64], layer: NDArray[np.uint16], experts: NDArray[np.uint16]
    ) -> None:
        """Take in rows that are right whatever the logger does.

        Args:
            where: they stand; rows of one place, layer, and successive steps follow each other.
            step: (n,) the number of the step of each in the run, in the order of the log.
            layer: (n,).
            experts: (n, k).
        """
        if len(layer):
            laid = self._laid.setdefault((where, experts.shape[1]), SideBySide())
            laid.add(step, layer, experts)

    def verdict(self, n_experts: int) -> Verdict:
        """Judge by all that was seen. `n_experts` is the number of experts a layer, as far as known."""
        groups = self._groups(n_experts)
        tested, failed = (sum(group.tested for group in groups), sum(group.failed for group in groups))
        if not tested:
            return Verdict.UNKNOWN
        bits = self._bits(groups, n_experts)
        if failed <= TOLERATED_FAILURES * tested:
            return Verdict.STRIDED if bits >= BITS_NEEDED else Verdict.UNKNOWN
        strong = [group for group in groups if group.bits >= STRONG_BITS]
        often = bits >= BITS_NEEDED and _share_beyond_chance(groups) >= MIXED_SHARE
        if often or self._bits(strong, n_experts) >= BITS_NEEDED:
            return Verdict.MIXED
        fails = _binomial_bits(tested, failed, TOLERATED_FAILURES)
        return Verdict.SOUND if fails >= BITS_NEEDED and bits < BITS_OF_CHANCE else Verdict.UNKNOWN

    def _groups(self, n_experts: int) -> list[_Group]:
        """The chunks by their k and length."""
        found = []
        for k, tally in self._tallies.items():
            for counts, is_complete in ((tally.complete, True), (tally.partial, False)):
                for length in np.flatnonzero(counts[:, 0]).tolist():
                    tested, passed = counts[length].tolist()
                    bits = chance_bits(length, k, length if is_complete else n_experts)
                    found.append(_Group(k, length, tested, passed, bits))
        return found

    def _bits(self, groups: Sequence[_Group], n_experts: int) -> float:
        """-log2 of the chance that as many chunks of a sound log pass."""
        bits = _excess_bits(groups)
        if bits < BITS_OF_CHANCE:
            return bits
        for where in {where for where, _ in self._laid}:
            bits = min(bits, self._bits_beside(where, groups, n_experts, bits))
        return bits

    def _bits_beside(self, where: str, groups: Sequence[_Group], n_experts: int, bits: float) -> float:
        """The same beside rows that are right, if these meet less often than independent ones."""
        proven, apart = 0.0, 0.0
        for group in groups:
            rows = group.length // group.top_k
            laid = self._laid.get((where, group.top_k))
            if laid is None or rows < 2:
                continue
            tested, passed = laid.windows(rows)
            chance = 2.0 ** -chance_bits(rows * group.top_k, group.top_k, n_experts)
            if tested and passed > chance * tested:
                proven = max(proven, _binomial_bits(tested, passed, chance))
            apart += _apart_bits(group.passed, group.tested, passed, tested)
        return apart if proven >= BITS_OF_CHANCE else bits


class _Group(NamedTuple):
    """Chunks of one k and length: how many were tested and passed, -log2 of the chance of each to pass."""

    top_k: int
    length: int
    tested: int
    passed: int
    bits: float

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.tested - self.passed


class SideBySide:
    """Rows of blocks of one row, those of each layer laid side by side in the order of the log.

    The first `LAID_ROWS` are kept; how they come in batches, or are merged, makes no difference.

    Attributes:
        rows: how many are kept.
    """

    def __init__(self) -> None:
        self._step: list[NDArray[np.int64]] = []
        self._layer: list[NDArray[np.uint16]] = []
        self._experts: list[NDArray[np.uint16]] = []
        self.rows = 0
        self._reach: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def add(self, step: NDArray[np.int64], layer: NDArray[np.uint16], experts: NDArray[np.uint16]) -> None:
        """Take in rows (n,) with their experts (n, k)."""
        room = LAID_ROWS - self.rows
        if room > 0:
            self._step.append(step[:room].copy())
            self._layer.append(layer[:room].copy())
            self._experts.append(experts[:room].copy())
            self.rows += min(room, len(layer))
            self._reach = None

    def extend(self, other: SideBySide, steps: int) -> None:
        """Add rows that come after so many steps."""
        for step, layer, experts in zip(other._step, other._layer, other._experts, strict=True):
            self.add(step + steps, layer, experts)

    def windows(self, rows: int) -> tuple[int, int]:
        """How many stretches of so many successive rows there are, and in how many no two share an expert.

        Stretches overlap; as many are told of as would not.
        """
        if self._reach is None:
            self._reach = _reaches(
                np.concatenate(self._step), np.concatenate(self._layer), np.concatenate(self._experts)
            )
        reach, room = self._reach
        tested = int(np.count_nonzero(room >= rows))
        apart = -(-tested // rows)
        return apart, round(apart * np.count_nonzero(reach >= rows) / max(tested, 1))


def _reaches(
    step: NDArray[np.int64], layer: NDArray[np.uint16], experts: NDArray[np.uint16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From each row (n,) on: how many of successive steps share no expert in its layer, and how many come."""
    order = np.argsort(layer, kind="stable")
    step, layer, experts = step[order], layer[order], experts[order]
    n, k = experts.shape
    row = np.repeat(np.arange(n), k)
    key = np.repeat(layer.astype(np.int64), k) * MAX_EXPERTS + experts.reshape(-1)
    order = np.argsort(key, kind="stable")
    key, row = key[order], row[order]
    again = np.flatnonzero((key[1:] == key[:-1]) & (row[1:] > row[:-1]))
    # The first row after row p that shares an expert with p, or with a row between them.
    meets = np.full(n, n)
    np.minimum.at(meets, row[again], row[again + 1])
    meets = np.minimum.accumulate(meets[::-1])[::-1]
    breaks = np.flatnonzero((layer[1:] != layer[:-1]) | (step[1:] != step[:-1] + 1)) + 1
    end = np.append(breaks, n)[np.searchsorted(breaks, np.arange(n), side="right")]
    rows = np.arange(n)
    return np.minimum(meets, end) - rows, end - rows


def _excess_bits(groups: Sequence[_Group]) -> float:
    """-log2 of a bound on the chance that chunks that pass weigh as much as these, each its own bits.

    Chernoff's: the least value of E[exp(t S)] / exp(t s) over t > 0, for the sum S that is found to be s.
    """
    if any(group.passed and math.isinf(group.bits) for group in groups):
        return math.inf
    known = [group for group in groups if group.bits and not math.isinf(group.bits)]
    if not known:
        return 0.0
    tested, passed, weight = np.array([(each.tested, each.passed, each.bits) for each in known]).T
    if (passed == tested).all():
        return float(tested @ weight)
    chance = 2.0**-weight

    def tilted(t: float) -> NDArray[np.float64]:
        """The chance of each to pass, had passing been exp(t * weight) times as likely."""
        odds = np.exp(np.minimum(t * weight, 700.0)) * chance
        return np.asarray(odds / (1 - chance + odds))

    found = float(passed @ weight)
    if tested @ (tilted(0.0) * weight) >= found:
        return 0.0
    low, high = 0.0, 1.0
    while tested @ (tilted(high) * weight) < found and high < 1e3:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tested @ (tilted(middle) * weight) < found else (low, middle)
    moments = np.logaddexp(np.log1p(-chance), low * weight - weight * math.log(2))
    return float(low * found - tested @ moments) / math.log(2)


def _share_beyond_chance(groups: Sequence[_Group]) -> float:
    """How many more chunks pass than by chance, of those that would not; each weighs what it has of bits."""
    known = [group for group in groups if not math.isinf(group.bits)]
    more = sum(group.bits * (group.passed - group.tested * 2.0**-group.bits) for group in known)
    room = sum(group.bits * group.tested * (1 - 2.0**-group.bits) for group in known)
    return more / room if room else 0.0


def _apart_bits(passed: int, tested: int, others: int, of: int) -> float:
    """The likelihood ratio, in bits, of two rates against one; 0 if the first is not the higher one."""
    if not of or passed * of <= others * tested:
        return 0.0
    both = (passed + others) / (tested + of)
    return _divergence(passed / tested, both) * tested + _divergence(others / of, both) * of


def _divergence(share: float, chance: float) -> float:
    """KL divergence, in bits, of two coins."""
    bits = share * math.log2(share / chance) if share else 0.0
    return bits + ((1 - share) * math.log2((1 - share) / (1 - chance)) if share < 1 else 0.0)


@lru_cache(maxsize=4096)
def chance_bits(length: int, top_k: int, n_experts: int) -> float:
    """-log2 of the chance that `length` consecutive entries of independent rows are all distinct.

    Args:
        length: entries, counted from the start of a row.
        top_k: distinct entries a row.
        n_experts: experts they are drawn from, uniformly.

    Returns:
        The strength of the evidence in bits; infinite where it cannot happen.
    """
    rows, rest = divmod(length, top_k)
    bits = sum(_disjoint_bits(n_experts, i * top_k, top_k) for i in range(rows))
    return bits + _disjoint_bits(n_experts, rows * top_k, rest)


def _disjoint_bits(n_experts: int, taken: int, drawn: int) -> float:
    """-log2 of C(E - taken, drawn) / C(E, drawn)."""
    if taken + drawn > n_experts:
        return math.inf if drawn else 0.0
    return _log2_choose(n_experts, drawn) - _log2_choose(n_experts - taken, drawn)


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _binomial_bits(n: int, c: int, p: float) -> float:
    """-log2 of an upper bound on P(Binomial(n, p) >= c), c > n p: the Chernoff bound, 2^(-n KL(c/n || p))."""
    return n * _divergence(c / n, p)
