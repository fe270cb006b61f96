"""Processes that read parts of files, and hand over what they found one piece at a time."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from mmap import mmap
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

from moe_live.analyzer import Analyzer, Progress
from moe_live.descriptors import can_open
from moe_live.errors import MoeLiveError, printable
from moe_live.memory import own_pages
from moe_live.parallel.plan import Part
from moe_live.session import READ_SIZE, portion_after
from moe_live.settings import Settings
from moe_live.sources.remote import opened
from moe_live.sources.stream import ByteStream, shortened
from moe_live.terminal import group_signals_blocked, unhandle_signals

Memory = bytearray | mmap

PROGRESS_S = 0.05
"""Seconds after which a process tells its progress again."""

_DESCRIPTORS = 8
"""So many may be open while a process is started, and one more that somebody needs for a moment."""

_LARGE = 1 << 17  # bytes of an array
_SENT_AT_ONCE = 1 << 20  # bytes; a connection holds what it receives twice for a moment


def analyzer_of(part: Part, settings: Settings, label: str) -> Analyzer:
    """One for a part.

    Args:
        part: what it is to read.
        settings: of the analysis.
        label: what is in force where the part begins.
    """
    analyzer = Analyzer(replace(settings, label=label), dialect=part.dialect, goes_on=part.begin > 0)
    analyzer.log = part.path
    return analyzer


class PartReader:
    """Reads one part into an analyzer.

    Args:
        part: what to read.
        analyzer: one for the part, or one that has read what comes before it, to the end of a file.
    """

    def __init__(self, part: Part, analyzer: Analyzer) -> None:
        self.analyzer = analyzer
        self._part = part
        self._left = None if part.end is None else part.end - part.begin
        self._portion = READ_SIZE
        self._problem = ""
        self._stream: ByteStream | None = None
        try:
            self._stream = opened(part.path, part.begin)
        except FileNotFoundError as error:  # it was there when we started
            self._problem = f"{printable(part.path)} is gone ({error.strerror}); the others are used"
        except OSError as error:
            self._problem = f"cannot read {printable(part.path)}: {error.strerror}; the others are used"

    @property
    def is_open(self) -> bool:
        """Whether there is anything to read."""
        return self._stream is not None

    def read(self) -> bool:
        """Read and analyze some of it; returns whether there is more."""
        if self._stream is None:
            return False
        limit = min(READ_SIZE, self._portion)
        data = self._stream.read(limit if self._left is None else min(limit, self._left))
        begun = time.monotonic()
        self.analyzer.feed(data)
        self._portion = portion_after(self._portion, time.monotonic() - begun)
        if self._left is not None:
            self._left -= len(data)
        return self._left != 0 and not self._stream.ended

    def finish(self) -> str:
        """Close the part, read to its end or not; returns why not all could be read, "" if all is well."""
        if self._stream is not None:
            self._problem = self._stream.problem
            if self._stream.ended and not self._problem and self._is_short(self._stream):
                self._problem = shortened(printable(self._part.path))
            self._stream.close()
        self.analyzer.finish()
        return self._problem

    def _is_short(self, stream: ByteStream) -> bool:
        """Whether there was more when the parts were planned, as far as the stream itself cannot tell."""
        return self._part.begin > 0 and not stream.size if self._left is None else self._left > 0


class _End(NamedTuple):
    """That a part is finished: what was read, the label in force there, what is wrong with it."""

    progress: Progress
    label: str
    problem: str


class Worker:
    """A process that reads one part after the other.

    What it found of a part it keeps until that is taken or dropped: whoever merges parts holds no more than a
    piece of one.

    Args:
        settings: of the analysis.
        others: connections of the workers there are already.

    Raises:
        OSError: no more processes, or descriptors, may be had.

    Attributes:
        connection: where it tells how far it is.
        label: the label under which its part is taken to begin.
        progress: how far it is in that part.
        finished: whether it has read the part, to its end or until it was stopped.
        end_label: the label in force there.
        problem: why not all of it could be read, "" if all is well.
    """

    def __init__(self, settings: Settings, others: Sequence[Connection]) -> None:
        self.label = ""
        self.progress = Progress(0, 0, 0)
        self.finished = False
        self.end_label = self.problem = ""
        self._process, self.connection = start_process(_work, others, settings)

    def begin(self, part: Part, label: str) -> None:
        """Have it read a part; it has none, or one that was taken or dropped."""
        self.label, self.progress, self.finished = label, Progress(0, 0, 0), False
        with suppress(OSError):  # that it died is noticed when it is to tell something
            self.connection.send((part, label))

    def receive(self) -> None:
        """Take one message while it reads.

        Raises:
            MoeLiveError: the process has died.
        """
        with death_told(self._process):
            message: Progress | _End = self.connection.recv()
        if isinstance(message, _End):
            self.progress, self.end_label, self.problem = message
            self.finished = True
        else:
            self.progress = message

    def pieces(self, highest: int) -> Iterator[Any]:
        """What it found in its part, as `analyzer.Finished` tells; if it still reads, it stops where it is.

        Raises:
            MoeLiveError: the process has died.
        """
        with suppress(OSError):
            self.connection.send(highest)
        while not self.finished:
            self.receive()
        with death_told(self._process):
            while True:
                yield receive_piece(self.connection)

    def drop(self) -> None:
        """Have it forget what it found in the part that it has finished."""
        with suppress(OSError):
            self.connection.send(None)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def death_told(process: BaseProcess) -> Iterator[None]:
    """While it is asked for something.

    Raises:
        MoeLiveError: it has died.
    """
    try:
        yield
    except (EOFError, OSError):
        process.join()
        raise MoeLiveError(
            f"a process that read a part of the input died (exit code {process.exitcode}); "
            "try --jobs 1, which takes less memory"
        ) from None


def start_process(
    work: Callable[..., object], others: Sequence[Connection], *arguments: object
) -> tuple[BaseProcess, Connection]:
    """Start a process that ends with this one, and takes no signals that this one is sent too.

    Args:
        work: what it does; takes its end of a connection, and the arguments.
        others: our ends of the connections to the processes there are already.
        arguments: more for `work`.

    Returns:
        The process, and our end.

    Raises:
        OSError: no more processes, or descriptors, may be had.
    """
    context = _context()
    ours, theirs = context.Pipe()
    copied = context.get_start_method() == "fork"
    inherited = (*others, ours) if copied else ()
    process = context.Process(target=_run, args=(work, theirs, inherited, *arguments), daemon=True)
    if not copied:
        resource_tracker.ensure_running()  # its own start would let signals through again
    with group_signals_blocked():
        process.start()
    # At exit those that are left are sent SIGTERM, which is blocked there, and waited for.
    Finalize(ours, process.kill, exitpriority=1)
    theirs.close()
    return process, ours


def start_workers(number: int, settings: Settings) -> list[Worker]:
    """So many workers, or fewer if no more may be had."""
    workers: list[Worker] = []
    with suppress(OSError):
        while len(workers) < number and can_open(_DESCRIPTORS):
            workers.append(Worker(settings, [worker.connection for worker in workers]))
    return workers


def _context() -> ForkContext | SpawnContext:
    """How processes are started: as copies of this one, which takes no time, where it has a single thread.

    A copy has none of the other threads, but the locks they held; so it is for fresh interpreters then.
    """
    if sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1:
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("spawn")


def _run(
    work: Callable[..., object], connection: Connection, others: Sequence[Connection], *arguments: object
) -> None:
    """What a process does.

    Args:
        work: what is to be done, until the connection is closed.
        connection: where tasks come from.
        others: connections of the process that asks, which a copy of it holds and so would never see closed.
        arguments: more for `work`.
    """
    for other in others:
        other.close()
    unhandle_signals()
    gc.enable()  # a copy may be of a process that is not there yet
    try:
        work(connection, *arguments)
    except MemoryError:
        sys.exit(1)  # the process that asked says so
    except (EOFError, OSError):
        pass  # it has gone


def _work(connection: Connection, settings: Settings) -> None:
    """Read the parts that are given."""
    while True:
        part, label = connection.recv()
        _read_part(connection, PartReader(part, analyzer_of(part, settings, label)))


def _read_part(connection: Connection, reader: PartReader) -> None:
    """Read a part until its end, or until what was found is asked for; hand that over if it is wanted."""
    due = 0.0
    while reader.read() and not connection.poll():
        if time.monotonic() >= due:
            connection.send(reader.analyzer.progress())
            due = time.monotonic() + PROGRESS_S
    problem = reader.finish()
    connection.send(_End(reader.analyzer.progress(), reader.analyzer.label, problem))
    if (highest := connection.recv()) is not None:
        for piece in reader.analyzer.pieces(highest):
            send_piece(connection, piece)


def _memory(size: int) -> Memory:
    """So many bytes that may stay for long."""
    return own_pages(size) if size >= _LARGE else bytearray(size)


def send_piece(connection: Connection, piece: Any) -> None:
    """Send an object whose arrays follow it as they are: none of their bytes are held twice.

    Raises:
        OSError: the other process has gone.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(piece, protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    connection.send((head, [len(array) for array in arrays]))
    for array in arrays:
        for start in range(0, len(array), _SENT_AT_ONCE):
            connection.send_bytes(array[start : start + _SENT_AT_ONCE])


def receive_piece(connection: Connection, memory: Callable[[int], Memory] = _memory) -> Any:
    """What `send_piece` sent; its arrays may be written to.

    Args:
        connection: to who sent it.
        memory: has room for so many bytes, those of an array.

    Raises:
        EOFError, OSError: the other process has gone.
    """
    head, sizes = connection.recv()
    # A MemoryError is told as such: an OSError would mean here that the worker has died.
    arrays = [memory(size) for size in sizes]
    for array in arrays:
        for start in range(0, len(array), _SENT_AT_ONCE):
            connection.recv_bytes_into(array, start)
    return pickle.loads(head, buffers=arrays)  # noqa: S301 - from a process of our own, as all that it sends
