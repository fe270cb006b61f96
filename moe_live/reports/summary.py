"""The final summary as plain text: stable line prefixes for grep, tables of at most about 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from moe_live.errors import printable
from moe_live.reports.section import ReportSection, isolated
from moe_live.reports.sections import SECTIONS
from moe_live.snapshot import Snapshot


def write_summary(snapshot: Snapshot, out: TextIO, *, top: int = 10) -> None:
    """Write `summary_lines`; what the encoding of `out` lacks is written as an escape."""
    encoding = out.encoding or "utf-8"
    for line in summary_lines(snapshot, top=top):
        out.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def summary_lines(snapshot: Snapshot, *, top: int = 10) -> Iterator[str]:
    """The lines of the summary, without line ends and control characters.

    Args:
        snapshot: the final statistics.
        top: most used experts shown of each layer.
    """

    def lines(section: ReportSection) -> list[str]:
        return list(section.lines(snapshot, top))

    # All sections before the first line: a warning of one that fails stands where warnings are looked for.
    parts, failures = isolated(SECTIONS, lines, list[str]())
    first, *others = parts
    yield from first
    for warning in (*snapshot.warnings, *failures):
        yield f"warning: {printable(warning)}"
    for other in others:
        yield from other
