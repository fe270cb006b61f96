"""Finished files, compressed or not (F20)."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.errors import MoeLiveError, UsageError
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break, State

from .reader import open_files, read_to_end

TEXT = b"".join(b"%d,%d 3 5 7\n" % (i % 48, i) for i in range(50_000))
ALIEN = bytes(range(256)) * 4


def read_all(source: ArchiveSource, limit: int = 1 << 16) -> tuple[list[bytes | Break], str]:
    """All items, and what was raised at the end."""
    items: list[bytes | Break] = []
    try:
        while source.status().state is not State.ENDED:
            items.extend(source.read(limit))
    except MoeLiveError as error:
        assert source.status().state is State.ENDED
        return items, str(error)
    return items, ""


def contents(items: list[bytes | Break]) -> list[bytes]:
    """The bytes of each file."""
    files = [b""]
    for item in items:
        if isinstance(item, Break):
            assert item is Break.FILE_ENDED
            files.append(b"")
        else:
            files[-1] += item
    return files


def test_f20_files_come_in_order_with_a_break_between_them(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("b", "a", "empty", "z.gz", "c")]
    texts = [b"1\n2", b"3\n", b"", TEXT, b"4\n"]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(gzip.compress(text) if path.suffix else text)
    source = ArchiveSource(paths)
    assert source.status().name == "5 files"
    assert source.status().size == sum(path.stat().st_size for path in paths)
    items, problem = read_all(source)
    assert problem == ""
    assert contents(items) == texts
    assert source.status().lag == 0
    assert source.status().state is State.ENDED
    source.close()


def test_f20_members_and_padding(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        gzip.compress(b"a\n") + gzip.compress(b"") + bytes(100) + gzip.compress(TEXT) + bytes(1000)
    )
    items, problem = read_all(ArchiveSource([path]))
    assert (contents(items), problem) == ([b"a\n" + TEXT], "")


def test_f20_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "plain.gz"
    path.write_bytes(b"a\n")
    assert contents(read_to_end(ArchiveSource([path]))) == [b"a\n"]


@given(
    members=st.lists(st.binary(max_size=3000), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    limit=st.integers(1, 5000),
)
def test_f20_any_members_any_limit(
    tmp_path_factory: pytest.TempPathFactory, members: list[bytes], padding: int, limit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"members {os.getpid()}.gz"
    path.write_bytes(bytes(padding).join(gzip.compress(member) for member in members))
    source = ArchiveSource([path])
    items, problem = read_all(source, limit)
    assert problem == ""
    assert contents(items) == [b"".join(members)]
    assert all(len(item) <= limit for item in items if isinstance(item, bytes))


@pytest.mark.parametrize("left", [3, 10, 20, 1000, -9, -1])
def test_f20_cut_short_what_is_there_is_used(tmp_path: Path, left: int) -> None:
    paths = [tmp_path / "cut.gz", tmp_path / "next"]
    paths[0].write_bytes(gzip.compress(TEXT)[:left])
    paths[1].write_bytes(b"next\n")
    items, problem = read_all(ArchiveSource(paths))
    cut, following = contents(items)
    assert TEXT.startswith(cut)
    assert len(cut) >= {3: 0, 10: 0, 20: 0, 1000: 1000, -9: len(TEXT) - 300, -1: len(TEXT)}[left]
    assert following == b"next\n"
    assert problem == f"{paths[0]} is cut short; what could be unpacked is used; copy or make it again"


def test_f20_cut_short_what_is_unpacked_but_not_handed_out_is_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    packed = gzip.compress(b"\n" * 100_000)[:-9]
    path.write_bytes(packed)
    items, problem = read_all(ArchiveSource([path]), 100)
    assert contents(items) == [zlib.decompressobj(31).decompress(packed)]
    assert "is cut short" in problem


def test_f20_damaged_in_the_middle_everything_before_is_used(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TEXT))
    middle = len(packed) // 2
    packed[middle : middle + 64] = ALIEN[128:192]
    path = tmp_path / "damaged\n.gz"
    path.write_bytes(packed)
    items, problem = read_all(ArchiveSource([path]))
    (data,) = contents(items)
    assert len(data) >= 0.4 * len(TEXT)
    assert data[: len(TEXT) // 3] == TEXT[: len(TEXT) // 3]
    assert problem.startswith(f"{tmp_path}/damaged\\n.gz is damaged (")
    assert "\n" not in problem


def test_f20_wrong_checksum_and_garbage_after_the_end(tmp_path: Path) -> None:
    for name, packed in {
        "checksum": gzip.compress(TEXT)[:-8] + b"wrong!!!",
        "garbage": gzip.compress(TEXT) + b"garbage",
    }.items():
        path = tmp_path / name
        path.write_bytes(packed)
        items, problem = read_all(ArchiveSource([path]))
        assert contents(items) == [TEXT]
        assert f"{name} is damaged (" in problem


def test_f20_several_problems_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(3)]
    for path in paths:
        path.write_bytes(gzip.compress(TEXT)[:-5])
    source = ArchiveSource(paths)
    _, problem = read_all(source)
    assert problem.endswith("(and 2 more files with problems)")
    assert source.read(100) == []


def test_f20_progress_counts_packed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(os.urandom(1 << 20)))
    source = ArchiveSource([path])
    positions = []
    while source.status().state is not State.ENDED:
        source.read(100_000)
        positions.append(source.status().position)
        assert source.pause() == 0
    assert positions == sorted(positions)
    assert len(set(positions)) >= 8
    assert positions[-1] == source.status().size == path.stat().st_size


def test_f23_unpacking_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(200 << 20), 1))
    source = ArchiveSource([path])
    for _ in range(5):
        (data,) = source.read(1 << 16)
        assert isinstance(data, bytes)
        assert len(data) <= 1 << 16
    source.close()
    source.close()


def test_f17_f18_bad_paths_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tmp_path / "good"
    good.write_bytes(b"a\n")
    before = sorted(open_files())
    for bad, words in {
        tmp_path / "mis\x1bsing": r"cannot read .*mis\\x1bsing: there is no such file; ",
        tmp_path: "cannot read .*: it is a directory; ",
        good / "x": "cannot read .*: Not a directory; ",
    }.items():
        with pytest.raises(UsageError, match=words):
            ArchiveSource([good, bad])

    def forbidding_open(*_args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbidding_open)
        with pytest.raises(UsageError, match=r"cannot read .*good: permission denied; "):
            ArchiveSource([good])
    assert sorted(open_files()) == before


def test_file_that_vanishes_in_between_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(3)]
    for path in paths:
        path.write_bytes(b"%s\n" % path.name.encode())
    source = ArchiveSource(paths)
    paths[1].unlink()
    items, problem = read_all(source)
    assert [text for text in contents(items) if text] == [b"0\n", b"2\n"]
    assert problem == f"{paths[1]} is gone (No such file or directory); the others are used"


def test_of_a_single_file_that_goes_no_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0\n")
    source = ArchiveSource([path])
    path.unlink()
    assert read_all(source) == ([], f"{path} is gone (No such file or directory); nothing of it was read")


@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "log"
    text = b"".join(b"%d\n" % i for i in range(100_000))
    path.write_bytes(gzip.compress(text) if packed else text)
    source = ArchiveSource([path])
    first = source.read(1000)
    os.truncate(path, 10)
    items, problem = read_all(source)
    assert text.startswith(b"".join(contents([*first, *items])))
    assert problem == f"{path} became shorter while it was read; what was read of it is used"


def test_f22_read_error_is_a_problem_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / str(i) for i in range(2)]
    for path in paths:
        path.write_bytes(b"%s\n" % path.name.encode())
    source = ArchiveSource(paths)
    real_read = os.read
    failed: list[int] = []

    def read(fd: int, count: int) -> bytes:
        if not failed:
            failed.append(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read(fd, count)

    monkeypatch.setattr(os, "read", read)
    items, problem = read_all(source)
    assert contents(items) == [b"", b"1\n"]
    assert "could not be read to its end (Input/output error)" in problem


@pytest.mark.parametrize("packed", [True, False])
def test_f19_fifo_as_a_path(tmp_path: Path, packed: bool) -> None:
    fifo, plain = tmp_path / "fifo", tmp_path / "plain"
    os.mkfifo(fifo)
    plain.write_bytes(b"plain\n")
    source = ArchiveSource([plain, fifo, plain])  # does not wait for a writer
    assert source.read(1000) == [b"plain\n", Break.FILE_ENDED]
    assert source.read(1000) == []
    assert 0 < source.pause() < 0.3
    assert source.status().size is None

    writer = threading.Thread(target=lambda: fifo.write_bytes(gzip.compress(TEXT) if packed else TEXT))
    writer.start()
    items = read_to_end(source)
    writer.join()
    assert contents(items) == [TEXT, b"plain\n"]


@pytest.mark.parametrize("text", [b"a\nb\n", b""])
@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_f19_process_substitution_even_if_its_command_has_ended(text: bytes, path: str) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, text)
    os.close(write_fd)
    source = ArchiveSource([path.format(read_fd)])
    assert contents(read_to_end(source)) == [text]
    source.close()
    os.close(read_fd)


PROGRAM = """
import sys
from moe_live.sources.archive import ArchiveSource
source = ArchiveSource(["/dev/stdin"])
while source.status().state.value != "ended":
    for item in source.read(1000):
        sys.stdout.buffer.write(item)
"""


@pytest.mark.parametrize("redirected", [True, False])
def test_f19_dev_stdin_in_a_real_process(tmp_path: Path, redirected: bool) -> None:
    log = tmp_path / "log"
    log.write_bytes(TEXT)
    command = [sys.executable, "-c", PROGRAM]
    with log.open("rb") as file:
        result = (
            subprocess.run(command, stdin=file, capture_output=True, check=True, timeout=120)
            if redirected
            else subprocess.run(command, input=TEXT, capture_output=True, check=True, timeout=120)
        )
    assert result.stdout == TEXT


def test_a_file_that_has_nothing_now_does_not_keep_read_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "waits"
    path.write_bytes(b"1,2\n")
    source = ArchiveSource([path])
    real_read = os.read
    calls = iter([BlockingIOError(), None, None])

    def read(fd: int, size: int) -> bytes:
        if (error := next(calls)) is not None:
            raise error
        return real_read(fd, size)

    monkeypatch.setattr("moe_live.sources.stream.os.read", read)
    assert list(source.read(100)) == []
    assert source.pause() > 0
    assert list(source.read(100)) == [b"1,2\n"]
    source.close()
