"""The entry point: puts the process in order before the rest is loaded."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from typing import NoReturn

from moe_live.descriptors import open_standard_descriptors
from moe_live.outlet import Diagnostics


def entry_point() -> NoReturn:
    """Run with the arguments of the process and exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the run handles it, Ctrl-C ends the process without a word, as it does any other program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["PYTHONSAFEPATH"] = "1"  # Python that we start imports nothing from the current directory
    open_standard_descriptors()
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(Diagnostics(2)),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    gc.disable()  # until all is loaded, which is no garbage
    from moe_live.cli import main  # noqa: PLC0415 - not before Ctrl-C is seen to

    status = main()
    gc.freeze()  # all goes with the process: to look for what refers to itself takes most of the time of exit
    sys.exit(status)
