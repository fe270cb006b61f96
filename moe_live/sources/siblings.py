"""The files beside a log that were rotated away from its name, in the order in which they came."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from moe_live.dataclass import dataclass
from moe_live.sources.place import Identity, identity_of

_MARK = r"(?P<mark>[0-9]+(?:[-_.:T+]?[0-9]+)*)"
_PACKED = r"(?P<packed>\.(?:gz|bz2|xz|zst|lz4|Z))?"
_READ = (None, ".gz")

_NUMBER_MAX = 10**5
"""A mark that is one number below this counts rotations; any other is a date."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """A file beside a log, with the log's name and a number or date.

    Attributes:
        path: its name.
        mark: the numbers in its name.
        identity: which file it is.
        size: bytes, as they are on the disk.
        mtime_ns: when it was written to.
        is_readable: whether its name is not that of a format that we cannot unpack.
    """

    path: Path
    mark: tuple[int, ...]
    identity: Identity
    size: int
    mtime_ns: int
    is_readable: bool

    @property
    def number(self) -> int | None:
        """The number if the name has one; None if it has a date."""
        return self.mark[0] if len(self.mark) == 1 and self.mark[0] < _NUMBER_MAX else None


@dataclass(frozen=True, slots=True)
class Series:
    """Siblings that have numbers, or siblings that have dates.

    Attributes:
        files: the oldest first.
        first: the number that the newest one has; None if that is none in particular.
    """

    files: tuple[Sibling, ...]
    first: int | None = None

    def turned(self) -> Series:
        """The same where a later file gets a higher number, not the first one again."""
        return Series(self.files[::-1])

    def holes(self, begin: int) -> int:
        """How many numbers are missing from `files[begin]` on, up to the log itself."""
        numbers = [number for file in self.files[begin:] if (number := file.number) is not None]
        holes = sum(abs(a - b) - 1 for a, b in pairwise(numbers))
        return holes + (numbers[-1] - self.first if numbers and self.first is not None else 0)


def find_siblings(log: Path) -> list[Series]:
    """What lies beside a log, and beside the file that a symbolic link leads to.

    Names are those that logrotate, newsyslog and logging libraries give: ``moe.log.1``, ``moe.log-20261126``,
    ``moe.log.2026-11-26_13``, ``moe.1.log``, ``moe-20261126.log``, and these with ``.gz``. Each rotation is
    taken to add one to all numbers. Of a file and its compressed form only the first is returned: the other
    is just being made.
    """
    found: dict[tuple[int, ...], Sibling] = {}
    for path in {log.absolute(), Path(os.path.realpath(log))}:
        for sibling in _siblings_of(path):
            other = found.get(sibling.mark)
            if other is None or len(sibling.path.name) < len(other.path.name):
                found[sibling.mark] = sibling
    rising = sorted(found.values(), key=lambda sibling: sibling.mark)
    dated = tuple(sibling for sibling in rising if sibling.number is None)
    numbered = tuple(sibling for sibling in reversed(rising) if sibling.number is not None)
    first = min(1, numbered[-1].number or 0) if numbered else None
    return [series for series in (Series(numbered, first), Series(dated)) if series.files]


def is_sibling(path: Path, log: Path) -> bool:
    """Whether a path has the name of a file that was rotated away from a log beside it.

    >>> [is_sibling(Path(name), Path("moe.log")) for name in ("moe.log.1.gz", "moe-1.log", "moe-a.log")]
    [True, True, False]
    """
    return path.parent == log.parent and _names(log).fullmatch(path.name) is not None


@lru_cache(maxsize=256)
def _names(log: Path) -> re.Pattern[str]:
    """Of the siblings of a log."""
    stem, extension = re.escape(log.stem), re.escape(log.suffix)
    return re.compile(
        rf"{stem}(?:{extension}[.\-_]{_MARK}|[.\-_]{_MARK.replace('mark', 'inner')}{extension}){_PACKED}"
    )


def _siblings_of(path: Path) -> Iterable[Sibling]:
    name = _names(path)
    try:
        with os.scandir(path.parent) as entries:
            named = [(match, entry) for entry in entries if (match := name.fullmatch(entry.name))]
    except OSError:
        return
    for match, entry in named:
        try:
            status = entry.stat()
        except OSError:  # gone since
            continue
        if stat.S_ISREG(status.st_mode):
            mark = tuple(map(int, re.findall(r"[0-9]+", match["mark"] or match["inner"])))
            yield Sibling(
                path.with_name(entry.name),
                mark,
                identity_of(status),
                status.st_size,
                status.st_mtime_ns,
                match["packed"] in _READ,
            )
