"""Logs that are labelled by their names."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from moe_live.cli import main

CASES = Path(__file__).parent / "data" / "cases"


def read(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def log(steps: int) -> bytes:
    return b"".join(b"3,%d %d\n4,1 2\n" % (i % 4, 4 + i % 3) for i in range(steps))


def test_each_log_has_the_label_of_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = {"math": 30, "code.v2": 20, "empty": 0, "chat": 10}
    names = []
    for label, steps in tokens.items():
        data = log(steps)
        names.append(tmp_path / f"{label}.log{'.gz' * (label == 'chat')}")
        names[-1].write_bytes(gzip.compress(data) if label == "chat" else data)
    for jobs in ("1", "2"):
        found = read(capsys, *map(str, names), "--label-by-file", "--jobs", jobs)
        labels = {entry["label"]: entry["tokens"] for entry in found["labels"]}
        assert labels == {label: steps for label, steps in tokens.items() if steps}
        assert all(entry["periods"] == 1 for entry in found["labels"])


def test_a_line_with_a_label_holds_to_the_end_of_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_bytes(log(5) + b"# label: prose\n" + log(6))
    second.write_bytes(log(7))
    found = read(capsys, str(first), str(second), "--label-by-file")
    assert {entry["label"]: entry["tokens"] for entry in found["labels"]} == {
        "first": 5,
        "prose": 6,
        "second": 7,
    }


def test_logs_of_one_name_are_periods_of_one_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for run in range(4):
        for topic in ("math", "code"):
            paths.append(tmp_path / str(run) / f"{topic}.log")
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_bytes(log(2))
    assert main([*map(str, paths), "--label-by-file"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "label math: 8 tokens, periods 4" in lines
    (apart,) = (line for line in lines if line.startswith("labels code and math:"))
    # No layer has selections enough: "0 layers beyond chance" would say that they do not differ.
    assert apart.endswith("cannot be told of so few tokens")


def test_two_topics_of_one_log_each(capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, *(str(CASES / f"c09_{name}.log.gz") for name in ("math", "code")), "--label-by-file")
    assert [entry["label"] for entry in found["labels"]] == ["c09_code", "c09_math"]
    (apart,) = found["label_divergences"]
    assert apart["real_layers"] is None


@pytest.mark.parametrize(
    "argv",
    [
        ["--demo"],
        ["x.log", "--label", "math"],
        ["x.log", "--label-file", "now.txt"],
    ],
)
def test_it_goes_with_logs_that_have_names(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--label-by-file"]) == 2
    error = capsys.readouterr().err
    assert "--label-by-file goes with PATHs or --follow, and without --label and --label-file" in error
