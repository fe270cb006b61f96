"""Following a log by name: across restarts, rotation, truncation and absence, without losing a line."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from moe_live.errors import UsageError, printable
from moe_live.sources.logfile import LogFile, identity_of
from moe_live.sources.source import Break, SourceStatus, State
from moe_live.sources.watch import Watcher

READ_BYTES = 1 << 20
"""The most that one call of `Follower.read` hands out."""

CLOSE_BYTES = 1 << 22
"""A lag up to this counts as "following": a fast server writes more than a megabyte between two polls."""

GRACE_S = 2.0
"""How long a file is still read at least after the path has ceased to name it."""

BUSY_PAUSE_S = 0.05
IDLE_PAUSE_S = 0.25
QUIET_S = 1.0
"""The watcher is armed after this time without bytes or events."""

RETRY_MIN_S = 0.25
RETRY_MAX_S = 8.0

HELD_MAX = 64
"""Files waiting to be read after several rotations. Beyond, new ones are left alone until one is done."""

REMEMBERED_MAX = 4
"""Files that were read to the end and are held, in case the path names them again."""

GZIP_MAGIC = b"\x1f\x8b"


class Follower:
    """Follows the log that `path` names, as `Source`.

    Our own look at the path and at the files decides everything; the watcher only makes it happen
    sooner. A file is known by its (device, inode), and held open: first the one the path named before,
    until it has been left for `grace` seconds, nothing more comes, *and* there is something to read in
    the next one. So late writes come before new lines, and a server that never reopens its log is
    followed into the renamed file. If the path names a file again that was read before, reading goes
    on where it ended.

    What cannot be known: a file that came and went between two looks; lines that were written and
    truncated away between two looks; and a log rewritten with the very same bytes.

    Args:
        path: the log. It may be missing: it is waited for, and then read from its beginning.
        from_end: start after the last newline that is there now, instead of at the beginning.
        watch: let events in the directory wake us up while idle. Otherwise only poll.
        grace: see above, in seconds.
        clock: monotonic time in seconds.

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
    ) -> None:
        self._path = Path(path)
        self._shown_path = printable(self._path)
        self._grace = grace
        self._clock = clock
        self._files: deque[LogFile] = deque()  # to be read, in this order; the last is what the path names
        self._remembered: deque[LogFile] = deque()
        self._current: LogFile | None = None  # where the last bytes came from
        self._restarts = 0
        self._rotations = 0
        self._absence = ""
        self._read_error = ""
        self._retry_at = 0.0
        self._retry_delay = RETRY_MIN_S
        self._pause = 0.0
        self._active_at = clock()
        self._closed = False
        self._open_at_start(from_end=from_end)
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
        if not items:
            self._pause = min(max(2 * self._pause, BUSY_PAUSE_S), IDLE_PAUSE_S)
        elif len(self._files) > 1 or (
            self._current is not None and self._current.offset < self._current.size
        ):
            self._pause = 0.0
        else:
            self._pause = BUSY_PAUSE_S
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
        size = sum(file.size for file in self._files)
        watch_problem = self._watcher.problem if self._watcher is not None else ""
        rotation = (
            f"{self._shown_path} was rotated: reading the old file first" if len(self._files) > 1 else ""
        )
        if self._closed:
            state = State.ENDED
        elif self._absence or not self._files:
            state = State.WAITING
        else:
            state = State.READING if size - position > CLOSE_BYTES else State.FOLLOWING
        return SourceStatus(
            name=str(self._path),
            state=state,
            detail="; ".join(filter(None, (self._read_error, self._absence, rotation, watch_problem))),
            position=position,
            size=size,
            restarts=self._restarts,
            rotations=self._rotations,
            watch="events" if self._watcher is not None and not watch_problem else "polling",
        )

    def close(self) -> None:
        """Give files and watcher back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for file in (*self._files, *self._remembered):
            file.close()
        if self._watcher is not None:
            self._watcher.close()

    # Which files to read

    def _open_at_start(self, *, from_end: bool) -> None:
        try:
            file = LogFile.open(self._path)
        except (FileNotFoundError, NotADirectoryError):
            self._absence = f"waiting for {self._shown_path} to appear"
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
        self._files.append(file)
        try:
            compressed = file.starts_with(GZIP_MAGIC)
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

    def _look(self, now: float) -> None:
        """See what the path names now, and line it up for reading if that is not the last of our files."""
        for file in tuple(self._remembered):
            if file.look() == 0:  # deleted: it can never be named again, and its space is wanted
                self._remembered.remove(file)
                file.close()
        for file in tuple(self._files)[1:]:
            file.look()
        newest = self._files[-1] if self._files else None
        try:
            identity = identity_of(self._path.stat())
            if newest is None or identity != newest.identity:
                if len(self._files) >= HELD_MAX:
                    return
                newest = self._line_up(now)
            newest.left_at = None
            self._absence = ""
        except (FileNotFoundError, NotADirectoryError):
            self._absence = f"waiting for {self._shown_path} to appear"
            if newest is not None and newest.left_at is None:
                newest.left_at = now
        except OSError as error:
            self._absence = f"waiting for {self._shown_path}: {error.strerror}"

    def _line_up(self, now: float) -> LogFile:
        """Append what the path names to our files: opened, or taken up again if we hold it already."""
        found = LogFile.open(self._path)
        for file in (*self._files, *self._remembered):
            if file.identity == found.identity:
                found.close()
                found = file
        for file in self._files:
            if file.left_at is None:
                file.left_at = now
        for held in (self._files, self._remembered):
            if found in held:
                held.remove(found)
        # Unread files are kept, except those that stayed empty.
        for file in tuple(self._files)[1:]:
            if file.size == 0 and self._left_long_ago(file, now):
                self._files.remove(file)
                file.close()
        self._files.append(found)
        return found

    def _left_long_ago(self, file: LogFile, now: float) -> bool:
        return file.left_at is not None and now - file.left_at >= self._grace

    def _done_with_first(self, now: float) -> bool:
        """Whether the file being read, now at its end, gives way to the next one."""
        first, *others = self._files
        return any(file.size > 0 for file in others) and self._left_long_ago(first, now)

    # What to read in them

    def _poll(self, now: float, limit: int) -> list[bytes | Break]:
        items: list[bytes | Break] = []
        self._look(now)
        while self._files:
            first = self._files[0]
            data = self._read_from(first, min(limit, READ_BYTES), now, items)
            if data:
                items.append(data)
                break
            if not self._done_with_first(now):
                break
            self._remember_first()
        return items

    def _read_from(self, file: LogFile, limit: int, now: float, items: list[bytes | Break]) -> bytes:
        if self._read_error:
            if now < self._retry_at:
                return b""
            file.reopen(self._path)
        try:
            if file is not self._current:
                file.return_to_line_start()
                if self._current is not None:
                    items.append(Break.ROTATED)
                    self._rotations += 1
                self._current = file
            data = file.read(limit)
            if data is None:
                items.append(Break.RESTARTED)
                self._restarts += 1
                data = file.read(limit)
        except OSError as error:
            self._read_error = f"cannot read {self._shown_path}: {error.strerror}; trying again"
            self._retry_at = now + self._retry_delay
            self._retry_delay = min(2 * self._retry_delay, RETRY_MAX_S)
            return b""
        self._read_error = ""
        self._retry_delay = RETRY_MIN_S
        return data or b""

    def _remember_first(self) -> None:
        """Hold a finished file for the case that the path names it again."""
        self._read_error = ""
        self._retry_delay = RETRY_MIN_S
        self._remembered.append(self._files.popleft())
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popleft().close()
