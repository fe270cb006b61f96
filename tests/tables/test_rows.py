"""`moe-live rows`: counting the lines of the table is the summary, whatever the log."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.errors import MoeLiveError
from moe_live.parallel import worker
from moe_live.settings import Settings
from moe_live.simulator import HEADER, ModelShape, SimulatedServer
from moe_live.snapshot import Snapshot
from moe_live.tables import beside
from moe_live.tables.columns import Names, Piece, length, spread
from moe_live.tables.convert import write_rows
from moe_live.tables.files import table_writer
from moe_live.tables.reading import Logs
from moe_live.tables.rows import COLUMNS
from tests.analysis import snapshot_of
from tests.formats.written import (
    TELL_WEIGHTS,
    WRITERS,
    Row,
    llama_server,
    rows_of_a_model,
    rows_of_a_real_model,
)
from tests.synthetic import SyntheticLog, logs

Line = dict[str, Any]


class Kept:
    """A writer that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def write(self, piece: Piece) -> None:
        cells = [self._cells(piece, column.name) for column in COLUMNS]
        assert all(len(each) == length(piece) for each in cells)
        self.lines += [
            dict(zip((column.name for column in COLUMNS), line, strict=True))
            for line in zip(*cells, strict=True)
        ]

    def _cells(self, piece: Piece, name: str) -> list[Any]:
        values = spread(piece[name])
        if values is None:
            return [None] * length(piece)
        if isinstance(values, Names):
            return [None if code < 0 else values.names[code] for code in values.codes.tolist()]
        if name == "believed":
            return [{1: True, 0: False, -1: None}[value] for value in values.tolist()]
        return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124 - NaN


def table(
    path: Path, *, again: bool = True, by_another: bool = False, **options: Any
) -> tuple[Snapshot, list[Line]]:
    """The table of a log, which is whole at the first attempt, or made `again`."""
    begun: list[Kept] = []

    @contextmanager
    def begin() -> Iterator[Kept]:
        begun.append(Kept())
        yield begun[-1]

    log = Logs((str(path),), Settings(counts_only=True, **options))
    written = write_rows(log, begin, beside=by_another, again=again)
    assert written.lines == len(begun[-1].lines)
    return written.snapshot, begun[-1].lines


def counted(lines: Sequence[Line], n_experts: int) -> dict[tuple[int, str], list[int]]:
    """Selections of each expert by layer and phase, in the lines that are not disbelieved."""
    counts: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * n_experts)
    for line in lines:
        if line["believed"] is not False:
            counts[line["layer"], line["phase"]][line["expert"]] += 1
    return dict(counts)


def summed_up(snapshot: Snapshot) -> dict[tuple[int, str], list[int]]:
    """The same of a summary."""
    found = {}
    for entry in snapshot.layers:
        for phase, counts in (("prefill", entry.usage.prefill), ("decode", entry.usage.decode)):
            if counts.any():
                found[entry.layer, phase] = counts.tolist()
    return found


def rows_with(lines: Sequence[Line], believed: set[bool | None]) -> int:
    """How many rows have one of these verdicts."""
    return sum(line["believed"] in believed and line["rank"] == 0 for line in lines)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs(heads=True))
def test_counting_the_lines_is_the_summary(log: SyntheticLog, tmp_path: Path) -> None:
    path = tmp_path / "moe.log"
    path.write_bytes(log.text)
    snapshot = snapshot_of(log.text)
    if not snapshot.rows.logged:
        with pytest.raises(MoeLiveError):
            table(path)
        return
    _, lines = table(path)
    assert counted(lines, snapshot.model.n_experts or 0) == summed_up(snapshot)
    rows = snapshot.rows
    assert rows_with(lines, {True, None}) == rows.counted
    assert rows_with(lines, {True, False, None}) == rows.logged - rows.drafts - rows.odd - impossible(
        snapshot
    )
    order = [(line["step"], line["layer"], line["row"], line["rank"]) for line in lines]
    assert order == sorted(order)


def impossible(snapshot: Snapshot) -> int:
    """Rows that neither kind of logger writes; what only a sound one does not is in the table."""
    return snapshot.rows.impossible - sum(run.impossible for run in snapshot.rows.latest_runs)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs(heads=True), at=st.integers(1, 1 << 12), glance=st.integers(0, 1 << 12))
