"""`--tables`: what the summary has, for other programs."""

from __future__ import annotations

import csv
import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.cli import main
from moe_live.outputs.tables import TablesDirectory
from moe_live.tables import files
from moe_live.tables.columns import Type
from moe_live.tables.subjects import DISTANCES, SUBJECTS
from tests.reports.snapshots import EMPTY

COLUMNS = {subject.name: subject.columns for subject in SUBJECTS} | {"distances": DISTANCES}

EXPERTS = 42

NAMES = {column.name for columns in COLUMNS.values() for column in columns if column.type is Type.STRING}

Lines = list[dict[str, Any]]


def log_in(directory: Path) -> Path:
    """A log with everything that there is a table of."""
    rng = np.random.default_rng(3)
    text = ""
    for period in range(20):
        text += f"# label: {'ab'[period % 2]}\n"
        for step in range(60):
            for layer in (3, 4, 5):
                gate = " ".join(f"{value:.3f}" for value in rng.normal(size=4).tolist())
                rows = []
                for _ in range(1 if step or layer == 5 else 3):  # the first one of each period is a prompt
                    first = 16 * (period % 2) if layer == 3 else 0
                    chosen = rng.permutation(range(first, EXPERTS - 2))[:4].tolist()
                    if layer == 4 and rng.random() < 0.2:
                        chosen[:2] = EXPERTS - 2, EXPERTS - 1
                    rows.append(f"{layer},{' '.join(map(str, chosen))}\n")
                text += f"gate_input,{layer},0,{gate}\n" + "".join(rows)
    path = directory / "moe.log"
    path.write_text(text)
    return path


def read(path: Path) -> Lines:
    """The lines of a table, numbers as such, None for what is missing."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            lines: Lines = [
                {
                    name: None if not cell else cell if name in NAMES else float(cell)
                    for name, cell in line.items()
                }
                for line in csv.DictReader(file)
            ]
        return lines
    return list(pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist())


def near(value: object) -> Any:
    """A figure of the JSON, which has fewer digits; what is not finite is none there."""
    return pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_they_are_what_the_summary_says(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(files, "has_parquet", lambda: ending == "parquet")
    log, tables, summary = log_in(tmp_path), tmp_path / "tables", tmp_path / "summary.json"
    steps = tmp_path / "steps.csv"
    arguments = ["--tables", str(tables), "--json", str(summary), "--steps", str(steps)]
    assert main([str(log), *arguments]) == 0
    assert {path.name for path in tables.iterdir()} == {f"{name}.{ending}" for name in COLUMNS}
    found = {name: read(tables / f"{name}.{ending}") for name in COLUMNS}
    told = json.loads(summary.read_text())
    assert found.pop("sources") == []  # of one log
    for name, lines in found.items():
        assert lines, name
        assert list(lines[0]) == [column.name for column in COLUMNS[name]]
    for layer, of_layer in zip(found["layers"], told["layers"], strict=True):
        assert layer["layer"] == of_layer["layer"]
        assert layer["count"] == of_layer["selections"] == layer["prefill"] + layer["decode"]
        assert layer["gini"] == near(of_layer["balance"]["gini"])
        assert layer["coverage_90"] == of_layer["coverage"]["0.9"]
        assert layer["overlap_1"] == near(of_layer["locality"]["overlap"]["1"])
        experts = [line for line in found["experts"] if line["layer"] == layer["layer"]]
        assert [line["expert"] for line in experts] == list(range(EXPERTS))
        assert [line["count"] for line in experts] == of_layer["counts"]
        assert [line["decode"] for line in experts] == of_layer["decode_counts"]
        rates = [line["lru_hit_rate"] for line in found["locality"] if line["layer"] == layer["layer"]]
        assert rates == [near(rate) for rate in of_layer["locality"]["lru_hit_rate"]]
    pairs = [
        (layer["layer"], pair)
        for layer in told["coactivation"]
        for pair in layer["pairs"] + layer["weakest"][::-1]
    ]
    for line, (number, pair) in zip(found["pairs"], pairs, strict=True):
        assert (line["layer"], line["a"], line["b"], line["count"]) == (
            number,
            pair["a"],
            pair["b"],
            pair["count"],
        )
        assert line["lift"] == near(pair["lift"])
    for line, transition in zip(found["transitions"], told["transitions"], strict=True):
        assert (line["from_layer"], line["to_layer"]) == (transition["from"], transition["to"])
        assert line["hit_rate"] == near(transition["hit_rate"])
    for label in told["labels"]:
        lines = [line for line in found["labels"] if line["label"] == label["label"]]
        assert [line["count"] for line in lines] == [
            count for each in label["layers"] for count in each["counts"]
        ]
        specific = {(line["layer"], line["expert"]) for line in lines if line["z"] is not None}
        assert specific == {(each["layer"], each["expert"]) for each in label["specific"]}
    with steps.open(newline="") as file:
        same = list(csv.DictReader(file))
    assert [list(map(str, line.values())) for line in found["distances"]] == [
        [
            str(float(value)) if ending == "csv" and key in ("step", "from", "to") else value
            for key, value in line.items()
        ]
        for line in same
    ]


def test_all_files_are_there_if_there_is_nothing_to_tell(tmp_path: Path) -> None:
    output = TablesDirectory(str(tmp_path / "tables"), ())
    output.start()
    output.finish(EMPTY)
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == set(COLUMNS)
    assert all(read(path) == [] for path in (tmp_path / "tables").iterdir())


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_where_a_table_fails_the_distances_are_whole(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(files, "has_parquet", lambda: ending == "parquet")
    log, tables = log_in(tmp_path), tmp_path / "tables"
    tables.mkdir()
    (tables / f"layers.{ending}").symlink_to("/dev/full")
    assert main([str(log), "--tables", str(tables)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    gc.collect()  # a file that is left open would complain, which fails a test
    steps = {line["step"] for line in read(tables / f"distances.{ending}")}
    assert len(steps) == 20 * 59


def test_counts_are_of_all_phases_whatever_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "has_parquet", lambda: False)
    log = log_in(tmp_path)
    for phase in ("all", "decode"):
        assert main([str(log), "--phase", phase, "--tables", str(tmp_path / phase), "--json", "-"]) == 0
    assert (tmp_path / "all" / "experts.csv").read_text() == (tmp_path / "decode" / "experts.csv").read_text()


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        ("moe.log", "File exists; name another directory"),
        ("missing/tables", "No such file or directory; name another directory"),
        ("of-logs", "it is the log itself"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(
    directory: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(files, "has_parquet", lambda: False)
    log = tmp_path / "moe.log"
    log.write_bytes(b"3,1 2\n4,1 2\n")
    (tmp_path / "of-logs").mkdir()
    (tmp_path / "of-logs" / "experts.csv").write_bytes(b"3,1 2\n4,1 2\n")
    logs = [str(log), str(tmp_path / "of-logs" / "experts.csv")]
    assert main([*logs, "--tables", str(tmp_path / directory)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
