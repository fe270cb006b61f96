"""A judgement in a line: its word in colour, and as many of the facts as fit."""

from __future__ import annotations

from rich.style import Style

from moe_live.dashboard.canvas import Line, flow, line_width, text
from moe_live.dashboard.theme import CAUTION, FAINT, GOOD, STRONG
from moe_live.judgement import Subject, Word
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdict

_NAME = 9

_STYLES: dict[Word, Style] = {
    Word.SOUND: GOOD,
    Word.STRIDED: CAUTION,
    Word.MIXED: CAUTION,
    Word.EVEN: GOOD,
    Word.UNEVEN: CAUTION,
    Word.PAYS: GOOD,
    Word.HARDLY_PAYS: CAUTION,
    Word.TOO_EARLY: CAUTION,
}
"""Those of words that are not merely strong."""


def verdict_lines(subject: Subject, snapshot: Snapshot, width: int) -> list[Line]:
    """All that is to be said of a subject, on as many lines as that takes."""
    judgement = verdict(subject, snapshot)
    if judgement is None:
        return [verdict_line(subject, snapshot, width)]
    word = text(judgement.word, _STYLES.get(judgement.word, STRONG))
    surer = [] if judgement.sure else [f"surer with {judgement.surer}"]
    facts: list[Line] = [(text(fact),) for fact in (*judgement.facts, *surer)]
    return flow([(text(subject.ljust(_NAME), STRONG), word), *facts], width)


def verdict_line(subject: Subject, snapshot: Snapshot, width: int) -> Line:
    """What is to be said of a subject in at most `width` columns; less important facts are left out first."""
    line: Line = (text(subject.ljust(_NAME), STRONG),)
    judgement = verdict(subject, snapshot)
    if judgement is None:
        return (*line, text("one moment …", FAINT))
    word, *facts = judgement.phrases
    line = (*line, text(word, _STYLES.get(judgement.word, STRONG)))
    for i, fact in enumerate(facts):
        separator = " · " if i else "  "
        if line_width(line) + len(separator) + len(fact) > width:
            break
        line = (*line, text(separator + fact))
    return line
