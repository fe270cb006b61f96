"""What following a server costs, and how late its lines are seen: with writes spread evenly over time."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import re
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from moe_live.analyzer import Analyzer
from moe_live.dashboard.views import VIEWS
from moe_live.session import READ_AHEAD, Session
from moe_live.sources.follow import Follower

TOKENS_A_SECOND = 100
SETTLE_SECONDS = 3.0
MOST_PERCENT = 4.0
"""Of a core, with any view."""

_FRAME_END = b"\x1b[?2026l"
_TOKENS = re.compile(rb"([\d,]+)(?:\x1b\[[\d;]*m)* decode tokens")


def measure(source: Path, seconds: float) -> dict[str, float]:
    """Percent of a core without lines, and latencies in ms for those of `source`, steps of one token.

    A line is counted when a session that looks 20 times a second has analyzed it, and visible when the
    number of tokens on the dashboard's screen includes its token.
    """
    lines, layers = _whole_steps(source)
    rate = TOKENS_A_SECOND * layers
    result = {"lines_a_second": float(rate)}
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "followed.log"
        log.touch()
        with _dashboard(log) as (process, output):
            time.sleep(SETTLE_SECONDS)
            result["idle_percent"] = _share(process, seconds)
            with _writer(log, lines, rate, seconds):
                pass
        latencies = {"visible": _visible(output, np.load(log.with_suffix(".npy"))[:, 0], layers)}
        log.unlink()
        log.touch()
        latencies["counted"] = _counted(log, lines, rate, seconds)
    for what, latency in latencies.items():
        for percent in (50, 95, 99):
            result[f"{what}_p{percent}_ms"] = float(np.percentile(latency, percent)) * 1e3
    return result


def views(source: Path, seconds: float) -> dict[str, float]:
    """Percent of a core that each view takes while the lines of `source` come, from the first one on."""
    lines, layers = _whole_steps(source)
    rate, found = TOKENS_A_SECOND * layers, {}
    for view in VIEWS:
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "followed.log"
            log.touch()
            duration = SETTLE_SECONDS + seconds
            with _dashboard(log, view.key) as (process, _), _writer(log, lines, rate, duration):
                time.sleep(SETTLE_SECONDS)
                found[view.title] = _share(process, seconds)
    return found


def _whole_steps(source: Path) -> tuple[list[bytes], int]:
    """The first lines of a log, of whole steps, and how many layers these have."""
    lines = source.read_bytes()[: 1 << 23].splitlines(keepends=True)[1:]
    layers = len({line.split(b",", 1)[0] for line in lines[:200]})
    return lines[: len(lines) // layers * layers], layers


def first_frames(log: Path, repeat: int = 5) -> dict[str, float]:
    """Milliseconds from the start to the first frame (median), of a log that is not in memory."""
    result = {"log_gigabytes": log.stat().st_size / 1e9}
    for name, arguments, shown in (
        ("dashboard", ("--follow", str(log)), _FRAME_END),
        ("progress_bar", (str(log),), log.name.encode()),
    ):
        spent = [_first_frame(log, arguments, shown) for _ in range(repeat)]
        result[f"first_{name}_ms"] = statistics.median(spent) * 1e3
    return result


def _first_frame(log: Path, arguments: tuple[str, ...], shown: bytes) -> float:
    if hasattr(os, "posix_fadvise"):
        with log.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    begun = time.monotonic()
    process, descriptor = _start(*arguments)
    output = b""
    while shown not in output:
        output += os.read(descriptor, 1 << 16)
    spent = time.monotonic() - begun
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(descriptor)
    return spent


@contextmanager
def _writer(log: Path, lines: list[bytes], rate: float, seconds: float) -> Iterator[multiprocessing.Process]:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write, args=(log, lines, rate, seconds), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.join()


def write(log: Path, lines: list[bytes], rate: float, seconds: float) -> None:
    """Append line by line at an even rate; afterwards the times and sizes are in a file beside the log."""
    count = int(rate * seconds)
    written = np.zeros((count, 2))
    with log.open("ab", buffering=0) as file:
        size = file.tell()
        begun = time.monotonic()
        for i in range(count):
            ahead = begun + i / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            line = lines[i % len(lines)]
            file.write(line)
            size += len(line)
            written[i] = time.monotonic(), size
    np.save(log.with_suffix(".npy"), written)


def _start(*arguments: str) -> tuple[int, int]:
    """A moe-live on a terminal of 120x40: its process, and the terminal's other end."""
    process, descriptor = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "moe_live", *arguments])
    return process, descriptor


@contextmanager
def _dashboard(log: Path, key: str = "") -> Iterator[tuple[int, list[tuple[float, bytes]]]]:
    """The real dashboard: its process, and what comes to the screen, piece by piece, and when.

    Args:
        log: what it follows.
        key: is pressed once there is something to see.
    """
    process, descriptor = _start("--follow", str(log))
    output: list[tuple[float, bytes]] = []

    def read() -> None:
        with suppress(OSError):
            while piece := os.read(descriptor, 1 << 16):
                output.append((time.monotonic(), piece))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not any(_FRAME_END in piece for _, piece in output):
            time.sleep(0.01)
        os.write(descriptor, key.encode())
        yield process, output
    finally:
        os.write(descriptor, b"q")
        os.waitpid(process, 0)
        thread.join()
        os.close(descriptor)


def _share(process: int, seconds: float) -> float:
    """Percent of a core that a process takes in the next seconds."""
    before, begun = _cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    return (_cpu_seconds(process) - before) / (time.monotonic() - begun) * 100


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _visible(output: list[tuple[float, bytes]], written: np.ndarray, layers: int) -> np.ndarray:
    """Seconds from the append of each line (n,) until the end of the frame that counts its token."""
    screen = b"".join(piece for _, piece in output)
    ends = np.cumsum([len(piece) for _, piece in output])
    frames = []
    for found in _TOKENS.finditer(screen):
        end = screen.find(_FRAME_END, found.end())
        if end >= 0:
            piece = int(np.searchsorted(ends, end, side="right"))
            frames.append((output[piece][0], int(found[1].replace(b",", b""))))
    times, tokens = np.array(frames).T
    frame = np.searchsorted(tokens, np.arange(len(written)) // layers + 1)
    seen = frame < len(times)  # the last token is not complete
    return times[frame[seen]] - written[seen]


def _counted(log: Path, lines: list[bytes], rate: float, seconds: float) -> np.ndarray:
    """Seconds from the append of each line until it is counted."""
    session = Session(Follower(log), Analyzer(), read_ahead=READ_AHEAD)
    counted = []
    with _writer(log, lines, rate, seconds) as writer:
        while writer.is_alive():
            session.ingest(0.05)
            counted.append((time.monotonic(), session.analyzer.tally.bytes))
            wake = session.source.wake_fd()
            select.select([] if wake is None else [wake], [], [], session.pause)
    session.ingest(1.0)
    counted.append((time.monotonic(), session.analyzer.tally.bytes))
    session.finish()
    times, sizes = np.array(counted).T
    written = np.load(log.with_suffix(".npy"))
    return times[np.searchsorted(sizes, written[:, 1])] - written[:, 0]
