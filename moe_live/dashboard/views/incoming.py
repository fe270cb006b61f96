"""What comes in: warnings, lines that could not be used, and which rows the figures rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from moe_live.dashboard.canvas import Line, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import ALERT, CAUTION, FAINT, GOOD, STRONG, TITLE
from moe_live.dashboard.view import View, excerpt
from moe_live.errors import printable
from moe_live.formats.sniff import USUAL, dialect_named
from moe_live.formatting import duration, fraction, percent, short, size, whole
from moe_live.judgement import Word
from moe_live.settings import RowMode
from moe_live.share import SourceShare
from moe_live.snapshot import Snapshot
from moe_live.verdicts import row_word
from moe_live.wrapping import shorten, wrap

_MOST_LINES = 12
"""Lines a single warning may take."""

_RUN = 67
"""Columns of what is said of a run before the log it wrote."""

_FAULT = 38
"""Columns that say what is wrong with a line."""

_TRUSTED = (
    "what counts can be trusted: the first row of each layer's block (a decode step of one slot has no "
    "other), rows that were recovered, and all rows of steps that are proven sound"
)
"""Of a log with wrong rows."""


def _warnings(snapshot: Snapshot, width: int) -> list[Line]:
    if not snapshot.warnings:
        return [(text("Warnings: none", GOOD),)]
    lines: list[Line] = [(text(f"Warnings ({len(snapshot.warnings)})", ALERT),)]
    for warning in snapshot.warnings:
        for i, part in enumerate(wrap(printable(warning), width - 4, _MOST_LINES)):
            lines.append((text(("  ! " if i == 0 else "    ") + part, CAUTION),))
    return lines


def _command(snapshot: Snapshot, width: int) -> list[Line]:
    """The command that computes what is read: whether it runs, and what it says."""
    command = snapshot.input.command
    if command is None:
        return []
    state = "runs" if command.ended is None else f"ended with status {command.ended}"
    lines: list[Line] = [
        (text("Command", TITLE), text(f"  {state}", ALERT if command.ended else None)),
        *_figures([("what it says", shorten(printable(command.output), width - 22))]),
    ]
    return [*lines, *[(text("    " + shorten(line, width - 4), FAINT),) for line in command.said]]


def _rows(snapshot: Snapshot, width: int) -> list[Line]:
    rows = snapshot.rows
    figures = [
        ("rows asked for", rows.mode.value),
        ("logged", whole(rows.logged)),
        ("counted", whole(rows.counted)),
        ("recovered", whole(rows.recovered)),
        ("unrecoverable", whole(rows.unrecoverable)),
    ]
    figures += [
        (name, whole(number))
        for name, number in (("impossible", rows.impossible), ("odd", rows.odd))
        if number
    ]
    said = [] if rows.verdict in snapshot.warnings else [rows.verdict]
    if rows.strided and rows.mode is not RowMode.LOGGED:
        said.append(_TRUSTED)
    verdict: list[Line] = [
        (text(f"  {part}"),) for each in said for part in wrap(printable(each), width - 2, _MOST_LINES)
    ]
    return [(text("Expert rows", TITLE),), *verdict, *_figures(figures)]


def _runs(snapshot: Snapshot, width: int) -> list[Line]:
    """The verdict on the rows of each run of the server, the latest first; nothing of a single one."""
    rows = snapshot.rows
    number = sum(rows.runs.values())
    if number < 2:
        return []
    latest = f"  the latest {len(rows.latest_runs)} of {whole(number)}" if rows.latest_runs else ""
    lines: list[Line] = [
        (text("Runs of the server", TITLE), text(latest)),
        (
            text(
                f"  {'run':<8}{'rows are':<17}{'logged':>9}{'counted':>9}{'recovered':>11}{'lost':>9}"
                f"{'  log' if rows.of_several_logs else ''}",
                FAINT,
            ),
        ),
    ]
    for run in reversed(rows.latest_runs):
        word = row_word(run)
        style = CAUTION if word in (Word.STRIDED, Word.MIXED) else GOOD if word is Word.SOUND else None
        counts = f"{whole(run.logged):>9}{whole(run.counted):>9}{whole(run.recovered):>11}"
        lines.append(
            (
                text(f"  {whole(run.number):<8}"),
                text(f"{word:<17}", style),
                text(f"{counts}{whole(run.unrecoverable):>9}", STRONG),
                *([text(f"  {shorten(printable(run.log), width - _RUN)}")] if rows.of_several_logs else []),
            )
        )
    return lines


def _input(snapshot: Snapshot, width: int) -> list[Line]:
    tally = snapshot.input.tally
    paths = [
        (f"path {i}" if len(snapshot.input.paths) > 1 else "path", shorten(printable(path), width - 22))
        for i, path in enumerate(snapshot.input.paths, 1)
    ]
    figures = [
        *paths,
        *([("format", snapshot.input.format)] if snapshot.input.format not in {"", USUAL} else []),
        ("bytes", f"{whole(tally.bytes)} ({size(tally.bytes)})"),
        ("lines", whole(tally.lines)),
        ("headers", whole(tally.header_lines)),
        *([("comments", whole(tally.comment_lines))] if tally.comment_lines else []),
        ("bad lines", whole(tally.malformed_lines)),
        ("  of them too long", whole(tally.overlong_lines)),
        *([("rows without experts", whole(tally.empty_rows))] if tally.empty_rows else []),
        ("unfinished lines", f"{whole(tally.incomplete_lines)} ({size(tally.incomplete_bytes)})"),
        ("NUL bytes skipped", whole(tally.nul_bytes)),
        ("restarts", whole(snapshot.input.restarts)),
        ("rotations", whole(snapshot.input.rotations)),
    ]
    return [(text("Input", TITLE),), *_figures(figures)]


class _Column(NamedTuple):
    """Of the table of sources.

    Attributes:
        title: above it.
        width: in columns, the gap before it included.
        value: of a source.
        style: of the value.
    """

    title: str
    width: int
    value: Callable[[SourceShare], str]
    style: Callable[[SourceShare], Style | None] = lambda _: STRONG


def _sources(snapshot: Snapshot, width: int) -> list[Line]:
    """What each of several sources has in the figures; on a narrow screen the last columns give way."""
    sources = snapshot.input.sources
    if not sources:
        return []
    columns: Sequence[_Column] = _COLUMNS
    while sum(column.width for column in columns) > width - _LEAST_NAME - 2:
        columns = columns[:-1]
    names = _short_names([share.name for share in sources])
    room = min(width - sum(column.width for column in columns) - 2, max(map(cell_len, names)))
    titles = "".join(f"{column.title:>{column.width}}" for column in columns)
    lines: list[Line] = [
        (text("Sources", TITLE), text(f"  {len(sources)}, shown as one")),
        (text(f"  {'':<{room}}{titles}", FAINT),),
    ]
    for name, share in zip(names, sources, strict=True):
        shown = text(f"  {set_cell_size(shorten(name, room), room)}")
        if share.left_out:
            why = shorten(printable(share.left_out), width - room - 4)
            lines.append((shown, text(f"  {why}", CAUTION)))
        else:
            cells = (text(f"{each.value(share):>{each.width}}", each.style(share)) for each in columns)
            lines.append((shown, *cells))
    return lines


_LEAST_NAME = 12
"""Columns that the name of a source has at least."""


def _short_names(names: Sequence[str]) -> list[str]:
    """Names without the directories that all have in common."""
    parts = [PurePath(name).parts for name in names]
    common = 0
    while all(len(each) > common + 1 and each[common] == parts[0][common] for each in parts):
        common += 1
    return [printable(str(PurePath(*each[common:]))) for each in parts]


def _now(share: SourceShare) -> str:
    if share.now is None:
        return ""
    return share.now.state if share.now.age is None else f"{duration(share.now.age)} ago"


def _lines_per_second(share: SourceShare) -> str:
    return _rate(None if share.now is None else share.now.lines_per_second)


def _decode_per_second(share: SourceShare) -> str:
    return _rate(None if share.now is None else share.now.decode_per_second)


def _rate(number: float | None) -> str:
    return "–" if number is None else short(number)


def _hottest(share: SourceShare) -> str:
    hot = share.hottest
    return "–" if hot is None else f"{hot.layer} #{hot.expert} {percent(hot.share)}"


def _row_style(share: SourceShare) -> Style | None:
    if share.row_word in (Word.STRIDED, Word.MIXED):
        return CAUTION
    return GOOD if share.row_word == Word.SOUND else None


_COLUMNS = (
    _Column("lines/s", 9, _lines_per_second),
    _Column("steps", 8, lambda share: whole(share.steps, 7)),
    _Column("decode/s", 10, _decode_per_second),
    _Column("rows are", 18, lambda share: share.row_word, _row_style),
    _Column("hottest", 16, _hottest),
    _Column("now", 12, _now, lambda _: None),
    _Column("apart", 9, lambda share: fraction(share.apart, 4)),
    _Column("chance", 9, lambda share: fraction(share.by_chance, 4), lambda _: None),
    _Column("lines", 9, lambda share: short(share.lines)),
    _Column("bad", 7, lambda share: short(share.malformed_lines)),
)
"""What matters least comes last."""


def _bad_lines(snapshot: Snapshot, width: int) -> list[Line]:
    """Lines that could not be used: how many, and of the first ones what is wrong with them."""
    tally = snapshot.input.tally
    if not tally.malformed_lines:
        return []
    share = percent(tally.malformed_lines / max(1, tally.lines))
    extent = f"  {whole(tally.malformed_lines)} of {whole(tally.lines)} ({share}); the first ones:"
    title: Line = (text("Bad lines", ALERT), text(shorten(extent, width - len("Bad lines"))))
    lines = [title]
    fault = dialect_named(snapshot.input.format).fault
    for sample in tally.samples:
        why = shorten(fault(sample) or "cannot be told from its beginning", min(_FAULT, width // 2))
        shown = shorten(printable(sample), width - _FAULT - 4)
        lines.append((text(f"  {why:<{_FAULT}}  ", CAUTION), text(shown, FAINT)))
    return lines


def _figures(figures: list[tuple[str, str]]) -> list[Line]:
    return [(text(f"  {name:<20}"), text(value, STRONG)) for name, value in figures]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """All of it, the visible part."""
    lines: list[Line] = []
    for section in (_warnings, _command, _sources, _bad_lines, _rows, _runs, _input):
        if part := section(snapshot, width):
            lines += [*part, ()]
    lines.pop()
    window = state.place.rows
    if len(lines) <= height:
        window.over(len(lines), height)
        return lines
    rows = window.over(len(lines), height - 1)
    return [(text(excerpt(rows, len(lines), "lines"), STRONG),), *lines[rows.start : rows.stop]]


VIEW = View(
    key="i",
    title="Input",
    brief="In",
    render=render,
    gist="",
    reading=(
        "Everything to know before believing the figures: warnings, whether the logged expert rows are "
        "sound (a known defect of the logging patch writes wrong rows for prompts), in each run of the "
        "server by itself, lines that could not be used, what is wrong with them and how they begin. Of a "
        "command that moe-live runs: the last that it printed, and the file that has all of it. Of several "
        "logs, or states, a row each, with the expert that serves most of its decode (layer, expert, share "
        "of the layer), and how far apart its use of the experts is from that of all others: Jensen-Shannon "
        "in bits, mean of layers, beside what chance alone comes to were tokens independent. Other texts lie "
        "apart too."
    ),
    always=True,
)
