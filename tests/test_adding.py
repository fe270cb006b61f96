"""What docs/architecture.md says of adding: done to a copy of the package, and its lines are counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import moe_live
from moe_live.statistics.sections import Section, Sections

PACKAGE = Path(moe_live.__file__).parent
ADDED = Path(__file__).parent / "added"

Line = tuple[str, str, str]
"""A line elsewhere: the file, what stands there, and what is put before it."""

STATISTIC = {
    "statistic": "statistics/first_choices.py",
    "report": "reports/sections/first_choices.py",
    "view": "dashboard/views/first_choices.py",
}
"""The new files, by the names of those in `added`, without ending."""

STATISTIC_LINES: tuple[Line, ...] = (
    (
        "statistics/sections.py",
        "from moe_live.statistics.statistic import OnDemand\n",
        "from moe_live.statistics.first_choices import FIRST_CHOICES, FirstChoices\n",
    ),
    ("statistics/sections.py", "    LATEST = LATEST\n", "    FIRST_CHOICES = FIRST_CHOICES\n"),
    (
        "statistics/sections.py",
        "    drift: Drift | None = None",
        "    first_choices: FirstChoices | None = None\n",
    ),
    ("reports/sections/__init__.py", '    "labels",\n', '    "first_choices",\n'),
    ("view_names.py", '    "labels": "labels",\n', '    "first-choices": "first_choices",\n'),
)

OUTPUT = {"output": "outputs/token_file.py"}
OUTPUT_LINES: tuple[Line, ...] = (("outputs/table.py", '    "metrics",\n', '    "token_file",\n'),)


DIALECT = {"../formats/ranked": "formats/ranked.py"}
DIALECT_LINES: tuple[Line, ...] = (
    ("settings.py", '        "counts": "counts",\n', '        "ranked": "ranked",\n'),
)


def with_added(root: Path, files: Mapping[str, str], lines: Iterable[Line]) -> Path:
    """A copy of the package in this directory, with new files, and lines elsewhere."""
    copy = root / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, place in files.items():
        text = (ADDED / f"{name}.py").read_text()
        (copy / place).write_text(text.replace("tests.added.statistic", "moe_live.statistics.first_choices"))
    for place, at, line in lines:
        before = (copy / place).read_text()
        assert before.count(at) == 1, (place, at)
        assert line.count("\n") == 1
        (copy / place).write_text(before.replace(at, line + at))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package lies to which the statistic was added."""
    return with_added(tmp_path_factory.mktemp("added"), STATISTIC, STATISTIC_LINES)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "moe.log"
    path.write_bytes(b"3,1 2\n7,1 4\n3,4 5\n7,6 1\n" * 40)
    return path


def run(root: Path, *arguments: str) -> str:
    """What the command prints that is made of the copy."""
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "120", "LINES": "40"}
    done = subprocess.run(
        [sys.executable, "-m", "moe_live", *arguments],
        cwd=root,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_a_statistic_is_three_files_and_five_lines(root: Path, log: Path) -> None:
    assert len(STATISTIC) == 3
    assert len(STATISTIC_LINES) <= 5
    found = json.loads(run(root, str(log), "--json", "-"))
    assert found["first_choices"] == {"rows": 160, "experts": 4}
    assert "first choices: 4 experts in 160 rows" in run(root, str(log), "--full").splitlines()
    frame = run(root, str(log), "--once=first-choices")
    assert "Which experts come first?" in frame
    assert "4 first choices in 160 rows" in frame


def test_nothing_else_changes(root: Path, log: Path) -> None:
    text = run(root, str(log), "--full").splitlines()
    text.remove("first choices: 4 experts in 160 rows")
    expected = run(PACKAGE.parent, str(log), "--full").splitlines()
    assert [line for line in text if line] == [line for line in expected if line]


def test_it_can_be_asked_for_and_is_merged(root: Path, log: Path) -> None:
    code = (
        "import moe_live\n"
        "analyzers = [moe_live.Analyzer() for _ in range(2)]\n"
        "for analyzer in analyzers:\n"
        f"    analyzer.feed(open({str(log)!r}, 'rb').read())\n"
        "    analyzer.finish()\n"
        "analyzers[0] += analyzers[1]\n"
        "snapshot = analyzers[0].snapshot([moe_live.Section.FIRST_CHOICES])\n"
        "print(snapshot.first_choices.rows, snapshot.locality)\n"
        "print(analyzers[0].snapshot([]).first_choices)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "320 None\nNone\n"


def test_an_output_is_one_file_and_one_line(tmp_path: Path, log: Path) -> None:
    assert len(OUTPUT) == len(OUTPUT_LINES) == 1
    root, tokens = with_added(tmp_path, OUTPUT, OUTPUT_LINES), tmp_path / "tokens"
    assert "--tokens FILE" in run(root, "--help")
    run(root, str(log), "--tokens", str(tokens))
    assert json.loads(tokens.read_text())["tokens"] == 80


@pytest.mark.parametrize("section", Section, ids=lambda section: section.field)
def test_each_section_has_a_field_of_the_type_that_it_makes(section: Section) -> None:
    made = get_type_hints(section.statistic.make)["return"]
    assert get_type_hints(Sections)[section.field] == made | None


def test_each_field_has_a_section() -> None:
    assert [field.name for field in fields(Sections)] == [section.field for section in Section]


def test_a_dialect_is_one_file_and_one_line(tmp_path: Path) -> None:
    assert len(DIALECT) == len(DIALECT_LINES) == 1
    root, log = with_added(tmp_path, DIALECT, DIALECT_LINES), tmp_path / "ranked.log"
    log.write_bytes(b"layer 3\n  51\n  12\nlayer 7\n  2\n  5\n" * 40)
    found = json.loads(run(root, str(log), "--json", "-"))
    assert (found["source"]["format"], found["rows"]["logged"]) == ("ranked", 80)
    assert found["layers"][0]["counts"][12] == 40
    assert "ranked\n    layer 3\n" in run(root, "formats")
    assert json.loads(run(root, str(log), "--format", "ranked", "--json", "-"))["layers"] == found["layers"]
