"""A directory of states that others keep writing, as one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from moe_live.analyzer import Analyzer
from moe_live.errors import UsageError, printable
from moe_live.fleet import Fleet, Part
from moe_live.pace import UNTIMED
from moe_live.running import Status
from moe_live.share import SourceNow
from moe_live.sources.source import IDLE_PAUSE_S, Break, SourceStatus, State

ENDING = ".state"
"""How the names of the files end."""


_ROWS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class _Seen(NamedTuple):
    """A file as it is: the inode changes with each state that is written."""

    inode: int
    mtime_ns: int
    size: int


class StateDirectory:
    """The files of the directory, as `Source`: it has no bytes.

    Args:
        path: of the directory.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise UsageError(f"cannot watch {printable(path)}: it is no directory; name that of the states")
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
        """The directory."""
        state = State.ENDED if self._closed else State.FOLLOWING
        return SourceStatus(name=str(self.path), state=state, watch="polling")

    def close(self) -> None:
        """Nothing is held open."""
        self._closed = True


class States(Fleet):
    """What all states of a directory are together. One that is written anew is what it is now.

    Args:
        path: of the directory.
        clock: seconds, monotonic.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = StateDirectory(path)
        super().__init__(self._directory, None, clock)
        self._seen: dict[Path, _Seen] = {}

    def drain(self) -> None:
        """Nothing: a state is read as a whole."""

    def reset(self) -> None:
        """Nothing: what the states have is for those who write them."""

    def set_label(self, label: str) -> None:
        """Nothing, likewise."""

    def status(self) -> Status:
        """The states with their rows and ages, what is wrong with one first. How fast is not known."""
        now, used = self._now(), [share for share in self.shares if not share.left_out]
        ages = [
            f"{share.name} {_short(share.rows)} rows, {now[share.name].age:.0f} s ago"
            for share in used
            if share.name in now
        ]
        source = self._directory.status()
        source = replace(
            source,
            name=f"{source.name} ({len(used)} states)",
            state=source.state if used or source.state is State.ENDED else State.WAITING,
            detail="; ".join((*self.problems, *ages)) or f"waiting for files *{ENDING}",
        )
        return Status(source, 0.0, 0.0, UNTIMED, UNTIMED, None, sources=now)

    def _parts(self) -> Sequence[Part] | None:
        there = self._directory.look()
        if there == self._seen:
            return None
        self._seen = there
        return [Part(_name(path), path, partial(_loaded, path)) for path in there]

    def _now(self) -> dict[str, SourceNow]:
        now = time.time()
        return {
            _name(path): SourceNow(age=max(0.0, now - seen.mtime_ns / 1e9))
            for path, seen in self._seen.items()
        }


def _name(path: Path) -> str:
    return printable(path.name.removesuffix(ENDING))


def _loaded(path: Path) -> Analyzer:
    """A state, its open step closed.

    Raises:
        MoeLiveError: it cannot be used.
    """
    found = Analyzer.load(path)
    found.finish()
    return found


def _short(number: int) -> str:
    """A number in few characters.

    >>> _short(999), _short(1_234_567)
    ('999', '1.2M')
    """
    return next((f"{number / unit:.1f}{sign}" for unit, sign in _ROWS if number >= unit), str(number))
