"""Which logs are meant, and how they are cut into tasks."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from moe_live.errors import MoeLiveError, printable
from moe_live.formats.sniff import HEAD_BYTES, SniffingDecoder, candidates
from moe_live.parallel.plan import Part, plan
from moe_live.settings import Settings
from moe_live.sources.remote import found, is_url, opened

TOGETHER = 1 << 23
"""Bytes of logs that one task reads, at most, unless a single log is longer."""

ALONE = 1 << 21
"""Fewer bytes are not worth a task of their own: what it finds takes as long to be packed and merged."""

ROUNDS = 4
"""Tasks for each worker, if there is enough, so that all end at about the same time."""


class Log(NamedTuple):
    """A log.

    Attributes:
        name: what the user calls it.
        path: what every process calls it: absolute, or a URL.
        size: bytes as they lie there, packed or not; None if nobody tells.
    """

    name: str
    path: str
    size: int | None


class LogPart(NamedTuple):
    """A log, or a part of one.

    Attributes:
        part: the log, and from where to where.
        names: that of the log, once for all its parts.
        size: bytes, as they lie there.
    """

    part: Part
    names: tuple[str, ...]
    size: int


def find_logs(patterns: Sequence[str]) -> tuple[list[Log], list[str]]:
    """The logs that paths, URLs and patterns of both name, each once, in the order given.

    What a pattern names is in the order of the names.

    Returns:
        The logs, and why some cannot be read.
    """
    logs: dict[str, Log] = {}
    problems = []
    for pattern in patterns:
        try:
            for log in _remote(pattern) if is_url(pattern) else _local(pattern):
                logs.setdefault(log.path, log)
        except MoeLiveError as error:
            problems.append(str(error))
    return list(logs.values()), problems


def format_of(logs: Sequence[Log], settings: Settings) -> str:
    """What all are written in, as one process would tell that reads them all: by the first that has anything.

    Returns:
        The name of the format; "" if there is nothing.
    """
    for log in logs:
        decoder = SniffingDecoder(known=candidates(settings.format, dict(settings.columns)))
        try:
            stream = opened(log.path)
        except OSError:
            continue  # who reads it will tell
        left = HEAD_BYTES
        while left > 0 and not stream.ended and decoder.dialect is None:
            data = stream.read(left)
            left -= len(data)
            _exhaust(decoder.feed(data))
        stream.close()
        _exhaust(iter(decoder.restart()))
        if decoder.dialect is not None:
            return decoder.dialect.name
    return ""


def cut(logs: Sequence[Log], workers: int, settings: Settings) -> Iterator[Sequence[LogPart]]:
    """What each task reads: several logs while they are short; of a large plain one that lies here, a part.

    Args:
        logs: all of them.
        workers: tasks that run at once.
        settings: of the analysis.
    """
    share = sum(log.size or 0 for log in logs) // (ROUNDS * max(1, workers))
    most = min(TOGETHER, max(ALONE, share))
    together: list[LogPart] = []
    for log in logs:
        size = TOGETHER if log.size is None else log.size
        if together and sum(each.size for each in together) + size > most:
            yield together
            together = []
        parts = [] if is_url(log.path) else plan([log.path], workers, settings)
        if not parts:
            together.append(LogPart(Part(log.path, 0, None, None), (log.name,), log.size or 0))
            continue
        if together:
            yield together
            together = []
        for part in parts:
            end = size if part.end is None else part.end
            yield [LogPart(part, () if part.begin else (log.name,), max(0, end - part.begin))]
    if together:
        yield together


def _remote(pattern: str) -> Iterator[Log]:
    for url, size in found(pattern):
        yield Log(url, url, size)


def _local(pattern: str) -> Iterator[Log]:
    """Those on disk.

    Raises:
        MoeLiveError: there are none, or one cannot be read.
    """
    if os.path.lexists(pattern):
        names = [pattern]
    else:
        names = sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())  # noqa: PTH207 - of absolute patterns too
    shown = printable(pattern)
    if not names:
        raise MoeLiveError(f"cannot read {shown}: there is no such file; check the path")
    for name in names:
        try:
            status = Path(name).stat()
        except OSError as error:
            raise MoeLiveError(f"cannot read {shown}: {error.strerror}; check the path") from error
        if not stat.S_ISREG(status.st_mode):
            raise MoeLiveError(f"cannot read {shown}: it is no file; name the logs in it, as {shown}/*.log")
        yield Log(name, os.path.abspath(name), status.st_size)  # noqa: PTH100 - `absolute` leaves .. in


def _exhaust(decoded: Iterator[object]) -> None:
    for _ in decoded:
        pass
