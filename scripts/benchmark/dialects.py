"""How fast traces of other tools are read, beside what else reads such files, alternating in one run."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import logs
import numpy as np
from throughput import Measured

Row = tuple[int, int, list[int], list[float]]
"""Step, layer, experts, weights."""


def _rows(steps: int = 1000) -> Iterable[Row]:
    rng = np.random.default_rng(0)
    for step, lines in enumerate(logs.decode(rng, steps)):
        for line in lines.splitlines():
            layer, _, ids = line.partition(",")
            experts = [int(expert) for expert in ids.split()]
            weights = [float(f"{weight:g}") for weight in sorted(rng.random(len(experts)), reverse=True)]
            yield step, int(layer), experts, weights


def _choices(row: Row) -> str:
    _, layer, experts, _ = row
    return "".join(f"{layer},{expert}\n" for expert in experts)


def _route(row: Row) -> str:
    step, layer, experts, weights = row
    return "".join(
        f"0,1,{step},{layer},{rank},{expert},{weight:g},0,3059712\n"
        for rank, (expert, weight) in enumerate(zip(experts, weights, strict=True))
    )


def _object(row: Row) -> str:
    step, layer, experts, weights = row
    return (
        json.dumps({"layer": layer, "token_idx": step, "topk_ids": experts, "topk_weights": weights}) + "\n"
    )


KINDS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "layer,expert": ("layer,expert\n", _choices),
    "route trace": ("turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n", _route),
    "JSON lines": ("", _object),
}
"""What is written: a header, and the lines of a row."""

_MOE_LIVE = ("moe-live, counts", "moe-live, everything")
_TWO_JOBS = "moe-live, counts, 2 jobs"
_TABLES = (*_MOE_LIVE, _TWO_JOBS, "Polars, 2 threads, table", "DuckDB, 2 threads, table")
_OBJECTS = (*_MOE_LIVE, "Polars, 2 threads, JSON", "DuckDB, 2 threads, JSON", "json")
PROGRAMS = {"layer,expert": _TABLES, "route trace": _TABLES, "JSON lines": _OBJECTS}


def write(directory: Path, megabytes: float) -> dict[str, Path]:
    """A file of each kind and at least this size."""
    rows = list(_rows())
    paths = {}
    for kind, (header, lines_of) in KINDS.items():
        lines = "".join(map(lines_of, rows))
        paths[kind] = directory / kind.replace(",", "-").replace(" ", "-")
        with paths[kind].open("w") as file:
            file.write(header)
            for _ in itertools.repeat(None, int(megabytes * 1e6 // len(lines)) + 1):
                file.write(lines)
    return paths


def measure(directory: Path, megabytes: float, repeat: int) -> list[Measured]:
    """All programs over their files.

    Raises:
        RuntimeError: two programs do not agree on what they counted.
    """
    table = []
    for kind, path in write(directory, megabytes).items():
        print(f"reading the {kind} file", file=sys.stderr)
        entries = [Measured(kind, program, path.stat().st_size / 1e6) for program in PROGRAMS[kind]]
        for _ in range(repeat):
            for entry in entries:
                command = [
                    sys.executable,
                    str(Path(__file__).with_name("readers.py")),
                    entry.program,
                    str(path),
                ]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                run: dict[str, Any] = json.loads(done.stdout)
                entry.runs.append(run)
        sums = {run["checksum"] for entry in entries for run in entry.runs}
        if len(sums) > 1:
            raise RuntimeError(f"the programs disagree on the {kind} file: {sorted(sums)}")
        table += entries
    return table


def targets(table: list[Measured]) -> list[tuple[str, float, float]]:
    """What is promised: a sentence, what is reached, and the least that it is to be."""
    speed = {(entry.log, entry.program): entry.speed for entry in table}
    _, everything = _MOE_LIVE
    polars = "Polars, 2 threads, table"
    of_tables = [
        (f"counts, 2 jobs / Polars, 2 threads, {kind}", speed[kind, _TWO_JOBS] / speed[kind, polars], 0.5)
        for kind in ("layer,expert", "route trace")
    ]
    return [*of_tables, ("JSON lines, everything, MB/s", speed["JSON lines", everything], 40)]
