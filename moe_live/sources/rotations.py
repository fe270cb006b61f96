"""Finding the files that the path of a log named while nobody looked, among those that lie beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_live.dataclass import dataclass
from moe_live.sources.logfile import LogFile
from moe_live.sources.memory import Log, Memory
from moe_live.sources.packed import HEAD_BYTES, PackedLog
from moe_live.sources.place import Identity, Place
from moe_live.sources.siblings import Series, Sibling, find_siblings

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
        is_rewritten: whether the file being read was emptied or written anew.
        has_copy: whether the first of the files is a copy of it, from where it had been read to.
    """

    files: tuple[Log, ...]
    new: int = 0
    missing: int = 0
    is_sure: bool = False
    is_all: bool = True
    is_rewritten: bool = False
    has_copy: bool = False


def find_between(
    log: Path, memory: Memory, waiting: Sequence[Log], *, read: Log | None, newest: Log | None, room: int
) -> Found:
    """Look for what came between what was read and what the path of a log names now.

    The files beside the log that were neither there before nor read came since. Their names tell in which
    order, and one of them may be the file that was being read, under a new name or compressed: what is older
    came before. If that file was rewritten, it is a copy that is looked for.

    Args:
        log: the path.
        memory: of the files that are not held; takes in what lies there now.
        waiting: files that are held and have left the path, oldest first.
        read: the file being read: the first of these, or the newest.
        newest: what the path names, or named a moment ago.
        room: how many files may be opened.
    """
    is_rewritten = isinstance(read, LogFile) and not read.is_intact()
    for _ in range(ATTEMPTS):
        search = _Search(memory, waiting, read, newest, is_rewritten=is_rewritten)
        try:
            found = search.among(find_siblings(log), room)
        except FileNotFoundError:  # renamed, or gone, since it was listed
            found = None
        for file in search.opened:
            if found is None or file not in found.files:
                file.close()
        if found is not None:
            return found
    return Found(tuple(waiting), is_rewritten=is_rewritten)


