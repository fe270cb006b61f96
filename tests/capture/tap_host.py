"""A program that computes with fake libraries, the tap, and what the log of it must be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moe_live.capture.tap_library import FLAGS, LIBRARIES, SOURCES

FAKE = Path(__file__).parent / "fake"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
HEADER = "# moe-live tap test\nlayer_id,expert_ids\n"
HEADER_WITH_WEIGHTS = "# moe-live tap test\nlayer_id,expert_ids,weights\n"
N_EMBD = 5


@dataclass(frozen=True)
class Model:
    """A model of the fake library."""

    first_layer: int
    layers: int
    experts: int
    top_k: int

    def row(self, layer: int, position: int, *, weights: bool = False) -> str:
        """The line of a token in a layer."""
        ids = [(7 * position + 3 * layer + 5 * i) % self.experts for i in range(self.top_k)]
        line = f"{layer},{' '.join(map(str, ids))}"
        if weights:
            line += "," + " ".join(f"{1 / (2 + i + position % 5):g}" for i in range(self.top_k))
        return f"{line}\n"


MODEL, DRAFT, LATE, EMBEDDINGS, HEAD, TWICE, LARGE = 0, 1, 2, 3, 4, 5, 6
MODELS = {
    MODEL: Model(2, 3, 16, 3),
    DRAFT: Model(0, 2, 8, 2),
    LATE: Model(5, 2, 16, 3),
    HEAD: Model(5, 1, 16, 3),
    TWICE: Model(2, 1, 16, 3),
    LARGE: Model(2, 1, 4096, 2),
}


def step(
    positions: Sequence[int],
    sequences: Sequence[int] | None = None,
    outputs: Sequence[int] | None = None,
    *,
    model: int = MODEL,
    weights: bool = False,
    gate_layers: Sequence[int] = (),
    warmup: bool = False,
) -> str:
    """The lines of a step: of sequence 0, output of the last row, unless told. Empty ones are not known."""
    of = MODELS[model]
    sequences = [0] * len(positions) if sequences is None else sequences
    outputs = [0] * (len(positions) - 1) + [1] if outputs is None else outputs
    told = {"pos": positions, "seq": sequences, "out": outputs}
    begin = "".join(f" {key}={' '.join(map(str, values))}" for key, values in told.items() if values)
    lines = [f"# step{begin}{' warmup=1' if warmup else ''}\n"]
    for layer in range(of.first_layer, of.first_layer + of.layers):
        last = layer > of.first_layer and layer == of.first_layer + of.layers - 1
        rows = [p for p, out in zip(positions, outputs, strict=True) if out or not last]
        if layer in gate_layers:
            lines += [
                f"gate_input,{layer},{row},{' '.join(f'{p + 0.25 * i - layer:g}' for i in range(N_EMBD))}\n"
                for row, p in enumerate(rows)
            ]
        lines += [of.row(layer, p, weights=weights) for p in rows]
    return "".join(lines)


def steps(first: int, count: int, model: int = MODEL, sequences: Sequence[int] | None = None) -> str:
    """Lines of `count` steps of one token, of sequence 0, from a position on."""
    return "".join(step([position], sequences, model=model) for position in range(first, first + count))


def read_steps(text: str) -> Iterator[dict[str, list[int]]]:
    """What the lines `# step` of a log tell, by name."""
    for line in text.splitlines():
        if line.startswith("# step "):
            parts = re.findall(r" (\w+)=([-\d ]+)(?= \w+=|$)", line)
            yield {name: [int(value) for value in values.split()] for name, values in parts}


@dataclass(frozen=True)
class Built:
    """A compiled program with its libraries and the tap.

    Attributes:
        directory: where they lie.
        before: what is preloaded before the tap.
        behind: what is preloaded behind it.
        environ: variables that it needs.
    """

    directory: Path
    before: str = ""
    behind: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def command(self, *operations: str, program: str = "host") -> list[str]:
        """The program with arguments."""
        return [str(self.directory / program), *operations]

    def environment(self, log: Path | str | None, **settings: str) -> dict[str, str]:
        """That of a process with the tap; `settings` without their MOE_LIVE_."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MOE_LIVE_")}
        environ |= self.environ | {f"MOE_LIVE_{name}": value for name, value in settings.items()}
        environ["LD_PRELOAD"] = f"{self.before} {self.directory / 'tap.so'} {self.behind}"
        if log is not None:
            environ["MOE_LIVE_LOG"] = str(log)
        return environ

    def run(
        self, log: Path | str | None, *operations: str, program: str = "host", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, which must be a good one."""
        run = subprocess.run(
            self.command(*operations, program=program),
            env=self.environment(log, **settings),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("graphs ")
        return run

    @contextmanager
    def started(self, log: Path | str, *operations: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """The program while it runs: it waits at each `say` for a line."""
        with subprocess.Popen(
            self.command(*operations),
            env=self.environment(log, **settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Until the program has come to `say`."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def go_on(process: subprocess.Popen[str]) -> None:
    """Let it go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end_of(process: subprocess.Popen[str]) -> str:
    """Wait for its good end; returns what it said on standard error."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "graphs" in out
    return err


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc")


def cc(*arguments: str | Path) -> None:
    """Compile."""
    subprocess.run([compiler() or "cc", *map(str, arguments)], check=True, capture_output=True)


def compile_tap(library: Path, *flags: str) -> None:
    """Compile the tap, with all warnings as errors."""
    sources = sorted(SOURCES.glob("*.c"))
    cc(*FLAGS, *STRICT, '-DTAP_VERSION="test"', *flags, "-o", library, *sources, *LIBRARIES)


def compile_host(directory: Path, *flags: str, ggml: str = "ggml-base", llama: str = "llama") -> None:
    """Compile the fake libraries, which lie beside each other, and the program on them."""
    origin: tuple[str | Path, ...] = ("-L", directory, "-Wl,-rpath,$ORIGIN", "-fPIC", "-g", *flags)
    cc("-shared", *origin, "-o", directory / f"lib{ggml}.so", FAKE / "ggml.c")
    cc("-shared", *origin, "-o", directory / f"lib{llama}.so", FAKE / "llama.c", f"-l{ggml}")
    cc(*origin, "-o", directory / "host", FAKE / "host.c", f"-l{llama}", "-ldl", "-lpthread")
    private = f'-DPRIVATE="{directory}/lib{llama}.so"'
    cc(*origin, private, "-o", directory / "private", FAKE / "host.c", "-ldl", "-lpthread")
