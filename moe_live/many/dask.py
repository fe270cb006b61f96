"""The workers of a dask cluster as an `Engine`: the only place that knows of dask."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.many.tasks import Found, Told
from moe_live.version import __version__

CONNECT_S = 10
"""Seconds in which the scheduler has to answer."""

_INSTALL = f"install moe-live {__version__} for the scheduler and all workers"

COUNT_S = 1.0
"""Seconds after which workers are counted again."""


class _DaskTask:
    """A result that stays with the worker that has it, and what it tells of itself, which is fetched."""

    def __init__(self, future: Any, told: Any) -> None:
        self.future = future
        self._told = told

    def done(self) -> bool:
        return bool(self._told.done())

    def told(self) -> Told:
        told: Told = self._told.result()
        return told

    def found(self) -> Found:
        found: Found = self.future.result()
        return found


class DaskEngine:
    """The workers of a scheduler. What a worker had that dies, others do again.

    Args:
        host: of the scheduler.
        port: where it listens.

    Raises:
        UsageError: dask is not installed, no scheduler answers there, or it or a worker lacks this version.
    """

    def __init__(self, host: str, port: int) -> None:
        self.name = f"dask://{host}:{port}"
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise UsageError(f"--on {self.name} needs dask: pip install 'moe-live[dask]'") from error
        # What goes wrong is told in one line, by us.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._client = distributed.Client(f"tcp://{host}:{port}", timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise UsageError(
                f"no scheduler answers at {self.name}; start dask scheduler there, and dask worker elsewhere"
            ) from error
        try:
            versions = {self._client.run_on_scheduler(_version), *self._client.run(_version).values()}
        except Exception as error:  # whatever they lack
            self._client.close()
            raise UsageError(f"{self.name} cannot run it ({printable(str(error))}); {_INSTALL}") from error
        if versions != {__version__}:
            self._client.close()
            raise UsageError(f"{self.name} has moe-live {', '.join(versions - {__version__})}; {_INSTALL}")
        self._ended = threading.Event()
        self._counted, self._workers = -math.inf, 0

    @property
    def workers(self) -> int:
        """Threads of all workers that there were a moment ago: they come and go."""
        if time.monotonic() - self._counted > COUNT_S:
            with suppress(OSError):  # that the scheduler has gone is told by `wait`
                self._workers = sum(self._client.nthreads().values())
            self._counted = time.monotonic()
        return self._workers

    def submit(self, function: Callable[..., Found], *arguments: object) -> _DaskTask:
        """See `Engine.submit`."""
        self._check()
        needed = [each.future if isinstance(each, _DaskTask) else each for each in arguments]
        future = self._client.submit(function, *needed, pure=False)
        told = self._client.submit(_told, future, pure=False)
        told.add_done_callback(lambda _: self._ended.set())
        return _DaskTask(future, told)

    def wait(self, seconds: float) -> None:
        """See `Engine.wait`."""
        self._ended.wait(seconds)
        self._ended.clear()
        self._check()

    def _check(self) -> None:
        """See whether there still is somebody.

        Raises:
            MoeLiveError: there is not.
        """
        if self._client.status != "running":
            raise MoeLiveError(f"the scheduler at {self.name} has gone; start it and this anew")

    def close(self) -> None:
        """Give up what still runs, and leave the cluster to others."""
        self._client.close()


def _version() -> str:
    return __version__


def _told(found: Found) -> Told:
    return found.told
