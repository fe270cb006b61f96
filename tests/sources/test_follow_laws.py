"""Any sequence of writing, rotating, deleting, truncating, pausing and reading (F26).

The laws, for lines that are all different:

- nothing is received that was not written, and nothing twice;
- lines come in the order of files (unless a former one is brought back), and within a file in the order
  of writing;
- without truncation, every line written to a file that the follower had a chance to see is received;
- with truncation, every line that stood in its file at a later look.

The number of sequences for each of the machines comes from MOE_LIVE_SEQUENCES (default 60).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from moe_live.sources.follow import GRACE_S

from .reader import HEADER, Reader

SEQUENCES = int(os.environ.get("MOE_LIVE_SEQUENCES", "60"))


@dataclass
class Line:
    """A line as it stands in a file.

    Attributes:
        place: (file, truncations before it, number in the file): lines must come in this order.
        certain: it must be received.
    """

    place: tuple[int, int, int]
    certain: bool


@dataclass(eq=False)
class File:
    """A log file, and the server's unfinished line in it."""

    number: int
    fd: int
    name: Path | None  # where it is now, whatever the path names; None if it is deleted
    seen: bool = False  # by the follower, since the path named it for the last time
    left_at: float | None = None
    truncations: int = 0
    tail: bytes = b""  # after the last newline that stands in the file
    lines: int = 0
    unseen: list[Line] = field(default_factory=list)  # written since the path names it, before it was seen


