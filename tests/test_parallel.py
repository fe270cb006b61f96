"""Logs read in parts, by several processes, against the same logs read at one go."""

from __future__ import annotations

import errno
import functools
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live import memory
from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.errors import MoeLiveError
from moe_live.formats.llama_server import LLAMA_SERVER
from moe_live.parallel import worker as worker_module
from moe_live.parallel.plan import Part, find_step, plan
from moe_live.parallel.session import ParallelSession
from moe_live.parallel.worker import PartReader, analyzer_of, start_workers
from moe_live.running import Run
from moe_live.settings import RowMode, Settings
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break
from moe_live.statistics.registry import RowStatistics, StepStatistics
from tests.comparison import plain
from tests.pseudo_terminal import REPOSITORY, one_line
from tests.synthetic import HEADER, SyntheticLog, logs

GATES = "glm4moe-160e-top8-gates.log.gz"


def decode_log(tokens: int = 300, layers: Sequence[int] = tuple(range(3, 33)), seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    lines = [
        b"%d,%b\n" % (layer, b" ".join(b"%d" % e for e in rng.permutation(40)[:4]))
        for _ in range(tokens)
        for layer in layers
    ]
    return b"layer_id,expert_ids\n" + b"".join(lines)


def every_step(path: Path, settings: Settings) -> list[int]:
    """All places where the file may be cut."""
    found: list[int] = []
    while (begin := find_step(str(path), found[-1] - 1 if found else 0, settings, LLAMA_SERVER)) is not None:
        found.append(begin)
    return found


def in_parts(path: Path, cuts: Sequence[int], settings: Settings) -> Analyzer:
    """The file read in parts, each with the label in force and merged as several processes would."""
    merged = Analyzer(settings)
    for begin, end in zip([0, *cuts], [*cuts, None], strict=True):
        part = Part(str(path), begin, end, LLAMA_SERVER)
        reader = PartReader(part, analyzer_of(part, settings, merged.label))
        while reader.read():
            pass
        assert not reader.finish()
        merged.merge(reader.analyzer)
        merged.label = reader.analyzer.label
    return merged


def at_one_go(
    text: bytes, settings: Settings | None = None, *, paths: tuple[str, ...] = (), log: Path | None = None
) -> Analyzer:
    """The text in one piece, as of these paths, or only as that of a log."""
    analyzer = Analyzer(settings, paths=paths)
    if log is not None:
        analyzer.log = str(log)
    analyzer.feed(text)
    analyzer.finish()
    return analyzer


@given(
    logs(heads=True),
    st.sampled_from([Settings(), Settings(rows=RowMode.VERIFIED, include_prompt=True)]),
    st.data(),
)
def test_a_log_cut_at_any_steps_gives_the_identical_snapshot(
    log: SyntheticLog, settings: Settings, data: st.DataObject
) -> None:
    text = log.text
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(log.pieces) - 1))
        lines = data.draw(
            st.sampled_from([b"\0\0\0", b"# label: code\n", b"junk\n", b"\0\n", b"7,1 2\r\n", HEADER, HEADER])
        )
        text = b"".join((*log.pieces[:at], lines, *log.pieces[at:]))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        path.write_bytes(text)
        places = every_step(path, settings)
        share = data.draw(st.sampled_from([0.1, 0.5, 1.0]))
        chosen = np.random.default_rng(0).random(len(places)) < share
        cuts = [place for place, cut in zip(places, chosen.tolist(), strict=True) if cut]
        parts = in_parts(path, cuts, settings)
    whole = at_one_go(text, settings, log=path)
    assert plain(parts.snapshot()) == plain(whole.snapshot())
    assert parts.label == whole.label


def test_every_step_of_a_plain_log_is_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"3,1 2\n7,1 2\n3,4 5\n3,6 7\n7,1 2\n7,1 2\n3,1 2\n")
    assert every_step(path, Settings()) == [12, 36]


