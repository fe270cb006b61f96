"""What following a server costs, and how late its lines are counted: with writes spread evenly over time."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import select
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
from moe_live.session import READ_AHEAD, Session
from moe_live.sources.follow import Follower

TOKENS_A_SECOND = 100
SETTLE_SECONDS = 3.0


def measure(source: Path, seconds: float) -> dict[str, float]:
    """CPU shares in percent of a core and latencies in ms, for the lines of `source`."""
    lines = source.read_bytes()[: 1 << 23].splitlines(keepends=True)[1:]
    layers = len({line.split(b",", 1)[0] for line in lines[:200]})
    rate = TOKENS_A_SECOND * layers
    result = {"lines_a_second": float(rate)}
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "followed.log"
        log.touch()
        with _dashboard(log) as process:
            time.sleep(SETTLE_SECONDS)
            result["idle_percent"] = _share(process, seconds)
            with _writer(log, lines, rate, SETTLE_SECONDS + seconds):
                time.sleep(SETTLE_SECONDS)
                result["following_percent"] = _share(process, seconds)
        log.unlink()
        log.touch()
        latency = _latencies(log, lines, rate, seconds)
    for percent in (50, 95, 99):
        result[f"latency_p{percent}_ms"] = float(np.percentile(latency, percent)) * 1e3
    return result


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


@contextmanager
def _dashboard(log: Path) -> Iterator[int]:
    """The real dashboard on a terminal of 120x40 that nobody looks at."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "moe_live", "--follow", str(log)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def drain() -> None:
        with suppress(OSError):
            while os.read(terminal, 1 << 16):
                pass

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    try:
        yield process
    finally:
        os.write(terminal, b"q")
        os.waitpid(process, 0)
        thread.join()
        os.close(terminal)


def _share(process: int, seconds: float) -> float:
    """Percent of a core that a process takes in the next seconds."""
    before, begun = _cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    return (_cpu_seconds(process) - before) / (time.monotonic() - begun) * 100


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _latencies(log: Path, lines: list[bytes], rate: float, seconds: float) -> np.ndarray:
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
