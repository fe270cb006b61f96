"""What happens inside the file: truncated, rewritten, with a hole, with the watcher and without."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moe_live.sources.logfile import MARKER_BYTES
from moe_live.sources.source import Break

from .reader import HEADER, Start, append, joined, numbered


def test_f05_truncated_starts_again_and_drops_the_partial_line(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + b"3,1 2\n3,4")
    reader = start(log)
    reader.read()
    reader.wait(2)
    with log.open("r+b") as file:
        file.truncate(0)
    reader.wait_for_event()
    reader.read()
    assert reader.breaks == [Break.RESTARTED]
    append(log, HEADER + b"3,5 6\n")
    reader.read()
    assert reader.lines == [HEADER[:-1], b"3,1 2", HEADER[:-1], b"3,5 6"]
    assert reader.dropped == [b"3,4"]
    assert reader.follower.status().restarts == 1


def test_f05_restart_of_the_server_stays_empty_for_a_while(start: Start, log: Path) -> None:
    log.touch()
    reader = start(log)
    for generation in range(3):
        os.truncate(log, 0)
        reader.wait(5)
        append(log, HEADER + b"3,%d\n" % generation)
        assert reader.wait(1) == [HEADER[:-1], b"3,%d" % generation]
    assert reader.follower.status().restarts == 2


@pytest.mark.parametrize("read_before", [1, 10, 100, 10_000], ids="{}_lines_read".format)
@pytest.mark.parametrize("extra", [0, 1, 1_000_000], ids=["to_same_size", "one_byte_more", "many_times_more"])
def test_f06_truncated_and_rewritten(start: Start, log: Path, read_before: int, extra: int) -> None:
    before = numbered(1_000_000, read_before)
    after = numbered(2_000_000, read_before)
    if extra:
        after = [b"0" + after[0], *after[1:]] if extra == 1 else [*after, *numbered(3_000_000, extra // 20)]
    log.write_bytes(HEADER + joined(before))
    reader = start(log)
    reader.read()
    size = log.stat().st_size
    log.write_bytes(HEADER + joined(after))
    assert (log.stat().st_size - size == extra) == (extra < 2)
    reader.read()
    assert reader.lines == [HEADER[:-1], *before, HEADER[:-1], *after]
    assert reader.breaks == [Break.RESTARTED]


def test_f06_rewritten_with_the_same_beginning_is_noticed_by_the_bytes_before_the_offset(
    start: Start, log: Path
) -> None:
    same = [HEADER[:-1], *numbered(0, 1000)]
    log.write_bytes(joined(same) + b"3,1 2 3\n")
    reader = start(log)
    reader.read()
    log.write_bytes(joined(same) + b"3,1 2 4\n3,7 8 9\n")
    assert reader.read() == [*same, b"3,1 2 4", b"3,7 8 9"]


def test_f06_rewritten_with_the_same_bytes_before_the_offset_is_noticed_by_the_head(
    start: Start, log: Path
) -> None:
    same = [b"4,0 1 2 3 4 5"] * 100
    log.write_bytes(joined([b"a" * MARKER_BYTES, *same]))
    reader = start(log)
    reader.read()
    log.write_bytes(joined([b"b" * MARKER_BYTES, *same, b"end"]))
    assert reader.read() == [b"b" * MARKER_BYTES, *same, b"end"]


def test_f06_rewritten_while_it_is_being_read(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(joined(numbered(0, 100)))
    reader = start(log)
    reader.read()
    after = numbered(5000, 300)
    real_pread = os.pread

    def rewriting_pread(fd: int, count: int, offset: int) -> bytes:
        monkeypatch.setattr(os, "pread", real_pread)
        data = real_pread(fd, count, offset)
        log.write_bytes(joined(after))
        return data

    append(log, joined(numbered(100, 10)))
    monkeypatch.setattr(os, "pread", rewriting_pread)
    assert reader.read() == after


def test_f07_newer_time_alone_changes_nothing(start: Start, log: Path) -> None:
    log.write_bytes(joined(numbered(0, 100)))
    reader = start(log)
    reader.read()
    for i in range(5):
        os.utime(log, ns=(i, time.time_ns() + i * 10**9))
        assert reader.wait(1) == []
    assert reader.breaks == []


@pytest.mark.parametrize("hole", [1, 255, 1_400_000, 40_000_000])
def test_f08_hole_after_truncation_from_outside(start: Start, log: Path, hole: int) -> None:
    with log.open("wb", buffering=0) as server:  # not O_APPEND
        server.write(b"x" * (hole - 1) + b"\n")
        reader = start(log)
        reader.read(1 << 20)
        with log.open("r+b") as other:
            other.truncate(0)
        server.write(b"3,1 2\n3,3 4\n")
        calls = 0
        while items := reader.follower.read(1 << 20):
            reader.feed(items)
            calls += 1
        assert calls <= hole // (1 << 20) + 2
        server.write(b"3,5 6\n")
        reader.read()
    assert reader.lines[1:] == [b"3,1 2", b"3,3 4", b"3,5 6"]
    assert reader.breaks == [Break.RESTARTED]


def test_f12_to_f16_bytes_arrive_as_they_are_whatever_they_are(start: Start, log: Path) -> None:
    data = bytes(range(256)) * 3 + b"1,2 3\r\n\xff\xfe\x85\x0b\x0c\xe2\x80\xa8\n" + b"x" * 100_000 + b"\n4,5"
    log.touch()
    reader = start(log)
    received = b""
    for begin in range(0, len(data), 977):
        append(log, data[begin : begin + 977])
        while items := reader.follower.read(300):
            received += b"".join(item for item in items if isinstance(item, bytes))
            assert not any(isinstance(item, Break) for item in items)
    assert received == data
