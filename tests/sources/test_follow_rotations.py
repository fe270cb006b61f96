"""Files that came and went between two looks, and copies made before the log was emptied (F28, F29, F31)."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moe_live.sources import packed
from moe_live.sources.follow import GRACE_S, HELD_MAX
from moe_live.sources.source import Break

from .reader import HEADER, FailingCalls, Reader, Start, append, joined, numbered, open_files

DATES = tuple(f"202611{day}" for day in range(22, 29))


def beside(log: Path, suffix: str) -> Path:
    return log.with_name(log.name + suffix)


def compress(path: Path) -> None:
    """As gzip does: a new file, the time of the old one, and the old one is gone."""
    times = path.stat()
    packed_path = beside(path, ".gz")
    packed_path.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(packed_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.unlink()


def shift(log: Path) -> None:
    """Add one to the number of each file that was rotated."""
    for number in range(20, 0, -1):
        for packing in ("", ".gz"):
            path = beside(log, f".{number}{packing}")
            if path.exists():
                path.rename(beside(log, f".{number + 1}{packing}"))


def rotate(log: Path, keep: int = 20, *, copying: bool = False) -> None:
    """As logrotate does with `create`, or with `copytruncate`."""
    shift(log)
    if copying:
        shutil.copy(log, beside(log, ".1"))
        os.truncate(log, 0)
    else:
        log.rename(beside(log, ".1"))
        log.touch()
    for packing in ("", ".gz"):
        beside(log, f".{keep + 1}{packing}").unlink(missing_ok=True)


def lines(generation: int, count: int = 10) -> list[bytes]:
    """Different from those of all other generations."""
    return numbered(1000 * generation, count)


def rotate_numbered(log: Path, _: int) -> None:
    rotate(log)


def rotate_dated(log: Path, generation: int) -> None:
    log.rename(beside(log, "-" + DATES[generation + 2]))
    log.touch()


def rotate_dated_before_the_extension(log: Path, generation: int) -> None:
    log.rename(log.with_name(f"{log.stem}-{DATES[generation + 2]}{log.suffix}"))
    log.touch()


def rotate_rising(log: Path, generation: int) -> None:
    """A later file gets a higher number."""
    log.rename(beside(log, f".{generation + 3}"))
    log.touch()


def rotate_packed(log: Path, _: int) -> None:
    rotate(log)
    compress(beside(log, ".1"))


def rotate_packed_later(log: Path, _: int) -> None:
    """As logrotate does with `delaycompress`."""
    rotate(log)
    if beside(log, ".2").exists():
        compress(beside(log, ".2"))


def rotate_from_zero(log: Path, _: int) -> None:
    """As newsyslog does."""
    for number in range(5, -1, -1):
        if beside(log, f".{number}").exists():
            beside(log, f".{number}").rename(beside(log, f".{number + 1}"))
    log.rename(beside(log, ".0"))
    log.touch()


Rotate = Callable[[Path, int], None]
WAYS: Sequence[Rotate] = (
    rotate_numbered,
    rotate_dated,
    rotate_dated_before_the_extension,
    rotate_rising,
    rotate_packed,
    rotate_packed_later,
    rotate_from_zero,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [0, 2], ids="{}_rotated_before_the_start".format)
@pytest.mark.parametrize("stopped_at", ["line", "part"])
def test_f28_files_rotated_while_nobody_looked_are_read_in_order(
    start: Start, log: Path, way: Rotate, before: int, stopped_at: str
) -> None:
    for generation in range(before):
        log.write_bytes(HEADER + joined(lines(90 + generation)))
        way(log, generation - 2)
    log.write_bytes(HEADER + joined(lines(0)) + (b"" if stopped_at == "line" else b"1,2"))
    reader = start(log)
    reader.read()
    reader.clock.now += 60  # nobody looks
    if stopped_at == "part":
        append(log, b" 3 4\n")
    append(log, joined(lines(1)))
    for generation in range(3):
        way(log, generation)
        append(log, HEADER + joined(lines(2 + generation)))
    reader.wait(GRACE_S + 1)
    part = [] if stopped_at == "line" else [b"1,2 3 4"]
    expected = [HEADER[:-1], *lines(0), *part, *lines(1)]
    for generation in range(3):
        expected += [HEADER[:-1], *lines(2 + generation)]
    assert reader.lines == expected
    assert reader.breaks == [Break.ROTATED] * 3
    assert reader.follower.status().gaps.replaced == 0
    assert reader.follower.status().detail == ""


@pytest.mark.slow
def test_f28_files_of_more_rotations_than_may_be_held_are_all_read(start: Start, log: Path) -> None:
    log.write_bytes(b"0\n")
    reader = start(log)
    reader.read()
    before = len(open_files())
    count = 3 * HELD_MAX
    for i in range(1, count):
        log.rename(beside(log, f"-{20260000 + i}"))
        log.write_bytes(b"%d\n" % i)
    reader.clock.now += 60
    reader.read()
    assert len(open_files()) <= before + HELD_MAX + 12  # 12: the watcher
    reader.wait(GRACE_S + 10)
    assert reader.lines == [b"%d" % i for i in range(count)]
    assert reader.follower.status().gaps.replaced == 0


def test_f28_what_the_server_still_writes_to_a_rotated_file_comes_before_the_next(
    start: Start, log: Path
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    rotate(log)
    append(log, b"b\n")
    rotate(log)
    append(log, b"c\n")
    reader.wait(GRACE_S / 2)
    append(beside(log, ".1"), b"b too\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"b", b"b too", b"c"]


@pytest.mark.parametrize("rotations", [3, 5])
def test_f28_a_file_that_is_gone_is_told_by_its_number(start: Start, log: Path, rotations: int) -> None:
    log.write_bytes(joined(lines(0)))
    reader = start(log)
    reader.read()
    reader.clock.now += 60
    for generation in range(1, rotations + 1):
        rotate(log)
        append(log, joined(lines(generation)))
    beside(log, ".2").unlink()
    reader.wait(GRACE_S + 1)
    gone = rotations - 1
    assert reader.lines == [
        line for generation in range(rotations + 1) if generation != gone - 1 for line in lines(generation)
    ]
    status = reader.follower.status()
    assert (status.gaps.replaced, status.gaps.missing_files, status.gaps.uncertain) == (rotations, 1, 0)
    assert status.detail == (
        f"{log} was replaced {rotations} times while nobody looked: "
        "1 file of that time cannot be read any more"
    )


def test_f28_files_before_the_oldest_that_is_left_may_be_missing(start: Start, log: Path) -> None:
    log.write_bytes(joined(lines(0)))
    reader = start(log)
    reader.read()
    reader.clock.now += 60
    for generation in range(1, 6):
        rotate(log, keep=2)
        append(log, joined(lines(generation)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0), *lines(3), *lines(4), *lines(5)]
    status = reader.follower.status()
    assert (status.gaps.replaced, status.gaps.missing_files, status.gaps.uncertain) == (3, 0, 1)
    assert status.gaps.unseen_seconds == pytest.approx(60, abs=1)
    assert "was replaced at least 3 times while nobody looked: files may be missing" in status.detail


def test_f28_a_deleted_log_is_not_mistaken_for_a_rotated_one(start: Start, log: Path) -> None:
    for generation in range(8, 4, -1):
        log.write_bytes(joined(lines(generation)))
        rotate(log)
    append(log, joined(lines(0)))
    reader = start(log)
    reader.read()
    log.unlink()
    log.write_bytes(joined(lines(1)))
    reader.wait(GRACE_S + 1)
    compress(beside(log, ".1"))
    log.unlink()
    log.write_bytes(joined(lines(2)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0), *lines(1), *lines(2)]
    assert reader.follower.status().detail == ""


def test_f28_deleted_and_made_again_while_nobody_looked_is_told(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    log.unlink()
    log.write_bytes(b"b\n")
    reader.clock.now += 30
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"b"]
    gaps = reader.follower.status().gaps
    assert (gaps.replaced, gaps.uncertain) == (1, 1)
    assert gaps.unseen_seconds == pytest.approx(30, abs=1)


def test_f28_what_is_told_leaves_the_status_line_after_a_while_but_not_the_warnings(
    start: Start, log: Path
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    log.unlink()
    log.write_bytes(b"b\n")
    reader.clock.now += 30
    reader.wait(50)
    assert "while nobody looked" in reader.follower.status().detail
    reader.wait(50)
    assert reader.follower.status().detail == ""
    assert reader.follower.status().gaps.replaced == 1


def test_f28_a_file_in_a_format_that_is_not_read_counts_as_missing(start: Start, log: Path) -> None:
    log.write_bytes(joined(lines(0)))
    reader = start(log)
    reader.read()
    reader.clock.now += 60
    for generation in range(1, 4):
        rotate(log)
        append(log, joined(lines(generation)))
    beside(log, ".1").rename(beside(log, ".1.xz"))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0), *lines(1), *lines(3)]
    assert reader.follower.status().gaps.missing_files == 1


def test_f28_what_can_be_unpacked_of_a_damaged_file_is_read_and_the_rest_told(
    start: Start, log: Path
) -> None:
    log.write_bytes(joined(lines(0)))
    reader = start(log)
    reader.read()
    rotate(log)
    append(log, joined(lines(1, 5000)))
    rotate(log)
    append(log, joined(lines(20)))
    compress(beside(log, ".1"))
    os.truncate(beside(log, ".1.gz"), 4000)
    reader.wait(GRACE_S + 1)
    received = [line for line in reader.lines if line in set(lines(1, 5000))]
    assert received == lines(1, 5000)[: len(received)]
    assert 0 < len(received) < 5000
    assert [line for line in reader.lines if line not in received] == [*lines(0), *lines(20)]
    assert reader.follower.status().gaps.missing_files == 1


def test_f28_behind_a_symbolic_link_rotated_files_lie_beside_what_it_leads_to(
    start: Start, tmp_path: Path
) -> None:
    real = tmp_path / "data" / "routing"
    real.parent.mkdir()
    real.write_bytes(b"a\n")
    link = tmp_path / "moe.log"
    link.symlink_to(real)
    reader = start(link)
    reader.read()
    for line in (b"b\n", b"c\n"):
        rotate(real)
        append(real, line)
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"b", b"c"]


def test_f28_log_that_was_missing_when_following_began(start: Start, log: Path) -> None:
    beside(log, ".1").write_bytes(b"of another time\n")
    reader = start(log)
    reader.read()
    log.write_bytes(b"a\n")
    rotate(log)
    append(log, b"b\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"b"]


def test_f28_no_directory_is_listed_while_nothing_is_rotated(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    listings = FailingCalls(monkeypatch, "scandir")
    for i in range(100):
        append(log, b"%d\n" % i)
        reader.wait(0.5)
    reader.wait(50)
    assert listings.calls == 0
    rotate(log)
    reader.wait(GRACE_S + 1)
    assert 0 < listings.calls <= 4


# Copied, and then emptied


def rotate_copying(log: Path, _: int) -> None:
    rotate(log, copying=True)


def rotate_copying_packed(log: Path, _: int) -> None:
    rotate(log, copying=True)
    compress(beside(log, ".1"))


def rotate_copying_packed_later(log: Path, _: int) -> None:
    rotate(log, copying=True)
    if beside(log, ".2").exists():
        compress(beside(log, ".2"))


def rotate_copying_dated(log: Path, generation: int) -> None:
    shutil.copy(log, beside(log, "-" + DATES[generation + 2]))
    os.truncate(log, 0)


COPYING: Sequence[Rotate] = (
    rotate_copying,
    rotate_copying_packed,
    rotate_copying_packed_later,
    rotate_copying_dated,
)


@pytest.mark.parametrize("way", COPYING)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("part", [b"", b"1,2"], ids=["stopped_at_line", "stopped_in_line"])
@pytest.mark.parametrize("grown", [0, 5, 100], ids="{}_lines_after".format)
def test_f29_the_end_of_a_log_that_was_copied_and_emptied_is_read_before_its_new_beginning(
    start: Start, log: Path, *, way: Rotate, times: int, part: bytes, grown: int
) -> None:
    log.write_bytes(HEADER + joined(lines(90)))
    way(log, -1)
    append(log, HEADER + joined(lines(0)) + part)
    reader = start(log)
    reader.read()
    append(log, b" 3 4\n" + joined(lines(1, 50)))
    expected = [HEADER[:-1], *lines(0), part + b" 3 4", *lines(1, 50)]
    for generation in range(times):
        if generation:
            append(log, joined(lines(10 + generation)))
            expected += lines(10 + generation)
        way(log, generation)
    append(log, joined(lines(2, grown)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*expected, *lines(2, grown)]
    assert reader.breaks == [*[Break.ROTATED] * (times - 1), Break.RESTARTED]
    assert reader.follower.status().gaps.emptied == 0
    append(log, b"go on\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines[-1] == b"go on"


@pytest.mark.parametrize("way", COPYING)
def test_f29_a_log_copied_again_and_again_is_read_once(start: Start, log: Path, way: Rotate) -> None:
    expected = []
    reader = start(log)
    for generation in range(5):
        append(log, joined(lines(2 * generation)))
        reader.wait(3)
        append(log, joined(lines(2 * generation + 1)))
        expected += [*lines(2 * generation), *lines(2 * generation + 1)]
        way(log, generation - 1)
        reader.wait(3)
    assert reader.lines == expected
    assert reader.follower.status().restarts == 5


@pytest.mark.parametrize("after", [b"", b"after\n"], ids=["empty", "written_to"])
def test_f29_a_log_that_was_filled_copied_and_emptied_between_two_looks(
    start: Start, log: Path, after: bytes
) -> None:
    log.touch()
    os.utime(log, ns=(0, 0))  # times are coarse, and this test is quick
    reader = start(log)
    reader.read()
    for generation in range(2):
        append(log, joined(lines(generation)))
        rotate(log, copying=True)
    append(log, after)
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0), *lines(1), *after.splitlines()]


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("after", [b"", b"after\n"], ids=["empty", "written_to"])
@pytest.mark.parametrize("counts", [(20, 20), (20, 5), (5, 20), (20, 0), (20, 5, 9)], ids=str)
def test_f29_copies_that_all_begin_with_the_little_that_was_read_are_all_read(
    start: Start, log: Path, counts: tuple[int, ...], after: bytes, *, is_packed: bool
) -> None:
    """A server that starts again writes the header that its former log began with."""
    log.write_bytes(HEADER)
    reader = start(log)
    reader.read()
    expected = []
    for generation, count in enumerate(counts):
        append(log, (HEADER if generation else b"") + joined(lines(generation, count)))
        expected += lines(generation, count)
        rotate(log, copying=True)
    if is_packed:
        for number in range(1, len(counts) + 1):
            compress(beside(log, f".{number}"))
    append(log, after)
    reader.clock.now += 60
    reader.wait(GRACE_S + 1)
    assert [line for line in reader.lines if line != HEADER[:-1]] == [*expected, *after.splitlines()]


def test_f29_without_a_copy_the_loss_is_bounded_and_told(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + joined(lines(0)))
    reader = start(log)
    reader.read()
    reader.clock.now += 0.25
    append(log, joined(lines(1)))
    os.truncate(log, 0)
    append(log, joined(lines(2)))
    reader.wait(1)
    assert reader.lines == [HEADER[:-1], *lines(0), *lines(2)]
    status = reader.follower.status()
    assert status.gaps.emptied == 1
    assert status.gaps.cut_seconds == pytest.approx(0.5, abs=0.3)
    assert "was emptied once with no copy of its end beside it; what was written to" in status.detail


def test_f29_a_server_that_starts_again_is_no_loss(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + joined(lines(0)))
    reader = start(log)
    for generation in range(1, 4):
        reader.wait(3)
        log.write_bytes(HEADER + joined(lines(generation)))
    reader.wait(3)
    assert reader.follower.status().restarts == 3
    assert reader.follower.status().detail == ""


def test_f29_a_server_that_started_again_while_nobody_looked_may_have_written_before(
    start: Start, log: Path
) -> None:
    log.write_bytes(HEADER + joined(lines(0)))
    reader = start(log)
    reader.read()
    reader.clock.now += 60
    log.write_bytes(HEADER + joined(lines(1)))
    reader.wait(1)
    gaps = reader.follower.status().gaps
    assert gaps.emptied == 1
    assert gaps.cut_seconds == pytest.approx(60, abs=1)


def test_f29_a_copy_that_another_log_made_is_not_taken_for_one(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + joined(lines(0)))
    reader = start(log)
    reader.read()
    append(log, joined(lines(1)))
    # The head is that of our log, the bytes before the offset are not.
    compress_to = beside(log, ".1.gz")
    compress_to.write_bytes(gzip.compress(HEADER + joined(lines(0)[:-1]) + joined(lines(5))))
    os.truncate(log, 0)
    append(log, joined(lines(2)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [
        *(HEADER[:-1], *lines(0)),
        *(HEADER[:-1], *lines(0)[:-1], *lines(5)),  # it came since, so it is read
        *lines(2),
    ]


def test_f29_a_copy_in_the_making_is_not_read(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + joined(lines(0, 1000)))
    reader = start(log)
    reader.read()
    beside(log, ".1").write_bytes(log.read_bytes()[:10_000])
    reader.clock.now += 60
    reader.wait(3)
    shutil.copy(log, beside(log, ".1"))
    append(log, joined(lines(1)))  # after the copy, and lost to all but us
    reader.wait(0.25)
    os.truncate(log, 0)
    append(log, joined(lines(2)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [HEADER[:-1], *lines(0, 1000), *lines(1), *lines(2)]


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "not_read"])
@pytest.mark.parametrize("is_packed", [True, False], ids=["compressed", "plain"])
def test_f29_a_copy_that_is_seen_before_the_log_is_emptied_is_its_copy_still(
    start: Start, log: Path, is_read: bool, is_packed: bool
) -> None:
    log.touch()
    os.utime(log, ns=(0, 0))  # times are coarse, and this test is quick
    reader = start(log)
    reader.read()
    append(log, HEADER + joined(lines(0)))
    times = log.stat()
    copy = beside(log, ".1")
    shutil.copy(log, copy)
    reader.clock.now += 0.25
    reader.feed(reader.follower.read(1 << 16 if is_read else 50))
    os.truncate(log, 0)
    reader.wait(0.25)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))  # as logrotate does after all else
    if is_packed:
        compress(copy)
    reader.wait(0.25)
    append(log, HEADER + joined(lines(1)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [HEADER[:-1], *lines(0), HEADER[:-1], *lines(1)]
    assert reader.follower.status().gaps.emptied == 0


@pytest.mark.parametrize("is_packed", [True, False], ids=["compressed", "plain"])
def test_f29_a_copy_is_not_read_while_the_log_holds_the_same(
    start: Start, log: Path, is_packed: bool
) -> None:
    append(log, joined(lines(0, 20)))
    reader = start(log)
    reader.read()
    rotate(log, copying=True)
    if is_packed:
        compress(beside(log, ".1"))
    append(log, joined(lines(1)))
    shift(log)
    shutil.copy(log, beside(log, ".1"))
    reader.wait(3)
    assert reader.lines == [*lines(0, 20), *lines(1)]
    append(log, joined(lines(2)))  # after the copy, and lost to all but us
    reader.wait(3)
    os.truncate(log, 0)
    reader.wait(3)
    append(log, joined(lines(3)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0, 20), *lines(1), *lines(2), *lines(3)]


@pytest.mark.parametrize("is_packed", [True, False], ids=["compressed", "plain"])
def test_f29_of_a_log_that_is_copied_and_not_emptied_nothing_is_read_twice(
    start: Start, log: Path, is_packed: bool
) -> None:
    log.touch()
    os.utime(log, ns=(0, 0))  # times are coarse, and this test is quick
    reader = start(log)
    reader.read()
    for generation in range(4):
        append(log, joined(lines(generation, 100 if generation == 0 else 10)))
        shift(log)
        shutil.copy(log, beside(log, ".1"))
        reader.wait(0.25)
    os.truncate(log, 0)
    reader.wait(0.25)
    if is_packed:
        for number in range(1, 5):
            compress(beside(log, f".{number}"))
    append(log, joined(lines(4)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [*lines(0, 100), *lines(1), *lines(2), *lines(3), *lines(4)]


def test_f29_the_copy_of_a_log_whose_turn_had_not_come_is_read_before_what_it_holds_now(
    start: Start, log: Path
) -> None:
    reader = start(log)
    beside(log, ".2").touch()  # it is waited for, lest somebody still writes to it
    log.write_bytes(joined(numbered(0, 5)))
    shutil.copy(log, beside(log, ".1"))
    reader.feed(reader.follower.read(1 << 16))
    assert reader.lines == []
    os.truncate(log, 0)
    append(log, joined(numbered(100, 9)))
    log.unlink()
    reader.wait(2 * GRACE_S)
    assert reader.lines == [*numbered(0, 5), *numbered(100, 9)]


def test_f28_an_empty_file_that_was_rotated_is_no_copy_of_one_that_was_emptied(
    start: Start, log: Path
) -> None:
    log.write_bytes(joined(numbered(0, 5)))
    reader = start(log)
    reader.read()
    os.truncate(log, 0)
    log.unlink()
    with log.open("ab", buffering=0) as server:
        rotate(log)
        log.touch()
        reader.wait(0.5)
        server.write(joined(numbered(100, 5)))
        beside(log, ".1").unlink()
        reader.wait(3 * GRACE_S)
    assert reader.lines == [*numbered(0, 5), *numbered(100, 5)]


def test_f32_what_was_cut_off_of_a_log_that_waits_is_not_made_good_by_the_next_log(
    start: Start, log: Path
) -> None:
    log.touch()
    reader = start(log)
    reader.read()
    rotate(log)
    log.write_bytes(joined(numbered(0, 5)))
    reader.wait(0.5)
    os.truncate(log, 0)
    log.unlink()
    log.write_bytes(joined(numbered(100, 5)))
    reader.wait(3 * GRACE_S)
    assert reader.lines == numbered(100, 5)
    assert reader.follower.status().gaps.lost_bytes == len(joined(numbered(0, 5)))


def test_f28_a_file_that_was_rotated_after_the_log_was_emptied_is_read_while_it_grows(
    start: Start, log: Path
) -> None:
    log.write_bytes(joined(numbered(0, 5)))
    reader = start(log)
    reader.read()
    os.truncate(log, 0)
    log.unlink()
    with log.open("ab", buffering=0) as server:
        server.write(joined(numbered(100, 5)))
        rotate(log)
        reader.wait(0.5)
        server.write(joined(numbered(105, 5)))
        reader.wait(0.5)
        compress(beside(log, ".1"))
        reader.wait(3 * GRACE_S)
    assert reader.lines == [*numbered(0, 5), *numbered(100, 10)]


def test_f29_an_empty_copy_hides_none_that_came_before_it(start: Start, log: Path) -> None:
    log.touch()
    reader = start(log)
    reader.read()
    append(log, joined(numbered(0, 5)))
    rotate(log, copying=True)
    rotate(log, copying=True)
    append(log, joined(numbered(100, 5)))
    reader.wait(2 * GRACE_S)
    assert reader.lines == [*numbered(0, 5), *numbered(100, 5)]


def test_f28_an_empty_log_that_was_compressed_does_not_change_the_order(start: Start, log: Path) -> None:
    reader = start(log)
    for generation in range(2):
        log.write_bytes(joined(lines(generation)))
        rotate(log)
        rotate(log)  # while it is empty
        compress(beside(log, ".1"))
    log.write_bytes(joined(lines(2)))
    rotate(log)
    reader.wait(5 * GRACE_S)
    assert reader.lines == [*lines(0), *lines(1), *lines(2)]


def test_f29_skipping_what_was_read_of_a_packed_copy_takes_several_short_calls(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "SKIP_BYTES", 10_000)
    log.write_bytes(HEADER + joined(numbered(0, 20_000)))
    reader = start(log)
    reader.read()
    append(log, joined(lines(50)))
    rotate_copying_packed(log, 0)
    append(log, joined(lines(51)))
    calls = 0
    while reader.lines[-1] != lines(51)[-1]:
        reader.feed(reader.follower.read(1 << 20))
        calls += 1
        assert calls < 1000
        if calls < 20:
            assert reader.follower.pause() == 0
    assert calls > 20
    assert reader.lines == [HEADER[:-1], *numbered(0, 20_000), *lines(50), *lines(51)]


# Brought back


@pytest.mark.parametrize("others", [1, 5, 50])
def test_f31_a_file_brought_back_after_many_others_is_read_on(start: Start, log: Path, others: int) -> None:
    log.write_bytes(joined(lines(0)) + b"unfin")
    reader = start(log)
    reader.read()
    away = log.rename(log.with_name("away"))
    for generation in range(1, others + 1):
        log.write_bytes(joined(lines(generation)))
        reader.wait(GRACE_S + 1)
        log.rename(log.with_name(f"away {generation}"))
    before = len(open_files())
    away.rename(log)
    append(log, b"ished\n" + joined(lines(90)))
    reader.wait(GRACE_S + 1)
    expected = [line for generation in range(others + 1) for line in lines(generation)]
    assert reader.lines == [*expected, b"unfinished", *lines(90)]
    assert len(open_files()) <= before + 12  # 12: the watcher


def test_f31_another_file_with_the_inode_of_one_that_was_read_is_read(start: Start, log: Path) -> None:
    log.write_bytes(HEADER + joined(lines(0)))
    reader = start(log)
    reader.read()
    inode = log.stat().st_ino
    reused = 0
    for generation in range(1, 20):
        away = log.rename(log.with_name("away"))
        log.write_bytes(HEADER + joined(lines(100 + generation)))
        reader.wait(GRACE_S + 1)
        away.unlink()  # known, and not held: its inode is free
        log.unlink()
        log.write_bytes(HEADER + joined(lines(generation, 30)))
        reused += log.stat().st_ino == inode
        reader.wait(GRACE_S + 1)
    expected = [HEADER[:-1], *lines(0)]
    for generation in range(1, 20):
        expected += [HEADER[:-1], *lines(100 + generation), HEADER[:-1], *lines(generation, 30)]
    assert reader.lines == expected


def test_f31_a_rotated_file_is_not_read_again_when_it_is_compressed_later(start: Start, log: Path) -> None:
    log.write_bytes(joined(lines(0)))
    reader = start(log)
    for generation in range(1, 6):
        reader.wait(GRACE_S + 1)
        rotate_packed_later(log, generation)
        append(log, joined(lines(generation)))
    reader.wait(GRACE_S + 1)
    beside(log, ".1").unlink()
    log.unlink()
    log.write_bytes(joined(lines(6)))
    reader.wait(GRACE_S + 1)
    assert reader.lines == [line for generation in range(7) for line in lines(generation)]


@pytest.mark.parametrize("reader_is_behind", [False, True])
def test_f31_a_file_brought_back_while_nobody_looked(start: Start, log: Path, reader_is_behind: bool) -> None:
    log.write_bytes(joined(lines(0)))
    reader: Reader = start(log)
    if not reader_is_behind:
        reader.read()
    else:
        reader.feed(reader.follower.read(20))
    rotate(log)
    append(log, joined(lines(1)))
    shift(log)
    log.rename(beside(log, ".1"))
    beside(log, ".2").rename(log)  # the path names the same file as before
    append(log, joined(lines(2)))
    reader.clock.now += 60
    reader.wait(2 * GRACE_S + 1)
    assert sorted(reader.lines) == sorted([*lines(0), *lines(1), *lines(2)])
