"""Ways to count the experts of a log, each run by itself: `python readers.py NAME PATH` prints a JSON object.

It has the seconds without imports, the peak of the memory of its largest process, that peak above what the
imports took, and a checksum of the counts. `summary` is the time that making all figures takes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PEERS_THREADS = 2


def peak_mb() -> float:
    """Of this process, or of one that it started and that has ended, if that is more."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:  # not Linux; there it counts what the parent had before this program began, too
        return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, of_children) / 1e6
    return max(int(found[1]), of_children) / 1e3 if found else float("nan")


def checksum(counts: Iterable[tuple[int, int, int]]) -> int:
    return sum(count * (layer * 2048 + expert + 1) ** 2 for layer, expert, count in counts) % 2**64


def moe_live(
    path: str, *, counts_only: bool, jobs: int | None = 1, compiled: bool = True
) -> Callable[[], dict[str, Any]]:
    """`jobs`: None for as many as the command takes without the option; `compiled`: with the loops in C."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if not compiled:
        os.environ["MOE_LIVE_KERNELS"] = "off"
    from moe_live.analyzer import Analyzer
    from moe_live.config import parse
    from moe_live.kernels.loading import prepare
    from moe_live.parallel.plan import plan
    from moe_live.parallel.session import ParallelSession
    from moe_live.parallel.worker import start_workers
    from moe_live.session import Session
    from moe_live.settings import RowMode, Settings
    from moe_live.sources.archive import ArchiveSource

    prepare(Path(path).stat().st_size)  # once and for all

    def run() -> dict[str, Any]:
        begun = time.perf_counter()
        settings = Settings(rows=RowMode.LOGGED, counts_only=counts_only)
        processes = jobs or parse([path]).jobs
        parts = plan([path], processes, settings)
        source = ArchiveSource([path])
        if workers := start_workers(min(processes, len(parts)), settings):
            session: Session = ParallelSession(source, parts, workers, settings)
        else:
            session = Session(source, Analyzer(settings))
        while not session.ended:
            session.ingest(0.1)
        read = time.perf_counter()
        snapshot = session.finish()
        done = time.perf_counter()
        counts = (
            (entry.layer, expert, count)
            for entry in snapshot.layers
            for expert, count in enumerate(entry.usage.counts.tolist())
        )
        return {"seconds": read - begun, "summary": done - read, "checksum": checksum(counts)}

    return run


def polars(path: str) -> Callable[[], dict[str, Any]]:
    os.environ["POLARS_MAX_THREADS"] = str(PEERS_THREADS)
    import polars as pl

    def run() -> dict[str, Any]:
        counts = (
            pl.scan_csv(path)
            .with_columns(pl.col("expert_ids").str.split(" "))
            .explode("expert_ids")
            .group_by("layer_id", "expert_ids")
            .len()
            .collect()
        )
        return {"checksum": checksum((int(a), int(b), int(n)) for a, b, n in counts.iter_rows())}

    return run


def duckdb(path: str) -> Callable[[], dict[str, Any]]:
    import duckdb as db

    def run() -> dict[str, Any]:
        connection = db.connect(config={"threads": PEERS_THREADS})
        counts = connection.execute(
            "select layer_id, expert, count(*) from ("
            "select layer_id, unnest(string_split(expert_ids, ' ')) as expert "
            "from read_csv(?, header=true, columns={'layer_id': 'INTEGER', 'expert_ids': 'VARCHAR'})"
            ") group by all",
            [path],
        ).fetchall()
        return {"checksum": checksum((int(a), int(b), int(n)) for a, b, n in counts)}

    return run


def pandas(path: str) -> Callable[[], dict[str, Any]]:
    import pandas as pd

    def run() -> dict[str, Any]:
        frame = pd.read_csv(path)
        frame["expert_ids"] = frame["expert_ids"].apply(lambda ids: [int(expert) for expert in ids.split()])
        counts = frame.explode("expert_ids").groupby("layer_id")["expert_ids"].value_counts()
        return {"checksum": checksum((int(a), int(b), int(n)) for (a, b), n in counts.items())}

    return run


READERS: dict[str, Callable[[str], Callable[[], dict[str, Any]]]] = {
    "moe-live, counts": lambda path: moe_live(path, counts_only=True),
    "moe-live, counts, 2 jobs": lambda path: moe_live(path, counts_only=True, jobs=2),
    "moe-live, everything": lambda path: moe_live(path, counts_only=False),
    "moe-live, everything, no C": lambda path: moe_live(path, counts_only=False, compiled=False),
    "moe-live, everything, default jobs": lambda path: moe_live(path, counts_only=False, jobs=None),
    "Polars, 2 threads": polars,
    "DuckDB, 2 threads": duckdb,
    "pandas": pandas,
}


def polars_table(path: str) -> Callable[[], dict[str, Any]]:
    os.environ["POLARS_MAX_THREADS"] = str(PEERS_THREADS)
    import polars as pl

    def run() -> dict[str, Any]:
        counts = pl.scan_csv(path).group_by("layer", "expert").len().collect()
        return {"checksum": checksum(counts.iter_rows())}

    return run


def polars_json(path: str) -> Callable[[], dict[str, Any]]:
    os.environ["POLARS_MAX_THREADS"] = str(PEERS_THREADS)
    import polars as pl

    def run() -> dict[str, Any]:
        rows = pl.scan_ndjson(path).select("layer", "topk_ids").explode("topk_ids")
        return {"checksum": checksum(rows.group_by("layer", "topk_ids").len().collect().iter_rows())}

    return run


def duckdb_file(path: str, query: str) -> Callable[[], dict[str, Any]]:
    import duckdb as db

    def run() -> dict[str, Any]:
        connection = db.connect(config={"threads": PEERS_THREADS})
        return {"checksum": checksum(connection.execute(query, [path]).fetchall())}

    return run


def stdlib_json(path: str) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        counts: Counter[tuple[int, int]] = Counter()
        with Path(path).open("rb") as file:
            for line in file:
                row = json.loads(line)
                layer = row["layer"]
                counts.update((layer, expert) for expert in row["topk_ids"])
        return {"checksum": checksum((*key, count) for key, count in counts.items())}

    return run


OF_DIALECTS: dict[str, Callable[[str], Callable[[], dict[str, Any]]]] = {
    "Polars, 2 threads, table": polars_table,
    "Polars, 2 threads, JSON": polars_json,
    "DuckDB, 2 threads, table": lambda path: duckdb_file(
        path, "select layer, expert, count(*) from read_csv(?, header=true) group by all"
    ),
    "DuckDB, 2 threads, JSON": lambda path: duckdb_file(
        path,
        "select layer, expert, count(*) from (select layer, unnest(topk_ids) as expert "
        "from read_json(?, format='newline_delimited')) group by all",
    ),
    "json": stdlib_json,
}
"""What reads tables and JSON lines."""


def main() -> None:
    name, path = sys.argv[1:]
    run = (READERS | OF_DIALECTS)[name](path)
    imported = peak_mb()
    begun = time.perf_counter()
    result = run()
    result.setdefault("seconds", time.perf_counter() - begun)
    result["peak_mb"] = peak_mb()
    result["above_imports_mb"] = result["peak_mb"] - imported
    print(json.dumps(result))


if __name__ == "__main__":
    main()
