"""The command `moe-live`, or `python -m moe_live`: puts the process in order before the rest is loaded."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Diagnostics(io.FileIO):
    """Standard error. What cannot be written there is lost, and nothing else fails for it."""

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except OSError:
            return size


def entry_point() -> NoReturn:
    """Run with the arguments of the process and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the run handles it, Ctrl-C ends the process without a word, as it does any other program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed by who started us
            _open_null(descriptor)
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115 - for good
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Diagnostics(2, "w", closefd=False)),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    from moe_live.cli import main  # noqa: PLC0415 - not before Ctrl-C is seen to

    sys.exit(main())


def _open_null(descriptor: int) -> None:
    """Make a closed descriptor one that takes anything, so that no file we open gets its number."""
    null = os.open(os.devnull, os.O_WRONLY)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)


if __name__ == "__main__":
    entry_point()
