"""The files of a followed log that are to be read, one after the other."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from moe_live.errors import UsageError, printable
from moe_live.sources.gaps import UNSEEN_S, GapCounter
from moe_live.sources.logfile import LogFile
from moe_live.sources.memory import Log, Memory
from moe_live.sources.packed import PackedLog
from moe_live.sources.place import Place, identity_of
from moe_live.sources.position import Position
from moe_live.sources.rotations import Found, find_between
from moe_live.sources.siblings import find_siblings
from moe_live.sources.source import Break
from moe_live.sources.stream import GZIP_MAGIC

HELD_MAX = 64
"""Files waiting to be read after several rotations. Beyond, new ones are left alone until one is done."""


class Lineup:
    """The files that are to be read, in this order; held open, so that none of them gets lost.

    The last one is what the path names, as long as it names one. What it named before is found by our own
    look at the path, and beside the log if it came and went between two looks.

    Args:
        path: the log.
        grace: how long a file is still read at least after the path has ceased to name it, in seconds.
        now: monotonic time in seconds.

    Attributes:
        files: see above; always the same deque.
        absence: why the path names nothing that can be read, for people; "" if it does.
        gaps: what is missing.
    """

    def __init__(self, path: Path, grace: float, now: float) -> None:
        self.files: deque[Log] = deque()
        self.absence = ""
        self.gaps = GapCounter()
        self._path = path
        self._shown_path = printable(path)
        self._grace = grace
        self._looked_at = now
        self._since_look = 0.0  # seconds from the look before the last one to the last one
        self._unseen = 0.0  # seconds without a look, if they were many, since the path last named a file
        self._memory = Memory()
        self._memory.note(sibling for series in find_siblings(path) for sibling in series.files)

    def open_at_start(self, *, from_end: bool) -> None:
        """Open what the path names now, if it names anything; after its last newline if so wanted.

        Raises:
            UsageError: it is a directory or another thing that cannot be followed, or may not be read.
        """
        try:
            file = LogFile.open(self._path)
        except (FileNotFoundError, NotADirectoryError):
            self.absence = f"waiting for {self._shown_path} to appear"
            return
        except IsADirectoryError:
            raise UsageError(
                f"cannot follow {self._shown_path}: it is a directory; name the log in it"
            ) from None
        except PermissionError:
            raise UsageError(
                f"cannot read {self._shown_path}: permission denied; run as a user who may read it"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot follow {self._shown_path}: {error.strerror}; only a log file can be followed"
            ) from None
        self.files.append(file)
        try:
            file.look()
            compressed = file.head().startswith(GZIP_MAGIC)
            if from_end and not compressed:
                file.skip_to_last_line()
        except OSError as error:
            file.close()
            raise UsageError(f"cannot read {self._shown_path}: {error.strerror}; check the disk") from None
        if compressed:
            file.close()
            raise UsageError(
                f"cannot follow {self._shown_path}: compressed logs are finished; read it without --follow"
            )

    def resume(self, position: Position, unseen: float) -> Log | None:
        """Line up what comes after a position, from the file on in which that lies; after `open_at_start`.

        Args:
            position: where reading stood in another process.
            unseen: seconds since then.

        Returns:
            The file that is gone on with; None if no file holds what was read up to there.
        """
        self._memory, self.gaps.gaps, self._since_look = position.memory, position.gaps, unseen
        newest = self._newest()
        self.files.clear()
        read = self._file_at(position, newest)
        if read is not None and read is newest:
            self.files.append(read)
            return read
        if read is not None:
            self.files.append(read)
        if newest is not None and (place := self._place_in(newest)) is not None:
            newest.resume(place)
        found = self._find([*self.files], newest)
        for file in self.files:
            if isinstance(file, LogFile) and file.quiet_for() >= self._grace and file.left_at != -math.inf:
                file.left_at = self._looked_at - self._grace  # it was waited for already
        if newest is not None:
            self.files.append(newest)
        if read is not None:
            return read
        self._unseen = unseen
        place = position.place
        if newest is not None and place is not None and place.offset:
            if newest.identity == (place.device, place.inode) and not found.new:
                newest.was_read_to(place, position.trail)
                self._start_again(newest, found)
                self.gaps.settle()
            else:
                self._note_replaced(found, successors=1)
        elif place is not None and place.offset:
            self._note_replaced(found)
        return None

    def _newest(self) -> LogFile | None:
        """What the path named at the start."""
        return next((file for file in self.files if isinstance(file, LogFile)), None)

    def _place_in(self, file: LogFile) -> Place | None:
        """Where reading ended in a file, if it was read before, and can be read."""
        with suppress(OSError):  # an unreadable file shows when it is read
            return self._memory.place_in(file)
        return None

    def _file_at(self, position: Position, newest: LogFile | None) -> Log | None:
        """The file in which a position lies, ready to be gone on with; None if there is none any more."""
        place = position.place
        if place is None or not place.offset:
            return None
        identity = place.device, place.inode
        if newest is not None:
            try:
                if newest.goes_on(place, position.trail, position.line_start):
                    return newest
            except OSError:  # an unreadable file shows when it is read
                return None
            if newest.identity == identity:
                newest.entry = Break.RESTARTED
        siblings = [sibling for series in find_siblings(self._path) for sibling in series.files[::-1]]
        for sibling in sorted(siblings, key=lambda sibling: sibling.identity != identity):
            if not sibling.is_readable or (newest is not None and sibling.identity == newest.identity):
                continue
            file: Log | None = None
            try:
                file = PackedLog.open(sibling.path) or LogFile.open(sibling.path)
                if isinstance(file, PackedLog):
                    is_it = file.goes_on(place, position.trail)
                else:
                    is_it = file.goes_on(place, position.trail, position.line_start)
                    file.left_at = self._looked_at if sibling.identity == identity else -math.inf
            except OSError:
                is_it = False
            if is_it:
                return file
            if file is not None:
                file.close()
        return None

    def position(self, current: Log | None) -> Position:
        """Where reading stands, if `current` is the file from which the last bytes came."""
        memory = self._memory.without({file.identity for file in self.files})
        if current is None and self.files:
            current = self.files[0]
        if current is None:
            return Position(str(self._path), memory=memory, gaps=self.gaps.gaps, time=time.time())
        return Position(
            str(self._path),
            current.place,
            current.trail,
            current.line_start,
            memory,
            self.gaps.gaps,
            time.time(),
        )

    def look(self, now: float) -> None:
        """See what the path names now, and line it up if that is not the last of our files."""
        self._since_look, self._looked_at = now - self._looked_at, now
        if self._since_look > UNSEEN_S:
            self._unseen += self._since_look
        before = tuple(self.files)
        lost = sum(file.look() for file in before[1:])
        newest = self.files[-1] if self.files else None
        try:
            identity = identity_of(self._path.stat())
            if newest is None or identity != newest.identity:
                if len(self.files) < HELD_MAX:
                    self._line_up()
                    self._note_lost(lost, before)
                return
            newest.left_at = None
            self.absence = ""
            self._unseen = 0.0
        except (FileNotFoundError, NotADirectoryError):
            self.absence = f"waiting for {self._shown_path} to appear"
            if newest is not None and newest.left_at is None:
                newest.left_at = now
        except OSError as error:
            self.absence = f"waiting for {self._shown_path}: {error.strerror}"
        if lost or self._since_look > UNSEEN_S or self._begins():
            found = self.line_up_others()
            self._note_lost(lost, before)
            if self.absence and newest is not None and not found.is_sure and self._unseen:
                self._note_replaced(found)

    def line_up_others(self) -> Found:
        """Put what came before the file that the path names, and was not noticed, before it."""
        left = [file for file in self.files if file.left_at is not None]
        at_path = [file for file in self.files if file.left_at is None]
        found = self._find(left, at_path[0] if at_path else None)
        self.files.extend(at_path)
        return found

    def has(self, file: LogFile) -> bool:
        """Whether a file is one of these, or was read to its end.

        Raises:
            OSError: it cannot be read.
        """
        return any(each.identity == file.identity for each in self.files) or (
            self._memory.place_in(file) is not None
        )

    def is_done_with_first(self) -> bool:
        """Whether the file being read, now at its end, gives way to the next one."""
        first, *others = self.files
        if first.left_at == -math.inf:
            return bool(others)
        return any(file.size > 0 for file in others) and self._left_long_ago(first)

    def finish_first(self) -> None:
        """Go on to the next file."""
        self.line_up_others()  # what came since that one was lined up, and has gone
        first = self.files.popleft()
        if isinstance(first, LogFile):
            self._memory.finish(first)
        elif first.problem:
            self.gaps.add(replaced=1, missing_files=1)
        first.close()

    def close(self) -> None:
        """Give all files back."""
        self.gaps.settle()
        for file in self.files:
            file.close()

    def _line_up(self) -> None:
        """Append what the path names to our files, after all that came before it.

        Raises:
            OSError: it cannot be opened.
        """
        newest = self._open_or_hold()
        is_held = newest in self.files
        read = self.files[0] if self.files else None
        waiting = []
        for file in self.files:
            if file.left_at is None:
                file.left_at = self._looked_at
            if file is newest:
                continue
            if file is read or file.size > 0 or not self._left_long_ago(file):
                waiting.append(file)
            else:  # it stayed empty
                file.close()
        found = self._find(waiting, newest)
        if not found.is_rewritten and (found.missing or (not found.is_sure and (found.new or self._unseen))):
            self._note_replaced(found, successors=1)
        if found.is_all or is_held:
            newest.left_at = None
            self.absence = ""
            self._unseen = 0.0
            self.files.append(newest)
        else:  # its turn comes when there is room
            newest.close()

    def _open_or_hold(self) -> Log:
        """What the path names: opened, or taken up again if it is held or was read before.

        Raises:
            OSError: it cannot be opened.
        """
        opened = LogFile.open(self._path)
        for file in self.files:
            if file.identity == opened.identity:
                opened.close()
                return file
        opened.look()
        try:
            if (place := self._memory.place_in(opened)) is not None:
                opened.resume(place)
        except OSError:
            opened.close()
            raise
        return opened

    def _begins(self) -> bool:
        """Whether the file that the path names was empty and has been written to: it may have been copied."""
        if not self.files or not isinstance(file := self.files[-1], LogFile) or file.offset:
            return False
        if len(self.files) > 1 and file.size:  # its turn will come, and what is cut off of it shows by itself
            return False
        return file.left_at is None and file.was_written_to()

    def _find(self, left: Sequence[Log], newest: Log | None) -> Found:
        """Look for what came before the newest file, and line it up with these, which have left the path."""
        read = self.files[0] if self.files else None
        room = HELD_MAX - len(left) - (newest is not None)
        found = find_between(self._path, self._memory, left, read=read, newest=newest, room=room)
        if found.is_rewritten and isinstance(read, LogFile):
            self._start_again(read, found)
        if found.new and newest is not None and newest is not read:
            newest.look()  # what is gone of it is among them
        for file in found.files:
            if file.left_at is None:
                # Nobody writes to a copy, as all are where the path names the same file as before.
                is_copy = found.is_rewritten and (
                    newest is read or (found.has_copy and file is found.files[0])
                )
                file.left_at = -math.inf if is_copy else self._looked_at
        self.files.clear()
        self.files.extend(found.files)
        return found

    def _start_again(self, file: LogFile, found: Found) -> None:
        """Get ready for the new beginning of the file being read, which is to come after what was found."""
        first_line, is_found = file.first_line, found.has_copy or (found.new > 0 and not file.offset)
        shortened = file.start_again(is_copied=found.has_copy)
        file.entry = Break.SHORTENED if shortened else Break.RESTARTED
        if shortened:
            self.gaps.add(shortened=1, cut_seconds=0.0 if is_found else self._since_look)
        elif not is_found:
            self.gaps.note_emptied(file, first_line, self._since_look)
        if is_found:
            file.lost_bytes = 0
        if found.missing:
            self._note_replaced(found, successors=1)

    def _note_replaced(self, found: Found, *, successors: int = 0) -> None:
        """Files are missing, or may be; `successors`: how many the path named after those found."""
        self.gaps.add(
            replaced=found.new + found.missing + successors,
            missing_files=found.missing,
            uncertain=int(not found.is_sure),
            unseen_seconds=self._unseen or self._since_look,
        )
        self._unseen = 0.0

    def _note_lost(self, lost: int, before: Sequence[Log]) -> None:
        """So many bytes were cut off before they were read; copies that were found since hold some."""
        copied = sum(file.size for file in self.files if file not in before and file.left_at is not None)
        self.gaps.add(lost_bytes=max(0, lost - copied))

    def _left_long_ago(self, file: Log) -> bool:
        return file.left_at is not None and self._looked_at - file.left_at >= self._grace