@pytest.mark.parametrize(
    "between",
    [b"junk\n", b"# label: x\n", b"7,1 2 \n", b"\0\0", b"layer_id,expert_ids\n", b"gate_input,9,0,1 x\n"],
)
def test_no_step_is_cut_off_where_anything_else_stands(tmp_path: Path, between: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"3,1 2\n7,1 2\n" + between + b"3,4 5\n")
    assert every_step(path, Settings()) == []


@pytest.mark.parametrize("text", [b"3,1 2\n3,2 1\n" * 500, b"3,1 2\n7,2 1"])
def test_a_log_without_known_steps_is_not_cut(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    assert not plan([str(path)], 2, Settings(), min_bytes=0, part_bytes=1)


def test_a_log_of_one_gate_layer_is_cut_where_its_rows_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"gate_input,3,0,1 2\ngate_input,3,1,1 2\ngate_input,3,0,3 4\n")
    assert every_step(path, Settings()) == [38]


def test_small_packed_and_unreadable_files_and_pipes_are_left_to_one_process(tmp_path: Path) -> None:
    text = decode_log()
    path, packed, pipe = (tmp_path / name for name in ("log", "log.gz", "pipe"))
    path.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    os.mkfifo(pipe)
    cut = functools.partial(plan, jobs=2, settings=Settings(), min_bytes=0, part_bytes=1000)
    assert cut([str(path)])
    for other in (packed, pipe, tmp_path / "missing", tmp_path):
        assert not cut([str(path), str(other)])
    assert not cut([str(path)], jobs=1)
    assert not plan([str(path)], 2, Settings())


def test_many_small_files_are_left_to_one_process(tmp_path: Path) -> None:
    """To merge what is found in each takes longer than to read it."""
    paths = []
    for number in range(32):
        paths.append(str(tmp_path / str(number)))
        Path(paths[-1]).write_bytes(decode_log(10))
    size = Path(paths[0]).stat().st_size
    cut = functools.partial(plan, paths, 2, Settings(), part_bytes=1000)
    assert cut(min_bytes=16 * size - 16)
    assert not cut(min_bytes=16 * size + 16)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(decode_log())
    return path


@pytest.fixture
def parallel_session() -> Callable[..., ParallelSession]:
    def session(paths: Sequence[Path], jobs: int = 2, settings: Settings | None = None) -> ParallelSession:
        names = tuple(map(str, paths))
        settings = settings or Settings()
        parts = plan(names, jobs, settings, min_bytes=0, part_bytes=5_000)
        started = start_workers(jobs, settings)
        return ParallelSession(ArchiveSource(names), parts, started, settings, paths=names)

    return session


def read_all(session: Run) -> None:
    while not session.ended:
        session.ingest(0.1)


def assert_reads_all_of(log: Path, session: Run) -> None:
    read_all(session)
    assert plain(session.finish()) == plain(at_one_go(log.read_bytes(), paths=(str(log),)).snapshot())


def test_several_processes_give_the_identical_snapshot(
    tmp_path: Path, parallel_session: Callable[..., ParallelSession]
) -> None:
    """Two files, with labels: that at the end of the first holds on in the second."""
    paths = [tmp_path / "1.log", tmp_path / "2.log"]
    half, rest = decode_log(), decode_log(seed=1)
    texts = [
        half + b"# label: code\n" + half + b"# label: text\n",
        rest + b"# label: prose\n" + rest + b"3,1",
    ]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    session = parallel_session(paths)
    read_all(session)
    status = session.status().source
    assert status.position == status.size == sum(map(len, texts))
    both = Analyzer(Settings(), paths=tuple(map(str, paths)))
    both.feed(texts[0])
    both.interrupt(Break.FILE_ENDED)
    both.feed(texts[1])
    both.finish()
    assert plain(session.finish()) == plain(both.snapshot())
    assert session.status().source.position == sum(map(len, texts))


