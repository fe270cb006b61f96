"""What is remembered of files that are not open: which were read, and how far, and which lay there before."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from contextlib import suppress

from moe_live.dataclass import dataclass
from moe_live.sources.logfile import LogFile
from moe_live.sources.packed import PackedLog
from moe_live.sources.place import Identity, Place
from moe_live.sources.siblings import Sibling

REMEMBERED_MAX = 1024
"""Files that were read to the end and are remembered, in case the path names them again: the latest ones."""

Log = LogFile | PackedLog


@dataclass(frozen=True, slots=True)
class _Finished:
    """A file that was read to its end.

    Attributes:
        place: where its last complete line ends.
        size: of the file.
    """

    place: Place
    size: int


class Memory:
    """Tells the files beside a log that came since from those that were there, or were read."""

    def __init__(self) -> None:
        self._finished: OrderedDict[Identity, _Finished] = OrderedDict()
        self._listed: dict[Identity, tuple[int, int]] = {}  # size and time

    def note(self, siblings: Iterable[Sibling]) -> None:
        """Take in what lies beside the log now."""
        self._listed = {sibling.identity: (sibling.size, sibling.mtime_ns) for sibling in siblings}

    def without(self, identities: Collection[Identity]) -> Memory:
        """The same, had these files, which are still to be read, not been seen beside the log."""
        other = Memory()
        other._finished = self._finished.copy()
        other._listed = {key: seen for key, seen in self._listed.items() if key not in identities}
        return other

    def lay_there(self, sibling: Sibling) -> bool:
        """Whether this file, as it is, lay beside the log when that was noted last, under whatever name."""
        return self._listed.get(sibling.identity) == (sibling.size, sibling.mtime_ns)

    def finish(self, file: LogFile) -> None:
        """Take in that a file was read to its end."""
        with suppress(OSError):  # what cannot be read now will hardly be read again
            place = Place.at(file.identity, file.line_start, file.read_at)
            if place.offset:  # else nothing would tell it from another file with its inode
                self._finished[file.identity] = _Finished(place, file.size)
                self._finished.move_to_end(file.identity)
                if len(self._finished) > REMEMBERED_MAX:
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

    def has_more(self, file: Log, sibling: Sibling) -> bool:
        """Whether there is something to read in a file. If it was read before, it goes on where that ended.

        There is nothing in one that was read, or lay there, before it was compressed.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(file, LogFile):
            if (place := self.place_in(file)) is None:
                return True
            file.resume(place)
            return file.size > self._finished[file.identity].size
        return (file.size, sibling.mtime_ns) not in self._listed.values() and not any(
            file.is_packed(finished.size, finished.place.head) for finished in self._finished.values()
        )
