"""A follower that is killed and started again reads all that is there, and nothing twice."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.sources.follow import Follower
from moe_live.sources.position import Position
from moe_live.state.file import pack, write

ACTIONS = ("write", "rotate", "copy", "compress", "read", "save", "kill")


FILES = 200  # that may lie beside a log


class Machine:
    """A log that a server writes, logrotate rotates and a follower follows that keeps a state."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "moe.log"
        self.state = directory / "moe.state"
        self.lines = 0
        self.now = 0.0
        self.out = self.log.open("ab", buffering=0)
        self.start()

    def start(self) -> None:
        self.analyzer, position = Analyzer(), None
        if self.state.exists():
            self.analyzer, position = Analyzer.loaded(self.state)
            assert isinstance(position, Position)
        self.follower = Follower(self.log, watch=False, clock=lambda: self.now, resume=position)

    def write(self, lines: int = 7) -> None:
        """Rows that are all different, and steps of three layers."""
        text = b"".join(
            b"%d,%d %d %d\n" % (n % 3, n % 64, 64 + n // 64 % 64, 128 + n // 4096)
            for n in range(self.lines, self.lines + lines)
        )
        self.lines += lines
        self.out.write(text)

    def shift(self) -> None:
        for number in range(FILES, 0, -1):
            for ending in ("", ".gz"):
                file = self.log.with_name(f"moe.log.{number}{ending}")
                if file.exists():
                    file.rename(self.log.with_name(f"moe.log.{number + 1}{ending}"))

    def rotate(self) -> None:
        self.shift()
        self.log.rename(self.log.with_name("moe.log.1"))
        self.out.close()
        self.out = self.log.open("ab", buffering=0)

    def copy(self) -> None:
        self.shift()
        shutil.copyfile(self.log, self.log.with_name("moe.log.1"))
        os.truncate(self.log, 0)

    def compress(self) -> None:
        """The oldest that is not."""
        for number in range(FILES, 0, -1):
            file = self.log.with_name(f"moe.log.{number}")
            if file.exists() and file.stat().st_size:
                file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
                file.unlink()
                return

    def read(self) -> None:
        """All that is there."""
        idle = 0
        while idle < 5:
            self.now += 1.0
            items = self.follower.read(1 << 16)
            for item in items:
                if isinstance(item, bytes):
                    self.analyzer.feed(item)
                else:
                    self.analyzer.interrupt(item)
            idle = 0 if items else idle + 1

    def save(self) -> None:
        write(self.state, pack(self.analyzer.freeze(self.follower.position())))

    def kill(self) -> None:
        self.follower.close()
        self.start()

    def rows(self) -> Any:
        self.read()
        self.follower.close()
        self.out.close()
        self.analyzer.finish()
        snapshot = self.analyzer.snapshot()
        counts = {
            (entry.layer, expert): count
            for entry in snapshot.layers
            for expert, count in enumerate(entry.usage.counts.tolist())
            if count
        }
        return snapshot.rows.logged, counts

    def wanted(self) -> Any:
        counts: dict[tuple[int, int], int] = {}
        for n in range(self.lines):
            for expert in (n % 64, 64 + n // 64 % 64, 128 + n // 4096):
                counts[n % 3, expert] = counts.get((n % 3, expert), 0) + 1
        return self.lines, counts


def run(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory))
        for action in actions:
            getattr(machine, action)()
        assert machine.rows() == machine.wanted()


@settings(max_examples=40)
@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_whatever_happens_each_row_is_counted_once(actions: list[str]) -> None:
    run(["write", "read", "save", *actions])


EXAMPLES = {
    "it grows": "write read save write kill write",
    "it is rotated": "write read save write rotate write kill",
    "it is rotated three times": "write read save write rotate write rotate write rotate write kill",
    "it is compressed": "write read save write rotate compress write kill",
    "two of them are": "write read save write rotate write rotate compress compress write kill",
    "it is copied and emptied": "write read save write copy write kill",
    "that is compressed": "write read save write copy compress write kill",
    "it is copied twice": "write read save write copy write copy write kill",
    "it is copied, filled, copied and rotated": "write read save copy read write copy rotate",
    "nothing came since": "write read save rotate kill write",
    "killed while an old file is read": "write read rotate save kill write rotate write kill",
    "killed again and again": "write read save kill write kill write read save rotate kill kill write",
}


@pytest.mark.parametrize("actions", EXAMPLES.values(), ids=EXAMPLES)
def test_what_happens_while_nobody_follows(actions: str) -> None:
    run(actions.split())
