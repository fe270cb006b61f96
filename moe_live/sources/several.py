"""Several logs that are followed at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from moe_live.errors import UsageError, printable
from moe_live.sources.follow import TELL_S, Follower
from moe_live.sources.logfile import LogFile
from moe_live.sources.patterns import LogNames
from moe_live.sources.place import Identity
from moe_live.sources.siblings import is_sibling
from moe_live.sources.source import IDLE_PAUSE_S, Break, SourceStatus, State

LOGS_MAX = 64
"""Logs that are followed at a time."""

_MOST_DETAILS = 3
"""Logs of which is told, in a line, what is wrong with them."""

_STATES = (State.READING, State.FOLLOWING, State.WAITING)
"""What is said of all if it is true of one: the first of these that is."""


class FollowedLogs:
    """All of them, as `Source` that tells how things are: the bytes come from each `Follower`.

    A file that is followed already is not followed under another name too.

    Args:
        asked: paths and patterns.
        from_end: begin the logs that are there now after their last line. Others are read from the beginning.
        ours: paths that this process writes.
        clock: monotonic time in seconds.

    Raises:
        UsageError: a path cannot be followed.

    Attributes:
        followers: by path, in the order in which the logs came.
    """

    def __init__(
        self,
        asked: Sequence[str],
        *,
        from_end: bool = False,
        ours: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.followers: dict[str, Follower] = {}
        self._asked = asked
        self._names = LogNames(asked, ours)
        self._clock = clock
        self._problems: list[str] = []
        self._twice: set[tuple[str, str]] = set()
        self._tell_until = -math.inf
        self._closed = False
        try:
            for path in self._names.paths:
                self._follow(path, from_end=from_end)
            self.look(from_end=from_end)
        except UsageError:
            self.close()
            raise

    def look(self, *, from_end: bool = False) -> None:
        """Follow what the patterns match meanwhile, and see that no file is read twice."""
        self._problems.clear()
        passed_over = len(self._names.passed_over)
        for path in self._names.new(self.followers):
            if len(self.followers) >= LOGS_MAX:
                self._problems.append(f"{printable(path)} is left out: {LOGS_MAX} logs are followed at most")
                break
            try:
                if self._is_followed(Path(path)):
                    continue
                self._check_siblings(path)
                self._follow(path, from_end=from_end)
            except UsageError as error:
                self._problems.append(str(error))
            except OSError as error:
                self._problems.append(f"cannot read {printable(path)}: {error.strerror}")
        if len(self._names.passed_over) > passed_over:
            self._tell_until = self._clock() + TELL_S
        readers: dict[Identity, str] = {}
        for path, follower in self.followers.items():
            for identity in follower.held:
                if (other := readers.setdefault(identity, path)) != path:
                    self._twice.add((other, path))

    def warnings(self) -> tuple[str, ...]:
        """What is missing of the figures, or may be in them twice, in sentences."""
        twice = (
            f"{printable(a)} and {printable(b)} came to name one file: what it holds may be counted twice"
            for a, b in sorted(self._twice)
        )
        return (*self._problems, *twice)

    def _follow(self, path: str, *, from_end: bool) -> None:
        # A watcher for each would cost more than looking, and only one could wake us up.
        self.followers[path] = Follower(path, from_end=from_end, watch=False, clock=self._clock)

    def _is_followed(self, path: Path) -> bool:
        """Whether what a path names is read already, by another name that it has or had.

        Raises:
            OSError: it cannot be read.
        """
        file = LogFile.open(path)
        try:
            file.look()
            return any(follower.has(file) for follower in self.followers.values())
        finally:
            file.close()

    def _check_siblings(self, path: str) -> None:
        """See that no other log would be read with this one.

        Raises:
            UsageError: one has the name of a rotated file of it.
        """
        log = Path(path).absolute()
        for other in self.followers:
            if is_sibling(Path(other).absolute(), log):
                raise UsageError(
                    f"{printable(path)} is left out: {printable(other)}, which is followed, has the name of "
                    "a rotated file of it"
                )

    def read(self, limit: int) -> Sequence[bytes | Break]:  # noqa: ARG002 - each follower has its own
        """Nothing."""
        return []

    def pause(self) -> float:
        """Until the next look at one of them is worth while."""
        return min((follower.pause() for follower in self.followers.values()), default=IDLE_PAUSE_S)

    def wake_fd(self) -> int | None:
        """None: they are looked at."""
        return None

    def status(self) -> SourceStatus:
        """All of them: sums, and what is wrong with the first ones."""
        each = [follower.status() for follower in self.followers.values()]
        states = {status.state for status in each}
        absent = [status.detail for status in each if status.state is State.WAITING]
        details = [
            *self.warnings(),
            *(status.detail for status in each if status.detail and status.state is not State.WAITING),
            *(absent if len(absent) < 2 else [f"{len(absent)} logs are not there"]),
        ]
        if not each:
            details.append(f"waiting for {', '.join(map(printable, self._asked))}")
        if self._clock() < self._tell_until:
            several = sorted(self._names.passed_over)
            others = f" and {len(several) - 1} more" if len(several) > 1 else ""
            details.append(f"left out, rotated or finished by name: {printable(several[0])}{others}")
        more = len(details) - _MOST_DETAILS
        name = self._asked[0] if len(self._asked) == 1 else f"{len(self._asked)} paths"
        return SourceStatus(
            name=f"{name} ({len(each)} log{'s'[: len(each) != 1]})",
            state=State.ENDED if self._closed else next((s for s in _STATES if s in states), State.WAITING),
            detail="; ".join([*details[:_MOST_DETAILS], *([f"and {more} more"] if more > 0 else [])]),
            position=sum(status.position for status in each),
            size=sum(status.size or 0 for status in each),
            restarts=sum(status.restarts for status in each),
            rotations=sum(status.rotations for status in each),
            watch="polling",
        )

    def close(self) -> None:
        """Let go of all of them. Idempotent."""
        self._closed = True
        for follower in self.followers.values():
            follower.close()
