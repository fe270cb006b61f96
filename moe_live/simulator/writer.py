"""The simulated server as a process: its log appears in a file in the rhythm of a real one."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from moe_live.errors import MoeLiveError
from moe_live.simulator.server import SimulatedServer

STREAM_BUFFER = 8191
"""Bytes that a C++ file stream writes at once."""

PREFILL_SPEED = 20
"""How many times as fast as an answer is generated a prompt is processed."""

IDLE = 1.5
"""Seconds between two requests."""

RESTART_SIZE = 128 << 20
"""Bytes after which the server starts anew with an empty log, so that it never fills a disk."""


def write_log(
    path: Path,
    server: SimulatedServer,
    *,
    tokens_per_second: float,
    slots: int = 1,
    restart_size: int = RESTART_SIZE,
    pause: Callable[[float], bool],
) -> None:
    """Serve requests and log them until told to stop.

    As with a real server the file is there from the start, and empty until the first block; it is opened
    without O_APPEND, and what is written of a block appears in pieces that end anywhere in a line.

    Args:
        path: the log; what it held is lost.
        server: where the steps come from.
        tokens_per_second: speed of generation, of each slot.
        slots: requests served at a time.
        restart_size: bytes after which the log is emptied between two requests.
        pause: waits that many seconds and says whether to go on.
    """
    requests = server.requests()
    prefill_speed = PREFILL_SPEED * tokens_per_second
    due = time.monotonic()
    with path.open("wb", buffering=0) as log:
        while True:
            if log.tell() > restart_size:
                log.seek(0)
                log.truncate()
            for step in server.serve(*islice(requests, slots)):
                seconds = 1 / tokens_per_second if step.decode else step.tokens / prefill_speed
                due = max(due + seconds, time.monotonic())
                for piece in step.pieces:
                    text = piece if log.tell() else server.header + piece
                    for start in range(0, len(text), STREAM_BUFFER):
                        log.write(text[start : start + STREAM_BUFFER])
                if not pause(max(0.0, due - time.monotonic())):
                    return
            due += IDLE
            if not pause(IDLE):
                return


@contextlib.contextmanager
def demo_server() -> Iterator[Path]:
    """Run a simulated server beside this process.

    It ends with the context, or with this process however that dies: its standard input closes then.

    Yields:
        Path of its log, in a temporary directory. Who ends last removes that.

    Raises:
        MoeLiveError: it cannot be started.
    """
    # It finds what this process finds, and nothing in the current directory.
    program = f"import sys; sys.path[:] = {sys.path!r}; from moe_live.simulator.writer import main; main()"
    options = "-I" if sys.flags.isolated else "-P"
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="moe-live-demo-"))
            path = Path(directory) / "moe_expert_selection.log"
            child = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - nothing in the command comes from outside
                    [sys.executable, options, "-c", program, path, "--temporary", "--extended"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for us alone
                )
            )
        except OSError as error:
            raise MoeLiveError(
                f"cannot start the simulated server: {error.strerror}; give it what it lacks"
            ) from None
        stack.callback(child.kill)
        yield path


def main() -> None:
    """Write a log until killed or the standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m moe_live.simulator", description=main.__doc__)
    parser.add_argument("path", type=Path, help="the log to write; what it holds is lost")
    parser.add_argument("--tokens-per-second", type=float, default=30.0, metavar="N", help="default 30")
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="requests served at a time")
    parser.add_argument(
        "--strided", action="store_true", help="log most prompt rows wrong, as the patch does"
    )
    parser.add_argument(
        "--extended",
        action="store_true",
        help="log positions, sequences, outputs and weights too, as the tap does",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same log")
    parser.add_argument(
        "--temporary", action="store_true", help="remove the log and its directory at the end"
    )
    options = parser.parse_args()

    closed = threading.Event()

    def watch_stdin() -> None:
        while os.read(0, 4096):
            pass
        closed.set()

    threading.Thread(target=watch_stdin, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        write_log(
            options.path,
            SimulatedServer(seed=options.seed, strided=options.strided, extended=options.extended),
            tokens_per_second=options.tokens_per_second,
            slots=options.slots,
            pause=lambda seconds: not closed.wait(seconds),
        )
    if options.temporary:
        options.path.unlink()
        options.path.parent.rmdir()