def test_it_does_not_depend_on_how_the_log_is_read_or_what_is_supposed(
    log: SyntheticLog, at: int, glance: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "moe.log"
    path.write_bytes(log.text)
    try:
        told, whole = table(path, again=False)
    except MoeLiveError:
        return
    with monkeypatch.context() as small:
        small.setattr("moe_live.tables.reading.READ_SIZE", at)
        small.setattr("moe_live.tables.reading.GLANCE_BYTES", glance)
        small.setattr("moe_live.tables.rows.PIECE", 50)
        snapshot, lines = table(path)
    assert lines == whole
    assert (snapshot.rows, snapshot.model, snapshot.steps) == (told.rows, told.model, told.steps)
    assert sorted(snapshot.warnings) == sorted(told.warnings)


@pytest.mark.parametrize("glance", [0, 1 << 22])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_process_beside_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, glance: int, *, strided: bool
) -> None:
    shape = ModelShape(n_layers=4, n_experts=64, top_k=6, gate_layers=())
    server = SimulatedServer(shape, ubatch=64, strided=strided, seed=2)
    text = b"".join(step.text for request in islice(server.requests(), 3) for step in server.serve(request))
    path = tmp_path / "moe.log"
    path.write_bytes((HEADER + b"# label: a\n" + text) * runs)
    told, lines = table(path)
    monkeypatch.setattr("moe_live.tables.convert.LARGE_BYTES", 0)
    monkeypatch.setattr("moe_live.tables.reading.GLANCE_BYTES", glance)
    snapshot, found = table(path, by_another=True)
    assert sum(snapshot.rows.runs.values()) == runs
    assert (snapshot.rows, found) == (told.rows, lines)


def test_a_process_beside_that_dies_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(b"3,1 2\n4,1 2\n" * 200_000)
    monkeypatch.setattr("moe_live.tables.convert.LARGE_BYTES", 0)
    receive = worker.receive_piece

    def receive_and_kill(*asked: Any) -> Any:
        told = receive(*asked)
        for reader in active_children():
            reader.kill()
            reader.join()
        return told

    monkeypatch.setattr(beside, "receive_piece", receive_and_kill)
    assert main(["rows", str(log), "--jobs", "2", "--to", str(tmp_path / "rows.csv")]) == 1
    said = capfd.readouterr().err
    assert "a process that read a part of the input died" in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["moe.log"]
    assert not active_children()


def test_what_the_first_steps_show_is_read_once_and_what_they_do_not_show_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun = tmp_path / "moe.log", []
    monkeypatch.setattr("moe_live.tables.reading.GLANCE_BYTES", 1 << 14)

    @contextmanager
    def begin() -> Iterator[Kept]:
        begun.append(Kept())
        yield begun[-1]

    shape = ModelShape(first_layer=0, n_layers=4, n_experts=64, top_k=6, gate_layers=())
    server = SimulatedServer(shape, ubatch=64, strided=False, seed=2)
    sound = HEADER + b"".join(step.text for step in server.serve(next(server.requests())))
    alone = b"0,1 2\n1,1 2\n2,1 2\n3,1 2\n" * 5000
    for text, times in ((alone, 1), (sound * 2, 1), (alone + sound, 1), (alone + b"4,1 2\n", 2)):
        path.write_bytes(text)
        begun.clear()
        write_rows(Logs((str(path),), Settings(counts_only=True)), begin)
        assert len(begun) == times


@pytest.mark.parametrize("strided", [False, True])
def test_what_the_model_chose_is_believed_and_nothing_else(tmp_path: Path, *, strided: bool) -> None:
    shape = ModelShape(first_layer=3, n_layers=6, n_experts=64, top_k=6, gate_layers=())
    server = SimulatedServer(shape, ubatch=64, strided=strided, seed=5)
    steps = [
        step
        for _, request in zip(range(4), server.requests(), strict=False)
        for step in server.serve(request)
    ]
    path = tmp_path / "moe.log"
    path.write_bytes(HEADER + b"".join(step.text for step in steps))
    _, lines = table(path)
    truth = {
        (number, block.layer, row): (chosen.tolist(), "decode" if step.decode else "prefill")
        for number, step in enumerate(steps, 1)
        for block in step.blocks
        for row, chosen in enumerate(block.experts)
    }
    found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for line in lines:
        key = line["step"], line["layer"], line["row"]
        assert line["phase"] == truth[key][1]
        if line["believed"]:
            found[key].append(line["expert"])
    assert all(found[key] == truth[key][0] for key in found)
    several = [key for key in truth if key[2] > 0]
    assert len(found) == len(truth) if not strided else len(found) < len(truth)
    assert any(key in found for key in several)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_a_model(apart=True), name=st.sampled_from(TELL_WEIGHTS))