class World(RuleBasedStateMachine):
    """A server that writes, an operator who moves its log about, and a follower."""

    watch = False
    with_truncation = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.path = self.directory / "logs" / "moe.log"
        self.path.parent.mkdir()
        self.reader = Reader(self.path, watch=self.watch)
        self.written: dict[bytes, Line] = {}
        self.files: list[File] = []
        self.at_path: File | None = None
        self.server: File | None = None
        self.rest = b""  # what is still to be written of the server's unfinished line
        self.names = 0
        self.left: list[File] = []
        self.brought_back = False

    @initialize(symlinked=st.booleans(), appending=st.booleans())
    def choose(self, *, symlinked: bool, appending: bool) -> None:
        self.symlinked = symlinked
        self.flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if appending else 0)

    # The server

    @precondition(lambda self: self.server is not None)
    @rule(count=st.integers(1, 30), size=st.integers(0, 400))
    def write(self, count: int, size: int) -> None:
        self.put(self.rest + b"".join(self.new_line(size) for _ in range(count)))
        self.rest = b""

    @precondition(lambda self: self.server is not None)
    @rule(size=st.integers(0, 400), share=st.floats(0, 1))
    def write_part(self, size: int, share: float) -> None:
        line = self.new_line(size)
        cut = int(share * size)  # the second part always has what makes a line different from all others
        self.put(self.rest + line[:cut])
        self.rest = line[cut:]

    @precondition(lambda self: self.server is None or self.at_path is not self.server)
    @rule(header=st.booleans())
    def start_server(self, *, header: bool) -> None:
        """It creates its log unless there is one, and goes on at its end."""
        if self.at_path is None:
            self.create()
        assert self.at_path is not None
        self.server, self.rest = self.at_path, b""
        if header:
            self.put(b"#after %d\n" % self.names if self.server.tail else HEADER)

    # The operator

    @precondition(lambda self: self.at_path is not None)
    @rule(successor=st.booleans())
    def rotate(self, *, successor: bool) -> None:
        file = self.forget_path()
        if self.symlinked:
            self.path.unlink()
        else:
            file.name = self.path.rename(self.directory / f"file {file.number}")
        if successor:
            self.create()

    @precondition(lambda self: self.at_path is not None)
    @rule()
    def delete(self) -> None:
        self.delete_from_path()

    @precondition(lambda self: len(self.left) > 0)
    @rule(steps=st.integers(1, 3))
    def bring_back(self, steps: int) -> None:
        file = self.left[-min(steps, len(self.left))]
        if file.name is None or file is self.at_path:
            return
        if self.at_path is not None:
            self.delete_from_path()
        if self.symlinked:
            self.path.symlink_to(file.name)
        else:
            file.name = file.name.rename(self.path)
        self.at_path, file.left_at, file.seen = file, None, False
        self.brought_back = True

    @rule()
    def delete_directory(self) -> None:
        if self.at_path is not None:
            self.delete_from_path()
        shutil.rmtree(self.path.parent)
        self.path.parent.mkdir()

    # The follower

    @rule(limit=st.sampled_from([1, 7, 100, 5000, 1 << 20]), times=st.integers(1, 5))
    def read(self, limit: int, times: int) -> None:
        for _ in range(times):
            self.look()
            self.reader.feed(self.reader.follower.read(limit))
        self.check()

    @rule(seconds=st.sampled_from([0.05, 0.25, 1.0, 5.0]))
    def pause(self, seconds: float) -> None:
        self.reader.clock.now += seconds
        self.look()
        self.reader.read()
        self.check()

    def teardown(self) -> None:
        self.look()
        for _ in range(len(self.files) + 2):
            self.reader.clock.now += GRACE_S + 0.01
            self.reader.read()
        self.check()
        missing = [
            line for line, facts in self.written.items() if facts.certain and line not in self.received
        ]
        assert missing == []
        self.reader.follower.close()
        for file in self.files:
            os.close(file.fd)
        shutil.rmtree(self.directory)

    # The model

    def new_line(self, size: int) -> bytes:
        self.names += 1
        digits = hashlib.shake_128(b"%d" % self.names).hexdigest(size // 2 + 1).encode()
        return digits[:size].ljust(size, b"0") + b"#%d\n" % self.names

    def put(self, data: bytes) -> None:
        file = self.server
        assert file is not None
        os.write(file.fd, data)
        *lines, file.tail = (file.tail + data).split(b"\n")
        in_time = file.left_at is None or self.reader.clock.now < file.left_at + GRACE_S
        for line in lines:
            file.lines += 1
            if line not in (b"", HEADER[:-1]):
                assert line not in self.written
                facts = Line((file.number, file.truncations, file.lines), certain=in_time)
                self.written[line] = facts
                if not file.seen:
                    file.unseen.append(facts)
                    facts.certain = file is self.at_path

    def create(self) -> None:
        path = self.path
        if self.symlinked:
            path = self.directory / f"file {len(self.files)}"
            self.path.symlink_to(path)
        self.at_path = File(len(self.files), os.open(path, self.flags, 0o600), path)
        self.files.append(self.at_path)

    def forget_path(self) -> File:
        """The path ceases to name its file. What the follower had no chance to see may be lost."""
        file, self.at_path = self.at_path, None
        assert file is not None
        file.left_at = self.reader.clock.now
        for facts in file.unseen:
            facts.certain = False
        self.left = [other for other in self.left if other is not file] + [file]
        return file

    def delete_from_path(self) -> None:
        self.path.unlink()
        file = self.forget_path()
        if not self.symlinked:
            file.name = None

    def look(self) -> None:
        if self.at_path is not None:
            self.at_path.seen = True
            self.at_path.unseen.clear()

    def check(self) -> None:
        received = [line for line in self.reader.lines if line not in (b"", HEADER[:-1])]
        unknown = [line for line in received if line not in self.written]
        assert unknown == []
        places = [self.written[line].place for line in received]
        if self.brought_back:
            places.sort(key=lambda place: place[0])  # stable
        assert all(a < b for a, b in itertools.pairwise(places))
        self.received = set(received)


class TruncatingWorld(World):
    """The operator truncates as well, and a server that does not append goes on behind a hole."""

    @precondition(lambda self: self.at_path is not None)
    @rule()
    def truncate(self) -> None:
        file = self.at_path
        assert file is not None
        os.truncate(self.path, 0)
        for facts in self.written.values():
            if facts.place[0] == file.number:
                facts.certain = False
        file.truncations += 1
        file.tail = b""

    @precondition(lambda self: self.server is not None and self.server is self.at_path)
    @rule(count=st.integers(1, 60), header=st.booleans(), size=st.integers(0, 400))
    def restart_server(self, count: int, size: int, *, header: bool) -> None:
        """It truncates its log, and writes at once."""
        self.truncate()
        assert self.server is not None
        os.lseek(self.server.fd, 0, os.SEEK_SET)
        self.rest = b""
        self.put((HEADER if header else b"") + b"".join(self.new_line(size) for _ in range(count)))

    @precondition(lambda self: self.at_path is not None and not self.symlinked)
    @rule()
    def copy_and_truncate(self) -> None:
        shutil.copy(self.path, self.directory / f"copy {self.names}")
        self.truncate()


class WatchedWorld(World):
    watch = True


class WatchedTruncatingWorld(TruncatingWorld):
    watch = True


@pytest.mark.parametrize("world", [World, TruncatingWorld, WatchedWorld, WatchedTruncatingWorld])
def test_f26_any_sequence(world: type[World]) -> None:
    run_state_machine_as_test(
        world,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
