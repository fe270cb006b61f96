"""Logs that no real model writes, each one kind of excess, and one that is normal to hold them against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

Pattern = Callable[[np.random.Generator], Iterator[bytes]]
"""Draws pieces of a log, endlessly; each is some lines."""


def text(pattern: Pattern, size: int, seed: int = 0) -> bytes:
    """A log of a pattern, of at least so many bytes."""
    pieces, total = [], 0
    for piece in pattern(np.random.default_rng(seed)):
        pieces.append(piece)
        total += len(piece)
        if total >= size:
            break
    return b"".join(pieces)


def _row(layer: int, experts: np.ndarray) -> bytes:
    return b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in experts.tolist()))


def _some(rng: np.random.Generator, n_experts: int, k: int) -> np.ndarray:
    """Distinct experts, but for a rare repeat in long rows."""
    return rng.permutation(n_experts)[:k] if k * k > n_experts else rng.choice(n_experts, k, replace=False)


def normal(rng: np.random.Generator) -> Iterator[bytes]:
    """Decode of one sequence, 48 layers of 128 experts, 8 a token."""
    while True:
        yield b"".join(_row(layer, _some(rng, 128, 8)) for layer in range(48))


def highest_expert(_: np.random.Generator) -> Iterator[bytes]:
    """Each of all layers names the highest expert, and no other."""
    while True:
        yield b"".join(b"%d,%d\n" % (layer, MAX_EXPERTS - 1) for layer in range(MAX_LAYERS))


def odd_experts(rng: np.random.Generator) -> Iterator[bytes]:
    """A normal log in which now and then a row names an expert far beyond all others."""
    for step in normal(rng):
        lines = step.splitlines(keepends=True)
        layer = int(rng.integers(len(lines)))
        lines[layer] = b"%d,%d 1 2 3 4 5 6 7\n" % (layer, rng.integers(128, MAX_EXPERTS))
        yield b"".join(lines)


def random_layers(rng: np.random.Generator) -> Iterator[bytes]:
    """Each row is of any layer, with any experts."""
    while True:
        yield _row(int(rng.integers(MAX_LAYERS)), _some(rng, MAX_EXPERTS, 8))


def random_layers_of_128(rng: np.random.Generator) -> Iterator[bytes]:
    """Each row is of any layer, each layer of 128 experts."""
    while True:
        yield _row(int(rng.integers(MAX_LAYERS)), _some(rng, 128, 8))


def all_layers(rng: np.random.Generator) -> Iterator[bytes]:
    """Steps of all layers there can be, with all experts."""
    while True:
        yield b"".join(_row(layer, _some(rng, MAX_EXPERTS, 8)) for layer in range(MAX_LAYERS))


def k_of_each_line(rng: np.random.Generator) -> Iterator[bytes]:
    """No two rows have the same k."""
    while True:
        yield b"".join(_row(layer, _some(rng, 128, int(rng.integers(1, 17)))) for layer in range(48))


def any_k_of_each_line(rng: np.random.Generator) -> Iterator[bytes]:
    """No two rows have the same k, and it may be all there is."""
    while True:
        yield b"".join(_row(layer, _some(rng, 2048, int(rng.integers(1, 257)))) for layer in range(8))


def k_of_each_step(rng: np.random.Generator) -> Iterator[bytes]:
    """All rows of a step have the same k, the next another one."""
    while True:
        k = int(rng.integers(1, 33))
        yield b"".join(_row(layer, _some(rng, 128, k)) for layer in range(48))


def rows_k_and_experts(rng: np.random.Generator) -> Iterator[bytes]:
    """Blocks of any length, rows of any k, of any number of experts."""
    while True:
        lines = []
        for layer in range(int(rng.integers(1, 32))):
            n_experts, k = int(rng.integers(64, MAX_EXPERTS + 1)), int(rng.integers(1, 17))
            lines += [_row(layer, _some(rng, n_experts, k)) for _ in range(int(rng.integers(1, 9)))]
        yield b"".join(lines)


def rows_of_each_block(rng: np.random.Generator) -> Iterator[bytes]:
    """Blocks of any length in steps of several sequences."""
    while True:
        yield b"".join(
            _row(layer, _some(rng, 128, 8)) for layer in range(48) for _ in range(int(rng.integers(1, 9)))
        )


def slots_of_each_step(rng: np.random.Generator) -> Iterator[bytes]:
    """Steps of 1 to 64 sequences that take turns."""
    while True:
        slots = int(rng.integers(1, 65))
        yield b"".join(_row(layer, _some(rng, 128, 8)) for layer in range(24) for _ in range(slots))


def one_layer(rng: np.random.Generator) -> Iterator[bytes]:
    """All rows are of one layer: a step without an end."""
    while True:
        yield _row(7, _some(rng, 128, 8))


def long_rows(rng: np.random.Generator) -> Iterator[bytes]:
    """Rows of the most experts that a row can have."""
    while True:
        yield b"".join(_row(layer, _some(rng, MAX_EXPERTS, 256)) for layer in range(4))


def layers_downward(rng: np.random.Generator) -> Iterator[bytes]:
    """Each row is a step: the layers go down."""
    while True:
        yield b"".join(_row(layer, _some(rng, 128, 8)) for layer in range(MAX_LAYERS - 1, -1, -1))


def largest_models(rng: np.random.Generator) -> Iterator[bytes]:
    """More experts than any model has, in steps of several sequences and one."""
    while True:
        for slots in (1, 3):
            yield b"".join(_row(layer, _some(rng, 1024, 8)) for layer in range(120) for _ in range(slots))


def gates_of_all_layers(rng: np.random.Generator) -> Iterator[bytes]:
    """Short router inputs of all layers there can be."""
    values = [b"%g" % value for value in rng.standard_normal(1000)]
    while True:
        a = rng.integers(0, 990, MAX_LAYERS).tolist()
        yield b"".join(
            b"gate_input,%d,0,%b\n" % (layer, b" ".join(values[i : i + 4])) for layer, i in enumerate(a)
        )


def gates_of_random_layers(rng: np.random.Generator) -> Iterator[bytes]:
    """Short router inputs of any layer and row."""
    values = [b"%g" % value for value in rng.standard_normal(1000)]
    while True:
        i = int(rng.integers(990))
        yield b"gate_input,%d,%d,%b\n" % (
            rng.integers(MAX_LAYERS),
            rng.integers(2),
            b" ".join(values[i : i + 4]),
        )


def gates_of_each_width(rng: np.random.Generator) -> Iterator[bytes]:
    """Router inputs of which no two have as many numbers."""
    values = [b"%g" % value for value in rng.standard_normal(1000)]
    while True:
        yield b"".join(
            b"gate_input,%d,0,%b\n" % (layer, b" ".join(values[: int(rng.integers(1, 40))]))
            for layer in range(48)
        )


def gates_and_rows(rng: np.random.Generator) -> Iterator[bytes]:
    """A router input of one number before each row."""
    while True:
        yield b"".join(
            b"gate_input,%d,0,%d\n" % (layer, rng.integers(9)) + _row(layer, _some(rng, 128, 8))
            for layer in range(48)
        )


def label_of_each_step(rng: np.random.Generator) -> Iterator[bytes]:
    """Each step has a label of its own."""
    for number, step in enumerate(normal(rng)):
        yield b"# label: %d\n" % (number * 7919 % 100_003) + step


def label_of_each_row(rng: np.random.Generator) -> Iterator[bytes]:
    """A label before each row."""
    while True:
        yield b"# label: %d\n" % rng.integers(10**9) + _row(int(rng.integers(48)), _some(rng, 128, 8))


def step_lines(rng: np.random.Generator) -> Iterator[bytes]:
    """Each step is of another of a hundred sequences, with weights beside its rows."""
    weights = b",0.3 0.2 0.1 0.1 0.1 0.1 0.05 0.05\n"
    while True:
        sequences = rng.choice(100, int(rng.integers(1, 4)), replace=False).tolist()
        places = rng.integers(0, 10**6, len(sequences)).tolist()
        yield b"# step pos=%b seq=%b out=%b\n" % (
            b" ".join(b"%d" % place for place in places),
            b" ".join(b"%d" % sequence for sequence in sequences),
            b" ".join(b"1" for _ in sequences),
        ) + b"".join(
            _row(layer, _some(rng, 128, 8)).rstrip() + weights for layer in range(48) for _ in sequences
        )


def two_labels(rng: np.random.Generator) -> Iterator[bytes]:
    """Two labels that take turns, in steps of two layers."""
    for number in range(1 << 62):
        rows = (_row(layer, _some(rng, 128, 8)) for layer in range(2))
        yield b"# label: %d\n" % (number % 2) + b"".join(rows)


def malformed(rng: np.random.Generator) -> Iterator[bytes]:
    """Every other line is none."""
    for step in normal(rng):
        yield step.replace(b"\n", b"\nwhat?\n")


def empty_lines(_: np.random.Generator) -> Iterator[bytes]:
    """Nothing but newlines."""
    while True:
        yield b"\n" * 1000


PATTERNS: dict[str, Pattern] = {
    pattern.__name__: pattern
    for pattern in (
        normal,
        highest_expert,
        odd_experts,
        random_layers,
        random_layers_of_128,
        all_layers,
        k_of_each_line,
        any_k_of_each_line,
        k_of_each_step,
        rows_k_and_experts,
        rows_of_each_block,
        slots_of_each_step,
        one_layer,
        long_rows,
        layers_downward,
        largest_models,
        gates_of_all_layers,
        gates_of_random_layers,
        gates_of_each_width,
        gates_and_rows,
        label_of_each_step,
        label_of_each_row,
        step_lines,
        two_labels,
        malformed,
        empty_lines,
    )
}
