"""Standard input and other descriptors (F19)."""

from __future__ import annotations

import gzip
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_live.errors import MoeLiveError, UsageError
from moe_live.sources.pipe import PipeSource
from moe_live.sources.source import State

from .reader import read_to_end


@pytest.fixture
def pipe() -> Iterator[tuple[PipeSource, int]]:
    read_fd, write_fd = os.pipe()
    source = PipeSource(read_fd, "stdin")
    yield source, write_fd
    source.close()
    source.close()


def test_f19_pipe_never_blocks_and_ends_with_its_writer(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    assert source.read(1000) == []
    assert source.status().state is State.FOLLOWING
    assert source.status().size is None
    os.write(write_fd, b"a\nb")
    assert source.read(1000) == [b"a\nb"]
    assert source.read(1000) == []
    os.write(write_fd, b"c\n")
    os.close(write_fd)
    assert source.read(1000) == [b"c\n"]
    assert source.read(1000) == []
    assert source.status().state is State.ENDED
    assert source.status().position == 5
    assert source.wake_fd() is None


def test_f19_flags_shared_with_other_processes_stay_as_they_are(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    source.read(1000)
    fd = source.wake_fd()
    assert fd is not None
    assert os.get_blocking(fd)
    os.close(write_fd)


def test_f19_wakes_up_when_something_comes(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    fd = source.wake_fd()
    assert fd is not None
    assert not select.select([fd], [], [], 0)[0]
    os.write(write_fd, b"a")
    assert select.select([fd], [], [], 0)[0]
    os.close(write_fd)


def test_f19_single_bytes_and_a_first_byte_of_gzip(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    for byte in b"\x1fab":
        os.write(write_fd, bytes([byte]))
        source_items = source.read(1000)
        assert source_items == {0x1F: [], 0x61: [b"\x1fa"], 0x62: [b"b"]}[byte]
    os.close(write_fd)
    assert source.read(1000) == []


def test_f19_lone_first_byte_of_gzip_is_handed_out_at_the_end(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    os.write(write_fd, b"\x1f")
    os.close(write_fd)
    assert source.read(1000) == [b"\x1f"]


def test_f19_redirected_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"skipped\n" + b"x" * 100)
    fd = os.open(log, os.O_RDONLY)
    os.read(fd, 8)
    source = PipeSource(fd, "stdin")
    assert source.wake_fd() is None
    assert source.status().size == 100
    assert source.status().state is State.READING
    assert source.read(60) == [b"x" * 60]
    assert source.pause() == 0
    assert source.status().lag == 40
    assert read_to_end(source) == [b"x" * 40]
    source.close()


def test_f19_unfinished_line_at_the_end_stays_unfinished(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    os.write(write_fd, b"a\n1,2 3")
    os.close(write_fd)
    assert read_to_end(source) == [b"a\n1,2 3"]


def test_f17_closed_descriptor_and_directory_are_refused(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(UsageError, match="stdin is closed; "):
        PipeSource(read_fd, "stdin")
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(UsageError, match="stdin is a directory; "):
        PipeSource(fd, "stdin")
    os.close(fd)


@pytest.mark.parametrize("cut", [0, 10], ids=["whole", "cut short"])
def test_f20_compressed_stream_is_unpacked_as_it_comes(pipe: tuple[PipeSource, int], cut: int) -> None:
    source, write_fd = pipe
    text = b"".join(b"%d,1 2 3\n" % i for i in range(100_000))
    packed = gzip.compress(text)

    def write() -> None:
        with os.fdopen(write_fd, "wb") as file:
            file.write(packed[: len(packed) - cut])

    writer = threading.Thread(target=write)
    writer.start()
    data = b""
    problem = ""
    while source.status().state is not State.ENDED:
        fd = source.wake_fd()
        if fd is not None:
            select.select([fd], [], [], 10)
        try:
            items = source.read(5000)
        except MoeLiveError as error:
            problem = str(error)
        else:
            assert all(isinstance(item, bytes) and len(item) <= 5000 for item in items)
            data += b"".join(item for item in items if isinstance(item, bytes))
    writer.join()
    assert text.startswith(data)
    assert len(data) > 0.9 * len(text)
    assert (data == text, "stdin is cut short" in problem) == (not cut, bool(cut))


def test_while_little_comes_at_a_time_it_is_looked_for_now_and_then(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    fd = source.wake_fd()
    for _ in range(3):
        os.write(write_fd, b"3,1 2\n")
        assert source.read(1 << 20) == [b"3,1 2\n"]
        assert source.wake_fd() is None
        assert 0 < source.pause() <= 0.05
    assert source.read(1 << 20) == []  # nothing more: from now on a line wakes us up
    assert source.wake_fd() == fd
    os.write(write_fd, b"x" * 50_000)  # its writer may have to wait soon
    assert len(b"".join(item for item in source.read(1 << 20) if isinstance(item, bytes))) == 50_000
    assert source.wake_fd() == fd
    os.close(write_fd)


def test_f23_reads_are_bounded(pipe: tuple[PipeSource, int]) -> None:
    source, write_fd = pipe
    os.write(write_fd, b"x" * 50_000)
    (data,) = source.read(20_000)
    assert len(data) == 20_000 if isinstance(data, bytes) else False
    assert source.pause() == 0
    os.close(write_fd)
    assert b"".join(item for item in read_to_end(source) if isinstance(item, bytes)) == b"x" * 30_000
