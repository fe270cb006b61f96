"""Finished files, read from beginning to end, one after the other."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.sources.source import Break, SourceStatus, State
from moe_live.sources.stream import ByteStream, own_descriptor

IDLE_PAUSE_S = 0.05


class ArchiveSource:
    """Reads finished files in order, unpacking those compressed with gzip, as `Source`.

    FIFOs and `<(command)` are read as well. All paths are tried before anything is read. What goes
    wrong later (a damaged file, say) does not keep the files after it from being read; it is raised
    at the very end.

    Args:
        paths: the files, at least one.

    Raises:
        UsageError: a path is missing, may not be read, or is not a file.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self._paths = [os.fspath(path) for path in paths]
        self._waiting: deque[str | ByteStream] = deque()
        self._size: int | None = 0
        for path in self._paths:
            stream = _try_to_open(path)
            if stream.size is None:
                self._size = None
                self._waiting.append(stream)
            else:
                self._size = None if self._size is None else self._size + stream.size
                self._waiting.append(path)  # opened in its turn: there may be more files than descriptors
                stream.close()
        self._stream: ByteStream | None = None
        self._finished_bytes = 0
        self._problems: list[str] = []
        self._raised = False
        self._pause = 0.0
        self._closed = False

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """The next bytes of one file; a break at its end if another follows, and for one that is gone.

        Raises:
            MoeLiveError: at the very end, once, if not everything could be read or unpacked.
        """
        items: list[bytes | Break] = []
        self._pause = 0.0
        while not items and (stream := self._present_stream(items)) is not None:
            data = stream.read(limit)
            if data:
                items.append(data)
            if stream.ended:
                self._finish(stream)
                if self._waiting:
                    items.append(Break.FILE_ENDED)
            elif not data:
                self._pause = IDLE_PAUSE_S
                break
        if not items and self._problems and not self._raised and self._stream is None:
            self._raised = True
            raise MoeLiveError(self._detail())
        return items

    def pause(self) -> float:
        """0, but for a FIFO that has nothing now."""
        return self._pause

    def wake_fd(self) -> int | None:
        """The descriptor of the FIFO being read, if it is one."""
        return None if self._stream is None or self._stream.size is not None else self._stream.fd

    def status(self) -> SourceStatus:
        """The present state; it has not ended while `read` has still something to raise.

        Position and size are in bytes of the files as they are, packed or not.
        """
        return SourceStatus(
            name=self._paths[0] if len(self._paths) == 1 else f"{len(self._paths)} files",
            state=State.ENDED if self._has_ended() else State.READING,
            detail=self._detail(),
            position=self._finished_bytes + (self._stream.position if self._stream is not None else 0),
            size=self._size,
        )

    def close(self) -> None:
        """Give descriptors back. Idempotent."""
        if self._stream is not None:
            self._finish(self._stream)
        for stream in self._waiting:
            if isinstance(stream, ByteStream):
                stream.close()
        self._waiting.clear()
        self._raised = True

    def _present_stream(self, items: list[bytes | Break]) -> ByteStream | None:
        """The stream to read from, opening the next if need be; None after the last.

        Args:
            items: takes a break for each file that is gone.
        """
        while self._stream is None and self._waiting:
            waiting = self._waiting.popleft()
            if isinstance(waiting, ByteStream):
                self._stream = waiting
                continue
            try:
                self._stream = _open(waiting)
            except OSError as error:  # it was there when we started
                rest = "the others are used" if len(self._paths) > 1 else "nothing of it was read"
                self._problems.append(f"{printable(waiting)} is gone ({error.strerror}); {rest}")
                items += [Break.FILE_ENDED][: bool(self._waiting)]
        return self._stream

    def _has_ended(self) -> bool:
        return self._stream is None and not self._waiting and (self._raised or not self._problems)

    def _finish(self, stream: ByteStream) -> None:
        self._finished_bytes += stream.position
        if stream.problem:
            self._problems.append(stream.problem)
        stream.close()
        self._stream = None

    def _detail(self) -> str:
        if not self._problems:
            return ""
        more = len(self._problems) - 1
        files = "file" if more == 1 else "files"
        return self._problems[0] + (f" (and {more} more {files} with problems)" if more else "")


def _open(path: str) -> ByteStream:
    """Open for reading, without waiting for the writer of a FIFO.

    Raises:
        OSError: it cannot be opened.
    """
    own = own_descriptor(path)
    if own is not None and not Path(path).is_file():
        # Opened anew, a pipe whose writer has left already would look as if it were still to come.
        return ByteStream(os.dup(own), path)
    return ByteStream(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), path)


def _try_to_open(path: str) -> ByteStream:
    shown = printable(path)
    try:
        if stat.S_ISDIR(Path(path).stat().st_mode):
            raise UsageError(f"cannot read {shown}: it is a directory; name the logs in it")
        return _open(path)
    except FileNotFoundError:
        raise UsageError(f"cannot read {shown}: there is no such file; check the path") from None
    except PermissionError:
        raise UsageError(f"cannot read {shown}: permission denied; run as a user who may read it") from None
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; give a log file or a pipe") from None
