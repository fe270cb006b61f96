"""`moe-live verify`, on logs of a real server whose answers are known, and on what it must refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_live.capture.agreement import Place
from moe_live.capture.cli import run_subcommand
from moe_live.capture.verify import compare_logs
from moe_live.errors import MoeLiveError, UsageError
from moe_live.routing.evidence import Verdict
from tests.capture.logs import HEADER, block, choose, printed, random_routers, ranking
from tests.capture.test_routers import write_model
from tests.conftest import REPOSITORY


@pytest.fixture
def real(real_logs: Path) -> tuple[str, str]:
    """Routers of a model, and a log of it by a patched server that ignores the row stride."""
    names = ("glm4moe-160e-top8.routers.gguf", "glm4moe-160e-top8-gates.log.gz")
    model, log = (str(real_logs / name) for name in names)
    return model, log


def test_known_answers_of_a_real_log(real: tuple[str, str]) -> None:
    model, log = real
    agreement = compare_logs(model, [log])
    rows = {place: agreement.rows(place).tolist() for place in Place}
    assert rows == {  # right, tie, wrong, undefined
        Place.SINGLE: [1270, 0, 0, 0],
        Place.FIRST: [10, 0, 0, 0],
        Place.LATER: [0, 0, 2805, 0],
        Place.RECOVERED: [145, 0, 0, 0],
    }
    assert agreement.layers == (20, 21, 22, 23, 24)
    assert agreement.verdict is Verdict.STRIDED
    assert agreement.incomplete == 0


def test_says_so_and_exits_with_1(real: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    model, log = real
    assert run_subcommand(["verify", "--model", model, log]) == 1
    out = capsys.readouterr().out
    assert "all    31.33%          1270/1270             10/10            0/2805           145/145\n" in out
    assert "result: 2,805 of 4,085 rows compared are WRONG" in out
    assert "recovers" in out
    assert run_subcommand(["verify", "--json", "--model", model, log]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "moe-live.verify/1"
    assert result["overall"]["later"] == {"right": 0, "tie": 0, "wrong": 2805, "undefined": 0}
    assert result["rows"] == {"compared": 4085, "wrong": 2805, "without_inputs": 14962, "incomplete": 0}
    assert result["strided"] is True
    assert [layer["layer"] for layer in result["layers"]] == [20, 21, 22, 23, 24]


class Made:
    """A made-up model and logs of it."""

    def __init__(self, directory: Path) -> None:
        self.rng = np.random.default_rng(7)
        self.routers = random_routers(self.rng, [1, 3], 16, 8)
        self.model = write_model(
            directory / "model.gguf",
            {
                f"blk.{layer}.ffn_gate_inp.weight": self.routers[layer].weight.astype(np.float32)
                for layer in (1, 3)
            },
            "qwen3moe",
        )
        self.directory = directory

    def log(self, name: str, *tokens: int, layers: tuple[int, ...] = (1, 3), gates: bool = True) -> str:
        blocks = []
        for rows in tokens:
            for layer in layers:
                inputs = printed(self.rng, rows, 8)
                chosen = choose(ranking(self.routers[layer], inputs), 4, strided=False)
                blocks.append(block(layer, inputs if gates else None, chosen))
        path = self.directory / name
        path.write_bytes(HEADER + b"".join(blocks))
        return str(path)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_right_logs_exit_with_0(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    logs = [made.log("a.log", 30, 1, 1), made.log("b.log", 20, 1)]
    assert run_subcommand(["verify", "--model", made.model, *logs]) == 0
    assert "result: all 106 rows compared are right\n" in capsys.readouterr().out


def test_logs_do_not_run_into_each_other(made: Made) -> None:
    whole = Path(made.log("whole.log", 4, layers=(1,)))
    lines = whole.read_bytes().splitlines(keepends=True)
    parts = []
    for name, content in {"a": lines[:3], "b": lines[3:]}.items():  # in the middle of the gate lines
        path = whole.with_name(name)
        path.write_bytes(b"".join(content))
        parts.append(str(path))
    agreement = compare_logs(made.model, [str(whole), *parts, str(whole)])
    assert (agreement.compared, agreement.wrong, agreement.incomplete) == (8, 0, 4)


def test_says_when_there_is_nothing_to_compare(made: Made, tmp_path: Path) -> None:
    with pytest.raises(MoeLiveError, match=r"nothing to compare.*--gate-layers"):
        compare_logs(made.model, [made.log("a.log", 5, gates=False)])
    other = write_model(tmp_path / "other.gguf", {"blk.1.ffn_gate_inp.weight": np.ones((4, 32), np.float32)})
    with pytest.raises(MoeLiveError, match=r"have 8 numbers, the routers in .* take 32"):
        compare_logs(other, [made.log("a.log", 5)])
    with pytest.raises(UsageError, match="no such file"):
        compare_logs(made.model, [str(tmp_path / "missing.log")])
    with pytest.raises(UsageError, match="not a whole GGUF"):
        compare_logs(made.log("a.log", 5), [made.log("a.log", 5)])


def in_a_fresh_interpreter(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; from moe_live.capture.cli import run_subcommand\n{code}"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


def test_help_loads_neither_numpy_nor_the_engine() -> None:
    for command in ("capture", "verify"):
        run = in_a_fresh_interpreter(
            f"try: run_subcommand(['{command}', '--help'])\n"
            "except SystemExit: assert not {'numpy', 'gguf', 'llama_cpp'} & set(sys.modules)"
        )
        assert run.returncode == 0, run.stderr
        assert f"usage: moe-live {command}" in run.stdout


def test_a_missing_extra_is_named() -> None:
    command = "['capture', '--model', 'README.md', '--log', 'x', '--prompt', 'x']"
    run = in_a_fresh_interpreter(f"sys.modules['llama_cpp'] = None\nrun_subcommand({command})")
    last = run.stderr.splitlines()[-1]
    assert last == "moe_live.errors.UsageError: llama_cpp is not installed: pip install 'moe-live[capture]'"


def test_comparing_needs_no_extra(made: Made) -> None:
    log = made.log("a.log", 3)
    arguments = ["verify", "--model", made.model, log]
    run = in_a_fresh_interpreter(f"sys.modules['gguf'] = None\nsys.exit(run_subcommand({arguments}))")
    assert (run.returncode, run.stderr) == (0, "")
