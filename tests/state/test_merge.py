"""`moe-live merge`: states as one run over all their logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.settings import Settings
from tests.analysis import analyzed


def text(seed: int, steps: int = 60) -> bytes:
    rng = np.random.default_rng(seed)
    rows = (rng.permutation(16)[:3] for _ in range(steps * 4))
    return b"layer_id,expert_ids\n" + b"".join(b"%d,%d %d %d\n" % (i % 4, *row) for i, row in enumerate(rows))


@pytest.fixture
def states(tmp_path: Path) -> list[str]:
    """Of three servers; the log of the second ends in a step, with a line cut off."""
    paths = []
    for seed in range(3):
        log = tmp_path / f"{seed}.log"
        log.write_bytes(text(seed)[: None if seed != 1 else -9])
        analyzer = Analyzer(paths=(str(log),))
        analyzer.feed(log.read_bytes())
        analyzer.save(tmp_path / f"{seed}.state")
        paths.append(str(tmp_path / f"{seed}.state"))
    return paths


def summary(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_is_one_run_over_all(states: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    logs = [state.replace(".state", ".log") for state in states]
    assert summary(capsys, "merge", *states) == summary(capsys, *logs)


def test_merged_states_are_merged_again(
    states: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = str(tmp_path / "two.state")
    assert main(["merge", *states[:2], "--state", two]) == 0
    capsys.readouterr()
    assert summary(capsys, "merge", two, states[2]) == summary(capsys, "merge", *states)


def test_counts_do_not_depend_on_the_order(states: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (summary(capsys, "merge", *order) for order in (states, states[::-1]))
    for name in ("rows", "steps", "tokens", "coactivation", "overall"):
        assert one[name] == other[name]
    assert [layer["counts"] for layer in one["layers"]] == [layer["counts"] for layer in other["layers"]]


def test_the_summary_is_printed_and_the_files_are_written(
    states: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "summary.json"
    assert main(["merge", *states, "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert all(f"source: {state.replace('.state', '.log')}\n" in out for state in states)
    assert json.loads(target.read_text())["schema"] == "moe-live.summary/1"


def test_states_that_do_not_count_alike_are_refused_with_the_difference(
    states: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other.state")
    analyzed([text(5)], Settings(window=512)).save(other)
    assert main(["merge", states[0], other, "--state", str(tmp_path / "out.state")]) == 2
    error = capsys.readouterr().err
    assert "window is 512 there and 256 in" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.state").exists()


def test_states_of_other_models_are_refused_with_the_difference(
    states: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other.state")
    analyzed([text(5).replace(b"\n3,", b"\n7,")]).save(other)
    assert main(["merge", *states, other]) == 2
    error = capsys.readouterr().err
    assert "it is of another model: layers 0-7 (4) there and 0-3 (4) here; merge what is of one" in error


def test_a_state_is_not_written_over_by_what_is_made_of_it(
    states: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(states[0]).read_bytes()
    assert main(["merge", *states, "--state", states[0]]) == 2
    assert "it is a state to be merged" in capsys.readouterr().err
    assert Path(states[0]).read_bytes() == before


def test_a_damaged_state_is_named(states: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(states[1]).write_bytes(Path(states[1]).read_bytes()[:-1])
    assert main(["merge", *states]) == 2
    error = capsys.readouterr().err
    assert f"cannot use the state {states[1]}" in error
    assert error.count("\n") == 1
