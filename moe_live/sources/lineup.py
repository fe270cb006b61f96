"""The files of a followed log that are to be read, one after the other."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from moe_live.errors import UsageError, printable
from moe_live.sources.gaps import Gaps
from moe_live.sources.logfile import LogFile
from moe_live.sources.place import identity_of
from moe_live.sources.rotations import Log, Rotations
from moe_live.sources.stream import GZIP_MAGIC

HELD_MAX = 64
"""Files waiting to be read after several rotations. Beyond, new ones are left alone until one is done."""

REMEMBERED_MAX = 1024
"""Files that were read to the end and are remembered, in case the path names them again."""

UNSEEN_S = 1.0
"""After more time than this without a look, say because the process was stopped, all may have happened."""


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
        since_look: seconds that had passed at the last look since the one before.
        gaps: what is missing.
    """

    def __init__(self, path: Path, grace: float, now: float) -> None:
        self.files: deque[Log] = deque()
        self.absence = ""
        self.since_look = 0.0
        self.gaps = Gaps()
        self._path = path
        self._shown_path = printable(path)
        self._grace = grace
        self._looked_at = now
        self._unseen = 0.0  # seconds without a look, if they were many, since the path last named a file
        self._rotations = Rotations(path, REMEMBERED_MAX)

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

    def look(self, now: float) -> None:
        """See what the path names now, and line it up if that is not the last of our files."""
        self.since_look, self._looked_at = now - self._looked_at, now
        if self.since_look > UNSEEN_S:
            self._unseen += self.since_look
        shrunk = sum(file.look() for file in tuple(self.files)[1:])
        if shrunk and not self._line_up_others(now):
            self.gaps = self.gaps.plus(lost_bytes=shrunk)
        newest = self.files[-1] if self.files else None
        try:
            identity = identity_of(self._path.stat())
            if newest is None or identity != newest.identity:
                if len(self.files) < HELD_MAX:
                    self._line_up(now)
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
        if self.since_look > UNSEEN_S:
            self._line_up_others(now)

    def is_done_with_first(self, now: float) -> bool:
        """Whether the file being read, now at its end, gives way to the next one."""
        first, *others = self.files
        if first.left_at == -math.inf:
            return bool(others)
        return any(file.size > 0 for file in others) and self._left_long_ago(first, now)

    def finish_first(self, now: float) -> None:
        """Go on to the next file."""
        self._line_up_others(now)  # what came since that one was lined up, and has gone
        first = self.files.popleft()
        if isinstance(first, LogFile):
            self._rotations.remember(first)
        elif first.problem:
            self.gaps = self.gaps.plus(replaced=1, missing_files=1)
        first.close()

    def line_up_copies(self, file: LogFile) -> bool:
        """If the path names this file, which was rewritten, put what came before its new beginning before it.

        Returns:
            Whether there is a copy of it.
        """
        if file.left_at is not None:
            return False
        found = self._rotations.find((), HELD_MAX - len(self.files), read=file, rewritten=True)
        self._line_up_left(found.files, -math.inf)  # copies: nobody writes to them
        self.files.append(file)
        if found.missing:
            self.gaps = self.gaps.plus(
                replaced=found.new + found.missing + 1,
                missing_files=found.missing,
                unseen_seconds=self.since_look,
            )
        return found.has_copy

    def close(self) -> None:
        """Give all files back."""
        for file in self.files:
            file.close()

    def _line_up(self, now: float) -> None:
        """Append what the path names to our files, after all that came before it.

        Raises:
            OSError: it cannot be opened.
        """
        newest = self._open_or_hold()
        is_held = newest in self.files
        read = self.files[0] if self.files else None
        for file in self.files:
            if file.left_at is None:
                file.left_at = now
        waiting = []
        for file in self.files:
            if file is newest:
                continue
            if file is read or file.size > 0 or not self._left_long_ago(file, now):
                waiting.append(file)
            else:  # it stayed empty
                file.close()
        found = self._rotations.find(waiting, HELD_MAX - 1 - len(waiting), read=read)
        self._line_up_left(found.files, now)
        if found.missing or (not found.is_sure and (found.new or self._unseen)):
            self.gaps = self.gaps.plus(
                replaced=found.new + found.missing + 1,
                missing_files=found.missing,
                uncertain=int(not found.is_sure),
                unseen_seconds=max(self._unseen, self.since_look),
            )
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
        try:
            if (place := self._rotations.place_in(opened)) is not None:
                opened.resume(place)
        except OSError:
            opened.close()
            raise
        return opened

    def _line_up_others(self, now: float) -> int:
        """Put what came before the file that the path names, unnoticed, before it; returns how many files."""
        waiting = [file for file in self.files if file.left_at is not None]
        at_path = [file for file in self.files if file.left_at is None]
        read = self.files[0] if self.files else None
        found = self._rotations.find(waiting, HELD_MAX - len(self.files), read=read)
        self._line_up_left(found.files, now)
        self.files.extend(at_path)
        return found.new

    def _line_up_left(self, files: Sequence[Log], left_at: float) -> None:
        """Line up these files, which the path does not name any more, instead of those that are."""
        for file in files:
            if file.left_at is None:
                file.left_at = left_at
        self.files.clear()
        self.files.extend(files)

    def _left_long_ago(self, file: Log, now: float) -> bool:
        return file.left_at is not None and now - file.left_at >= self._grace
