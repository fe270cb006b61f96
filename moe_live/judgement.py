"""What can be said of a log and its model: a word for each subject, and the facts it rests on.

Dashboard, summary and JSON show the same judgements, each in its own way.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum

from moe_live.dataclass import dataclass
from moe_live.snapshot import Snapshot


class Subject(StrEnum):
    """What is judged, in the order in which it is told."""

    ROWS = "rows"
    PHASE = "phase"
    BALANCE = "balance"
    HOT_SET = "hot set"
    CACHE = "cache"
    PAIRS = "pairs"
    NEXT_LAYER = "next layer"
    DRIFT = "drift"
    LABELS = "labels"


class Word(StrEnum):
    """All that can be said in a word; `WORDS` tells of what."""

    SOUND = "sound"
    STRIDED = "strided"
    MIXED = "mixed"
    EITHER_WAY = "right either way"
    UNDECIDED = "undecided"
    KNOWN = "known"
    GUESSED = "guessed"
    EVEN = "even"
    FAIR = "fair"
    UNEVEN = "uneven"
    CONCENTRATED = "concentrated"
    MODERATE = "moderate"
    SPREAD_OUT = "spread out"
    PAYS = "pays"
    HELPS = "helps some"
    HARDLY_PAYS = "hardly pays"
    FOUND = "found"
    NONE_FOUND = "none found"
    CANNOT_BE_TOLD = "cannot be told"
    TOO_EARLY = "too early to say"


_STRUCTURE = (Word.FOUND, Word.NONE_FOUND, Word.CANNOT_BE_TOLD, Word.TOO_EARLY)

WORDS: Mapping[Subject, tuple[Word, ...]] = {
    Subject.ROWS: (Word.SOUND, Word.STRIDED, Word.MIXED, Word.EITHER_WAY, Word.UNDECIDED),
    Subject.PHASE: (Word.KNOWN, Word.GUESSED),
    Subject.BALANCE: (Word.EVEN, Word.FAIR, Word.UNEVEN, Word.TOO_EARLY),
    Subject.HOT_SET: (Word.CONCENTRATED, Word.MODERATE, Word.SPREAD_OUT, Word.TOO_EARLY),
    Subject.CACHE: (Word.PAYS, Word.HELPS, Word.HARDLY_PAYS, Word.TOO_EARLY),
    Subject.PAIRS: _STRUCTURE,
    Subject.NEXT_LAYER: _STRUCTURE,
    Subject.DRIFT: _STRUCTURE,
    Subject.LABELS: _STRUCTURE,
}
"""The words that each subject may have."""


PAYS, HELPS = 0.5, 0.2
"""Share of the misses of experts drawn at random that a cache avoids: from which on it pays, and helps."""

_OPEN = frozenset({Word.UNDECIDED, Word.GUESSED, Word.TOO_EARLY, Word.CANNOT_BE_TOLD})
"""Words that leave the question open: what would answer it matters more than the figures so far."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said of one subject.

    Attributes:
        subject: what is judged.
        word: the verdict, one of `WORDS`.
        facts: phrases with the figures it rests on, the most important first: who has little room leaves out
            the last ones.
        surer: what would make it surer, a phrase that goes on after "surer with"; "" where it is sure, and
            more of the same would not change it.
    """

    subject: Subject
    word: Word
    facts: tuple[str, ...]
    surer: str = ""

    @property
    def sure(self) -> bool:
        """Whether nothing is missing."""
        return not self.surer

    @property
    def phrases(self) -> tuple[str, ...]:
        """The word, and the facts in the order in which one screen tells them, as far as there is room."""
        if self.word in _OPEN:
            return (self.word, *([] if self.sure else [f"surer with {self.surer}"]), *self.facts)
        return (self.word if self.sure else f"{self.word} so far", *self.facts)

    @property
    def text(self) -> str:
        """The facts as one sentence, and what would make it surer."""
        return ", ".join(self.facts) + (f"; surer with {self.surer}" if self.surer else "")


def worth(hits: float, chance: float) -> Word:
    """What a cache of this hit rate is called beside experts drawn at random, were both rates certain."""
    avoided = (hits - chance) / (1 - chance) if chance < 1 else 0.0
    return Word.PAYS if avoided >= PAYS else Word.HELPS if avoided >= HELPS else Word.HARDLY_PAYS


def not_made(subject: Subject, snapshot: Snapshot) -> Judgement | None:
    """What is said where a section is missing; None if it was not asked for."""
    if not snapshot.layers:
        return without_rows(subject)
    if snapshot.counts_only:
        return Judgement(subject, Word.TOO_EARLY, ("nothing but counts was kept",), "all of the analysis")
    return None


def without_rows(subject: Subject) -> Judgement:
    """What is said of the use of experts while there is none."""
    return Judgement(subject, Word.TOO_EARLY, ("no expert rows so far",), "expert rows")


def median(values: Sequence[float]) -> float:
    """The median of those that are defined, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan
