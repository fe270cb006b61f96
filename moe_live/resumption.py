"""Going on from a state: that it is of the same settings, and of the same log."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moe_live.analyzer import Analyzer
from moe_live.checkpoint import Checkpoint
from moe_live.errors import UsageError, printable
from moe_live.sameness import other_model
from moe_live.sources.follow import Follower
from moe_live.sources.position import Position, ReadFile
from moe_live.sources.stream import ByteStream
from moe_live.state.file import unusable

if TYPE_CHECKING:
    from moe_live.config import Config
    from moe_live.sources.source import Source

_PROBED_BYTES = 1 << 22
"""How much of a log is looked at to tell its model."""

_DIGESTED_BYTES = 1 << 20  # at a time


_ANOTHER = "cannot go on with {}: {} is of another model: {}; give it another --state"


class Resumed:
    """What a state says.

    Args:
        path: of its file.
        analyzer: what was found.
        position: where reading stood in a log that was followed; None if none was.
        files: finished ones that were read.
    """

    def __init__(
        self,
        path: str,
        analyzer: Analyzer,
        position: Position | None = None,
        files: tuple[ReadFile, ...] = (),
    ) -> None:
        self.analyzer = analyzer
        self.position = position
        self.files = files
        self._path = path

    def unread(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """Those of these finished files that are not in the state.

        Raises:
            UsageError: all of them are, or one has grown since.
        """
        state = printable(self._path)
        unread = []
        for path in paths:
            found = next((file for file in self.files if _is_like(path, file)), None)
            if found is None:
                unread.append(path)
                if Path(path).is_file() and (difference := self._difference(path)):
                    raise UsageError(_ANOTHER.format(state, printable(path), difference))
            elif Path(path).stat().st_size > found.size:
                raise UsageError(
                    f"cannot go on with {state}: {printable(path)} has grown since it was read; "
                    "what grows is followed: give --follow and another --state"
                )
        if not unread:
            raise UsageError(f"all that is given is in {state} already: moe-live merge {state} sums it up")
        if len(unread) < len(paths):
            sys.stderr.write(
                f"moe-live: {len(paths) - len(unread)} of {len(paths)} files are in {state} already\n"
            )
        return tuple(unread)

    def check(self, follower: Follower, path: str) -> None:
        """See that what is followed is not another log.

        What was read may be gone: then the same path is believed to name the log of the same model, as far as
        its beginning tells.

        Args:
            follower: ready to go on.
            path: of what it follows.

        Raises:
            UsageError: it is another one.
        """
        log, state = printable(path), printable(self._path)
        if self.position is None:
            raise UsageError(
                f"cannot go on with {state}: it is of a pipe or of finished files, and does not say where "
                f"reading stood in {log}; give the log another --state"
            )
        if follower.goes_on or not self.position.has_read:
            return
        if os.path.realpath(path) != os.path.realpath(self.position.path):
            raise UsageError(
                f"cannot go on with {state}: it is of {printable(self.position.path)}, and what was read of "
                f"that is not in {log}; give each log a state of its own"
            )
        if difference := self._difference(path):
            raise UsageError(_ANOTHER.format(state, log, difference))

    def _difference(self, path: str) -> str:
        """What tells the model of a log from that of the state; "" for nothing."""
        head = b""
        with suppress(OSError):
            stream = ByteStream(os.open(path, os.O_RDONLY), path)
            while len(head) < _PROBED_BYTES and not stream.ended:
                head += stream.read(_PROBED_BYTES)
            stream.close()
        probe = Analyzer(self.analyzer.settings)
        probe.feed(head)
        probe.finish()
        return other_model(probe.snapshot(sections=()), self.analyzer.snapshot(sections=()))


def resume(path: str, config: Config, *, asked: bool) -> Resumed | None:
    """What the state says that the user names; None if there is none yet.

    Args:
        path: of its file.
        config: of the run.
        asked: whether the user asks for what the latest uses are kept for; else it is as the state has it.

    Raises:
        MoeLiveError: it cannot be used, or is of other settings.
    """
    if not os.path.lexists(path):
        return None
    analyzer, reading = Analyzer.loaded(path, keep_steps=config.wants_steps)
    is_files = isinstance(reading, tuple) and all(isinstance(each, ReadFile) for each in reading)
    if not (reading is None or is_files or isinstance(reading, Position)):
        raise unusable(path, "it does not say where reading stood")
    wanted = config.settings
    if not asked:
        wanted = replace(wanted, latest_uses=analyzer.settings.latest_uses)
    if differences := wanted.differences(analyzer.settings):
        differ = ", ".join(
            f"{name} is {there} there and {here} here" for name, (here, there) in differences.items()
        )
        raise UsageError(
            f"cannot go on with {printable(path)}: {differ}; give the same options, or another --state"
        )
    if isinstance(reading, Position) and not config.follow:
        raise UsageError(
            f"cannot go on with {printable(path)}: it is of {printable(reading.path)}, which was followed; "
            "give what is not another --state"
        )
    if config.settings.label:
        analyzer.label = config.settings.label
    if isinstance(reading, Position):
        return Resumed(path, analyzer, reading)
    analyzer.finish()  # a pipe that was cut off may have left a step open
    return Resumed(path, analyzer, files=reading or ())


def checkpoint_of(path: str, config: Config, source: Source, resumed: Resumed | None) -> Checkpoint:
    """What writes the state to this path."""
    if isinstance(source, Follower):
        return Checkpoint(path, source.position)
    if not config.paths:
        return Checkpoint(path)
    files = () if resumed is None else resumed.files
    files += tuple(file for each in config.paths if (file := _read_file(each)) is not None)
    return Checkpoint(path, lambda: files, whole=True)


def _read_file(path: str) -> ReadFile | None:
    """What is known of a finished file once it is read; None for a pipe."""
    with suppress(OSError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return ReadFile(path, status.st_size, _digest(path, status.st_size))
    return None


def _is_like(path: str, file: ReadFile) -> bool:
    """Whether a file has the content of one that was read, or begins with it and has its name."""
    with suppress(OSError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode) and file.size:
            has_grown = status.st_size > file.size and os.path.realpath(path) == os.path.realpath(file.path)
            return (has_grown or status.st_size == file.size) and _digest(path, file.size) == file.digest
    return False


def _digest(path: str, size: int) -> str:
    """SHA-256 of the first bytes of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        while size and (data := file.read(min(size, _DIGESTED_BYTES))):
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()
