"""What the figures come to."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.judgement import Subject, Word
from moe_live.reports.section import Gist, Keys, ReportSection
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdicts


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    for judgement in verdicts(snapshot):
        yield f"verdict {judgement.subject}: {judgement.word}; {judgement.text}"


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    for judgement in verdicts(snapshot):
        if judgement.subject is Subject.LABELS and not (snapshot.labels and snapshot.labels.usages):
            continue  # of what nobody gave nothing need be said
        wrong = judgement.word in (Word.STRIDED, Word.MIXED)
        yield Gist(judgement.subject, judgement.phrases, lines=1 + wrong, alert=wrong)


def _keys(snapshot: Snapshot) -> Keys:
    return Keys(
        {
            "verdicts": [
                {
                    "subject": judgement.subject.value,
                    "word": judgement.word.value,
                    "text": judgement.text,
                    "sure": judgement.sure,
                }
                for judgement in verdicts(snapshot)
            ]
        }
    )


SECTION = ReportSection("verdicts", _lines, _keys, _gists)
