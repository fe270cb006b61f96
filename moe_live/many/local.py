"""Processes on this machine as an `Engine`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from moe_live.errors import MoeLiveError
from moe_live.many.tasks import Found, Told
from moe_live.parallel.worker import start_process

DEATHS = 3
"""Processes that may die of a task until it is given up."""


class _LocalTask:
    def __init__(self, function: Callable[..., Found], arguments: tuple[object, ...]) -> None:
        self.call = function, arguments
        self.deaths = 0
        self.result: Found | Exception | None = None

    def done(self) -> bool:
        return self.result is not None

    def told(self) -> Told:
        return self.found().told

    def found(self) -> Found:
        if not isinstance(self.result, Found):
            raise self.result or ValueError("the task has not ended")
        return self.result


class LocalEngine:
    """So many processes read; this one merges what they find.

    Args:
        workers: processes.

    Raises:
        MoeLiveError: no process can be started.
    """

    def __init__(self, workers: int) -> None:
        self._waiting: deque[_LocalTask] = deque()
        self._idle: list[Connection] = []
        self._busy: dict[Connection, _LocalTask] = {}
        self._processes: dict[Connection, BaseProcess] = {}
        for _ in range(workers):
            self._start()

    @property
    def name(self) -> str:
        """How many there are."""
        return f"{self.workers} processes" if self.workers > 1 else "one process"

    @property
    def workers(self) -> int:
        """All processes."""
        return len(self._processes)

    def submit(self, function: Callable[..., Found], *arguments: object) -> _LocalTask:
        """See `Engine.submit`. What is made of results is made at once, here, where they are."""
        if any(isinstance(each, _LocalTask) for each in arguments):
            task = _LocalTask(function, ())
            task.result = function(
                *(each.found() if isinstance(each, _LocalTask) else each for each in arguments)
            )
            return task
        task = _LocalTask(function, arguments)
        self._waiting.append(task)
        self._hand_out()
        return task

    def wait(self, seconds: float) -> None:
        """See `Engine.wait`."""
        ready = set(wait(list(self._busy), seconds))
        for connection in [connection for connection in self._busy if connection in ready]:
            task = self._busy.pop(connection)
            try:
                task.result = connection.recv()
                self._idle.append(connection)
            except (EOFError, OSError):
                self._bury(connection, task)
        self._hand_out()

    def close(self) -> None:
        """End all processes, whatever they do."""
        for connection, process in self._processes.items():
            process.kill()
            process.join()
            connection.close()
        self._processes.clear()

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            connection, task = self._idle.pop(), self._waiting.popleft()
            self._busy[connection] = task
            with suppress(OSError):  # that it died is noticed by who waits for it
                connection.send(task.call)

    def _bury(self, connection: Connection, task: _LocalTask) -> None:
        """Another process takes the place of one that died, and its task."""
        process = self._processes.pop(connection)
        process.join()
        connection.close()
        task.deaths += 1
        if task.deaths < DEATHS:
            self._waiting.appendleft(task)
        else:
            task.result = MoeLiveError(
                f"{DEATHS} processes died of it (exit code {process.exitcode}); "
                "try --jobs 1, which takes less memory"
            )
        self._start()

    def _start(self) -> None:
        try:
            process, connection = start_process(_work, list(self._processes))
        except OSError as error:
            if not self._processes:
                raise MoeLiveError(f"no process can be started: {error.strerror}; try again later") from error
            return  # fewer will do
        self._processes[connection] = process
        self._idle.append(connection)


def _work(connection: Connection) -> None:
    """What a process does: one task after the other."""
    while True:
        function, arguments = connection.recv()
        try:
            result: Found | MoeLiveError = function(*arguments)
        except MemoryError:
            raise
        except Exception as error:  # one log of thousands does not end them all
            result = MoeLiveError(f"{type(error).__name__}: {error}")
        connection.send(result)
