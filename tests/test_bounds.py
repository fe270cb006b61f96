"""Whatever a log holds, it takes a bounded amount of memory and time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from tests.patterns import PATTERNS, text
from tests.pseudo_terminal import REPOSITORY

MEGABYTES = 300
"""Memory that a process may take, the interpreter and all imports included."""

SLOWEST = 12
"""How many times the time of a normal log a log of as many bytes may take: at 60 MB/s these are 5 MB/s."""

# Feeds a pattern as it is drawn, makes all figures, and tells seconds of processor time and the peak in MB.
MEASURE = """
import json, sys, time
from pathlib import Path
import numpy as np
from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from tests.patterns import PATTERNS

analyzer, spent, fed, held = Analyzer(), 0.0, 0, bytearray()
for piece in PATTERNS[sys.argv[1]](np.random.default_rng(1)):
    held += piece
    if len(held) >= 1 << 20:
        begun = time.process_time()
        analyzer.feed(held)
        spent += time.process_time() - begun
        fed += len(held)
        held.clear()
    if fed >= 10_000_000:
        break
begun = time.process_time()
analyzer.finish()
json.dumps(to_json(analyzer.snapshot()))
spent += time.process_time() - begun
status = Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps([spent / fed, peak]))
"""


@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_is_read_to_its_end_and_no_figure_fails(name: str) -> None:
    log = text(PATTERNS[name], 30_000)
    analyzer = Analyzer()
    for start in range(0, len(log), 12_500):
        analyzer.feed(log[start : start + 12_500])
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert snapshot.left_out == frozenset()
    assert snapshot.input.tally.lines == log.count(b"\n")
    assert json.loads(json.dumps(to_json(snapshot)))["source"]["bytes"] == len(log)


def measured(name: str) -> tuple[float, float]:
    """Seconds a byte, and the peak of memory in MB."""
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, name], capture_output=True, cwd=REPOSITORY, check=True
    ).stdout
    seconds, peak = json.loads(output)
    return seconds, peak


@pytest.fixture(scope="module")
def normal() -> float:
    """Seconds a byte of a normal log takes."""
    return measured("normal")[0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, which only Linux has")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PATTERNS)
def test_every_pattern_takes_bounded_memory_and_time(name: str, normal: float) -> None:
    seconds, peak = measured(name)
    assert peak < MEGABYTES
    assert seconds < SLOWEST * normal
