"""A directory of states that others keep writing, as one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.pace import UNTIMED
from moe_live.running import Status
from moe_live.sameness import other_model
from moe_live.session import Session
from moe_live.sources.source import IDLE_PAUSE_S, Break, SourceStatus, State

ENDING = ".state"
"""How the names of the files end."""

LOOK_S = 1.0
"""Seconds between two looks at the directory."""

_SHARE = 10
"""Loading and merging take a tenth of the time at most."""

_ROWS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class _Seen(NamedTuple):
    """A file as it is: the inode changes with each state that is written."""

    inode: int
    mtime_ns: int
    size: int


class StateDirectory:
    """The files of the directory, as `Source`: it has no bytes, but tells how things are.

    Args:
        path: of the directory.

    Raises:
        UsageError: it is none.

    Attributes:
        rows: of the log of each state, by its name.
        written: when each was written, in seconds since 1970.
        problems: why some are left out, a line each.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UsageError(f"cannot watch {printable(path)}: it is no directory; name that of the states")
        self.rows: dict[str, int] = {}
        self.written: dict[str, float] = {}
        self.problems: list[str] = []
        self._closed = False

    def look(self) -> dict[Path, _Seen]:
        """The states that are there now."""
        found = {}
        for path in sorted(self.path.glob(f"[!.]*{ENDING}")):
            with suppress(OSError):  # gone since
                status = path.stat()
                found[path] = _Seen(status.st_ino, status.st_mtime_ns, status.st_size)
        return found

    def read(self, limit: int) -> Sequence[bytes | Break]:  # noqa: ARG002 - there are no bytes
        """Nothing."""
        return []

    def pause(self) -> float:
        """Between two looks nothing happens."""
        return IDLE_PAUSE_S

    def wake_fd(self) -> int | None:
        """None."""
        return None

    def status(self) -> SourceStatus:
        """The states with their rows and ages; what is wrong with one comes first."""
        now = time.time()
        ages = [
            f"{name} {_short(rows)} rows, {max(0.0, now - self.written[name]):.0f} s ago"
            for name, rows in self.rows.items()
        ]
        return SourceStatus(
            name=f"{self.path} ({len(self.rows)} states)",
            state=State.ENDED if self._closed else State.FOLLOWING if self.rows else State.WAITING,
            detail="; ".join((*self.problems, *ages)) or f"waiting for files *{ENDING}",
            watch="polling",
        )

    def close(self) -> None:
        """Nothing is held open."""
        self._closed = True


class Fleet(Session):
    """What all states of a directory are together, as a `Run`. One that is written anew is what it is now.

    Args:
        path: of the directory.
        clock: seconds, monotonic.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = StateDirectory(path)
        super().__init__(self._directory, Analyzer(), clock=clock)
        self._seen: dict[Path, _Seen] = {}
        self._loading: Iterator[None] | None = None
        self._due = clock()
        self._spent = 0.0

    def ingest(self, seconds: float) -> bool:  # noqa: ARG002 - a state is loaded as a whole
        """Load one state more, if some have changed; whether another picture of all is complete."""
        if self._loading is None:
            if self._clock() < self._due:
                return False
            self._due = self._clock() + LOOK_S
            there = self._directory.look()
            if there == self._seen:
                return False
            self._seen, self._spent, self._loading = there, 0.0, self._load(there)
        begun = self._clock()
        is_done = next(self._loading, self) is self
        self._spent += self._clock() - begun
        if is_done:
            self._loading = None
            self._due = self._clock() + max(LOOK_S, _SHARE * self._spent)
        return is_done

    def collect(self, seconds: float) -> bool:
        """As `ingest`."""
        return self.ingest(seconds)

    def reset(self) -> None:
        """Nothing: what the states have is for those who write them."""

    def set_label(self, label: str) -> None:
        """Nothing, likewise."""

    def status(self) -> Status:
        """See `Run.status`; how fast things go is not known of states that come every half minute."""
        return replace(
            super().status(), bytes_per_second=0.0, lines_per_second=0.0, prefill=UNTIMED, decode=UNTIMED
        )

    def _load(self, there: dict[Path, _Seen]) -> Iterator[None]:
        """Make the picture of all; None after each state."""
        whole: Analyzer | None = None
        rows, written, problems = {}, {}, []
        for path, seen in there.items():
            try:
                found = Analyzer.load(path)
                found.finish()
                name, many = printable(path.name.removesuffix(ENDING)), _rows(found)
                if whole is None:
                    whole = found
                else:
                    add_state(whole, found, path, "the others")
                rows[name], written[name] = many, seen.mtime_ns / 1e9
            except MoeLiveError as error:
                problems.append(str(error))
            yield
        self.analyzer = Analyzer() if whole is None else whole
        self._directory.rows, self._directory.written = rows, written
        self._directory.problems = problems


def add_state(whole: Analyzer, found: Analyzer, path: str | os.PathLike[str], first: str) -> None:
    """Add what comes after it, and is used up.

    Args:
        whole: finished, as what is added.
        found: what is added.
        path: of its file.
        first: what the whole is called.

    Raises:
        UsageError: they do not count alike, or are of different models.
    """
    if differences := whole.settings.differences(found.settings):
        differ = ", ".join(
            f"{name} is {there} there and {here}" for name, (here, there) in differences.items()
        )
        raise UsageError(f"cannot merge {printable(path)}: {differ} in {first}; merge what counts alike")
    if difference := other_model(found.snapshot(sections=()), whole.snapshot(sections=())):
        raise UsageError(
            f"cannot merge {printable(path)} with {first}: it is of another model: {difference}; "
            "merge what is of one"
        )
    whole.merge(found)


def _rows(analyzer: Analyzer) -> int:
    return analyzer.snapshot(sections=()).rows.logged


def _short(number: int) -> str:
    """A number in few characters.

    >>> _short(999), _short(1_234_567)
    ('999', '1.2M')
    """
    return next((f"{number / unit:.1f}{sign}" for unit, sign in _ROWS if number >= unit), str(number))
