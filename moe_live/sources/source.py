"""What a source of log bytes is, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from enum import Enum
from typing import Protocol

from moe_live.dataclass import dataclass
from moe_live.sources.gaps import Gaps

BUSY_PAUSE_S = 0.05
IDLE_PAUSE_S = 0.25


def idle_pause(before: float) -> float:
    """Seconds until the next look where nothing came: longer each time, from the pause `before` on."""
    return min(max(2 * before, BUSY_PAUSE_S), IDLE_PAUSE_S)


class Break(Enum):
    """A place in the stream where the bytes before and after do not belong together.

    An unfinished line before a break is never completed by bytes after it.
    """

    RESTARTED = "restarted"
    """The log was emptied or rewritten: the server started anew, as a rule."""
    SHORTENED = "shortened"
    """The end of the log was cut off; what follows is what is written after that."""
    ROTATED = "rotated"
    """The path names another file now; what follows is that file from its beginning."""
    FILE_ENDED = "file ended"
    """The end of one of several finished files."""


class State(Enum):
    """What a source is doing, in the words the header shows."""

    WAITING = "waiting"
    """Nothing to read yet: the path does not exist, or cannot be opened for now."""
    FOLLOWING = "following"
    """At the end of the log, or close to it."""
    READING = "reading"
    """Catching up with a backlog, or reading a finished file."""
    ENDED = "ended"
    """No byte will ever come again."""


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """A command that computes what is read, at one moment.

    Attributes:
        output: path of the file that has what it prints.
        said: the last lines of that, printable.
        ended: its exit status, 128 + n if signal n ended it; None while it runs.
        logged: bytes that were written to the log that is kept; None if none is.
    """

    output: str
    said: tuple[str, ...]
    ended: int | None
    logged: int | None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source at one moment.

    Attributes:
        name: what is read, for people: a path, "stdin", "3 files". Raw text from outside: views sanitize it.
        state: see `State`.
        detail: one line on anything unusual (why it waits, a read error, why only polling), else "".
        position: bytes handed out so far of the file or files being read.
        size: bytes there are in all, as far as known; None for a pipe.
        restarts: how many `Break.RESTARTED` were yielded.
        rotations: how many `Break.ROTATED` were yielded.
        watch: "events" (a watcher wakes us up while idle), "polling" (it cannot), or "" (not followed).
        gaps: what may be missing of what was written, or be there twice.
        command: the one that computes what is read, if it was started for that.
    """

    name: str
    state: State
    detail: str = ""
    position: int = 0
    size: int | None = None
    restarts: int = 0
    rotations: int = 0
    watch: str = ""
    gaps: Gaps = field(default_factory=Gaps)
    command: CommandStatus | None = None

    @property
    def total(self) -> int | None:
        """The size, if it is all there is: some files say that they hold nothing, others grow while read."""
        return self.size if self.size and self.size >= self.position else None

    @property
    def lag(self) -> int:
        """Bytes written but not yet read."""
        return 0 if self.size is None else max(0, self.size - self.position)


class Source(Protocol):
    """Where bytes come from. Used by one thread; no method ever blocks."""

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """What has arrived since the last call, in order: at most about `limit` bytes, possibly nothing.

        Raises:
            UsageError: the input cannot be read at all (a directory, no permission at start, …).
        """
        ...

    def pause(self) -> float:
        """Seconds after which the next `read` is worth while: 0 if more is there now. Below 0.3."""
        ...

    def wake_fd(self) -> int | None:
        """A descriptor that becomes readable when `read` should be called before `pause` is over, if any.

        The source itself empties it (if it needs emptying) in `read`.
        """
        ...

    def status(self) -> SourceStatus:
        """The present state. Cheap: called for every frame."""
        ...

    def close(self) -> None:
        """Give descriptors and watches back. Idempotent."""
        ...
