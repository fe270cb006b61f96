"""What a run came to, on one screen: for a terminal, where the whole summary would scroll away."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.judgement import Subject, Word
from moe_live.reports.section import NAME_WIDTH, Gist, ReportSection, isolated
from moe_live.reports.sections import SECTIONS
from moe_live.routing.evidence import Verdict
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdict
from moe_live.wrapping import shorten, wrap

LINES = 23
"""Of all of it: with the prompt that comes after it, those of the smallest terminal in use."""

_NARROWEST = 40
_MOST_HINTS = 3
_NAME, _ALERT = Style(bold=True), Style(bold=True, color="red")


@dataclass(frozen=True, slots=True)
class Ran:
    """What there is to know of a run besides its figures.

    Attributes:
        paths: the logs, where they can be read once more; nothing where they cannot.
        follows: whether a log was followed.
        written: what was written, and the paths it went to.
    """

    paths: tuple[str, ...] = ()
    follows: bool = False
    written: tuple[tuple[str, str], ...] = ()


def write_ending(snapshot: Snapshot, ran: Ran, out: TextIO, *, no_color: bool | None = None) -> None:
    """Write `ending`; what the encoding of `out` lacks is written as an escape.

    Args:
        snapshot: the final statistics.
        ran: the run.
        out: a terminal.
        no_color: whether to do without colours; by default what the environment says.
    """
    console = Console(file=out, no_color=no_color, highlight=False, soft_wrap=True)
    encoding = out.encoding or "utf-8"
    with console.capture() as written:
        for line in ending(snapshot, ran, console.width):
            console.print(line)
    out.write(written.get().encode(encoding, "backslashreplace").decode(encoding))


def ending(snapshot: Snapshot, ran: Ran, width: int) -> list[Text]:
    """What was read, warnings, verdicts, the hottest experts, what to do next and what was written.

    Args:
        snapshot: the final statistics.
        ran: the run.
        width: columns of the terminal.

    Returns:
        At most `LINES` lines of at most `width` columns, or of 40 where there are fewer.
    """
    width = max(width, _NARROWEST)

    def gists(section: ReportSection) -> list[Gist]:
        return list(section.gists(snapshot))

    (read, judged, *others), failures = isolated(SECTIONS, gists, list[Gist]())
    room = width - NAME_WIDTH - 1
    hints = _hints(snapshot, ran, room)[:_MOST_HINTS]
    after = [Gist("" if i else "next", (hint,)) for i, hint in enumerate(hints)]
    if ran.written:
        written = [
            f"{what} to {shorten(printable(path), room - len(f'{what} to ;'))}" for what, path in ran.written
        ]
        after.append(Gist("written", written, lines=2))
    blocks = [_lines(block, width) for block in (read, judged, chain.from_iterable(others), after)]
    for place in reversed(range(len(hints))):  # a line each, which makes way for what was asked for
        if sum(map(len, blocks)) > LINES:
            del blocks[-1][place]
    # The verdict on the rows tells what the warning of them tells.
    warnings = [warning for warning in (*snapshot.warnings, *failures) if warning != snapshot.rows.verdict]
    blocks[0] += _warnings(warnings, width, LINES - sum(map(len, blocks)))
    blocks = [block for block in blocks if block]
    if sum(map(len, blocks)) + len(blocks) - 1 <= LINES:
        blocks = [[*block, Text()] for block in blocks[:-1]] + blocks[-1:]
    return list(chain.from_iterable(blocks))


def _lines(gists: Iterable[Gist], width: int) -> list[Text]:
    return [line for gist in gists for line in _laid_out(gist, width)]


def _laid_out(gist: Gist, width: int) -> list[Text]:
    """A gist with as many of its facts as fit, none of them cut but the first."""
    room = width - NAME_WIDTH - 1
    first, *more = gist.facts
    lines = wrap(first, room, gist.lines) or [""]
    for fact in more:
        if cell_len(f"{lines[-1]}; {fact}") <= room:
            lines[-1] += f"; {fact}"
        elif len(lines) < gist.lines and cell_len(lines[-1]) < room and cell_len(fact) <= room:
            lines[-1] += ";"
            lines.append(fact)
        else:
            break
    style = _ALERT if gist.alert else _NAME
    return [
        Text.assemble((f"{gist.name if not i else '':<{NAME_WIDTH}} ", style), line)
        for i, line in enumerate(lines)
    ]


def _warnings(warnings: Sequence[str], width: int, room: int) -> list[Text]:
    """As many of the warnings as there is room for, and how many more there are."""
    lines: list[Text] = []
    for i, warning in enumerate(warnings):
        told = _laid_out(Gist("warning", (printable(warning),), lines=2, alert=True), width)
        left = len(warnings) - i - 1
        if len(lines) + len(told) + bool(left) > room:
            more = f"{left + 1} more warnings: --full" if lines else f"{left + 1} warnings: --full"
            return [*lines, *_laid_out(Gist("warning", (more,), alert=True), width)]
        lines += told
    return lines


def _hints(snapshot: Snapshot, ran: Ran, room: int) -> list[str]:
    """What to do next, the most useful first; a command that is not whole would be none."""
    logs = " ".join(printable(shlex.quote(path)) for path in ran.paths)

    def of_logs(what: str, command: str) -> str:
        """A command that reads the logs once more, named if there is room for their names."""
        named = f"{what}: moe-live {command} {logs}"
        return named if logs and cell_len(named) <= room else f"{what}: moe-live {command} LOG"

    judged = {subject: verdict(subject, snapshot) for subject in (Subject.CACHE, Subject.BALANCE)}
    words = [judgement.word for judgement in judged.values() if judgement is not None]
    hints = []
    if snapshot.rows.soundness in (Verdict.STRIDED, Verdict.MIXED):
        hints.append("right rows: moe-live capture --log FILE -- llama-server ...")
    if Word.PAYS in words or Word.HELPS in words:
        hints.append(of_logs("how large a cache", "plan cache"))
    if Word.UNEVEN in words and len(hints) < _MOST_HINTS - 1:
        hints.append(of_logs("on several devices", "plan placement"))
    hints.append(of_logs("all tables", "--full"))
    if not ran.written:
        hints.append("every figure: --json FILE; a page to look at or send: --html FILE")
    if ran.follows and not (snapshot.labels and snapshot.labels.usages):
        hints.append("types of prompts beside each other: --label-file FILE")
    return [hint for hint in hints if cell_len(hint) <= room]
