"""Measures what the tap costs a llama-server in generation.

    scripts/benchmark/tap_cost.py --server PATH [--model GGUF] [--pairs 25] [--tokens 300]

Servers with and without the tap run side by side, each with one thread, and answer in turns; a second one
without shows what the machine's own noise makes of the same comparison. For each kind of log: the median
over pairs of what a token took longer, with a 95 % interval (bootstrap), by three clocks: the server's own,
that of the processor for the thread that computes, and for all threads together, with the one that writes
the log. On a busy machine only the latter two tell something. The default model is the one with 24 MoE
layers that scripts/make_models.py writes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.tap_library import tap_library

SCRIPTS = Path(__file__).resolve().parents[1]

KINDS: dict[str, dict[str, str] | None] = {
    "without": None,
    "noise": None,
    "ids": {},
    "weights": {"WEIGHTS": "1"},
    "gates": {"WEIGHTS": "1", "GATE_LAYERS": "20-24"},
}
TITLES = {
    "noise": "a second one without (noise)",
    "ids": "ids and positions",
    "weights": "and weights",
    "gates": "and gate inputs of layers 20-24",
}
CLOCKS = ("elapsed", "computing thread", "all threads")
WARM_UP_PAIRS = 2


class Server(NamedTuple):
    """A running server."""

    url: str
    pid: int


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="moe-live-tap-cost-") as name, ExitStack() as stack:
        directory = Path(name)
        model = options.model or _large_model(directory)
        servers = {
            kind: stack.enter_context(_server(options.server, model, directory / f"{kind}.log", settings))
            for kind, settings in KINDS.items()
        }
        rng = np.random.default_rng(1)
        taken: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in KINDS}
        for pair in range(options.pairs + WARM_UP_PAIRS):
            # In turns, not in a fixed order: what the machine does meanwhile hits all of them alike.
            for kind in rng.permutation(list(KINDS)).tolist():
                milliseconds = _ask(servers[kind], options.tokens, seed=pair)
                if pair >= WARM_UP_PAIRS:
                    taken[kind].append(milliseconds)
            print(f"\r{pair + 1} of {options.pairs + WARM_UP_PAIRS}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    base = np.array(taken["without"])
    print(f"{options.pairs} pairs of {options.tokens} tokens")
    print(f"{'':32}" + "".join(f"{clock:>27}" for clock in CLOCKS))
    print(f"{'ms a token without':32}" + "".join(f"{median:27.3f}" for median in np.median(base, axis=0)))
    for kind, title in TITLES.items():
        cost = 100 * (np.array(taken[kind]) / base - 1)
        cells = [f"{np.median(of):+.2f} % [{low:+.2f}, {high:+.2f}]"
                 for of, (low, high) in ((of, _interval(of, rng)) for of in cost.T)]  # fmt: skip
        print(f"{title:32}" + "".join(f"{cell:>27}" for cell in cells))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", required=True, type=Path, help="a llama-server on a shared libggml")
    parser.add_argument("--model", type=Path, help="a GGUF model with experts")
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--tokens", type=int, default=300)
    return parser.parse_args()


def _large_model(directory: Path) -> Path:
    subprocess.run([sys.executable, SCRIPTS / "make_models.py", directory, "large"], check=True)
    return directory / "large.gguf"


@contextmanager
def _server(program: Path, model: Path, log: Path, settings: dict[str, str] | None) -> Iterator[Server]:
    """A server that listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MOE_LIVE_")}
    if settings is not None:
        environ |= {f"MOE_LIVE_{name}": value for name, value in settings.items()}
        environ |= {"MOE_LIVE_LOG": str(log), "LD_PRELOAD": str(tap_library())}
    command = [program, "-m", model, "--port", str(port), "-t", "1", "-np", "1", "-c", "2048", "--no-ui"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                if process.poll() is not None:
                    sys.exit(f"the server ended with status {process.returncode}")
                try:
                    with urllib.request.urlopen(f"{url}/health", timeout=10):
                        break
                except OSError:
                    time.sleep(0.1)
            yield Server(url, process.pid)
        finally:
            process.send_signal(signal.SIGINT)


def _ask(server: Server, tokens: int, seed: int) -> tuple[float, ...]:
    """Milliseconds that a generated token took, by each of `CLOCKS`."""
    body = {"prompt": "Once upon a time", "n_predict": tokens, "seed": seed, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    before = _processor_time(server.pid)
    with urllib.request.urlopen(request, timeout=600) as response:
        answer = json.load(response)
    time.sleep(0.1)  # in which the log is written
    spent = [ns - before.get(thread, 0) for thread, ns in _processor_time(server.pid).items()]
    elapsed = float(answer["timings"]["predicted_per_token_ms"])
    return elapsed, max(spent) / tokens / 1e6, sum(spent) / tokens / 1e6


def _processor_time(pid: int) -> dict[str, int]:
    """Nanoseconds on a processor, by thread."""
    return {
        task.name: int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def _interval(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    """Of the median, 95 %."""
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
