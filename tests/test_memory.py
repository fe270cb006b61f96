"""Memory that is kept, and given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tests.pseudo_terminal import REPOSITORY

FRAGMENTED = """
import re
from pathlib import Path
from moe_live.memory import give_back_freed_memory, keep_freed_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

keep_freed_memory()
before = resident()
# Each that lives short is between two that stay.
pieces = [bytes(50_000 if n % 2 else 1_000) for n in range(2_000)]
full = resident()
del pieces[1::2]
freed = resident()
give_back_freed_memory()
print(before, full, freed, resident())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library"
)
def test_gaps_between_what_lives_long_are_given_back() -> None:
    output = subprocess.run(
        [sys.executable, "-c", FRAGMENTED], capture_output=True, cwd=REPOSITORY, text=True, check=True
    ).stdout
    before, full, freed, after = map(int, output.split())
    assert full - before > 40_000  # KiB
    assert freed - before > 40_000
    assert after - before < 15_000
