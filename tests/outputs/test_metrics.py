"""Metrics: their names and values, their file, and what Prometheus makes of them."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from moe_live.cli import main
from moe_live.errors import MoeLiveError
from moe_live.outputs import exposition
from moe_live.outputs.exposition import Exposition
from moe_live.outputs.http import Request
from moe_live.outputs.metrics import FILE_PERIOD, MetricsFile, served
from moe_live.snapshot import Snapshot
from tests.conftest import REPOSITORY
from tests.dashboard.factory import snapshot, status
from tests.outputs.served import serving
from tests.reports.snapshots import EMPTY, FULL, snapshots

MONITORING = REPOSITORY / "docs" / "monitoring"

Samples = dict[str, dict[tuple[str, ...], float]]
"""By name, values by those of the labels; the layer comes first."""


def samples(text: bytes, *, open_metrics: bool = False) -> Samples:
    found: Samples = {}
    for family in (parse_open_metrics if open_metrics else parse_text)(text.decode()):
        for sample in family.samples:
            labels = sorted(sample.labels.items(), key=lambda label: (label[0] != "layer", label[0]))
            found.setdefault(sample.name, {})[tuple(value for _, value in labels)] = sample.value
    return found


def test_they_are_the_figures_of_the_snapshot() -> None:
    shown = snapshot()
    found = samples(Exposition().text(shown, status()))
    assert found["moe_live_log_lines_total"] == {(): shown.input.tally.lines}
    assert found["moe_live_log_restarts_total"] == {(): 1}
    assert found["moe_live_tokens_total"] == {("prefill",): 1218, ("decode",): 510}
    assert found["moe_live_rows_logged_total"] == {(): 12345}
    assert found["moe_live_rows_counted"] == {(): 3480}
    assert found["moe_live_rows_dropped"] == {(): 8865}
    assert sum(found["moe_live_selections"].values()) == shown.overall.selections
    assert found["moe_live_source_lag_bytes"] == {(): 4096}
    assert [word for word, value in found["moe_live_row_verdict"].items() if value] == [("strided",)]
    assert [state for state, value in found["moe_live_source_state"].items() if value] == [("following",)]
    assert shown.locality is not None
    for entry, balance, locality in zip(shown.layers, shown.balance, shown.locality, strict=True):
        layer = str(entry.layer)
        assert found["moe_live_layer_entropy_ratio"][layer,] == balance.entropy_normalized
        assert found["moe_live_layer_unused_experts"][layer,] == balance.dead_experts
        assert found["moe_live_layer_max_violation"][layer,] == balance.max_violation
        assert found["moe_live_layer_overlap_ratio"][layer, "4"] == locality.overlap[4]
        for size in (10, 20, 40, 80):
            assert found["moe_live_layer_lru_hit_ratio"][layer, str(size)] == locality.lru_hit_rate[size - 1]
    assert len(found["moe_live_layer_lru_hit_ratio"]) == 4 * len(shown.layers)
    assert "moe_live_expert_selections" not in found


def test_sizes_of_caches_may_be_asked_for() -> None:
    found = samples(Exposition(cache_sizes=(8, 160, 161)).text(snapshot(layers=2), None))
    sizes = {(layer, size) for layer in "34" for size in ("8", "160")}
    assert set(found["moe_live_layer_lru_hit_ratio"]) == sizes


@pytest.mark.parametrize("bound", [320, 319])
def test_experts_have_series_if_asked_and_only_so_many(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_SERIES", bound)
    shown = snapshot(layers=2)
    text = Exposition(by_expert=True).text(shown, None)
    found = samples(text).get("moe_live_expert_selections", {})
    if bound < 320:
        assert found == {}
        assert b"Selections of each expert: 320 series, of at most 319, and so left out.\n" in text
        return
    assert b"Selections of each expert: 320 series, of at most 320.\n" in text
    counts = {(str(e.layer), str(i)): int(n) for e in shown.layers for i, n in enumerate(e.usage.counts)}
    assert found == counts


@given(snapshots())
def test_any_snapshot_has_metrics_that_can_be_read(shown: Snapshot) -> None:
    maker = Exposition(by_expert=True)
    plain = samples(maker.text(shown, status()))
    opened = samples(maker.open_metrics(shown, status()), open_metrics=True)
    assert plain.keys() == opened.keys()
    for name, values in plain.items():
        assert name.startswith("moe_live_")
        assert ":" not in name
        assert values == opened[name]
        assert all(math.isfinite(value) for value in values.values())


def test_without_figures_there_are_no_samples() -> None:
    found = samples(Exposition().text(EMPTY, None))
    assert not [
        name for name in found if name.startswith(("moe_live_layer", "moe_live_model_e", "moe_live_source"))
    ]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_file_changes_now_and_then_and_as_a_whole(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "moe.prom"
    output = MetricsFile(str(path), Exposition(), clock)
    assert output.destination is not None
    assert output.destination.path == str(path)
    assert output.wants_update()
    output.update(FULL, status())
    before = path.stat().st_ino
    assert samples(path.read_bytes())["moe_live_rows_logged_total"] == {(): 100}
    clock.now += FILE_PERIOD - 0.1
    assert not output.wants_update()
    clock.now += 0.2
    assert output.wants_update()
    output.update(replace(FULL, rows=replace(FULL.rows, logged=200)), status())
    assert path.stat().st_ino != before  # another file took its place
    assert samples(path.read_bytes())["moe_live_rows_logged_total"] == {(): 200}
    output.finish(FULL)
    found = samples(path.read_bytes())
    assert [state for state, value in found["moe_live_source_state"].items() if value] == [("ended",)]
    assert "moe_live_source_lag_bytes" not in found  # of then, not of now
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    output = MetricsFile(str(tmp_path / "gone" / "moe.prom"), Exposition())
    with pytest.raises(MoeLiveError, match="cannot write the metrics to"):
        output.update(FULL, status())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "moe.log"
    path.write_bytes(
        b"layer_id,expert_ids\n" + b"".join(b"0,%d 9\n1,%d 8\n" % (i % 7, i % 5) for i in range(200))
    )
    return path


def test_a_finished_log_has_metrics_too(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "moe.prom"
    assert main([str(log), "--metrics-file", str(path), "--metrics-experts", "--metrics-cache", "3,1"]) == 0
    found = samples(path.read_bytes())
    assert found["moe_live_log_lines_total"] == {(): 401}
    # A cache of one expert cannot hold the two of a step.
    assert {size for _, size in found["moe_live_layer_lru_hit_ratio"]} == {"3"}
    assert found["moe_live_expert_selections"]["0", "9"] == 200


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--metrics-experts"], "--metrics-experts and --metrics-cache go with --listen or --metrics-file"),
        (
            ["--metrics-cache", "8"],
            "--metrics-experts and --metrics-cache go with --listen or --metrics-file",
        ),
    ],
)
def test_options_alone_mean_nothing(
    log: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(log), *arguments]) == 2
    assert capsys.readouterr().err == f"moe-live: {problem}\n"


def test_without_the_extra_it_is_named(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "moe_live.outputs.exposition")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main([str(log), "--metrics-file", str(log.with_suffix(".prom"))]) == 2
    missing = "prometheus-client is not installed: pip install 'moe-live[metrics]'"
    assert capsys.readouterr().err == f"moe-live: {missing}\n"
    documents, answer = served(Namespace(metrics_experts=False, metrics_cache=None))
    assert documents == []
    reply = asyncio.run(answer(Request("/metrics", {})))
    assert (reply.status, reply.body) == (HTTPStatus.NOT_IMPLEMENTED, f"{missing}\n".encode())


def test_both_formats_are_served(log: Path) -> None:
    with serving("--follow", log, "--metrics-experts") as running:
        plain = running.get("/metrics")
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        opened = running.get(
            "/metrics",
            Accept="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        )
        assert opened.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert opened.body.endswith(b"# EOF\n")
        read = samples(opened.body, open_metrics=True)
        assert (
            read["moe_live_log_lines_total"] == samples(plain.body)["moe_live_log_lines_total"] == {(): 401}
        )
        assert read["moe_live_expert_selections"]["0", "9"] == 199  # the last step is open


def test_the_file_follows_a_run(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "moe.prom"
    with serving("--follow", log, "--metrics-file", path) as running:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first = samples(path.read_bytes())
        assert first["moe_live_source_state"]["ended",] == 0
        with log.open("ab") as file:
            file.write(b"0,1 2\n1,1 2\n")
        while running.summary()["source"]["lines"] < 403:
            assert time.monotonic() < deadline
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=60)
    last = samples(path.read_bytes())
    assert last["moe_live_log_lines_total"] == {(): 403}
    assert last["moe_live_source_state"]["ended",] == 1


PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")

needs_prometheus = pytest.mark.skipif(
    PROMTOOL is None or PROMETHEUS is None, reason="needs prometheus (on Debian: apt install prometheus)"
)


def promtool(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [str(PROMTOOL), *map(str, arguments)], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + done.stderr).decode()


@needs_prometheus
@pytest.mark.parametrize("shown", [EMPTY, FULL, snapshot()])
def test_the_linter_of_prometheus_finds_nothing(shown: Snapshot) -> None:
    assert promtool("check", "metrics", stdin=Exposition(by_expert=True).text(shown, status())) == ""


@needs_prometheus
def test_the_rules_load_and_fire(tmp_path: Path) -> None:
    assert "7 rules found" in promtool("check", "rules", MONITORING / "alerts.yml")
    assert "SUCCESS" in promtool("check", "config", MONITORING / "prometheus.yml")
    cases = (Path(__file__).with_name("alerts_test.yml")).read_text()
    test = tmp_path / "alerts_test.yml"
    test.write_text(cases.replace("ALERTS", str(MONITORING / "alerts.yml")))
    assert "SUCCESS" in promtool("test", "rules", test)


@contextmanager
def prometheus(target: int, directory: Path) -> Iterator[int]:
    """A Prometheus that scrapes a port with the settings of the docs, once a second: its own port."""
    config = (MONITORING / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8090", f"127.0.0.1:{target}").replace("15s", "1s")
    (directory / "prometheus.yml").write_text(config)
    shutil.copy(MONITORING / "alerts.yml", directory)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [
        str(PROMETHEUS),
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


def query(port: int, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers; nothing while it is not ready."""
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result
    except ConnectionError:
        return []
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []
        raise AssertionError(f"{expression}: {error.read().decode()}") from error
    except urllib.error.URLError:
        return []