def test_a_real_log_cut_in_many_places_gives_the_identical_snapshot(tmp_path: Path, real_logs: Path) -> None:
    for name in (GATES, "glm4moe-160e-top8-2slots-ub64.log.gz"):
        text = gzip.decompress((real_logs / name).read_bytes())
        path = tmp_path / "log"
        path.write_bytes(text)
        parts = plan([str(path)], 2, Settings(), min_bytes=0, part_bytes=len(text) // 80)
        assert len(parts) > 4
        cuts = [part.begin for part in parts[1:]]
        assert plain(in_parts(path, cuts, Settings()).snapshot()) == plain(
            at_one_go(text, log=path).snapshot()
        )


def test_an_interrupted_run_has_the_figures_of_a_beginning_of_the_log(
    tmp_path: Path, parallel_session: Callable[..., ParallelSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "READ_SIZE", 3000)
    path = tmp_path / "log"
    text = decode_log()
    path.write_bytes(text)
    session = parallel_session([path])
    while not session.analyzer.tally.bytes:
        session.ingest(0.0)
    assert not session.ended
    snapshot = session.finish()
    read = snapshot.input.tally.bytes
    assert 0 < read < len(text)
    assert plain(snapshot) == plain(at_one_go(text[:read], paths=(str(path),)).snapshot())


def test_a_process_that_dies_is_told(log: Path, parallel_session: Callable[..., ParallelSession]) -> None:
    session = parallel_session([log])
    session.ingest(0.0)
    session._workers[0]._process.kill()
    with pytest.raises(MoeLiveError, match="died"):
        read_all(session)
    read = session.finish().input.tally.bytes
    assert read < log.stat().st_size


def test_there_are_no_figures_once_half_a_part_may_be_in_them(
    log: Path, parallel_session: Callable[..., ParallelSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = parallel_session([log])
    receive, received = worker_module.receive_piece, []

    def receive_and_kill(connection: Connection) -> Any:
        received.append(receive(connection))
        if len(received) == 4:
            for worker in session._workers:
                worker._process.kill()
                worker._process.join()
        return received[-1]

    monkeypatch.setattr(worker_module, "receive_piece", receive_and_kill)
    with pytest.raises(MoeLiveError, match="died"):
        read_all(session)
    assert session.snapshot().layers
    with pytest.raises(MoeLiveError, match="died"):
        session.finish()


def test_signals_to_the_whole_group_are_left_to_the_process_that_asks(
    log: Path, parallel_session: Callable[..., ParallelSession]
) -> None:
    session = parallel_session([log])
    for worker in session._workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            assert worker._process.pid is not None
            os.kill(worker._process.pid, number)
    assert_reads_all_of(log, session)


def test_too_little_memory_to_merge_is_told_in_one_line(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("moe_live.parallel.plan.plan", functools.partial(plan, min_bytes=0, part_bytes=7_500))
    monkeypatch.setattr(worker_module, "_LARGE", 1)
    monkeypatch.setattr(memory, "mmap", no_memory)
    assert main([str(log), "--jobs", "2"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "out of memory" in one_line(output.err.encode())


def test_merging_holds_one_piece_of_a_part_at_a_time(
    log: Path, parallel_session: Callable[..., ParallelSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[weakref.ref[Any]] = []
    receive = worker_module.receive_piece

    def receive_and_look(connection: Connection) -> Any:
        alive = [piece() for piece in pieces if piece() is not None]
        assert not alive
        piece = receive(connection)
        if isinstance(piece, RowStatistics | StepStatistics):
            pieces.append(weakref.ref(piece))
        return piece

    monkeypatch.setattr(worker_module, "receive_piece", receive_and_look)
    session = parallel_session([log])
    read_all(session)
    assert len(pieces) == 4 * len(session._parts)
    session.finish()


def test_a_worker_that_is_done_before_its_turn_waits(
    log: Path, parallel_session: Callable[..., ParallelSession]
) -> None:
    session = parallel_session([log])
    session.ingest(0.0)
    first, second = (session._busy[index]._process.pid for index in (0, 1))
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    while not session._busy[1].finished:
        session.ingest(0.01)
    os.kill(first, signal.SIGCONT)
    read_all(session)
    assert {worker._process.pid for worker in session._workers} == {first, second}
    assert_reads_all_of(log, session)


def test_a_file_that_has_gone_is_told_at_the_end(
    tmp_path: Path, parallel_session: Callable[..., ParallelSession]
) -> None:
    paths = [tmp_path / "1.log", tmp_path / "2.log"]
    for path in paths:
        path.write_bytes(decode_log())
    session = parallel_session(paths)
    paths[1].unlink()
    with pytest.raises(MoeLiveError, match=r"2\.log is gone"):
        read_all(session)
    assert session.ended
    assert session.finish().input.tally.bytes == paths[0].stat().st_size


@pytest.mark.parametrize("left", [0, 10, 25_000])
def test_a_file_that_becomes_shorter_is_told_at_the_end(
    tmp_path: Path, parallel_session: Callable[..., ParallelSession], left: int
) -> None:
    path = tmp_path / "1.log"
    path.write_bytes(decode_log())
    session = parallel_session([path])
    os.truncate(path, left)
    with pytest.raises(MoeLiveError, match=r"1\.log became shorter while it was read"):
        read_all(session)
    assert session.ended
    assert session.finish().input.tally.bytes <= left


def test_the_command_gives_the_same_json_with_any_number_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("moe_live.parallel.plan.plan", functools.partial(plan, min_bytes=0, part_bytes=7_500))
    path = tmp_path / "log"
    path.write_bytes(decode_log())
    summaries = []
    for jobs in ("1", "3"):
        assert main([str(path), "--jobs", jobs, "--json", "-"]) == 0
        summaries.append(json.loads(capsys.readouterr().out))

    def no_process(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(worker_module, "Worker", no_process)  # then this process reads all
    assert main([str(path), "--jobs", "3", "--json", "-"]) == 0
    summaries.append(json.loads(capsys.readouterr().out))
    assert summaries[0] == summaries[1] == summaries[2]
    assert summaries[0]["steps"]["total"] == 300


SINGLE_THREAD = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}

IN_PARTS = """
import functools, sys
from moe_live import cli
from moe_live.parallel import plan, worker
plan.plan = functools.partial(plan.plan, min_bytes=0, part_bytes=7_500)
if sys.argv[1] == "spawn":
    worker._context = functools.partial(worker.multiprocessing.get_context, "spawn")
if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("method", ["as it is", "spawn"])
def test_copies_of_the_process_and_fresh_ones_give_the_same(tmp_path: Path, method: str) -> None:
    path, script = tmp_path / "log", tmp_path / "in_parts.py"
    path.write_bytes(decode_log())
    script.write_text(IN_PARTS)
    outputs = [
        subprocess.run(
            [sys.executable, script, method, path, "--jobs", jobs, "--json", "-"],
            env=SINGLE_THREAD,
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
        ).stdout
        for jobs in ("1", "3")
    ]
    assert outputs[0] == outputs[1]


WORKERS = """
import time
from moe_live.settings import Settings
from moe_live.parallel.worker import start_workers
workers = start_workers(3, Settings())
print(*(worker._process.pid for worker in workers), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not copied")
def test_no_process_outlives_the_one_that_asks() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS], env=SINGLE_THREAD, cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        workers = process.stdout.readline().split()
        process.kill()
    assert len(workers) == 3
    while any(is_running(int(worker)) for worker in workers):
        time.sleep(0.02)


GARBAGE = """
import gc
from moe_live.parallel.worker import start_process
gc.disable()
process, ours = start_process(lambda theirs: theirs.send(gc.isenabled()), ())
print(ours.recv(), gc.isenabled())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not copied")
def test_a_copy_of_a_process_that_does_not_look_for_garbage_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE],
        env=SINGLE_THREAD,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True False\n"


LEFT = """
from moe_live.settings import Settings
from moe_live.parallel.worker import start_workers
workers = start_workers(2, Settings())
raise SystemExit(3)
"""


def test_workers_that_were_not_ended_end_with_the_process_that_asks() -> None:
    ended = subprocess.run([sys.executable, "-c", LEFT], cwd=REPOSITORY, timeout=120, check=False)
    assert ended.returncode == 3


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
