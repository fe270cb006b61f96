"""A reader that drives a source by hand: a clock that only moves when told, and lines put together again."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest

from moe_live.sources.follow import Follower
from moe_live.sources.source import Break, Source


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """What a decoder makes of the items: complete lines; an unfinished one is dropped at a break."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.breaks: list[Break] = []
        self.dropped: list[bytes] = []
        self.partial = b""

    def feed(self, items: Iterable[bytes | Break]) -> None:
        for item in items:
            if isinstance(item, Break):
                self.breaks.append(item)
                if self.partial:
                    self.dropped.append(self.partial)
                self.partial = b""
            else:
                *lines, self.partial = (self.partial + item).split(b"\n")
                self.lines.extend(line.lstrip(b"\0") for line in lines)
                self.partial = self.partial.lstrip(b"\0")


class Reader(Lines):
    """Reads a `Follower`."""

    def __init__(self, path: Path, *, watch: bool, from_end: bool = False) -> None:
        super().__init__()
        self.clock = Clock()
        self.follower = Follower(path, watch=watch, from_end=from_end, clock=self.clock)

    def read(self, limit: int = 1 << 16) -> list[bytes]:
        """Read until nothing is left; returns the lines that came."""
        before = len(self.lines)
        while items := self.follower.read(limit):
            self.feed(items)
        return self.lines[before:]

    def wait(self, seconds: float) -> list[bytes]:
        """Let time pass in steps of a poll, reading."""
        before = len(self.lines)
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 0.25)
            self.read()
        return self.lines[before:]

    def wait_for_event(self) -> None:
        """Return when the watcher has woken us up, if there is one; it must not take long."""
        fd = self.follower.wake_fd()
        if fd is not None:
            assert select.select([fd], [], [], 120)[0], "no event came"


def read_to_end(source: Source, limit: int = 1 << 16) -> list[bytes | Break]:
    """All items of a source that is known to end."""
    items: list[bytes | Break] = []
    while source.status().state.value != "ended":
        fd = source.wake_fd()
        if fd is not None:
            select.select([fd], [], [], 10)
        items.extend(source.read(limit))
    return items


class Start(Protocol):
    """Begins to follow a path."""

    def __call__(self, path: Path, *, from_end: bool = False) -> Reader: ...


HEADER = b"layer_id,expert_ids\n"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def numbered(first: int, count: int) -> list[bytes]:
    return [b"%d,%d 7 19 3" % (i % 48, i) for i in range(first, first + count)]


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


class FailingCalls:
    """Stands in for a function of `os`: counts its calls, and fails with `error` while that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.real = getattr(os, name)
        self.error: int | None = None
        self.calls = 0
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return self.real(*args, **kwargs)


def open_files() -> list[str]:
    """The names of all open descriptors of this process."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor with which this directory was read
            names.append(str(link.readlink()))
    return names