def eventually(port: int, expression: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while not (found := query(port, expression)):
        assert time.monotonic() < deadline, expression
        time.sleep(0.1)
    return found


@needs_prometheus
def test_a_real_prometheus_scrapes_it_and_the_board_shows_something(log: Path, tmp_path: Path) -> None:
    with serving("--follow", log) as running, prometheus(running.port, tmp_path) as port:
        (lines,) = eventually(port, "moe_live_log_lines_total")
        assert float(lines["value"][1]) == 401
        assert lines["metric"]["job"] == "moe-live"
        eventually(port, 'up{job="moe-live"} == 1')
        eventually(port, "rate(moe_live_log_lines_total[1m])")
        board = json.loads((MONITORING / "grafana" / "board.json").read_text())
        expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        assert len(expressions) > 15
        for expression in expressions:
            filled = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
            assert eventually(port, filled), expression
        served_lines = samples(running.get("/metrics").body)["moe_live_log_lines_total"][()]
        assert served_lines == 401


def test_the_board_names_metrics_that_there_are() -> None:
    text = Exposition().text(snapshot(), status()).decode()
    board = (MONITORING / "grafana" / "board.json").read_text()
    for name in set(re.findall(r"moe_live_\w+", board)):
        assert f"{name} " in text or f"{name}{{" in text, name


def test_the_table_of_metrics_is_complete() -> None:
    table = (MONITORING / "README.md").read_text()
    for family in parse_text(Exposition(by_expert=True).text(snapshot(), status()).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name in table or name.replace("moe_live_log", "") in table, name
