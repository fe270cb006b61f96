"""Where large files may be cut for several processes: at the beginnings of steps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain
from typing import NamedTuple

from moe_live.formats.dialect import Dialect
from moe_live.formats.records import Records
from moe_live.formats.sniff import HEAD_BYTES, Sniffer, candidates
from moe_live.formats.spans import MAX_LINE_BYTES
from moe_live.routing.steps import StepAssembler
from moe_live.settings import Settings
from moe_live.sources.stream import PACKED_MAGICS

MIN_BYTES = 1 << 25
"""Smaller input is read by one process: others would take as long to start."""

PART_BYTES = 1 << 25
"""Parts are hardly smaller: the tables of one are made, sent and merged in the time that six megabytes are
read."""

COUNTS_PART_BYTES = 1 << 23
"""Nor are those of which only counts are wanted, which are sent and merged in no time."""

LONGER = 4
"""Times `PART_BYTES` that parts have, on average at least, where each process reads several."""

ROUNDS = 4
"""Parts for each process at most. Merging them costs the same whatever their length."""

SEARCH_BYTES = 1 << 24
"""How far the beginning of a step is looked for: the longest common prompt step has 12 MB of expert lines."""

GLANCE_BYTES = 1 << 18
"""How much is read at first: most steps of decode are shorter."""


LEARN_BYTES = 1 << 20
"""What is to be known of all lines is learned from the first ones, of so many bytes at most."""


class Part(NamedTuple):
    """A piece of a file, from `begin` to before `end` (None: to the end of the file); steps begin at both.

    All parts of a run are of one dialect; those that begin within a file know its first lines. None: that is
    told by the first lines of a whole file.
    """

    path: str
    begin: int
    end: int | None
    dialect: Dialect | None


def plan(
    paths: Sequence[str],
    jobs: int,
    settings: Settings,
    *,
    min_bytes: int = MIN_BYTES,
    part_bytes: int | None = None,
) -> list[Part]:
    """Parts that together are all files, in their order.

    Args:
        paths: the files.
        jobs: processes that will read.
        settings: of the analysis.
        min_bytes: less than this is not worth more processes than one; nor are files that have less than a
            sixteenth of it on average, since each is a part that has to be merged.
        part_bytes: of a part that is not the first or last; None for what suits the analysis.

    Returns:
        No parts at all if one process should read: there is too little, or something that is packed or not a
        regular file, or a dialect that is not cut, or what comes before a restart is not wanted.
    """
    sizes = [_plain_size(path) for path in paths]
    least = max(min_bytes, min_bytes * len(paths) // 16)
    if jobs < 2 or settings.reset_on_restart or None in sizes or sum(size or 0 for size in sizes) < least:
        return []
    dialect = _dialect(paths, settings)
    if dialect is None or (dialect.places is None and dialect.resumed is None):
        return []
    if part_bytes is None:
        part_bytes = COUNTS_PART_BYTES if settings.counts_only else PART_BYTES
    places = _places(sum(size or 0 for size in sizes), jobs, part_bytes)
    parts: list[Part] = []
    before = 0  # bytes of the files before
    for path, size in zip(paths, sizes, strict=True):
        bounds, end = [0], size or 0
        later = dialect if dialect.resumed is None else dialect.resumed(_first_lines(path))
        for place in places:
            if later is None:
                break  # what is to be known of all lines is not known from the first ones
            if bounds[-1] + part_bytes // 2 <= place - before <= end - part_bytes // 2:
                begin = find_step(path, place - before, settings, later)
                if begin is None:
                    break  # there are no steps that could be told apart, or very long ones
                bounds.append(begin)
        before += end
        ends = [*bounds[1:], None]
        parts += [
            Part(os.path.realpath(path), begin, end, later if begin and later is not None else dialect)
            for begin, end in zip(bounds, ends, strict=True)
        ]
    return parts if len(parts) > 1 else []


def _places(size: int, jobs: int, part_bytes: int) -> list[int]:
    """Where to cut, roughly, for processes that work at the same speed.

    Parts are merged in their order. The first ones are shorter each than the next, so that the processes come
    to their ends one after the other, and the last ones are longer, so that all end together.
    """
    rest = size // (LONGER * part_bytes) - jobs - 1
    if rest < 0:
        weights = [1] * min(jobs, size // part_bytes)
    else:
        rise = list(range(1, jobs + 1))
        weights = rise + [jobs] * min(rest, (ROUNDS - 2) * jobs) + rise[::-1]
    return [size * weight // sum(weights) for weight in accumulate(weights[:-1])]


def find_step(path: str, offset: int, settings: Settings, dialect: Dialect) -> int | None:
    """The offset of the first row after `offset` that is known to begin a step by the row before it alone.

    Both rows are well-formed and nothing of weight stands between them, so a reader that starts with the
    second one sees all that one who came from the first sees, but for the label in force.

    Returns:
        None if there is no such row within `SEARCH_BYTES`.
    """
    with open(path, "rb", buffering=MAX_LINE_BYTES) as file:  # noqa: PTH123 - `Path` has no other way either
        file.seek(offset)
        position = offset + len(file.readline(MAX_LINE_BYTES))
        for length in (GLANCE_BYTES, SEARCH_BYTES):
            file.seek(position)
            text = file.read(length)
            for before, begin, end in dialect.places(text) if dialect.places else ():
                if _begins_step(text[before:end], settings, dialect):
                    return position + begin
    return None


def _begins_step(two_rows: bytes, settings: Settings, dialect: Dialect) -> bool:
    """Whether both rows are well-formed and a step begins with the second."""
    decoder = dialect.open(gate_layers=settings.gate_layers, weights=False)
    assembler = StepAssembler(max_slots=settings.max_slots)
    decoded: Iterator[Records] = chain(decoder.feed(two_rows), decoder.restart())
    if settings.layers is not None:
        decoded = (records.of_layers(settings.layers) for records in decoded)
    complete = sum(1 for records in decoded for _ in assembler.feed(records))
    return complete == 1 and decoder.tally.malformed_lines == 0


def _dialect(paths: Sequence[str], settings: Settings) -> Dialect | None:
    """What the files are written in, by the head of the first that is not empty.

    Returns:
        None if all are empty, or if there is anything around the lines.
    """
    for path in paths:
        with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - `Path` has no other way either
            if head := file.read(HEAD_BYTES):
                sniffer = Sniffer(candidates(settings.format, dict(settings.columns)))
                dialect = sniffer.feed(head) or sniffer.end()
                return None if sniffer.wrapping else dialect
    return None


def _first_lines(path: str) -> list[bytes]:
    """Those from which is learned how the others are read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - `Path` has no other way either
            return file.read(LEARN_BYTES).split(b"\n")[:-1]
    except OSError:
        return []


def _plain_size(path: str) -> int | None:
    """Bytes of a regular file that is not packed; None for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - before opening: a FIFO would be disturbed
            return None
        with open(os.path.realpath(path), "rb") as file:  # noqa: PTH123 - as above
            packed = file.read(max(map(len, PACKED_MAGICS))).startswith(PACKED_MAGICS)
            return None if packed else os.fstat(file.fileno()).st_size
    except OSError:
        return None
