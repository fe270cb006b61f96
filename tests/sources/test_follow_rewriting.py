"""What happens inside the file: truncated, rewritten, with a hole, with the watcher and without."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moe_live.sources.place import MARKER_BYTES
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


def cut_inside_line(data: bytes, share: float) -> int:
    """A place inside a line, near this share of the data."""
    return data.rindex(b"\n", 0, int(share * len(data))) + 4


@pytest.mark.parametrize("count", [20, 1000, 200_000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_f32_cut_inside_a_line_is_read_on_at_the_new_end(
    start: Start, log: Path, count: int, share: float
) -> None:
    data = HEADER + joined(numbered(0, count))
    log.write_bytes(data)
    reader = start(log)
    reader.read()
    os.truncate(log, cut_inside_line(data, share))
    reader.wait(1)
    append(log, joined(numbered(count, 10)))
    reader.wait(1)
    assert reader.lines == [HEADER[:-1], *numbered(0, count), *numbered(count, 10)]
    assert reader.breaks == [Break.SHORTENED]
    status = reader.follower.status()
    assert (status.restarts, status.gaps.shortened, status.gaps.repeated_lines) == (0, 1, 0)
    assert "was cut inside a line once: what was left of it had been read" in status.detail


def test_f32_cut_inside_a_line_again_and_again(start: Start, log: Path) -> None:
    data = HEADER + joined(numbered(0, 5000))
    log.write_bytes(data)
    reader = start(log)
    reader.read()
    for i in range(10):
        os.truncate(log, cut_inside_line(data, 1 - 0.09 * (i + 1)))
        reader.wait(1)
        append(log, joined(numbered(10_000 + 10 * i, 10)))
        reader.wait(1)
    assert reader.lines == [HEADER[:-1], *numbered(0, 5000), *numbered(10_000, 100)]


@pytest.mark.parametrize("limit", [7, 100, 1 << 20])
def test_f32_cut_between_lines_is_a_restart_and_tells_how_many_lines_may_be_double(
    start: Start, log: Path, limit: int
) -> None:
    log.write_bytes(joined(numbered(0, 1000)))
    reader = start(log)
    reader.read(limit)
    os.truncate(log, len(joined(numbered(0, 500))))
    reader.read(limit)
    append(log, joined(numbered(1000, 10)))
    reader.read(limit)
    assert reader.lines == [*numbered(0, 1000), *numbered(0, 500), *numbered(1000, 10)]
    assert reader.breaks == [Break.RESTARTED]
    status = reader.follower.status()
    assert status.gaps.repeated_lines == 500
    assert "up to 500 lines may be counted twice" in status.detail


@pytest.mark.parametrize("after", [10, 2000])
def test_f32_cut_and_written_on_before_a_look_tells_a_bound_of_what_may_be_double(
    start: Start, log: Path, after: int
) -> None:
    data = joined(numbered(0, 1000))
    log.write_bytes(data)
    reader = start(log)
    reader.read()
    os.truncate(log, cut_inside_line(data, 0.5))
    append(log, joined(numbered(5000, after)))
    reader.wait(1)
    doubled = len(reader.lines) - len(set(reader.lines))
    assert 490 < doubled <= reader.follower.status().gaps.repeated_lines < doubled + 25


def test_f32_a_server_that_writes_the_same_again_is_read_again(start: Start, log: Path) -> None:
    data = HEADER + joined(numbered(0, 1000))
    log.write_bytes(data)
    reader = start(log)
    reader.read()
    with log.open("wb", buffering=0) as server:
        server.write(data[: len(data) // 2].rpartition(b"\n")[0] + b"\n")
        reader.wait(1)
        server.write(data[server.tell() :])
    reader.wait(1)
    assert reader.lines == 2 * [HEADER[:-1], *numbered(0, 1000)]
    assert 490 < reader.follower.status().gaps.repeated_lines < 510


def test_f32_a_server_that_wrote_something_else_is_read_whole_though_it_stopped_inside_a_line(
    start: Start, log: Path
) -> None:
    log.write_bytes(HEADER + joined(numbered(0, 1000)))
    reader = start(log)
    reader.read()
    log.write_bytes(HEADER + joined(numbered(0, 20)) + joined(numbered(5000, 20)) + b"3,4")
    reader.wait(1)
    append(log, b" 5\n")
    reader.wait(1)
    assert reader.lines[1001:] == [HEADER[:-1], *numbered(0, 20), *numbered(5000, 20), b"3,4 5"]
    assert reader.breaks == [Break.RESTARTED]


def test_f32_cut_before_it_was_read_tells_how_many_bytes_are_lost(start: Start, log: Path) -> None:
    data = joined(numbered(0, 1000))
    log.write_bytes(data)
    reader = start(log)
    reader.feed(reader.follower.read(100))
    cut = cut_inside_line(data, 0.5)
    os.truncate(log, cut)
    reader.read(1000)
    append(log, joined(numbered(5000, 10)))
    reader.wait(1)
    *whole, part = data[:cut].split(b"\n")
    first, *others = numbered(5000, 10)
    assert reader.lines == [*whole, part + first, *others]  # as the file has it now
    assert reader.follower.status().gaps.lost_bytes == len(data) - cut


@pytest.mark.parametrize("copied", [True, False])
def test_f35_line_cut_by_truncation_is_never_joined(start: Start, log: Path, copied: bool) -> None:
    log.write_bytes(HEADER + b"13,1 2\n1")
    reader = start(log)
    reader.read()
    if copied:
        log.with_name(log.name + ".1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, b"4,3 4\n15,5 6\n")
    reader.wait(1)
    assert reader.lines == [HEADER[:-1], b"13,1 2", b"4,3 4", b"15,5 6"]
    assert reader.dropped == [b"1"]
    assert reader.breaks == [Break.RESTARTED]


def test_f35_what_follows_a_cut_inside_a_line_is_not_joined_to_what_is_left(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + b"13,1 2\n14,3 4\n15,5 6\n")
    reader = start(log)
    reader.read()
    os.truncate(log, log.read_bytes().index(b"14,") + 1)
    reader.wait(1)
    append(log, b"4,7 8\n")
    reader.wait(1)
    assert reader.lines == [HEADER[:-1], b"13,1 2", b"14,3 4", b"15,5 6", b"4,7 8"]


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
