"""Which logs paths, patterns and URLs name."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moe_live.errors import UsageError
from moe_live.many import logs as logs_module
from moe_live.many.logs import Log, cut, find_logs, format_of
from moe_live.many.tasks import read
from moe_live.settings import Settings
from moe_live.sources.remote import found, is_url, opened

LINES = b"layer_id,expert_ids\n3,1 2\n4,0 7\n3,1 4\n4,7 0\n"


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system memory:// of this process, empty."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (extra dask)")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_patterns_name_logs_once_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.log", "a.log", "deep/er/c.log", "deep/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    logs, problems = find_logs(["b.log", "*.log", "**/*.log", str(tmp_path / "a.log")])
    assert [log.name for log in logs] == ["b.log", "a.log", "deep/er/c.log"]
    assert logs[1] == Log("a.log", str(tmp_path / "a.log"), 5)
    assert not problems


def test_a_name_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    for name in ("a[1].log", "a1.log"):
        (tmp_path / name).write_bytes(LINES)
    logs, _ = find_logs([str(tmp_path / "a[1].log")])
    assert [log.name for log in logs] == [str(tmp_path / "a[1].log")]


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    patterns = [str(tmp_path / name) for name in ("missing", "*.log", "fifo", "gone", "")]
    logs, problems = find_logs(patterns)
    assert not logs
    assert [problem.partition(": ")[2].partition(";")[0] for problem in problems] == [
        "there is no such file",
        "there is no such file",
        "it is no file",
        "No such file or directory",
        "it is no file",
    ]


def test_the_format_is_that_of_the_first_log_that_has_anything(tmp_path: Path) -> None:
    empty, table, other = (tmp_path / name for name in ("0", "1", "2"))
    empty.write_bytes(b"")
    table.write_bytes(gzip.compress(b"layer,expert\n3,1\n3,2\n"))
    other.write_bytes(LINES)
    logs, _ = find_logs([str(empty), str(table), str(other)])
    assert format_of(logs, Settings()) == format_of(logs[1:], Settings()) != "llama-server"
    assert format_of(logs[2:], Settings()) == "llama-server"
    assert format_of(logs[:1], Settings()) == ""


def test_short_logs_are_read_together_and_long_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "TOGETHER", 100)
    monkeypatch.setattr(logs_module, "ROUNDS", 1)
    monkeypatch.setattr(logs_module, "ALONE", 50)
    for name, size in {"a": 40, "b": 60, "c": 1, "d": 500, "e": 0, "f": 30}.items():
        (tmp_path / name).write_bytes(b"\n" * size)
    logs, _ = find_logs([str(tmp_path / "*")])

    def together(workers: int) -> list[str]:
        tasks = cut(logs, workers, Settings())
        return ["".join(name[-1] for each in of for name in each.names) for of in tasks]

    assert together(1) == ["ab", "c", "d", "ef"]
    assert together(100) == ["a", "b", "c", "d", "ef"]
    unknown = [log._replace(size=None) for log in logs]
    assert [len(of) for of in cut(unknown, 1, Settings())] == [1] * 6


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("s3://bucket/a.log", True),
        ("memory://a", True),
        ("zip://a::s3://b/c.zip", True),
        ("/a://b", False),
        ("a.log", False),
        ("s3://", False),
    ],
)
def test_urls_are_told_from_paths(text: str, is_one: bool) -> None:
    assert is_url(text) is is_one


def test_urls_are_listed_and_read_packed_or_not(memory: Any) -> None:
    memory.pipe({"/logs/b.log": LINES, "/logs/a.log.gz": gzip.compress(LINES), "/logs/deep/c.log": LINES})
    logs, problems = find_logs(["memory://logs/*.log*", "memory://logs/deep/c.log"])
    assert not problems
    assert [log.name.rpartition("/")[2] for log in logs] == ["a.log.gz", "b.log", "c.log"]
    assert [log.size for log in logs][1:] == [len(LINES)] * 2
    told = [read(of, Settings(), "").told for of in cut(logs, 2, Settings())]
    assert sum(each.progress.bytes for each in told) == 3 * len(LINES)
    assert not any(each.problems for each in told)


def test_a_url_that_is_gone_is_named(memory: Any) -> None:
    memory.pipe("/a.log", LINES)
    (log,), _ = find_logs(["memory://a.log"])
    memory.rm("/a.log")
    (of,) = cut([log], 2, Settings())
    (problem,) = read(of, Settings(), "").told.problems
    assert problem == f"{log.name} is gone (No such file or directory); the others are used"


@pytest.mark.parametrize("url", ["memory://nothing.log", "memory://*.log"])
def test_urls_of_nothing_are_told(memory: Any, url: str) -> None:  # noqa: ARG001 - it is empty
    logs, (problem,) = find_logs([url])
    assert not logs
    assert problem == f"cannot read {url}: there is no such file; check the URL"


def test_a_file_system_that_fails_is_told_in_one_line(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/a.log", LINES)
    (log,), _ = find_logs(["memory://a.log"])

    class Fails:
        size = 100

        def read(self, _: int) -> bytes:
            raise RuntimeError("the bucket\nis on fire")

        def close(self) -> None:
            pass

    monkeypatch.setattr(type(memory), "open", lambda *_: Fails())
    (of,) = cut([log], 2, Settings())
    (problem,) = read(of, Settings(), "").told.problems
    assert "could not be read to its end (the bucket" in problem

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no\nentry")

    monkeypatch.setattr(type(memory), "open", refuse)
    with pytest.raises(OSError, match="no"):
        opened("memory://a.log")
    monkeypatch.setattr(type(memory), "info", refuse)
    _, problems = find_logs(["memory://a.log"])
    assert problems == [r"cannot read memory://a.log: no\nentry"]


def test_a_protocol_that_is_unknown_says_what_to_install(memory: Any) -> None:  # noqa: ARG001 - has fsspec
    with pytest.raises(UsageError, match=r"cannot read nowhere://a: .*pip install 'moe-live"):
        found("nowhere://a")


def test_without_fsspec_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"cannot read s3://a: .*pip install 'moe-live"):
        found("s3://a")
