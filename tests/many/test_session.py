"""Many logs as tasks, against one process that reads them all."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError
from moe_live.many import logs as logs_module
from moe_live.many import session as session_module
from moe_live.many.engine import Engine
from moe_live.many.logs import cut, find_logs
from moe_live.many.session import ManyLogs
from moe_live.many.tasks import read, unpacked
from moe_live.parallel.plan import Part
from moe_live.reading import read as read_all
from moe_live.settings import RowMode, Settings
from tests.comparison import plain
from tests.many.engines import AnyOrder
from tests.synthetic import SyntheticLog, logs
from tests.test_parallel import decode_log


def run(
    paths: Sequence[Path | str], engine: Engine, settings: Settings | None = None, *, strict: bool = False
) -> ManyLogs:
    settings = settings or Settings()
    found, problems = find_logs([str(path) for path in paths])
    assert not problems
    parts = cut(found, engine.workers, settings)
    session = ManyLogs(parts, engine, settings, name="logs", size=None, strict=strict)
    while not session.ended:
        session.ingest(60.0)
    return session


@given(
    logs(heads=True),
    st.sampled_from([Settings(), Settings(rows=RowMode.VERIFIED, include_prompt=True, label="first")]),
    st.data(),
)
def test_any_logs_in_any_order_of_tasks_are_one_run(
    log: SyntheticLog, settings: Settings, data: st.DataObject
) -> None:
    pieces = list(log.pieces)
    for at in data.draw(st.sets(st.integers(0, len(pieces) - 1), max_size=3)):
        label = data.draw(st.sampled_from([b"code", b"prose", b"first"]))
        pieces[at] = b"# label: %b\n" % label + pieces[at]
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "FAN", data.draw(st.integers(2, 4)))
        patch.setattr(logs_module, "TOGETHER", data.draw(st.sampled_from([1, 200, 1 << 20])))
        paths: list[Path] = []
        while pieces:
            many = data.draw(st.integers(1, len(pieces)))
            paths.append(Path(directory) / f"{len(paths):02}.log")
            paths[-1].write_bytes(b"".join(pieces[:many]))
            del pieces[:many]
        session = run(paths, AnyOrder(data.draw(st.integers(0, 99))), settings)
        try:
            whole = read_all(*paths, settings=settings)
        except MoeLiveError:  # no usable line
            whole = None
    snapshot = session.finish()
    if whole is not None:
        assert plain(snapshot) == plain(whole)


@pytest.mark.parametrize("many", [0, 1, 7, 8, 9, 65])
def test_the_tree_has_all_results_in_their_order(tmp_path: Path, many: int) -> None:
    paths = [tmp_path / f"{number:02}.log" for number in range(many)]
    for seed, path in enumerate(paths):
        path.write_bytes(decode_log(3, range(2), seed))
    session = run(paths, AnyOrder(many))
    assert session.source.ended
    if paths:
        assert plain(session.finish()) == plain(read_all(*paths))
    assert session.progress().lines == 7 * many


def test_large_plain_logs_are_cut_and_their_parts_merged_in_a_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.log" for number in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(b"# label: %d\n" % seed + decode_log(100, range(5), seed))
    monkeypatch.setattr(session_module, "FAN", 2)
    settings = Settings()
    found, _ = find_logs(list(map(str, paths)))
    whole = [each for log in found for each in cut([log], 3, settings)]
    assert [each.part for of in whole for each in of] == [Part(str(path), 0, None, None) for path in paths]
    monkeypatch.setattr("moe_live.many.logs.plan", small_parts)
    parts = list(cut(found, 3, settings))
    assert len(parts) > 6
    assert sum(each.size for of in parts for each in of) == sum(path.stat().st_size for path in paths)
    assert plain(run(paths, AnyOrder(5)).finish()) == plain(read_all(*paths))


def small_parts(paths: Sequence[str], jobs: int, settings: Settings) -> list[Part]:
    from moe_live.parallel.plan import plan  # noqa: PLC0415 - as it was before it was replaced

    return plan(paths, jobs, settings, min_bytes=0, part_bytes=1000)


def test_a_log_that_is_gone_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.log" for number in range(4)]
    for seed, path in enumerate(paths):
        path.write_bytes(decode_log(3, range(2), seed))

    class Gone(AnyOrder):
        def wait(self, seconds: float) -> None:
            paths[2].unlink(missing_ok=True)
            super().wait(seconds)

    session = run(paths, Gone(0))
    assert session.problems == [f"{paths[2]} is gone (No such file or directory); the others are used"]
    assert plain(session.finish()) == plain(read_all(*(path for path in paths if path.exists())))


def test_a_log_that_is_gone_is_an_error_if_all_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(decode_log(3))

    class Gone(AnyOrder):
        def wait(self, seconds: float) -> None:
            path.unlink()
            super().wait(seconds)

    with pytest.raises(MoeLiveError, match=r"a\.log is gone"):
        run([path], Gone(0), strict=True)


def test_logs_elsewhere_are_read_as_those_here(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (extra dask)")
    memory = fsspec.filesystem("memory")
    paths = [tmp_path / f"{number}.log" for number in range(3)]
    for seed, path in enumerate(paths):
        text = decode_log(20, range(4), seed)
        path.write_bytes(text)
        memory.pipe(f"/elsewhere/{path.name}.gz", gzip.compress(text))
    session = run(["memory://elsewhere/*"], AnyOrder(0))
    memory.rm("/elsewhere", recursive=True)
    snapshot, here = session.finish(), read_all(*paths)
    assert snapshot.input.paths == tuple(f"memory:///elsewhere/{path.name}.gz" for path in paths)
    assert [run.log for run in snapshot.rows.latest_runs] == list(snapshot.input.paths)
    runs = here.rows.latest_runs
    rows = replace(snapshot.rows, latest_runs=runs)
    assert plain(replace(snapshot, input=here.input, rows=rows)) == plain(here)


@pytest.mark.parametrize("together", [1, 1 << 20])
def test_a_log_whose_task_fails_is_named_also_if_others_are_read_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(logs_module, "TOGETHER", together)
    paths = [tmp_path / f"{number}.log" for number in range(4)]
    for seed, path in enumerate(paths):
        path.write_bytes(decode_log(3, seed=seed))

    class Fails(AnyOrder):
        def wait(self, seconds: float) -> None:
            """What has the first log in it fails."""
            for task in self._tasks:
                if "0.log" in str(task._arguments[0]) and not task.done():
                    monkeypatch.setattr(task, "done", lambda: True)
                    monkeypatch.setattr(task, "told", fail)
                    self._tasks.remove(task)
                    return
            super().wait(seconds)

    def fail() -> None:
        raise ValueError("killed\nworker")

    session = run(paths, Fails(0))
    assert session.problems == [rf"cannot analyze {paths[0]}: killed\nworker"]
    assert plain(session.finish()) == plain(read_all(*paths[1:]))


def test_a_log_that_changed_before_it_was_read_again_is_an_error(tmp_path: Path) -> None:
    """As after a worker has died that had read it."""
    path = tmp_path / "a.log"
    path.write_bytes(decode_log(3))

    class Again(AnyOrder):
        def wait(self, seconds: float) -> None:
            task = self._tasks[0]
            super().wait(seconds)
            told = task.told()
            path.write_bytes(decode_log(4))
            task._found = None
            task.run()
            task._found = task.found()._replace(told=told)

    with pytest.raises(MoeLiveError, match="changed while they were read"):
        run([path], Again(0))


def test_workers_of_another_version_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(decode_log(3))
    monkeypatch.setattr(session_module, "__version__", "99.0")
    with pytest.raises(MoeLiveError, match=r"a thread has moe-live .*, and this is 99\.0"):
        run([path], AnyOrder(0))


def test_what_a_task_finds_is_a_state(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(decode_log(3))
    (log,), _ = find_logs([str(path)])
    (of,) = cut([log], 2, Settings())
    found = read(of, Settings(), "code")
    assert (found.told.began, found.told.label, found.told.problems) == ("code", "code", ())
    whole = Analyzer(Settings(), paths=(str(path),))
    whole.label = "code"
    whole.feed(path.read_bytes())
    whole.finish()
    assert plain(unpacked(found).snapshot()) == plain(whole.snapshot())
