"""First choices, as text and JSON: what moe_live/reports/sections would hold."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.section import Keys, ReportSection
from moe_live.snapshot import Snapshot
from tests.added.statistic import FirstChoices


def _found(snapshot: Snapshot) -> FirstChoices | None:
    found: FirstChoices | None = snapshot.first_choices  # type: ignore[attr-defined]  # where it is added
    return found


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if (found := _found(snapshot)) is not None:
        yield ""
        yield f"first choices: {found.experts} experts in {found.rows} rows"


def _keys(snapshot: Snapshot) -> Keys:
    found = _found(snapshot)
    return (
        Keys() if found is None else Keys({"first_choices": {"rows": found.rows, "experts": found.experts}})
    )


SECTION = ReportSection("first choices", _lines, _keys)
