"""Logs to measure with: made once from random numbers, or of a real model, then repeated up to the size."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

LAYERS = range(3, 93)
N_EXPERTS = 160
TOP_K = 8
PROMPT = 512
GATE_LAYERS = range(20, 25)
N_EMBD = 5120

_BASE_TOKENS = 4000


def _rows(layer: int, rows: Iterable[Iterable[int]]) -> str:
    return "".join(f"{layer},{' '.join(map(str, row))}\n" for row in rows)


def _chosen(rng: np.random.Generator, tokens: int, affinity: np.ndarray) -> np.ndarray:
    """(tokens, TOP_K) experts, best first, by Gumbel's trick."""
    score = affinity + rng.gumbel(size=(tokens, N_EXPERTS))
    best = np.argpartition(-score, TOP_K, axis=1)[:, :TOP_K]
    order = np.argsort(-np.take_along_axis(score, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


def decode(rng: np.random.Generator, tokens: int = _BASE_TOKENS) -> list[str]:
    """Steps of one token each, expert lines only."""
    affinity = rng.normal(0, 0.8, (len(LAYERS), N_EXPERTS))
    of_layer = [_chosen(rng, tokens, row).tolist() for row in affinity]
    return ["".join(_rows(layer, [of_layer[i][t]]) for i, layer in enumerate(LAYERS)) for t in range(tokens)]


def prefill(rng: np.random.Generator) -> list[str]:
    """Prompts of 1,536 tokens as the patched server logs them (strided), each with 64 tokens of an answer."""
    answer = iter(decode(rng, 256))
    steps = []
    for _ in range(4):
        for piece in range(3):
            lines = []
            for layer in LAYERS[:-1]:
                flat = rng.permuted(np.tile(np.arange(N_EXPERTS), (26, 1)), axis=1).reshape(-1)
                lines.append(_rows(layer, flat[: PROMPT * TOP_K].reshape(PROMPT, TOP_K).tolist()))
            if piece == 2:
                lines.append(_rows(LAYERS[-1], _chosen(rng, 1, np.zeros(N_EXPERTS)).tolist()))
            steps.append("".join(lines))
        steps += [next(answer) for _ in range(64)]
    return steps


def mixed(rng: np.random.Generator) -> list[str]:
    """Steps of one token each, with the gate inputs of five layers."""
    steps = []
    for step in decode(rng, 100):
        lines = step.splitlines(keepends=True)
        for i, layer in reversed(list(enumerate(LAYERS))):
            if layer in GATE_LAYERS:
                values = rng.standard_normal(N_EMBD) * rng.choice([1e-3, 1.0, 1.0, 30.0], N_EMBD)
                lines.insert(
                    i, f"gate_input,{layer},0,{' '.join(f'{value:g}' for value in values.tolist())}\n"
                )
        steps.append("".join(lines))
    return steps


def ragged(rng: np.random.Generator) -> list[str]:
    """Steps of one token each with ids of up to four digits; one line in 1,000 is cut, one malformed."""
    steps = []
    for _ in range(2000):
        lines = []
        # As many layers and experts as are analyzed. A row that names an expert twice is in no figure.
        for layer, chance in zip(LAYERS[:60], rng.random(60).tolist(), strict=True):
            chosen = rng.choice(1010, 3 if chance < 0.001 else TOP_K, replace=False).tolist()
            lines.append("junk\n" if chance > 0.999 else _rows(layer, [chosen]))
        steps.append("".join(lines))
    return steps


def uniform(rng: np.random.Generator) -> list[str]:
    """Steps of one token each, of which each layer chooses one of 300 sets of experts: none is used more."""
    sets = rng.permuted(np.tile(np.arange(N_EXPERTS), (len(LAYERS), 300, 1)), axis=2)[..., :TOP_K].tolist()
    chosen = rng.integers(0, 300, (_BASE_TOKENS, len(LAYERS))).tolist()
    return [
        "".join(
            _rows(layer, [sets[i][which]]) for i, (layer, which) in enumerate(zip(LAYERS, step, strict=True))
        )
        for step in chosen
    ]


def real(_: np.random.Generator) -> list[str]:
    """128 tokens of Qwen3-30B-A3B, one after the other: what it uses again, it uses again here.

    From a trace that the BigMoeOnEdge project published (Apache-2.0): 48 layers of 128 experts, six of which
    it used.
    """
    text = gzip.decompress(Path(__file__).with_name("qwen3-30b-a3b.log.gz").read_bytes()).decode()
    lines = text.splitlines(keepends=True)
    return ["".join(lines[begin : begin + 48]) for begin in range(0, len(lines), 48)]


KINDS: dict[str, Callable[[np.random.Generator], list[str]]] = {
    "decode": decode,
    "prefill": prefill,
    "mixed": mixed,
    "ragged": ragged,
    "uniform": uniform,
    "real": real,
}


def write(kind: str, path: Path, megabytes: float) -> None:
    """A log of this kind and at least this size."""
    base = "".join(KINDS[kind](np.random.default_rng(0))).encode()
    with path.open("wb") as file:
        file.write(b"layer_id,expert_ids\n")
        while file.tell() < megabytes * 1e6:
            file.write(base)


def repeat(source: Path, path: Path, gigabytes: float) -> None:
    """A log of this size that is `source` again and again."""
    with source.open("rb") as begin, path.open("wb") as file:
        while file.tell() < gigabytes * 1e9:
            begin.seek(0)
            shutil.copyfileobj(begin, file, 1 << 24)
        file.flush()
        os.fsync(file.fileno())  # only then can it leave the page cache
