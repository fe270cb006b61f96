"""A slow reading of logs, straight from the description of the format, to hold the fast one against."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Row = tuple[int, ...]


@dataclass
class Step:
    """One forward pass: expert rows and row 0's gate inputs by layer, in order."""

    blocks: dict[int, list[Row]] = field(default_factory=dict)
    gates: dict[int, list[int]] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        if self.blocks:
            return len(next(iter(self.blocks.values())))
        return len(next(iter(self.gates.values())))


def read_steps(log: bytes) -> list[Step]:
    """All steps of a log; what is not a well-formed line is passed over."""
    steps: list[Step] = []
    last: tuple[int, int] | None = None  # layer and ROW (-1 for an expert row) of the line before
    for line in log.split(b"\n")[:-1]:
        text = line.lstrip(b"\0")
        expert = re.fullmatch(rb"(\d{1,4}),(\d+(?: \d+)*)", text)
        gate = re.fullmatch(rb"gate_input,(\d{1,4}),(\d+),(.+)", text)
        if expert:
            layer, row = int(expert[1]), -1
        elif gate:
            layer, row = int(gate[1]), int(gate[2])
        else:
            continue
        begins = last is None or layer < last[0]
        if last is not None and layer == last[0] and row >= 0:
            begins = last[1] == -1 or row <= last[1]
        if begins:
            steps.append(Step())
        last = layer, row
        step = steps[-1]
        if expert:
            step.blocks.setdefault(layer, []).append(tuple(map(int, expert[2].split())))
        elif gate:
            step.gates.setdefault(layer, []).append(row)
            if row == 0:
                step.vectors[layer] = np.array([float(number) for number in gate[3].split()])
    return steps


def decode_steps(steps: list[Step], max_slots: int = 64) -> list[bool]:
    """For each step whether it is decode, judged with the whole log known."""
    highest = max((max(step.blocks) for step in steps if step.blocks), default=-1)
    known = any(
        step.blocks
        and max(step.blocks) == highest
        and (step.tokens == 1 or len(step.blocks[highest]) < step.tokens)
        for step in steps
    )

    def is_decode(step: Step) -> bool:
        if step.tokens == 1:
            return True
        if not step.blocks or step.tokens > max_slots or not known:
            return False
        return len(step.blocks.get(highest, ())) == step.tokens

    return [is_decode(step) for step in steps]


def logged_counts(steps: list[Step]) -> Counter[tuple[int, int]]:
    """Selections by (layer, expert) over every row as written."""
    return Counter(
        (layer, expert)
        for step in steps
        for layer, rows in step.blocks.items()
        for row in rows
        for expert in row
    )


def verified_rows(steps: list[Step], n_experts: int) -> list[tuple[int, int, Row]]:
    """(layer, token, experts) of the rows of a strided log that can be believed."""
    believable = []
    for step in steps:
        for layer, rows in step.blocks.items():
            k = len(rows[0])
            flat = [expert for row in rows for expert in row]
            token = 0
            while token * n_experts + k <= len(flat):
                believable.append((layer, token, tuple(flat[token * n_experts :][:k])))
                token += 1
    return believable
