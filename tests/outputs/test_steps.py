"""`--steps`: a line for each step and pair of layers, as it happens."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe_live
from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.settings import Phase, Settings
from moe_live.statistics.distances import METRICS
from moe_live.statistics.step_distances import HEADER, MAX_HELD, StepDistance
from tests.pseudo_terminal import MOE_LIVE
from tests.synthetic import SyntheticLog, logs

COLUMNS = "step,phase,from,to,cosine_similarity,cosine_distance,euclidean,l2_normalized,pearson,mean_abs_diff"


def decode_step(*vectors: str, first: int = 3) -> str:
    """One token, with gate inputs of all layers."""
    return "".join(f"gate_input,{first + i},0,{v}\n{first + i},1 2\n" for i, v in enumerate(vectors))


def prompt_step(vector: str = "1 2") -> str:
    """Two tokens, of which the last of two layers has one row."""
    return f"gate_input,3,0,{vector}\n3,1 2\n3,3 4\ngate_input,4,0,{vector}\n4,1 2\n"


def two_slots(last: int = 4) -> str:
    """Two rows in every layer: decode of two sequences, if `last` is the last layer."""
    return "".join(f"gate_input,{layer},0,1 2\n{layer},1 2\n{layer},3 4\n" for layer in range(3, last + 1))


def kept(*, include_prompt: bool = False) -> Analyzer:
    return Analyzer(Settings(include_prompt=include_prompt), keep_steps=True)


def numbers(analyzer: Analyzer) -> list[tuple[int, str]]:
    return [(row.step, str(row.phase)) for row in analyzer.take_steps()]


def test_known_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, table = tmp_path / "moe.log", tmp_path / "steps.csv"
    log.write_text(decode_step("3 4", "4 3", "0 0") + prompt_step() + decode_step("1 0", "0 1", "0.1 0.2"))
    assert main([str(log), "--steps", str(table), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == {"total": 3, "prefill": 1, "decode": 2}
    lines = table.read_text().splitlines()
    assert lines[0] == COLUMNS == ",".join(HEADER)
    assert lines[1] == f"1,decode,3,4,0.96,{1 - 0.96!r},{math.sqrt(2)!r},1.0,-1.0,1.0"
    assert lines[2] == f"1,decode,4,5,nan,nan,5.0,{5 / math.sqrt(2)!r},nan,3.5"
    assert [line.split(",")[:4] for line in lines[3:]] == [
        ["3", "decode", "3", "4"],
        ["3", "decode", "4", "5"],
    ]
    assert float(lines[4].split(",")[4]) == pytest.approx(0.2 / math.sqrt(0.05))


def test_prompt_steps_are_written_with_include_prompt(tmp_path: Path) -> None:
    log, table = tmp_path / "moe.log", tmp_path / "steps.csv"
    log.write_text(decode_step("3 4", "4 3") + prompt_step() + decode_step("1 0", "0 1"))
    assert main([str(log), "--include-prompt", "--steps", str(table), "--json", str(tmp_path / "json")]) == 0
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [(row["step"], row["phase"]) for row in rows] == [
        ("1", "decode"),
        ("2", "prefill"),
        ("3", "decode"),
    ]


def test_standard_output_has_these_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "moe.log"
    log.write_text(decode_step("3 4", "4 3") * 2)
    assert main([str(log), "--steps", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "-", "--json", "-"], "--steps - and --json - both want standard output"),
        (["--steps", "-", "--once"], "--steps - and --once both want standard output"),
        (["--steps", "-", "--browse"], "--steps - and --browse both want standard output"),
        (["--steps", "x", "--only", "frequency"], "--only frequency reads no gate inputs"),
        (["--steps", "moe.log"], "it is the log itself"),
        (["--steps", "no/where"], "cannot write the distances of each step to no/where"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "moe.log"
    log.write_text(decode_step("3 4", "4 3"))
    assert main(["moe.log", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert log.read_text() == decode_step("3 4", "4 3")


def test_lines_are_written_while_the_log_grows() -> None:
    command = [*MOE_LIVE, "-", "--steps", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == COLUMNS + "\n"
        for step in range(1, 4):
            process.stdin.write(decode_step("3 4", "4 3"))
            process.stdin.flush()
            if step > 1:  # the one before is complete
                assert process.stdout.readline().startswith(f"{step - 1},decode,3,4,0.96,")
        process.stdin.close()
        assert process.stdout.read().startswith("3,decode,3,4,0.96,")
    assert process.returncode == 0


def test_who_reads_no_further_ends_it_quietly(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_text(decode_step("3 4", "4 3") * 20_000)
    command = [*MOE_LIVE, str(log), "--steps", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_costs_the_lines_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "moe.log"
    log.write_text(decode_step("3 4", "4 3") * 2)
    assert main([str(log), "--steps", "/dev/full"]) == 1
    captured = capsys.readouterr()
    assert "decode: 2" in captured.out or "2 decode" in captured.out
    assert captured.err == (
        "moe-live: cannot write the distances of each step to /dev/full: No space left on device; "
        "the last lines are missing\n"
    )


def test_python_iterates_over_the_same(tmp_path: Path) -> None:
    log, table = tmp_path / "moe.log", tmp_path / "steps.csv"
    log.write_text(decode_step("3 4", "4 3", "0 0") + prompt_step() + decode_step("1 0", "0 1", "0.1 0.2"))
    main([str(log), "--steps", str(table), "--include-prompt", "--json", str(tmp_path / "json")])
    rows = list(moe_live.read_steps(log, settings=Settings(include_prompt=True)))
    assert [",".join(map(str, row)) for row in rows] == table.read_text().splitlines()[1:]
    assert rows[0] == StepDistance(1, Phase.DECODE, 3, 4, 0.96, 1 - 0.96, math.sqrt(2), 1.0, -1.0, 1.0)
    with pytest.raises(moe_live.MoeLiveError):
        next(moe_live.read_steps(tmp_path / "missing"))


def test_steps_are_kept_only_where_they_are_asked_for() -> None:
    with pytest.raises(ValueError, match="give Analyzer keep_steps=True"):
        Analyzer().take_steps()


def test_undecided_steps_wait_and_are_decode_once_the_last_layer_is_known() -> None:
    analyzer = kept()
    analyzer.feed((two_slots() * 3).encode())
    assert numbers(analyzer) == []
    analyzer.feed((decode_step("3 4", "4 3") + two_slots() + "3,1 2\n").encode())
    assert numbers(analyzer) == [(step, "decode") for step in range(1, 6)]


@pytest.mark.parametrize("include_prompt", [False, True])
def test_undecided_steps_are_prompts_if_a_higher_layer_comes(*, include_prompt: bool) -> None:
    analyzer = kept(include_prompt=include_prompt)
    analyzer.feed((two_slots() * 3 + decode_step("3 4", "4 3", "5 5") + "3,1 2\n").encode())
    prompts = [(step, "prefill") for step in (1, 2, 3)] if include_prompt else []
    assert numbers(analyzer) == [*prompts, (4, "decode"), (4, "decode")]


def test_no_more_than_a_thousand_wait() -> None:
    analyzer = kept(include_prompt=True)
    analyzer.feed((two_slots() * (MAX_HELD + 11)).encode())  # the last one is not complete
    assert numbers(analyzer) == [(step, "prefill") for step in range(1, 11)]
    analyzer.finish()
    assert numbers(analyzer) == [(step, "prefill") for step in range(11, MAX_HELD + 12)]


@given(logs(), st.booleans(), st.data())
def test_lines_are_what_the_summary_sums_up(
    log: SyntheticLog, include_prompt: bool, data: st.DataObject
) -> None:
    """Of a log whose model is known, as the same log was read before, cut anywhere."""
    analyzer = kept(include_prompt=include_prompt)
    analyzer.feed(log.text)
    analyzer.finish()
    before = {(pair.from_layer, pair.to_layer): pair for pair in analyzer.snapshot().distances.pairs}
    analyzer.take_steps()
    places = sorted(data.draw(st.lists(st.integers(0, len(log.text)), max_size=4)))
    rows = []
    for begin, end in zip([0, *places], [*places, len(log.text)], strict=True):
        analyzer.feed(log.text[begin:end])
        rows += analyzer.take_steps()
    analyzer.finish()
    rows += analyzer.take_steps()
    assert [row.step for row in rows] == sorted(row.step for row in rows)
    pairs = analyzer.snapshot().distances.pairs
    assert {(row.from_layer, row.to_layer) for row in rows} <= {(p.from_layer, p.to_layer) for p in pairs}
    for pair in pairs:
        key = pair.from_layer, pair.to_layer
        mine = [row for row in rows if (row.from_layer, row.to_layer) == key]
        assert len(mine) == pair.steps - (before[key].steps if key in before else 0)
        for index, metric in enumerate(METRICS):
            values = np.array([row[4 + index] for row in mine])
            finite = values[np.abs(values) <= 1e150]
            moments = pair.metrics[metric]
            assert len(finite) == moments.count - (before[key].metrics[metric].count if key in before else 0)
            if len(finite):
                assert moments.last == finite[-1]
                assert moments.min <= finite.min() <= finite.max() <= moments.max
