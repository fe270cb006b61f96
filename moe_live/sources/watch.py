"""Being woken up when something happens in a directory. A convenience: polling must do without it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from moe_live.descriptors import can_open
from moe_live.errors import printable
from moe_live.sources.place import identity_of

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

_DRAIN = 4096

_DESCRIPTORS = 6
"""Watching takes four, and leaves others what they open for a moment."""


class Watcher:
    """Makes `wake_fd` readable at the first event in the directory of a followed file.

    Watchdog builds Python objects for every single write and slows the writer down, so the watch is
    armed only while nothing happens, and disarmed at the first event, whichever file it concerns: a
    busy neighbour then costs one event a second. It watches the directory, not the file, because a
    watch on a file stays with that file when it is renamed.

    Attributes:
        wake_fd: readable after an event, until `woken` is called.
        problem: why no events come, for people; "" while they do.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self.wake_fd, self._wake_write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._wake_write_fd, False)
        self._path = path
        self._observer: BaseObserver | None = None
        self._watch: ObservedWatch | None = None
        self._directory_fd = -1
        self._given_up = False
        self._closed = False

    def woken(self) -> bool:
        """Whether there was an event since the last call."""
        try:
            return bool(os.read(self.wake_fd, _DRAIN))
        except BlockingIOError:
            return False

    def arm(self) -> bool:
        """Watch from now on, or look after a watch that is armed already.

        Returns:
            True if a watch was newly set: what happened before it may have gone unnoticed.
        """
        if self._given_up:
            return False
        try:
            directory = Path(os.path.realpath(self._path)).parent
        except FileNotFoundError:
            self.disarm()
            self.problem = "the working directory was removed: polling"
            return False
        if self._watch is not None:
            if self._watches(directory):
                self._give_up_if_dead()
                return False
            self.disarm()
        if self._observer is None and not can_open(_DESCRIPTORS):
            self._give_up("too few files may be open at once (raise ulimit -n): polling")
            return False
        try:
            # Held open: while it is, a directory made anew under the same name cannot get the same inode.
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            self._watch = self._schedule(directory)
        except (FileNotFoundError, NotADirectoryError):
            self._close_directory()
            self.problem = f"{printable(directory)} does not exist: polling"
            return False
        except (OSError, RuntimeError) as error:  # RuntimeError: no further thread can be started
            self._give_up(_reason(error))
            return False
        self.problem = ""
        return True

    def disarm(self) -> None:
        """Stop watching, until `arm` is called."""
        if self._observer is not None and self._watch is not None:
            with suppress(OSError, KeyError):  # the kernel or a dying thread may have removed it before us
                self._observer.unschedule(self._watch)
        self._watch = None
        self._close_directory()

    def close(self) -> None:
        """Give threads and descriptors back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.disarm()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()  # it writes to the pipe, whose number may be given to others once closed
        os.close(self.wake_fd)
        os.close(self._wake_write_fd)

    def _schedule(self, directory: Path) -> ObservedWatch:
        # Imported here: most of the time to start is not ours, and not every source is watched.
        import logging  # noqa: PLC0415

        from watchdog.events import (  # noqa: PLC0415
            DirDeletedEvent,
            FileDeletedEvent,
            FileModifiedEvent,
            FileSystemEvent,
            FileSystemEventHandler,
        )
        from watchdog.observers import Observer  # noqa: PLC0415

        wake_fd = self._wake_write_fd

        class Wake(FileSystemEventHandler):
            def dispatch(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - any event will do
                with suppress(OSError):  # full, so awake already; an exception would kill the thread for good
                    os.write(wake_fd, b"\0")

        if self._observer is None:
            # Without a handler, what watchdog logs when a watch ends would be printed into the dashboard.
            logging.getLogger("watchdog").addHandler(logging.NullHandler())
            observer = Observer()
            observer.start()
            self._observer = observer
        # No events of opening and closing: those are our own. None of moving: watchdog holds the first half
        # of a move back for half a second, and unscheduling would wait for that. Polling sees moves.
        return self._observer.schedule(
            Wake(), str(directory), event_filter=[FileModifiedEvent, FileDeletedEvent, DirDeletedEvent]
        )

    def _watches(self, directory: Path) -> bool:
        """Whether the armed watch is on the directory that now has this name."""
        try:
            return identity_of(directory.stat()) == identity_of(os.fstat(self._directory_fd))
        except OSError:
            return False

    def _give_up_if_dead(self) -> None:
        observer = self._observer
        if observer is None or not observer.is_alive() or not all(e.is_alive() for e in observer.emitters):
            self._give_up("the file watcher stopped: polling")

    def _give_up(self, problem: str) -> None:
        """No further attempts: each would leave descriptors behind inside watchdog."""
        self._given_up = True
        self.problem = problem
        self.disarm()

    def _close_directory(self) -> None:
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
        self._directory_fd = -1


def _reason(error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no inotify watch left (raise fs.inotify.max_user_watches): polling"
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "no inotify instance left (raise fs.inotify.max_user_instances): polling"
    return f"no file watcher ({printable(str(error))}): polling"