def test_weights_stay_with_their_experts(rows: list[Row], name: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(WRITERS[name][0](rows))
    _, lines = table(path)
    told = sorted((row.layer, *pair) for row in rows for pair in zip(row.experts, row.weights, strict=True))
    assert sorted((line["layer"], line["expert"], line["weight"]) for line in lines) == told


@pytest.mark.parametrize("name", WRITERS)
def test_every_dialect(name: str, tmp_path: Path) -> None:
    rows = rows_of_a_real_model()
    path = tmp_path / "trace"
    path.write_text(WRITERS[name][0](rows))
    snapshot, lines = table(path)
    assert counted(lines, snapshot.model.n_experts or 0) == summed_up(snapshot)


def test_texts_that_share_a_pass_keep_their_phases(tmp_path: Path) -> None:
    path = tmp_path / "moe.log"
    prompt = "# step pos=0 1 2 seq=0 0 0 out=0 0 1\n3,1 2\n3,3 4\n3,5 6\n4,1 2\n4,3 4\n4,5 6\n"
    both = "# step pos=3 0 1 seq=0 1 1 out=1 0 1\n3,7 8\n3,1 3\n3,2 4\n4,7 8\n4,1 3\n4,2 4\n"
    path.write_text(prompt + both)
    _, lines = table(path)
    second = [line for line in lines if line["step"] == 2 and line["rank"] == 0]
    assert [(line["layer"], line["row"], line["phase"], line["expert"]) for line in second] == [
        (3, 0, "decode", 7),
        (3, 1, "prefill", 1),
        (3, 2, "prefill", 2),
        (4, 0, "decode", 7),
        (4, 1, "prefill", 1),
        (4, 2, "prefill", 2),
    ]


def test_each_run_of_the_server_has_its_own_verdict(tmp_path: Path) -> None:
    path = tmp_path / "moe.log"
    shape = ModelShape(n_layers=4, n_experts=64, top_k=6, gate_layers=())
    text = b""
    for strided in (True, False, True):
        server = SimulatedServer(shape, ubatch=64, strided=strided, seed=9)
        text += HEADER + b"".join(step.text for step in server.serve(next(server.requests())))
    path.write_bytes(text)
    snapshot, lines = table(path)
    assert counted(lines, 64) == summed_up(snapshot)
    steps = max(line["step"] for line in lines) // 3
    doubted = {(line["step"] - 1) // steps for line in lines if line["believed"] is False}
    assert doubted == {0, 2}


def csv_lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_what_the_table_has(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / 'a, "b".log'
    path.write_bytes(b'# label: x,"y"\n' + llama_server(rows_of_a_real_model(), weights=True).encode())
    _, lines = table(path)
    assert main(["rows", str(path), "--to", "-"]) == 0
    found = csv_lines(capfdbinary.readouterr().out.decode())
    told = [
        {
            name: {None: "", True: "true", False: "false"}[value]
            if value is None or isinstance(value, bool)
            else str(value)
            for name, value in line.items()
        }
        for line in lines
    ]
    assert found == told
    assert {line["label"] for line in found} == {'x,"y"'}
    assert main(["rows", str(path), "--label-by-file", "--to", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert {line["label"] for line in csv.DictReader(file)} == {'x,"y"'}


def test_parquet_has_what_the_table_has_group_by_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("moe_live.tables.parquet._GROUP", 100)
    monkeypatch.setattr("moe_live.tables.rows.PIECE", 70)
    path, to = tmp_path / "moe.log", tmp_path / "rows.parquet"
    path.write_bytes(b"# label: a\n" + llama_server(rows_of_a_real_model(), weights=True).encode() * 3)
    _, lines = table(path)
    assert main(["rows", str(path), "--to", str(to)]) == 0
    assert parquet.ParquetFile(to).num_row_groups > 10
    assert parquet.read_table(to).to_pylist() == lines


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_given_up_leaves_nothing_and_says_nothing(
    ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    to = str(tmp_path / f"rows.{ending}")
    with suppress(KeyboardInterrupt), table_writer(to, COLUMNS[:1], "rows") as writer:
        writer.write({"step": np.arange(300_000)})
        writer.write({"step": np.arange(10)})
        raise KeyboardInterrupt
    gc.collect()  # what is left open would complain
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("moe_live.tables.parquet._GROUP", 100)
    log, to = tmp_path / "moe.log", tmp_path / "rows.parquet"
    log.write_text(llama_server(rows_of_a_real_model()))
    to.symlink_to("/dev/full")
    assert main(["rows", str(log), "--to", str(to)]) == 1
    gc.collect()  # what is left open would complain
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "warning:" not in line]
    assert "No space left on device" in said


def test_labels_by_file_and_packed_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "math.log.gz").write_bytes(gzip.compress(b"3,1 2\n4,1 2\n" * 5))
    (tmp_path / "code.log").write_bytes(b"3,5 2\n4,5 2\n" * 5)
    names = [str(tmp_path / name) for name in ("math.log.gz", "code.log")]
    assert main(["rows", *names, "--label-by-file", "--to", str(tmp_path / "rows.csv")]) == 0
    assert "40 lines of 20 rows" in capsys.readouterr().out
    lines = csv_lines((tmp_path / "rows.csv").read_text())
    assert {(line["label"], line["expert"]) for line in lines if line["rank"] == "0"} == {
        ("math", "1"),
        ("code", "5"),
    }


def test_a_log_that_grows_before_it_is_read_again_is_read_as_far_as_before(tmp_path: Path) -> None:
    path = tmp_path / "moe.log"
    kept = Kept()

    def written(change: Callable[[], object]) -> int:
        """How many lines there are, if the log changes when the table is begun."""

        @contextmanager
        def begin() -> Iterator[Kept]:
            change()
            yield kept

        path.write_bytes(b"3,1 2\n4,1 2\n" * 5)
        return write_rows(Logs((str(path),), Settings(counts_only=True)), begin, again=False).lines

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"3,1 2\n4,1 2\n" * 5)

    assert written(grow) == 20
    with pytest.raises(MoeLiveError, match="changed while it was read"):
        written(lambda: path.write_bytes(b"3,1 2\n"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_can_be_read_of_a_damaged_archive_is_in_the_table(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("moe_live.tables.convert.LARGE_BYTES", 0)
    rng = np.random.default_rng(1)
    rows = b"".join(b"3,%d %d\n4,5 6\n" % (first, first + 1) for first in rng.integers(0, 100, 5000).tolist())
    log, to = tmp_path / "moe.log.gz", tmp_path / "rows.csv"
    log.write_bytes(gzip.compress(rows)[:-1000])
    assert main(["rows", str(log), "--jobs", str(jobs), "--to", str(to)]) == 1
    assert "moe.log.gz" in capsys.readouterr().err
    assert 10_000 < len(csv_lines(to.read_text())) < 20_000


@pytest.mark.parametrize(
    ("text", "to", "says"),
    [
        (b"3,1 2\n", "rows.txt", "ends with .parquet or .csv"),
        (b"3,1 2\n", "moe.log.csv/rows.csv", "cannot write the table of rows"),
        (b"junk\n", "rows.csv", "no usable line"),
        (b"gate_input,3,0,1.5 2.5\n", "rows.csv", "no expert rows"),
        (b"layer_id,expert_id,count\n3,1,5\n", "rows.csv", "counts, and no rows"),
    ],
)
def test_what_is_wrong_is_one_line(
    text: bytes, to: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "moe.log").write_bytes(text)
    assert main(["rows", str(tmp_path / "moe.log"), "--to", str(tmp_path / to)]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moe.log"]


def test_a_pipe_cannot_be_read_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main(["rows", str(tmp_path / "pipe"), "--to", str(tmp_path / "rows.csv")]) == 2
    assert "read twice" in capsys.readouterr().err


def test_duckdb_counts_what_the_summary_says(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    shape = ModelShape(n_layers=4, n_experts=64, top_k=6, gate_layers=())
    server = SimulatedServer(shape, ubatch=64, strided=True, seed=2)
    text = HEADER + b"".join(step.text for step in server.serve(next(server.requests())))
    path, to = tmp_path / "moe.log", tmp_path / "rows.parquet"
    path.write_bytes(text)
    snapshot = snapshot_of(text)
    for name in ("rows.parquet", "rows.csv"):
        to = tmp_path / name
        assert main(["rows", str(path), "--to", str(to)]) == 0
        counts = np.zeros_like(snapshot.counts)
        query = f"SELECT layer, expert, count(*) FROM '{to}' WHERE believed IS NOT FALSE GROUP BY ALL"
        for layer, expert, count in duckdb.sql(query).fetchall():
            counts[snapshot.model.layers.index(layer), expert] = count
        np.testing.assert_array_equal(counts, snapshot.counts)
        query = f"SELECT count(*) FROM '{to}' WHERE NOT believed AND rank = 0"
        assert duckdb.sql(query).fetchall() == [(snapshot.rows.unrecoverable,)]
    types = dict(
        duckdb.sql(f"SELECT name, converted_type FROM parquet_schema('{tmp_path}/rows.parquet')").fetchall()
    )
    assert types["layer"] == types["expert"] == types["rank"] == "UINT_16"
