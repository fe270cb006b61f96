"""Who reads logs: this process between the lines that it writes, or another beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from moe_live.errors import MoeLiveError
from moe_live.parallel.worker import death_told, receive_piece, send_piece, start_process
from moe_live.tables.columns import Piece
from moe_live.tables.reading import Findings, Logs, Task, read_once


class Reader(Protocol):
    """Reads logs, once or more often."""

    def begin(self, task: Task) -> None:
        """Have it read them; what it read before was followed to its end."""
        ...

    def follow(self, take: Callable[[Piece], object], progress: Callable[[float], object]) -> Findings:
        """Have what was begun done; arguments, and what it raises, as those of `read_once`."""
        ...


@contextmanager
def reader(logs: Logs, *, beside: bool) -> Iterator[Reader]:
    """Who reads them.

    Args:
        logs: to be read.
        beside: by another process, if one may be had.
    """
    try:
        started = start_process(_work, (), logs) if beside else None
    except OSError:
        started = None
    if started is None:
        yield _Here(logs)
        return
    process, connection = started
    try:
        yield _Beside(process, connection)
    finally:
        process.kill()
        process.join()
        connection.close()


class _Here:
    """This process."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._task = Task(None)

    def begin(self, task: Task) -> None:
        self._task = task

    def follow(self, take: Callable[[Piece], object], progress: Callable[[float], object]) -> Findings:
        return read_once(self._logs, self._task, take, progress)


class _Beside:
    """Another process, which is no further ahead than the lines in a pipe and those it makes."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection

    def begin(self, task: Task) -> None:
        with death_told(self._process):
            self._connection.send(task)

    def follow(self, take: Callable[[Piece], object], progress: Callable[[float], object]) -> Findings:
        while True:
            with death_told(self._process):
                # They are held for a moment only, and of one size: no pages have to be cleared for them.
                told: Any = receive_piece(self._connection, bytearray)
            if isinstance(told, Findings):
                return told
            if isinstance(told, MoeLiveError):
                raise told
            if isinstance(told, float):
                progress(told)
            else:
                take(told)


def _work(connection: Connection, logs: Logs) -> None:
    """Read them as often as asked."""
    tell = partial(send_piece, connection)
    while True:
        task = connection.recv()
        try:
            found: Findings | MoeLiveError = read_once(logs, task, tell, tell)
        except MoeLiveError as error:
            found = error
        tell(found)
