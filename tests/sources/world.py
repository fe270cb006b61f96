"""A model of what servers and operators do to a log, and of what a follower can know of it.

Each line that the server writes ends in an id of its own. The model keeps what every file holds, byte by
byte, and so knows at each look of the follower where a line stands.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from moe_live.sources.follow import GRACE_S
from moe_live.sources.gaps import UNSEEN_S

from .reader import HEADER

ID = re.compile(rb"#([0-9]{8});\Z")


class Names(Enum):
    """What rotated files are called."""

    NUMBERED = "moe.log.1 becomes moe.log.2"
    DATED = "moe.log-20261126"
    ELSEWHERE = "moved to where nobody looks for them"


class Loss(Enum):
    """How a line was lost."""

    CUT = "the log was emptied, or its end cut off"
    RESTART = "the log was emptied by a server that writes the same header again"
    GONE = "its file was deleted"


@dataclass(eq=False)
class Line:
    """A line that the server wrote.

    Attributes:
        texts: what a reader may make of it: all of it, or what stands after the place of a truncation.
        place: (file, truncations before it, number in the file): lines must come in this order.
        is_late: it was written to a file that had been left for longer than the follower waits.
        is_certain: it must be received: it stands where the follower looks, and it has looked.
        received: how many times.
    """

    texts: set[bytes]
    place: tuple[int, int, int]
    is_late: bool
    is_certain: bool = False
    received: int = 0


@dataclass(eq=False)
class File:
    """A file, and the descriptor by which a server writes to it.

    Attributes:
        number: in the order of creation; a copy has the number of its original.
        fd: open for writing; None for a copy.
        name: where it is; None if it is deleted.
        data: what it holds.
        lines: those that are complete in it, and where each ends.
        truncations: so far.
        cuts: where it was cut inside the line that is not complete.
        left_at: when the path ceased to name it.
        is_held: the follower has it open, or had.
        data_seen: what it held at the last look.
    """

    number: int
    fd: int | None
    name: Path | None
    data: bytearray = field(default_factory=bytearray)
    lines: list[tuple[int, Line]] = field(default_factory=list)
    truncations: int = 0
    cuts: list[int] = field(default_factory=list)
    left_at: float | None = None
    is_held: bool = False
    data_seen: bytes = b""


class World:
    """A server that writes a log, an operator who moves it about, and what the follower has seen of it.

    Args:
        directory: an empty one.
        clock: the follower's.
        names: what rotated files are called.
        symlinked: the path is a symbolic link. Only for files that are moved elsewhere.
        appending: the server opens its log for appending.
        buffer: bytes that the server writes at a time; 1 for all that it has.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float],
        *,
        names: Names,
        symlinked: bool,
        appending: bool,
        buffer: int,
    ) -> None:
        self.directory = directory
        self.path = directory / "logs" / "moe.log"
        self.path.parent.mkdir()
        self.names = names
        self.symlinked = symlinked and names is Names.ELSEWHERE
        self.appending = appending
        self.files: list[File] = []
        self.lines: dict[int, Line] = {}
        self.at_path: File | None = None
        self.server: File | None = None
        self.is_in_order = True  # as far as names can tell in which order files came
        self.lost: list[tuple[Line, float]] = []  # with the seconds without a look, where that must be told
        self._clock = clock
        self._buffer = buffer
        self._unwritten = b""
        self._ids = self._created = self._dates = 0
        self._looked_at = clock()
        self._seen_at_path: File | None = None
        self._was_cut = self._was_copied = False
        self._losses: list[tuple[Line, Loss, File]] = []

    # The server

    def write(self, count: int, size: int, *, held_back: int = 0) -> None:
        """Write lines, all but so many bytes."""
        self._emit(b"".join(self._new_line(size) for _ in range(count)), held_back)

    def start_server(self, *, header: bool) -> None:
        """It creates its log unless there is one, and goes on at its end."""
        if self.at_path is None:
            self._create()
        assert self.at_path is not None
        self.server, self._unwritten = self.at_path, b""
        if header and not self.at_path.data:
            self._emit(HEADER)

    def restart_server(self, count: int, size: int, *, header: bool) -> None:
        """It empties its log, and writes at once."""
        file = self.server
        assert file is not None
        assert file.fd is not None
        had_header = file.data.startswith(HEADER)
        self._cut(file, 0, Loss.RESTART if header and had_header else Loss.CUT)
        os.lseek(file.fd, 0, os.SEEK_SET)
        self._unwritten = b""
        self._emit((HEADER if header else b"") + b"".join(self._new_line(size) for _ in range(count)))

    # The operator

    def rotate(self, *, successor: bool) -> None:
        """Rename the log, or point the link elsewhere."""
        name = self._free_name()
        file = self._leave_path()
        if self.symlinked:
            self.path.unlink()
        else:
            file.name = self.path.rename(name)
        if successor:
            self._create()

    def copy_and_empty(self, *, keeping: bool, meanwhile: Callable[[], None]) -> None:
        """As logrotate does with `copytruncate`; the copy is kept beside the log, or nowhere.

        It gets the time of the log when all is done.
        """
        file = self.at_path
        assert file is not None
        if keeping:
            name = self._free_name()
            shutil.copy(self.path, name)
            self.files.append(
                File(file.number, None, name, bytearray(file.data), [*file.lines], left_at=self._clock())
            )
            self._was_copied = True
            if self._was_cut and self.at_path is not self._seen_at_path:
                self.is_in_order = False  # whose copy it is, that one's or this one's, cannot be told
        times = self.path.stat()
        meanwhile()
        self._was_copied |= keeping  # also for a look meanwhile, which saw the copy
        self._cut(file, 0, Loss.CUT)
        if keeping:
            os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))

    def cut(self, share: float) -> None:
        """Cut off the end of the log."""
        file = self.at_path
        assert file is not None
        self._cut(file, int(share * len(file.data)), Loss.CUT)

    def compress(self, steps: int, *, keeping_time: bool) -> None:
        """Compress one of the latest rotated files."""
        plain = [file for file in self._beside() if file.name is not None and file.name.suffix != ".gz"]
        if steps > len(plain):
            return
        file = plain[-steps]
        assert file.name is not None
        packed = file.name.with_name(file.name.name + ".gz")
        packed.write_bytes(gzip.compress(file.data))
        if keeping_time:
            times = file.name.stat()
            os.utime(packed, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.files.append(
            File(file.number, None, packed, bytearray(file.data), [*file.lines], left_at=file.left_at)
        )
        file.name.unlink()
        file.name = None

    def remove_oldest(self) -> None:
        """Delete the oldest rotated file."""
        beside = sorted(self._beside(), key=self._age)
        if beside:
            self._delete(beside[0])

    def delete(self) -> None:
        """Delete the log."""
        if self.at_path is not None:
            self.path.unlink()
            if self._was_cut:
                self.is_in_order = False  # what came after it looks like copies of what it held
            file = self._leave_path()
            if not self.symlinked:
                file.name = None
                self._lose_what_only_stands_in(file)

    def bring_back(self, steps: int) -> None:
        """Give the path back to one of the latest files that it named."""
        left = sorted(
            (file for file in self.files if file.fd is not None and file.left_at is not None),
            key=lambda file: file.left_at or 0,
        )
        if steps > len(left) or (file := left[-steps]).name is None:
            return
        self.delete()
        assert file.name is not None
        if self.symlinked:
            self.path.symlink_to(file.name)
        else:
            file.name = file.name.rename(self.path)
        self.at_path, file.left_at = file, None
        self.is_in_order = False

    def delete_directory(self) -> None:
        """Delete the log with all beside it, and make the directory again."""
        for file in self._beside():
            self._delete(file)
        self.delete()
        shutil.rmtree(self.path.parent)
        self.path.parent.mkdir()

    # The follower

    def look(self) -> None:
        """The follower looks: what it sees now it must read."""
        now = self._clock()
        unseen = now - self._looked_at
        seen = [] if self.at_path is None else [self.at_path]
        is_changed = self.at_path is not self._seen_at_path
        is_cut_seen = self._was_cut and (self.at_path is None or self.at_path.data or self.at_path.data_seen)
        if self.at_path is not None and (is_changed or is_cut_seen or unseen > UNSEEN_S):
            seen += self._beside()
            self._was_cut = False
        for file in seen:
            file.is_held = True
            for _, line in file.lines:
                line.is_certain |= not line.is_late
        for line, loss, file in self._losses:
            shows = is_changed if loss is Loss.GONE else not file.data.startswith(file.data_seen)
            if shows and (loss is Loss.CUT or unseen > UNSEEN_S) and not line.is_certain:
                self.lost.append((line, unseen))
        self._losses.clear()
        self._was_copied = False
        self._looked_at, self._seen_at_path = now, self.at_path
        for file in self.files:
            file.data_seen = bytes(file.data)

    def close(self) -> None:
        """Close all descriptors."""
        for file in self.files:
            if file.fd is not None:
                os.close(file.fd)

    # What follows from that

    def _new_line(self, size: int) -> bytes:
        self._ids += 1
        digits = hashlib.shake_128(b"%d" % self._ids).hexdigest(size // 2 + 4).encode()
        return digits + b"#%08d;\n" % self._ids

    def _emit(self, data: bytes, held_back: int = 0) -> None:
        data = self._unwritten + data
        written = max(0, len(data) - held_back) // self._buffer * self._buffer
        self._unwritten = data[written:]
        if written:
            self._put(data[:written])

    def _put(self, data: bytes) -> None:
        file = self.server
        assert file is not None
        assert file.fd is not None
        line_begin = file.data.rfind(b"\n") + 1
        before = len(file.data)
        position = before if self.appending else os.lseek(file.fd, 0, os.SEEK_CUR)
        assert position >= before
        os.write(file.fd, data)
        file.data += b"\0" * (position - before) + data
        while (line_end := file.data.find(b"\n", max(line_begin, before))) >= 0:
            self._complete(file, line_begin, line_end)
            line_begin = before = line_end + 1

    def _complete(self, file: File, begin: int, end: int) -> None:
        """A line of a file is complete."""
        texts = {bytes(file.data[begin:end]).lstrip(b"\0")}
        texts |= {bytes(file.data[cut:end]).lstrip(b"\0") for cut in file.cuts}
        file.cuts.clear()
        found = ID.search(bytes(file.data[begin:end]))
        if found is None:
            return
        is_late = file.left_at is not None and self._clock() >= file.left_at + GRACE_S
        place = (file.number, file.truncations, len(file.lines))
        line = self.lines.setdefault(int(found[1]), Line(texts, place, is_late))
        line.texts |= texts
        line.is_certain |= file.is_held and not is_late
        file.lines.append((end + 1, line))

    def _cut(self, file: File, size: int, loss: Loss) -> None:
        assert file.fd is not None
        os.ftruncate(file.fd, size)
        removed = [line for end, line in file.lines if end > size]
        file.lines = [(end, line) for end, line in file.lines if end <= size]
        del file.data[size:]
        file.truncations += 1
        file.cuts = [cut for cut in [*file.cuts, size] if file.data.rfind(b"\n") + 1 < cut <= size]
        self._was_cut = True
        self._lose(file, removed, loss, is_seen=file.is_held and not self._was_copied)

    def _lose(self, file: File, lines: Iterable[Line], loss: Loss, *, is_seen: bool) -> None:
        """They do not stand any more where they stood. `is_seen`: the follower can see that."""
        for line in lines:
            line.is_certain = False
            if is_seen:
                self._losses.append((line, loss, file))

    def _lose_what_only_stands_in(self, file: File) -> None:
        """What a file held is lost with it unless the follower holds it."""
        if not file.is_held:
            lines = [line for _, line in file.lines]
            self._lose(file, lines, Loss.GONE, is_seen=self._seen_at_path is not None)

    def _delete(self, file: File) -> None:
        assert file.name is not None
        file.name.unlink()
        file.name = None
        self._lose_what_only_stands_in(file)

    def _create(self) -> None:
        name = self.path
        if self.symlinked:
            name = self._free_name()
            self.path.symlink_to(name)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self.appending else 0)
        self._created += 1
        self.at_path = File(self._created, os.open(name, flags, 0o600), name)
        self.files.append(self.at_path)

    def _leave_path(self) -> File:
        file, self.at_path = self.at_path, None
        assert file is not None
        file.left_at = self._clock()
        if self._was_copied and not file.data_seen:
            # Its copies are all that is known of it: their numbers may count from either end.
            self.is_in_order = False
        return file

    def _free_name(self) -> Path:
        """The name that a file gets which is rotated now."""
        self._dates += 1
        if self.names is Names.ELSEWHERE:
            return self.directory / f"file {self._dates}"
        if self.names is Names.DATED:
            return self.path.with_name(f"moe.log-{20260000 + self._dates}")
        for file in sorted(self._beside(), key=self._age):
            assert file.name is not None
            number, packing = -self._age(file), "".join(s for s in file.name.suffixes if s == ".gz")
            file.name = file.name.rename(self.path.with_name(f"moe.log.{number + 1}{packing}"))
        return self.path.with_name("moe.log.1")

    def _beside(self) -> list[File]:
        """The files that lie beside the log, under names by which they are known, as they were created."""
        return [
            file
            for file in self.files
            if file is not self.at_path and file.name is not None and file.name.parent == self.path.parent
        ]

    def _age(self, file: File) -> int:
        """Rises from the oldest to the latest rotated file."""
        assert file.name is not None
        number = int(re.findall(r"[0-9]+", file.name.name)[0])
        return number if self.names is Names.DATED else -number
