"""A file whose content names what is going on, written by whoever drives the server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

MAX_BYTES = 256
"""A label is what stands in the first line, as far as this."""

CHECK_INTERVAL = 0.05
"""Seconds between two looks at the file."""


class LabelFile:
    """Looks for a changed label. A file that is missing or cannot be read is no label.

    Args:
        path: of the file.
        clock: seconds, monotonic.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._due = clock()
        self._label = ""

    def changed(self) -> str | None:
        """The label if it is another than at the last call, else None. Cheap: to be called often."""
        now = self._clock()
        if now < self._due:
            return None
        self._due = now + CHECK_INTERVAL
        label = self._read()
        if label == self._label:
            return None
        self._label = label
        return label

    def _read(self) -> str:
        try:
            # Not to hang on a FIFO that nobody writes to.
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return ""
        try:
            content = os.read(fd, MAX_BYTES)
        except OSError:
            return ""
        finally:
            os.close(fd)
        return content.partition(b"\n")[0].decode("utf-8", "replace").strip()
