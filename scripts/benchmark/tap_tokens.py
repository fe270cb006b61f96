"""Measures what the tap costs a token, in one process: more precise than between servers on a busy machine.

    chrt -f 10 .venv/bin/python scripts/benchmark/tap_tokens.py [--model GGUF] [--tokens 800] [--gpu-layers N]

A model is loaded twice through llama-cpp-python. The rows of the first are logged; the second is another
model to the tap, which leaves it alone. Both compute one token in turns: the median of the differences, with
a 95 % interval (bootstrap), hardly depends on what else the machine does. `chrt` keeps others from the
processor in the middle of a token, where it is allowed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.tap_library import tap_library

SCRIPTS = Path(__file__).resolve().parents[1]

KINDS: dict[str, dict[str, str]] = {
    "ids and positions": {},
    "and weights": {"WEIGHTS": "1"},
    "and gate inputs of layers 20-24": {"WEIGHTS": "1", "GATE_LAYERS": "20-24"},
}
WARM_UP_TOKENS = 20
CONTEXT = 4096


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a GGUF model with experts (default: one of 24 MoE layers)"
    )
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument(
        "--gpu-layers", type=int, default=0, help="layers on a GPU, if llama-cpp-python was built for one"
    )
    parser.add_argument(
        "--in-turns", action="store_true", help=argparse.SUPPRESS
    )  # the process that measures
    options = parser.parse_args()
    if options.in_turns:
        _report(_in_turns(options)[WARM_UP_TOKENS:])
        return
    with tempfile.TemporaryDirectory(prefix="moe-live-tap-tokens-") as name:
        directory = Path(name)
        model = options.model
        if model is None:
            subprocess.run([sys.executable, SCRIPTS / "make_models.py", directory, "large"], check=True)
            model = directory / "large.gguf"
        for title, settings in KINDS.items():
            print(f"{title:32}", end="", flush=True)
            environ = os.environ | {f"MOE_LIVE_{name}": value for name, value in settings.items()}
            environ |= {"MOE_LIVE_LOG": str(directory / "log"), "LD_PRELOAD": str(tap_library())}
            command = [
                sys.executable,
                __file__,
                "--in-turns",
                "--model",
                model,
                "--tokens",
                str(options.tokens),
                "--gpu-layers",
                str(options.gpu_layers),
            ]
            subprocess.run(command, env=environ, stderr=subprocess.DEVNULL, check=True)


def _in_turns(options: argparse.Namespace) -> NDArray[np.float64]:
    """(tokens, 2) float64: microseconds of each token, with its rows logged and without."""
    import llama_cpp.llama_cpp as library

    def context() -> Any:
        parameters = library.llama_model_default_params()
        parameters.n_gpu_layers = options.gpu_layers
        model = library.llama_model_load_from_file(str(options.model).encode(), parameters)
        settings = library.llama_context_default_params()
        settings.n_ctx, settings.n_threads, settings.n_threads_batch = CONTEXT, 1, 1
        return library.llama_init_from_model(model, settings)

    contexts = (context(), context())
    tokens = options.tokens + WARM_UP_TOKENS
    taken = np.zeros((tokens, 2))
    token = (ctypes.c_int32 * 1)()
    for i in range(min(tokens, CONTEXT)):
        token[0] = 5 + i % 300
        for which in (0, 1) if i % 2 or not i else (1, 0):  # whose rows are logged is the first that computes
            batch = library.llama_batch_get_one(token, 1)
            start = time.perf_counter_ns()
            library.llama_decode(contexts[which], batch)
            library.llama_synchronize(contexts[which])
            taken[i, which] = (time.perf_counter_ns() - start) / 1e3
    return taken


def _report(taken: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(1)
    difference = taken[:, 0] - taken[:, 1]
    base = float(np.median(taken[:, 1]))
    medians = np.median(rng.choice(difference, (1000, len(difference))), axis=1)
    low, middle, high = np.percentile(medians, [2.5, 50, 97.5])
    print(
        f"{base:9.0f} us a token {middle:+7.1f} us [{low:+.1f}, {high:+.1f}]"
        f" {100 * middle / base:+6.2f} % [{100 * low / base:+.2f}, {100 * high / base:+.2f}]"
    )


if __name__ == "__main__":
    main()
