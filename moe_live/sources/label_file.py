"""A file whose content names what is going on, written by whoever drives the server."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from moe_live.errors import UsageError, printable

MAX_BYTES = 256
"""A label is what stands in the first line, as far as this."""

CHECK_INTERVAL = 0.05
"""Seconds between two looks at the file."""


def check_label_file(path: str) -> None:
    """See before a run whether there can be labels in the file; it may be missing, and appear later.

    Raises:
        UsageError: it is not a regular file, or may not be read.
    """
    problem = ""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            problem = "it is not a regular file"
        elif not os.access(path, os.R_OK):
            problem = "permission denied"
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise UsageError(f"cannot read labels from {printable(path)}: {problem}; name another file")


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
