"""`plan cache` and `--budget`: what they print, and the published rates of a real trace."""

from __future__ import annotations

import functools
import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.arguments import byte_count
from moe_live.cli import main
from moe_live.parallel.plan import plan
from tests.plans.logs import write_log, write_model
from tests.pseudo_terminal import MOE_LIVE
from tests.statistics.drawn_steps import chosen
from tests.statistics.test_replay import PUBLISHED
from tests.trace import trace_log

LAYERS = (3, 4, 7)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(1)
    rows = chosen(rng, rng.normal(0, 0.5, (3, 32)), 4, (200, 3))
    return write_log(tmp_path_factory.mktemp("plans") / "moe.log", rows, LAYERS)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, *arguments, "--json", "-"))
    return found


def test_a_plan_in_words(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    budget = ("--budget", "24MB", "--budget", "48MB", "--bandwidth", "10GB/s")
    out = printed(capsys, "plan", "cache", log, "--expert-bytes", "1MB", *budget)
    lines = out.splitlines()
    assert lines[:5] == [
        "cache size: the latest 200 of 200 decode steps replayed",
        "cache size: experts of 977 KiB, 91.6 MiB in all; a decode token uses 11.4 MiB",
        "cache size: share of uses found in caches that are empty at first",
        "cache size: *: a cache a layer, of an equal part, or of a step if that is larger",
        "cache size: static: the most used experts of one half of the steps tested on the other",
    ]
    assert lines[5].split()[4:] == ["optimum", "LRU", "LFU", "LRU*", "LFU*", "static"]
    assert lines[6].startswith("cache size     24 MB   25.0%   ")
    assert "cache time: milliseconds a decode token to load what is missing at 10 GB/s" in lines
    assert any(line.startswith("cache at 24 MB: hardly pays: LFU* serves ") for line in lines)
    assert any(line.startswith("cache knee: the curve of LRU bends most at ") for line in lines)
    slots = [line for line in lines if line.startswith("slots at 48 MB in hindsight ")]
    static = lines[7].split()[-1]  # of the second size
    assert f" (static, {static} if unseen), by layer: " in slots[0]
    assert sum(int(part.split(":")[1]) for part in slots[0].split("layer: ")[1].split(", ")) == 48
    assert max(map(len, lines)) < 90


def test_a_plan_as_json(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "m.gguf", {layer: 3 * (layer + 1) for layer in LAYERS}, 32)
    found = as_json(capsys, "plan", "cache", log, "--model", model, "--bandwidth", "1MB/s")
    assert (found["schema"], found["plan"], found["paths"]) == ("moe-live.plan/1", "cache", [log])
    assert (found["steps"], found["layers"]) == (200, list(LAYERS))
    assert found["expert_bytes"] == [12, 15, 24]
    assert found["token_bytes"] == 4 * (12 + 15 + 24)
    assert len(found["cache"]) == len(found["budget"]) == len(found["milliseconds"]) == 8
    for size, time in zip(found["cache"], found["milliseconds"], strict=True):
        assert 0 <= size["lru"] <= size["optimum"] <= 1
        assert time["lru"] >= time["optimum"]


def test_the_summary_tries_the_sizes_asked_for(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (log, "--budget", "24MB", "--budget", "48MB", "--expert-bytes", "1MB")
    found = as_json(capsys, *arguments)
    plan = as_json(capsys, "plan", "cache", *arguments)
    rates = {"bytes", "optimum", "lru", "lfu", "layer_lru", "layer_lfu", "static_unseen", "steps"}
    gain = {"chance", "best", "gain", "gain_error", "gains"}
    assert [set(entry) for entry in found["cache"]] == 2 * [rates | gain]
    for entry in found["cache"]:
        assert entry["gain"] == entry[entry["best"]] - entry["chance"]
        assert 0 < entry["gain_error"] < 0.1
    assert found["cache"] == [entry | {"steps": plan["steps"]} for entry in plan["cache"]]
    assert found["budget"] == plan["budget"]
    assert [sum(entry["slots"]) for entry in found["budget"]] == [24, 48]
    assert "cache size     24 MB" in printed(capsys, *arguments)


def test_it_is_the_same_from_a_pipe_and_by_several_processes(
    log: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ("--budget", "24MB", "--expert-bytes", "1MB")
    wanted = as_json(capsys, log, *sizes, "--jobs", "1")["cache"]
    in_parts = functools.partial(plan, min_bytes=0, part_bytes=2_000)
    monkeypatch.setattr("moe_live.parallel.plan.plan", in_parts)
    assert as_json(capsys, log, *sizes, "--jobs", "2")["cache"] == wanted
    piped = subprocess.run(
        [*MOE_LIVE, *sizes, "--json", "-"],
        input=Path(log).read_bytes(),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert json.loads(piped.stdout)["cache"] == wanted


def test_without_sizes_the_summary_has_experts_alone(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, log)
    assert found["cache"] == []
    assert [entry["bytes"] for entry in found["budget"]] == [None] * 11
    assert [sum(entry["slots"]) for entry in found["budget"]] == [
        entry["experts"] for entry in found["budget"]
    ]


def test_of_a_long_log_the_latest_steps_are_replayed(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "plan", "cache", log, "--expert-bytes", "1MB", "--uses", "600")
    assert out.startswith("cache size: the latest 50 of 200 decode steps replayed\n")


def test_the_view_of_a_finished_log_knows_the_sizes_that_are_given(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "--once=cache", log, "--expert-bytes", "1MB")
    assert "of 200 decode steps   experts of 977 KiB" in out
    assert sum(line.count("%") >= 5 for line in out.splitlines()) == 8
    assert "is not known" in printed(capsys, "--once=cache", log)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "the following arguments are required: WHAT"),
        (["plan", "cache"], "required: LOG"),
        (["plan", "cache", "LOG"], "give --model GGUF or --expert-bytes N"),
        (["plan", "cache", "LOG", "--expert-bytes", "0"], "not a number of bytes such as 8GiB"),
        (["plan", "cache", "LOG", "--expert-bytes", "1", "--model", "m"], "not allowed with argument"),
        (["plan", "cache", "LOG", "--model", "/nonexistent"], "cannot read /nonexistent"),
        (["plan", "cache", "LOG", "--expert-bytes", "1", "--json", "LOG"], "it is the log itself"),
        (["plan", "cache", "/nonexistent", "--expert-bytes", "1"], "cannot read /nonexistent"),
        (["LOG", "--replicas", "8"], "--replicas goes with --devices"),
        (["LOG", "--expert-bytes", "1GB"], "go with --budget SIZE"),
        (["LOG", "--budget", "1", "--expert-bytes", "1", "--only", "frequency"], "leave one out"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([log if argument == "LOG" else argument for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_log_without_decode_steps_has_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt.log").write_text("3,1 2\n3,2 3\n3,1 3\n4,1 2\n3,1 2\n3,2 1\n4,2 1\n")
    (tmp_path / "none.log").write_text("hello\n")
    assert main(["plan", "cache", str(tmp_path / "none.log"), "--expert-bytes", "1"]) == 1
    assert "no usable line in " in capsys.readouterr().err
    arguments = [str(tmp_path / "prompt.log"), "--expert-bytes", "1"]
    assert main(["plan", "cache", *arguments]) == 1
    assert "there is no whole decode step" in capsys.readouterr().err
    summary = printed(capsys, *arguments, "--budget", "5")
    assert "warning: the plan cache was not made: there is no whole decode step" in summary


def test_byte_counts() -> None:
    for text, count in {"1": 1, "3B": 3, "2k": 2000, "2KiB": 2048, "1.5MB": 1_500_000, "1T": 10**12}.items():
        assert byte_count(text) == count
    for text in ("", "-1", "1PB", "1 2", "GB", "1e3", "1.GB", "0.1", "9" * 16):
        with pytest.raises(Exception, match="not a number of bytes"):
            byte_count(text)


def test_published_rates_through_the_command(
    real_logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = real_logs / "qwen3-30b-a3b.route.csv.gz"
    (tmp_path / "trace.log").write_bytes(trace_log(trace))
    lines = gzip.decompress(trace.read_bytes()).decode().splitlines()
    sizes = [int(line.split("expert_bytes=")[1].split()[0]) for line in lines if line.startswith("# layer=")]
    model = write_model(tmp_path / "m.gguf", dict(enumerate(sizes)), 128)
    budgets = [word for size in PUBLISHED for word in ("--budget", f"{size}MiB")]
    found = as_json(capsys, str(tmp_path / "trace.log"), "--model", model, *budgets)
    for entry, published in zip(found["cache"], PUBLISHED.values(), strict=True):
        rates = [100 * entry[name] for name in ("optimum", "lru", "lfu", "layer_lru", "layer_lfu")]
        assert rates == pytest.approx(published, abs=0.06)
