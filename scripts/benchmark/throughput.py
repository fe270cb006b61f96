"""How fast logs are read: moe-live and its peers alternating in one run."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readers import READERS

C = "C, state machine"
PEAK_MB = 80
MAWK = (
    'BEGIN { FS = "[, ]" } NR > 1 { for (i = 2; i <= NF; i++) count[$1 "," $i]++ } '
    "END { print length(count) }"
)

# Which programs read which log; each has its place in the order of the table.
_MOE_LIVE = (
    "moe-live, counts",
    "moe-live, everything",
    "moe-live, everything, no C",
    "moe-live, everything, default jobs",
)
PROGRAMS: dict[str, tuple[str, ...]] = {
    "decode": ("wc -l", C, *READERS, "mawk"),
    "prefill": (C, *_MOE_LIVE, "Polars, 2 threads", "DuckDB, 2 threads"),
    "mixed": (C, *_MOE_LIVE),
    "ragged": (C, *_MOE_LIVE),
    "uniform": (C, *_MOE_LIVE),
    "real": (C, *_MOE_LIVE),
}


@dataclass
class Measured:
    """Runs of one program over one log."""

    log: str
    program: str
    megabytes: float
    runs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """MB/s, the median."""
        return self.megabytes / statistics.median(run["seconds"] for run in self.runs)

    def median(self, key: str) -> float:
        values = [run[key] for run in self.runs if key in run]
        return statistics.median(values) if values else float("nan")


def compile_c(directory: Path) -> Path | None:
    """The C program, compiled; None if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = directory / "count"
    source = Path(__file__).with_name("count.c")
    subprocess.run([compiler, "-O3", "-march=native", "-o", str(program), str(source)], check=True)
    return program


def measure(
    logs: dict[str, Path], short: Path, directory: Path, repeat: int
) -> tuple[list[Measured], list[str]]:
    """All programs over their logs; also what is missing.

    Raises:
        RuntimeError: two programs do not agree on what they counted.
    """
    compiled = compile_c(directory)
    missing = [] if compiled else [C]
    missing += [program for program in ("mawk", "wc -l") if shutil.which(program.split()[0]) is None]
    table = []
    for kind, path in logs.items():
        entries = []
        for program in PROGRAMS[kind]:
            if program in missing:
                continue
            of = short if program == "pandas" else path  # it holds thirty bytes of memory for each of the log
            entries.append((Measured(kind, program, of.stat().st_size / 1e6), of))
        print(f"reading the {kind} log", file=sys.stderr)
        for _ in range(repeat):
            for entry, of in entries:
                if entry.program == "pandas" and entry.runs:
                    continue
                entry.runs.append(_run(entry.program, of, compiled))
        sums = {
            run["checksum"] for entry, of in entries if of == path for run in entry.runs if "checksum" in run
        }
        if len(sums) > 1:
            raise RuntimeError(f"the programs disagree on the {kind} log: {sorted(sums)}")
        table += [entry for entry, _ in entries]
    return table, missing


def _run(program: str, path: Path, compiled: Path | None) -> dict[str, Any]:
    if program in READERS:
        command = [sys.executable, str(Path(__file__).with_name("readers.py")), program, str(path)]
    elif program == C:
        command = [str(compiled), str(path)]
    else:
        command = ["mawk", MAWK, str(path)] if program == "mawk" else ["wc", "-l", str(path)]
    begun = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    result: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {"seconds": seconds}
    return result


def targets(table: list[Measured]) -> list[tuple[str, float, float]]:
    """What is promised: a sentence, the ratio reached, and the least that it is to be."""
    speed = {(entry.log, entry.program): entry.speed for entry in table}
    counts, everything, jobs = (
        "moe-live, counts",
        "moe-live, everything",
        "moe-live, everything, default jobs",
    )
    promised = []

    def promise(what: str, least: float, reached: tuple[str, str], *against: tuple[str, str]) -> None:
        known = [speed[key] for key in against if key in speed]
        if known:
            promised.append((what, speed[reached] / max(known), least))

    promise("counts / C", 1.0, ("decode", counts), ("decode", C))
    promise(
        "counts / best of Polars and DuckDB",
        2.5,
        ("decode", counts),
        ("decode", "Polars, 2 threads"),
        ("decode", "DuckDB, 2 threads"),
    )
    promise("counts, two jobs / one", 1.6, ("decode", "moe-live, counts, 2 jobs"), ("decode", counts))
    promise("everything / pandas", 12, ("decode", everything), ("decode", "pandas"))
    promise("everything, two jobs / one", 1.7, ("decode", jobs), ("decode", everything))
    for kind, least in (
        ("decode", 0.13),
        ("prefill", 0.2),
        ("uniform", 0.09),
        ("real", 0.12),
        ("ragged", 0.06),
        ("mixed", 0.6),
    ):
        promise(f"everything, {kind} / C on decode", least, (kind, everything), ("decode", C))
    for entry in table:
        if entry.program == everything:
            memory = entry.median("above_imports_mb")
            promised.append((f"{PEAK_MB} MB / peak above imports, {entry.log}", PEAK_MB / memory, 1))
    return promised
