"""docs/tables.md: its columns are those there are, and its lines run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from moe_live.cli import main
from moe_live.simulator import HEADER, ModelShape, Request, SimulatedServer
from moe_live.tables.columns import Column
from moe_live.tables.rows import COLUMNS
from moe_live.tables.subjects import DISTANCES, SUBJECTS
from tests.analysis import snapshot_of
from tests.conftest import REPOSITORY


def section(title: str) -> str:
    page = REPOSITORY / "docs" / "tables.md"
    if not page.is_file():
        pytest.skip("no docs beside the tests")
    return page.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def code(text: str) -> str:
    """The indented lines of Python of a section, without their indentation."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    python = [block for block in blocks if "import " in block]
    return "\n".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in python)


def documented(columns: Sequence[Column]) -> str:
    return "".join(f"| {each.name} | {each.type} | {each.what} |\n" for each in columns)


def run_there(script: str, where: Path) -> str:
    """What a script prints that is run in a directory."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    shape = ModelShape(n_layers=4, n_experts=64, gate_layers=())
    steps = SimulatedServer(shape, seed=3).serve(Request(topic=0, prompt=10, generated=200))
    path = tmp_path / "moe.log"
    path.write_bytes(HEADER + b"".join(step.text for step in steps))
    return path


def test_columns() -> None:
    assert documented(COLUMNS) in section("Rows")
    of_summary = section("Tables of the summary")
    for name, columns in {**{each.name: each.columns for each in SUBJECTS}, "distances": DISTANCES}.items():
        assert documented(columns) in of_summary.split(f"\n### {name}\n")[1].split("\n### ")[0]


@pytest.mark.parametrize(
    ("title", "arguments"),
    [
        ("Rows", ["rows", "moe.log", "--to", "rows.parquet"]),
        ("Tables of the summary", ["moe.log", "--tables", "moe-tables"]),
    ],
)
def test_in_other_programs(
    title: str, arguments: list[str], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shows the experts that are chosen most in decode."""
    for package in ("pyarrow", "duckdb", "polars", "pandas"):
        pytest.importorskip(package)
    monkeypatch.chdir(log.parent)
    assert main(arguments) == 0
    usages = snapshot_of(log.read_bytes()).layers
    counts = sorted((count for entry in usages for count in entry.usage.decode.tolist()), reverse=True)
    scripts = re.split(r"^(?=import )", code(section(title)), flags=re.MULTILINE)[1:]
    assert len(scripts) == 3
    for script in scripts:
        shown = run_there(script, log.parent)
        found = [int(number) for number in re.findall(r"\b\d+\b", shown)]
        assert not Counter(counts[:5]) - Counter(found), shown
