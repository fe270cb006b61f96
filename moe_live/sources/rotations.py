"""Which files the path of a log named while nobody looked: found by what is known of those beside it."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moe_live.sources.logfile import LogFile
from moe_live.sources.packed import PackedLog
from moe_live.sources.place import Identity, Place
from moe_live.sources.siblings import Series, Sibling, find_siblings

Log = LogFile | PackedLog

ATTEMPTS = 5
"""How often the files beside the log are listed anew if they are renamed meanwhile."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came between what was read and what the path names now.

    Attributes:
        files: what is to be read before that, oldest first: new files, and those that were waiting already.
        new: how many of them are new.
        missing: how many others are gone, or cannot be read, going by the numbers in the names.
        is_sure: whether there were no others; if not, some may have come and gone.
        is_all: whether these are all; if not, there was no room for the rest.
        has_copy: whether the first one is a copy of what was read.
    """

    files: tuple[Log, ...]
    new: int = 0
    missing: int = 0
    is_sure: bool = True
    is_all: bool = True
    has_copy: bool = False


@dataclass(frozen=True, slots=True)
class _Finished:
    """A file that was read to its end.

    Attributes:
        place: where its last complete line ends.
        size: of the file.
    """

    place: Place
    size: int


class Rotations:
    """Knows the files that were read, and those that lay beside the log before: all others came since.

    Args:
        path: the log.
        remembered: how many of the files that were read are remembered, the latest. None is held open.
    """

    def __init__(self, path: Path, remembered: int) -> None:
        self._path = path
        self._remembered = remembered
        self._finished: OrderedDict[Identity, _Finished] = OrderedDict()
        self._known: dict[Identity, tuple[int, int]] = {}  # size and time of those that lay there
        self._note(sibling for series in find_siblings(path) for sibling in series.files)

    def remember(self, file: LogFile) -> None:
        """Take in that a file was read to its end."""
        with suppress(OSError):  # what cannot be read now will hardly be read again
            place = Place.at(file.identity, file.line_start, file.read_at)
            self._finished[file.identity] = _Finished(place, file.size)
            self._finished.move_to_end(file.identity)
            if len(self._finished) > self._remembered:
                self._finished.popitem(last=False)

    def place_in(self, file: LogFile) -> Place | None:
        """Where reading ended in a file, if it was read before.

        Raises:
            OSError: the file cannot be read.
        """
        finished = self._finished.get(file.identity)
        if finished is None or file.size < finished.place.offset or not finished.place.is_in(file.read_at):
            return None
        return finished.place

    def find(self, waiting: Sequence[Log], room: int, *, read: Log | None, rewritten: bool = False) -> Found:
        """Look for what came between what was read and what the path names now.

        Args:
            waiting: the files that are to be read before that, oldest first.
            room: how many files may be opened.
            read: the file that was read last; the first of those waiting, or what the path names.
            rewritten: whether that file was emptied or written anew: the end of its copy comes first then.
        """
        for _ in range(ATTEMPTS):
            opened: list[Log] = []
            try:
                found = self._find(waiting, room, read, opened, rewritten=rewritten)
            except FileNotFoundError:  # renamed, or gone, since it was listed
                found = None
            for file in opened:
                if found is None or file not in found.files:
                    file.close()
            if found is not None:
                return found
        return Found(tuple(waiting), is_sure=False)

    def _find(
        self, waiting: Sequence[Log], room: int, read: Log | None, opened: list[Log], *, rewritten: bool
    ) -> Found:
        """One attempt at `find`; what it opens is in `opened`, in use or not.

        Raises:
            FileNotFoundError: a file is not there any more under the name that it was listed with.
        """
        found = find_siblings(self._path)
        series, anchor, copy = Series(()), None, None
        for candidate in found:
            at, seeming_copy = self._anchor(candidate.files, read, opened, rewritten=rewritten)
            if at is not None or not series.files:
                series, anchor, copy = candidate, at, seeming_copy
        held = {file.identity: file for file in waiting}
        known = [self._is_known(file) and file.identity not in held for file in series.files]
        if _rises(series, known, anchor):
            series, known = series.turned(), known[::-1]
            anchor = None if anchor is None else len(known) - 1 - anchor
        last_known = max((i for i, is_known in enumerate(known) if is_known), default=-1)
        begin = last_known if anchor is None else anchor

        files = [*([] if copy is None else [copy]), *waiting]
        position = int(copy is not None or (read is not None and read in waiting))
        base, new, unreadable, left = begin, 0, 0, []
        for i, sibling in enumerate(series.files[begin + 1 :], begin + 1):
            if (waits := held.get(sibling.identity)) is not None:
                position = files.index(waits) + 1
                base = i
            elif known[i]:
                continue
            elif new >= room:
                left.append(sibling)
            else:
                try:
                    file = _open(sibling, opened)
                    if self._was_read(file, sibling):
                        continue
                except FileNotFoundError:
                    raise
                except OSError:
                    unreadable += 1
                    continue
                files.insert(position, file)
                position += 1
                new += 1
        missing = 0 if left else series.holes(max(base, 0)) + unreadable
        if anchor is None and begin >= 0 and base == begin and missing:
            missing -= 1  # that is the file which was read
        self._note(file for each in found for file in each.files if file not in left)
        return Found(
            tuple(files),
            new,
            missing,
            is_sure=begin >= 0,
            is_all=not left,
            has_copy=copy is not None,
        )

    def _anchor(
        self, files: Sequence[Sibling], read: Log | None, opened: list[Log], *, rewritten: bool
    ) -> tuple[int | None, Log | None]:
        """Which of these files is the one that was read, or made of it; opened, if there is more in it."""
        if read is None:
            return None, None
        if not rewritten:
            for i, sibling in enumerate(files):
                if sibling.identity == read.identity:
                    return i, None
        prefix: tuple[int | None, Log | None] = None, None
        for i, sibling in reversed([*enumerate(files)]):
            if self._is_known(sibling) or not isinstance(read, LogFile):
                continue
            try:
                file = _open(sibling, opened)
                if not rewritten and isinstance(file, PackedLog):
                    if file.is_packed(read.present_size(), read.head()):
                        return i, None
                elif file.go_on_from(read):
                    there = i, file if rewritten else None
                    if file.size >= read.offset:
                        return there
                    prefix = there if prefix[0] is None else prefix
            except FileNotFoundError:
                raise
            except OSError:
                continue
        return prefix

    def _is_known(self, sibling: Sibling) -> bool:
        """Whether this file, as it is, lay there before."""
        return self._known.get(sibling.identity) == (sibling.size, sibling.mtime_ns)

    def _was_read(self, file: Log, sibling: Sibling) -> bool:
        """Whether this is a file that was read, or one that was, or lay there, before it was compressed.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(file, LogFile):
            return self.place_in(file) is not None
        return (file.size, sibling.mtime_ns) in self._known.values() or any(
            file.is_packed(finished.size, finished.place.head) for finished in self._finished.values()
        )

    def _note(self, siblings: Iterable[Sibling]) -> None:
        self._known = {sibling.identity: (sibling.size, sibling.mtime_ns) for sibling in siblings}


def _open(sibling: Sibling, opened: list[Log]) -> Log:
    """Open a file that was listed.

    Raises:
        FileNotFoundError: its name is not its own any more.
        OSError: it cannot be read.
    """
    if not sibling.is_readable:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(sibling.path))
    file: Log = PackedLog.open(sibling.path) or LogFile.open(sibling.path)
    opened.append(file)
    if file.identity != sibling.identity:
        raise FileNotFoundError(sibling.path)
    return file


def _rises(series: Series, known: Sequence[bool], anchor: int | None) -> bool:
    """Whether later files got higher numbers: all that are new have higher ones than all that are not."""
    old: list[int] = []
    new: list[int] = []
    for i, file in enumerate(series.files):
        if file.number is not None:
            (old if known[i] or i == anchor else new).append(file.number)
    return bool(old and new) and min(new) > max(old)
