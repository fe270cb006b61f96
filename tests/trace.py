"""A published routing trace (48 layers, 128 experts, top-6) as a log of a server."""

from __future__ import annotations

import gzip
from pathlib import Path

HEADER = b"layer_id,expert_ids\n"


def trace_log(path: Path, phase: int | None = None) -> bytes:
    """The rows of the trace in the order of the log: step by step, layers ascending.

    Args:
        path: the trace, lines of turn, phase, step, layer, slot, expert and more, gzipped.
        phase: 0 for the prompt (whose rows come one by one, the last layer's only once), 1 for decode, None
            for both.
    """
    rows: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        fields = line.split(",")
        if not fields[0].isdigit() or phase not in {None, int(fields[1])}:
            continue
        turn, its_phase, step, layer, slot, expert = map(int, fields[:6])
        # All tokens of the prompt are one step: there, layers come before tokens.
        key = (turn, its_phase, layer, step) if its_phase == 0 else (turn, its_phase, step, layer)
        rows.setdefault((*key, layer), []).append((slot, expert))
    lines = [
        b"%d,%b\n" % (key[-1], b" ".join(b"%d" % expert for _, expert in sorted(row)))
        for key, row in sorted(rows.items())
    ]
    return HEADER + b"".join(lines)
