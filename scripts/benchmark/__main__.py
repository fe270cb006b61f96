"""Measures moe-live: reading beside other tools, each accumulator, following, and drawing."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import accumulators
import dialects
import following
import frames
import logs
import throughput

SHORT_MEGABYTES = 64
"""As much of the decode log is read by pandas, in 1.7 GB of memory."""

SECTIONS = ("throughput", "dialects", "accumulators", "following", "frames")


def main() -> None:
    options = _options()
    chosen = options.section or SECTIONS
    report: dict[str, Any] = {"cores": os.cpu_count(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory(prefix="moe-live-bench-", dir=options.directory) as name:
        directory = Path(name)
        paths = {}
        print("writing the logs", file=sys.stderr)
        for kind in logs.KINDS:
            paths[kind] = directory / f"{kind}.log"
            size = options.megabytes * (4 if kind == "decode" else 1)
            logs.write(kind, paths[kind], size)
        short = directory / "short.log"
        with paths["decode"].open("rb") as file:
            beginning = file.read(min(options.megabytes, SHORT_MEGABYTES) * 1_000_000)
        short.write_bytes(beginning[: beginning.rindex(b"\n") + 1])
        if "throughput" in chosen:
            report |= _throughput(paths, short, directory, options.repeat)
        if "dialects" in chosen:
            report |= _dialects(directory, options.megabytes, options.repeat)
        if "accumulators" in chosen:
            report["accumulators"] = _accumulators(paths)
        if "following" in chosen:
            large = directory / "large.log"
            logs.repeat(paths["decode"], large, options.gigabytes)
            report["following"] = _following(paths["decode"], large, options.seconds)
            large.unlink()
        if "frames" in chosen:
            report["frames"] = _frames(paths["mixed"])
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "section", nargs="*", help=f"what to measure, of {', '.join(SECTIONS)} (default: all)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too")
    parser.add_argument(
        "--megabytes",
        type=int,
        default=128,
        metavar="N",
        help="size of the logs; the decode log has four times as much",
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each program (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=8, metavar="S", help="how long each CPU share is taken"
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=1,
        metavar="N",
        help="size of the log whose first frame is waited for (default 1)",
    )
    parser.add_argument(
        "--directory", metavar="DIR", help="where the logs are written for the time of the run"
    )
    options = parser.parse_args()
    if unknown := set(options.section) - set(SECTIONS):
        parser.error(f"there is no section {min(unknown)}; there are {', '.join(SECTIONS)}")
    return options


def _throughput(paths: dict[str, Path], short: Path, directory: Path, repeat: int) -> dict[str, Any]:
    table, missing = throughput.measure(paths, short, directory, repeat)
    of_c = {entry.log: entry.speed for entry in table if entry.program == throughput.C}
    print("| log | program | MB/s | of C | peak MB | above imports | summary ms |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for entry in table:
        ratio = entry.speed / of_c.get(entry.log, math.nan)
        cells = [
            f"{entry.log} {entry.megabytes:.0f} MB",
            entry.program,
            f"{entry.speed:.0f}",
            _cell(ratio, 2),
            *(_cell(entry.median(key), 0) for key in ("peak_mb", "above_imports_mb")),
            _cell(entry.median("summary") * 1e3, 0),
        ]
        print("| " + " | ".join(cells) + " |")
    for program in missing:
        print(f"not measured, because it is not there: {program}")
    promised = throughput.targets(table)
    _print_promises(promised)
    return {
        "throughput": [
            {
                "log": entry.log,
                "program": entry.program,
                "megabytes": entry.megabytes,
                "megabytes_a_second": entry.speed,
                "runs": entry.runs,
            }
            for entry in table
        ],
        "missing": missing,
        "promises": [{"promise": a, "reached": b, "at_least": c} for a, b, c in promised],
    }


def _print_promises(promised: list[tuple[str, float, float]]) -> None:
    print("\n| promise | reached | at least | |\n|---|---:|---:|---|")
    for what, reached, least in promised:
        print(f"| {what} | {reached:.2f} | {least:.2f} | {'holds' if reached >= least else 'missed'} |")
    print(flush=True)


def _dialects(directory: Path, megabytes: int, repeat: int) -> dict[str, Any]:
    table = dialects.measure(directory, megabytes, repeat)
    print("| file | program | MB/s |\n|---|---|---:|")
    for entry in table:
        print(f"| {entry.log} {entry.megabytes:.0f} MB | {entry.program} | {entry.speed:.0f} |")
    promised = dialects.targets(table)
    _print_promises(promised)
    return {
        "dialects": [
            {"file": entry.log, "program": entry.program, "megabytes_a_second": entry.speed}
            for entry in table
        ],
        "dialect_promises": [{"promise": a, "reached": b, "at_least": c} for a, b, c in promised],
    }


def _accumulators(paths: dict[str, Path]) -> dict[str, dict[str, float]]:
    costs = {kind: accumulators.measure(paths[kind]) for kind in ("decode", "prefill")}
    print("| ns an expert row | decode | prefill |\n|---|---:|---:|")
    for name in costs["decode"]:
        print(f"| {name} | {costs['decode'][name]:.1f} | {costs['prefill'].get(name, math.nan):.1f} |")
    print(flush=True)
    return costs


def _following(path: Path, large: Path, seconds: float) -> dict[str, Any]:
    if not Path("/proc/self/stat").exists():
        print("following: not measured, it needs /proc\n")
        return {}
    result = following.measure(path, seconds) | following.first_frames(large)
    print("| following | |\n|---|---:|")
    for name, value in result.items():
        print(f"| {name.replace('_', ' ')} | {value:.2f} |")
    print("\n| following with the view | % of a core | |\n|---|---:|---|", flush=True)
    views = following.views(path, seconds)
    for name, value in views.items():
        holds = "holds" if value <= following.MOST_PERCENT else "missed"
        print(f"| {name} | {value:.2f} | at most {following.MOST_PERCENT:.0f}: {holds} |")
    print(flush=True)
    return result | {"views_percent": views}


def _frames(path: Path) -> dict[str, dict[str, float]]:
    result = frames.measure(path)
    heads = list(next(iter(result.values())))
    print(f"| ms a frame | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for view, costs in result.items():
        print(f"| {view} | {' | '.join(f'{costs[head]:.1f}' for head in heads)} |")
    return result


def _cell(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