class _Search:
    """One attempt at it. What it opens is in `opened`, in use or not."""

    def __init__(
        self,
        memory: Memory,
        waiting: Sequence[Log],
        read: Log | None,
        newest: Log | None,
        *,
        is_rewritten: bool,
    ) -> None:
        self.opened: list[Log] = []
        self._memory = memory
        self._waiting = waiting
        self._held = {file.identity: file for file in waiting}
        if newest is not None:
            self._held[newest.identity] = newest
        self._read, self._newest = read, newest
        self._copies: set[Identity] = set()  # of what the path names
        self._parts: set[Identity] = set()  # copies of what was read, which is there no more
        self._is_rewritten = is_rewritten

    def among(self, all_series: Sequence[Series], room: int) -> Found:
        """Look among these siblings.

        Raises:
            FileNotFoundError: a file is not there any more under the name that it was listed with.
        """
        series, anchor, copy = Series(()), None, None
        for candidate in all_series:
            at, file = self._anchor(candidate.files)
            if at is not None or not series.files:
                series, anchor, copy = candidate, at, file
        if self._rises(series, anchor):
            series = series.turned()
            anchor = None if anchor is None else len(series.files) - 1 - anchor
        # What comes after the file being read is of interest; or else what comes after all that was there.
        old = [i for i, sibling in enumerate(series.files) if self._is_old(sibling)]
        begin = max(old, default=-1) if anchor is None else anchor
        if anchor is not None and copy is None and self._read is not None and not self._read.offset:
            # Nothing of that file was read: what is new right before it are copies of what it held meanwhile.
            before = (i for i in range(anchor - 1, -1, -1) if not self._is_new(series.files[i]))
            begin = next(before, -1)

        new: dict[Identity, Log] = {}
        left: list[Sibling] = []
        unreadable, newest_before = 0, begin
        for i, sibling in enumerate(series.files[begin + 1 :], begin + 1):
            if sibling.identity in self._held:
                newest_before = i
            elif self._is_old(sibling):
                continue
            elif len(new) == room:
                left.append(sibling)
            else:
                try:
                    opened = self._open(sibling)
                    if isinstance(opened, LogFile) and self._is_copy(opened, self._newest):
                        self._copies.add(sibling.identity)
                    elif (held := self._compressed(opened)) is not None:
                        self._held[sibling.identity] = held
                    elif self._memory.has_more(opened, sibling):
                        new[sibling.identity] = opened
                except FileNotFoundError:
                    raise
                except OSError:
                    unreadable += 1
        missing = 0 if left else series.holes(max(newest_before, 0)) + unreadable
        if anchor is None and newest_before == begin >= 0 and missing:
            missing -= 1  # that is the file being read
        # What the path names may be emptied next: then its copies must not be known as files that lay there.
        self._memory.note(
            file
            for each in all_series
            for file in each.files
            if file not in left and file.identity not in self._copies
        )
        files = self._in_order(series.files[begin + 1 :], new)
        return Found(
            files=tuple(files if copy is None else [copy, *files]),
            new=len(new),
            missing=missing,
            is_sure=newest_before >= 0,
            is_all=not left,
            is_rewritten=self._is_rewritten,
            has_copy=copy is not None,
        )

    def _anchor(self, files: Sequence[Sibling]) -> tuple[int | None, Log | None]:
        """Which of these files is the one being read, or made of it.

        Returns:
            Its index, if there is one; and if there is more in it than was read, the file, ready for that.

        Raises:
            FileNotFoundError: as above.
        """
        read = self._read
        if read is None:
            return None, None
        if not self._is_rewritten:
            for i, sibling in enumerate(files):
                if sibling.identity == read.identity:
                    return i, None
        found: tuple[int | None, Log | None] = None, None
        for i, sibling in reversed([*enumerate(files)]):
            if not self._is_new(sibling) or not isinstance(read, LogFile):
                continue
            try:
                file = self._open(sibling)
                if self._is_rewritten:
                    if file.go_on_from(read):
                        if found[1] is None or self._is_rather(file, found[1], read.offset):
                            found = i, file
                        if isinstance(file, LogFile):
                            self._parts.add(sibling.identity)
                elif file.is_made_of(read) if isinstance(file, PackedLog) else self._is_copy(file, read):
                    if read.left_at is None:
                        self._copies.add(sibling.identity)
                    return i, None
            except FileNotFoundError:
                raise
            except OSError:
                continue  # which counts it as missing, further on
        return found

    @staticmethod
    def _is_copy(file: LogFile, present: Log | None) -> bool:
        """Whether this is a copy, or is becoming one, of what the path names.

        An empty one may be a copy of anything.

        Raises:
            OSError: one of them cannot be read.
        """
        if (
            not isinstance(present, LogFile)
            or present.left_at is not None
            or not file.size
            or file.size > present.present_size()
        ):
            return False
        return _holds(present, file)

    def _is_rather(self, file: Log, later: Log, offset: int) -> bool:
        """Whether it is an older copy, and not a later one, that is gone on with from where was read to.

        The later one may not hold all that was read, or less than the older one; or it is of another text
        that only begins alike.

        Raises:
            OSError: one of them cannot be read.
        """
        if later.size < offset:
            return file.size >= offset
        if file.size <= offset or _holds(later, file):
            return False
        if not _holds(file, later):
            self._parts.discard(later.identity)
        return True

    def _compressed(self, file: Log) -> Log | None:
        """The file of those that are held of which this is the compressed form.

        Raises:
            OSError: one of them cannot be read.
        """
        for held in self._held.values():
            if isinstance(file, PackedLog) and isinstance(held, LogFile) and file.is_made_of(held):
                return held
        return None

    def _in_order(self, files: Sequence[Sibling], new: Mapping[Identity, Log]) -> list[Log]:
        """The files that were waiting, with those that are new where they belong."""
        ordered = [*self._waiting]
        # What is new came since the newest of those waiting was lined up. But a file that was rewritten and
        # has no name any more is read from its new beginning: that comes after its copies.
        position = len(ordered)
        if self._is_rewritten and self._read in self._waiting:
            position = 0
        elif ordered and isinstance(last := ordered[-1], LogFile) and last.is_rewritten and not last.offset:
            position -= 1
        for sibling in reversed(files):
            if sibling.identity in self._held:
                held = self._held[sibling.identity]
                position = ordered.index(held) if held in ordered else len(ordered)
            elif sibling.identity in new:
                ordered.insert(position, new[sibling.identity])
        return ordered

    def _is_old(self, sibling: Sibling) -> bool:
        """Whether this file lay there before, and was not waiting to be read, or copies what is known."""
        is_known = self._memory.lay_there(sibling) and sibling.identity not in self._held
        return is_known or sibling.identity in self._copies or sibling.identity in self._parts

    def _is_new(self, sibling: Sibling) -> bool:
        """Whether this file came since the last time that was asked."""
        return not self._is_old(sibling) and sibling.identity not in self._held

    def _rises(self, series: Series, anchor: int | None) -> bool:
        """Whether later files get higher numbers: all that are new have higher ones than all that are not."""
        old: list[int] = []
        new: list[int] = []
        for i, file in enumerate(series.files):
            if file.number is not None:
                (old if i == anchor or self._is_old(file) else new).append(file.number)
        return bool(old and new) and min(new) > max(old)

    def _open(self, sibling: Sibling) -> Log:
        """Open a file that was listed.

        Raises:
            FileNotFoundError: its name is not its own any more.
            OSError: it cannot be read.
        """
        if not sibling.is_readable:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(sibling.path))
        file: Log = PackedLog.open(sibling.path) or LogFile.open(sibling.path)
        self.opened.append(file)
        if file.identity != sibling.identity:
            raise FileNotFoundError(sibling.path)
        return file


def _holds(file: Log, other: Log) -> bool:
    """Whether a file begins with all that another one has, as far as samples tell.

    Raises:
        OSError: one of them cannot be read.
    """
    if isinstance(file, LogFile) and isinstance(other, LogFile):
        return Place.at(other.identity, other.size, other.read_at).is_in(file.read_at)
    length = min(other.size, HEAD_BYTES)
    return other.size <= file.size and _beginning(file, length) == _beginning(other, length)


def _beginning(file: Log, length: int) -> bytes:
    return file.read_at(length, 0) if isinstance(file, LogFile) else file.beginning[:length]
