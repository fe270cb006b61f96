"""Following a log by name: across restarts, rotation, truncation and absence, without losing a line."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from moe_live.errors import printable
from moe_live.sources.gaps import Gaps
from moe_live.sources.lineup import HELD_MAX, Lineup
from moe_live.sources.logfile import LogFile
from moe_live.sources.memory import REMEMBERED_MAX, Log
from moe_live.sources.place import Identity
from moe_live.sources.position import Position
from moe_live.sources.source import BUSY_PAUSE_S, IDLE_PAUSE_S, Break, SourceStatus, State, idle_pause
from moe_live.sources.watch import Watcher

__all__ = ["GRACE_S", "HELD_MAX", "IDLE_PAUSE_S", "READ_BYTES", "REMEMBERED_MAX", "TELL_S", "Follower"]

READ_BYTES = 1 << 20
"""The most that one call of `Follower.read` hands out."""

CLOSE_BYTES = 1 << 22
"""A lag up to this counts as "following": a fast server writes more than a megabyte between two polls."""

GRACE_S = 2.0
"""How long a file is still read at least after the path has ceased to name it."""

QUIET_S = 1.0
"""The watcher is armed after this time without bytes or events."""

RETRY_MIN_S = 0.25
RETRY_MAX_S = 8.0

TELL_S = 60.0
"""How long the status tells of something that is missing; the warnings always do."""


class Follower:
    """Follows the log that `path` names, as `Source`.

    Our own look at the path and at the files decides everything; the watcher only makes it happen
    sooner. A file is known by its (device, inode), and held open: first the one the path named before,
    until it has been left for `grace` seconds, nothing more comes, *and* there is something to read in
    the next one. So late writes come before new lines, and a server that never reopens its log is
    followed into the renamed file. If the path names a file again that was read before, reading goes
    on where it ended.

    What came and went between two looks is found beside the log: files that the path named meanwhile, and
    the end of a log that was copied and then emptied. `SourceStatus.gaps` tells what is not there.

    What cannot be known: lines that were written and truncated away between two looks, and a log rewritten
    with the very same bytes.

    Args:
        path: the log. It may be missing: it is waited for, and then read from its beginning.
        from_end: start after the last newline that is there now, instead of at the beginning.
        watch: let events in the directory wake us up while idle. Otherwise only poll.
        grace: see above, in seconds.
        clock: monotonic time in seconds.
        resume: where reading stood in another process: what came since is read, from there on. None to begin.

    Attributes:
        goes_on: whether the file was found in which reading stood, and all that was read of it is there.

    Raises:
        UsageError: `path` is a directory or another thing that cannot be followed, or may not be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        from_end: bool = False,
        watch: bool = True,
        grace: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
        resume: Position | None = None,
    ) -> None:
        self._path = Path(path)
        self._shown_path = printable(self._path)
        self._clock = clock
        self._lineup = Lineup(self._path, grace, clock())
        self._files = self._lineup.files
        self._current: Log | None = None  # where the last bytes came from
        self._restarts = 0
        self._rotations = 0
        self._told = Gaps()
        self._tell_until = -math.inf
        self._read_error = ""
        self._retry_at = 0.0
        self._retry_delay = RETRY_MIN_S
        self._skipping = False
        self._pause = 0.0
        self._active_at = clock()
        self._closed = False
        self._lineup.open_at_start(from_end=from_end and resume is None)
        if resume is not None:
            self._current = self._lineup.resume(resume, max(0.0, time.time() - resume.time))
        self.goes_on = self._current is not None
        # Of what was read before, an open step and an unfinished line may be left.
        self._has_read = resume is not None and resume.has_read
        self._watcher = Watcher(self._path) if watch else None

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """What has arrived since the last call: breaks, then at most one piece of `limit` bytes."""
        if self._closed:
            return []
        now = self._clock()
        woken = self._watcher is not None and self._watcher.woken()
        items = self._poll(now, limit)
        if items or woken:
            self._active_at = now
            if self._watcher is not None:
                self._watcher.disarm()
        elif self._watcher is not None and now - self._active_at >= QUIET_S and self._watcher.arm():
            items = self._poll(now, limit)  # what came just before the watch was set woke nobody
        if self._skipping:
            self._pause = 0.0
        elif not items:
            self._pause = idle_pause(self._pause)
        elif len(self._files) > 1 or (
            self._current is not None and self._current.offset < self._current.size
        ):
            self._pause = 0.0
        else:
            self._pause = BUSY_PAUSE_S
        if self._lineup.gaps.gaps != self._told:
            self._told = self._lineup.gaps.gaps
            self._tell_until = now + TELL_S
        return items

    def pause(self) -> float:
        """0 while more is known to be there, else 50 ms while data flows, growing to 250 ms when idle."""
        return self._pause

    def wake_fd(self) -> int | None:
        """Readable at an event in the directory, while idle; None without a watcher."""
        return None if self._watcher is None or self._closed else self._watcher.wake_fd

    def status(self) -> SourceStatus:
        """The present state. Position and size are those of the file being read and of files waiting."""
        position = self._files[0].offset if self._files else 0
        size = position + sum(max(0, file.size - file.offset) for file in self._files)
        watch_problem = self._watcher.problem if self._watcher is not None else ""
        rotation = (
            f"{self._shown_path} was rotated: reading the old file first" if len(self._files) > 1 else ""
        )
        gaps = self._told.sentences(self._shown_path) if self._clock() < self._tell_until else ()
        if self._closed:
            state = State.ENDED
        elif self._lineup.absence or not self._files:
            state = State.WAITING
        else:
            state = State.READING if size - position > CLOSE_BYTES else State.FOLLOWING
        details = (self._read_error, self._lineup.absence, rotation, watch_problem, *gaps)
        return SourceStatus(
            name=str(self._path),
            state=state,
            detail="; ".join(filter(None, details)),
            position=position,
            size=size,
            restarts=self._restarts,
            rotations=self._rotations,
            watch="events" if self._watcher is not None and not watch_problem else "polling",
            gaps=self._told,
        )

    def position(self) -> Position:
        """Where reading stands: after what was handed out last."""
        return self._lineup.position(self._current)

    def has(self, file: LogFile) -> bool:
        """Whether a file is being read here, under whatever name, or was.

        Raises:
            OSError: it cannot be read.
        """
        return self._lineup.has(file)

    @property
    def held(self) -> frozenset[Identity]:
        """The files that are being read, or wait to be."""
        return frozenset(file.identity for file in self._files)

    def close(self) -> None:
        """Give files and watcher back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._lineup.close()
        self._told = self._lineup.gaps.gaps
        if self._watcher is not None:
            self._watcher.close()

    def _poll(self, now: float, limit: int) -> list[bytes | Break]:
        items: list[bytes | Break] = []
        self._lineup.look(now)
        while self._files:
            first = self._files[0]
            data = self._read_from(first, min(limit, READ_BYTES), now, items)
            if data:
                items.append(data)
                break
            if first is self._files[0]:
                if self._skipping or not self._lineup.is_done_with_first():
                    break
                self._read_error = ""
                self._retry_delay = RETRY_MIN_S
                self._lineup.finish_first()
        return items

    def _read_from(self, file: Log, limit: int, now: float, items: list[bytes | Break]) -> bytes:
        """The next bytes of a file, b"" if there is nothing for now; breaks before them go into `items`."""
        if self._read_error:
            if now < self._retry_at:
                return b""
            if isinstance(file, LogFile):
                file.reopen(self._path)
        try:
            self._skipping = file is not self._current and not file.begin()
            if self._skipping:
                return b""
            self._enter(file, items)
            data = file.read(limit)
            if data is None:  # it was rewritten
                self._lineup.line_up_others()
                if file is not self._files[0]:
                    return b""  # other files come before its new beginning
                self._enter(file, items)
                data = file.read(limit)
        except OSError as error:
            self._read_error = f"cannot read {self._shown_path}: {error.strerror}; trying again"
            self._retry_at = now + self._retry_delay
            self._retry_delay = min(2 * self._retry_delay, RETRY_MAX_S)
            return b""
        self._read_error = ""
        self._retry_delay = RETRY_MIN_S
        if not data:  # nothing, or it was rewritten once more: that is for the next call
            return b""
        if isinstance(file, LogFile):
            self._note_gaps(file, data)
        return data

    def _enter(self, file: Log, items: list[bytes | Break]) -> None:
        """Put the break between what was read last and this file, if one is due."""
        if file is not self._current:
            if self._current is None:
                file.entry = file.entry if self._has_read else None
            elif self._current.entry is None:
                self._current.entry = Break.ROTATED  # should its turn come again
            self._current = file
        if file.entry is not None:
            items.append(file.entry)
            self._restarts += file.entry is Break.RESTARTED
            self._rotations += file.entry is Break.ROTATED
            file.entry = None

    def _note_gaps(self, file: LogFile, data: bytes) -> None:
        """See what the bytes just read tell about others that are missing, or are there twice."""
        gaps = self._lineup.gaps
        gaps.note_beginning(file, data, is_known=file.repeated_lines > 0)
        if file.lost_bytes or file.repeated_lines:
            gaps.add(lost_bytes=file.lost_bytes, repeated_lines=file.repeated_lines)
            file.lost_bytes = file.repeated_lines = 0
