"""What the figures come to."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.section import Keys, ReportSection
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdicts


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    for judgement in verdicts(snapshot):
        yield f"verdict {judgement.subject}: {judgement.word}; {judgement.text}"


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


SECTION = ReportSection("verdicts", _lines, _keys)
