"""What being asked costs a run: processor time and memory, beside a run that nobody asks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path

import pytest

from moe_live.simulator import HEADER, ModelShape, SimulatedServer
from tests.outputs.served import Served, serving
from tests.test_endurance import cpu_seconds, needs_proc, status_field

pytestmark = [pytest.mark.slow, needs_proc]

STEPS_A_SECOND = 100
LAYERS = 90


def steps() -> list[bytes]:
    """Decode steps of 90 lines."""
    server = SimulatedServer(
        ModelShape(n_layers=LAYERS, n_experts=160, top_k=8, gate_layers=(), n_embd=8), seed=1
    )
    found: list[bytes] = []
    for request in server.requests():
        found += [step.text for step in server.serve(request) if step.decode]
        if len(found) > 1500:
            return found
    raise AssertionError


@contextmanager
def growing(log: Path) -> Iterator[None]:
    """A log that grows by 9,000 lines a second."""
    stop = threading.Event()
    written = steps()

    def write() -> None:
        begun = time.monotonic()
        with log.open("ab", buffering=0) as file:
            for i, step in zip(count(), cycle(written), strict=False):
                file.write(step)
                if stop.wait(max(0.0, begun + i / STEPS_A_SECOND - time.monotonic())):
                    return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def share(served: Served, seconds: float, path: str | None) -> float:
    """Of a core, while a path is asked for once a second."""
    before, begun = cpu_seconds(served.process.pid), time.monotonic()
    while time.monotonic() - begun < seconds:
        if path is not None:
            assert served.get(path).status == 200
        time.sleep(1.0)
    return (cpu_seconds(served.process.pid) - before) / (time.monotonic() - begun)


@pytest.mark.timeout(600)
def test_2000_scrapes_cost_little_and_leave_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(HEADER)
    with serving("--follow", log) as served, growing(log), ExitStack() as stack:
        share(served, 10, "/metrics")
        alone = share(served, 20, None)
        scraped = share(served, 20, "/metrics")
        looked_at = share(served, 20, "/summary.json")
        print(f"alone {alone:.2%}, scraped {scraped:.2%}, looked at {looked_at:.2%}")  # noqa: T201 - to be read
        assert scraped < 2 * alone
        assert looked_at < 3 * alone
        for _ in range(8):  # clients that ask for much and take nothing
            stuck = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            stuck.sendall(b"GET /summary.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        resident = []
        for i in range(2000):
            reply = served.get("/metrics")
            assert reply.status == 200
            if i % 500 == 0:
                resident.append(status_field(served.process.pid, "VmRSS"))
            time.sleep(0.02)
        resident.append(status_field(served.process.pid, "VmRSS"))
        print("KiB after each 500 scrapes:", resident)  # noqa: T201 - the same
        assert resident[-1] - resident[1] < 4 * 1024
        lines = served.summary()["source"]["lines"]
        assert lines > 0.8 * 9000 * 100
        assert log.stat().st_size - served.summary()["source"]["bytes"] < 9000 * 40 * 2
