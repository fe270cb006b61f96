"""What the path names: nothing yet, another file, nothing any more, with the watcher and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from moe_live.sources.follow import GRACE_S, HELD_MAX, REMEMBERED_MAX
from moe_live.sources.source import Break, State

from .reader import Start, append, open_files


def test_f01_missing_file_is_waited_for_and_read_from_its_beginning(start: Start, log: Path) -> None:
    reader = start(log)
    assert reader.read() == []
    status = reader.follower.status()
    assert (status.state, status.detail) == (State.WAITING, f"waiting for {log} to appear")
    reader.wait(2)
    log.write_bytes(b"a\nb\n")
    reader.wait_for_event()
    assert reader.read() == [b"a", b"b"]
    assert reader.breaks == []
    assert (reader.follower.status().state, reader.follower.status().detail) == (State.FOLLOWING, "")


def test_f01_missing_directory_is_waited_for(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "not" / "yet" / "moe.log"
    reader = start(log)
    reader.wait(2)
    assert reader.follower.status().state is State.WAITING
    assert reader.follower.status().watch == "polling"
    log.parent.mkdir(parents=True)
    reader.wait(2)
    log.write_bytes(b"a\n")
    reader.wait_for_event()
    assert reader.read() == [b"a"]


def test_f01_message_escapes_control_characters(start: Start, tmp_path: Path) -> None:
    reader = start(tmp_path / "a\x1b[31m\nb")
    assert "a\\x1b[31m\\nb" in reader.follower.status().detail


def test_f03_same_name_and_size_but_another_file_is_a_rotation(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    for i in range(10):  # the inode of a deleted file is reused at once, unless it is held open
        log.unlink()
        log.write_bytes(b"%d\n" % i)
        reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", *(b"%d" % i for i in range(10))]
    assert set(reader.breaks) == {Break.ROTATED}


def test_f03_renamed_and_renamed_back_is_the_same_file(start: Start, log: Path) -> None:
    log.write_bytes(b"a\nb")
    reader = start(log)
    reader.read()
    log.rename(log.with_suffix(".away"))
    reader.wait(10)
    log.with_suffix(".away").rename(log)
    append(log, b"c\nd\n")
    assert reader.wait(1) == [b"bc", b"d"]
    assert reader.breaks == []


def test_f04_renamed_old_lines_come_before_new_ones(start: Start, log: Path) -> None:
    log.write_bytes(b"old 1\n")
    reader = start(log)
    reader.read()
    append(log, b"old 2\n")
    old = log.rename(log.with_suffix(".1"))
    log.write_bytes(b"new 1\n")
    reader.read()
    append(log, b"new 2\n")
    append(old, b"late 1\nla")
    reader.wait(GRACE_S / 2)
    assert reader.follower.status().detail == f"{log} was rotated: reading the old file first"
    append(old, b"te 2\n")
    reader.wait(GRACE_S)
    assert reader.follower.status().detail == ""
    append(log, b"new 3\n")
    reader.read()
    assert reader.lines == [b"old 1", b"old 2", b"late 1", b"late 2", b"new 1", b"new 2", b"new 3"]
    assert reader.breaks == [Break.ROTATED]
    assert reader.follower.status().rotations == 1


def test_f04_grace_begins_anew_when_a_file_is_brought_back(start: Start, log: Path) -> None:
    away = log.with_suffix(".1")
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    log.rename(away)
    reader.wait(10)
    away.rename(log)
    reader.wait(10)
    log.rename(away)
    log.write_bytes(b"new\n")
    reader.wait(GRACE_S / 2)
    append(away, b"late\n")
    reader.wait(GRACE_S)
    assert reader.lines == [b"a", b"late", b"new"]


def test_f04_unfinished_line_of_the_old_file_is_not_joined_with_the_new_one(start: Start, log: Path) -> None:
    log.write_bytes(b"old\n1,2 3")
    reader = start(log)
    reader.read()
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"4 5\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"old", b"4 5"]
    assert reader.dropped == [b"1,2 3"]


def test_f04_several_rotations_during_one_grace_period(start: Start, log: Path) -> None:
    log.write_bytes(b"0\n")
    reader = start(log)
    reader.read()
    for i in range(1, 6):
        log.rename(log.with_suffix(f".{i}"))
        log.write_bytes(b"%d\n" % i)
        reader.read()
        append(log, b"%d more\n" % i)
    assert reader.follower.status().lag > 0
    reader.wait(6 * GRACE_S)
    assert reader.lines == [b"0", *(line for i in range(1, 6) for line in (b"%d" % i, b"%d more" % i))]
    assert reader.follower.status().rotations == 5
    assert reader.follower.status().lag == 0


def test_f04_two_rotations_between_two_looks_lose_only_the_file_never_seen(start: Start, log: Path) -> None:
    log.write_bytes(b"first\n")
    reader = start(log)
    reader.read()
    append(log, b"first too\n")
    log.rename(log.with_suffix(".2"))
    log.write_bytes(b"never seen\n")
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"last\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"first", b"first too", b"last"]


def test_f04_server_that_never_reopens_its_log_is_followed_into_the_renamed_file(
    start: Start, log: Path
) -> None:
    with log.open("wb", buffering=0) as server:
        server.write(b"a\n")
        reader = start(log)
        reader.read()
        log.rename(log.with_suffix(".1"))
        log.touch()
        for i in range(10):
            reader.wait(10 * GRACE_S)
            server.write(b"%d\n" % i)
    reader.wait(1)
    append(log, b"restarted server\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", *(b"%d" % i for i in range(10)), b"restarted server"]


def test_f04_descriptors_do_not_pile_up(start: Start, log: Path) -> None:
    log.write_bytes(b"first\n")
    reader = start(log)
    reader.read()
    before = len(open_files())
    for i in range(100):
        log.rename(log.with_suffix(f".{i}"))
        log.write_bytes(b"%d\n" % i if i % 3 else b"")
        reader.read()
    assert before + 60 < len(open_files()) < before + HELD_MAX
    reader.wait(200 * GRACE_S)
    for i in range(100, 200):
        log.rename(log.with_suffix(f".{i}"))
        log.touch()
        reader.wait(GRACE_S + 1)
    assert len(open_files()) <= before + REMEMBERED_MAX + 12  # 12: the watcher
    append(log, b"end\n")
    assert reader.wait(3 * GRACE_S)[-1:] == [b"end"]


def test_f09_deleted_file_is_read_to_its_end_and_then_waited_for(start: Start, log: Path) -> None:
    with log.open("wb", buffering=0) as server:
        server.write(b"a\n")
        reader = start(log)
        reader.read()
        reader.wait(2)
        server.write(b"b\n")
        log.unlink()
        reader.wait_for_event()
        assert reader.read() == [b"b"]
        assert reader.follower.status().state is State.WAITING
        server.write(b"c\n")
    assert reader.wait(5) == [b"c"]
    log.write_bytes(b"d\n")
    assert reader.wait(GRACE_S + 1) == [b"d"]
    assert reader.breaks == [Break.ROTATED]


def test_f09_space_of_deleted_files_is_given_back(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    log.unlink()
    log.write_bytes(b"b\n")
    reader.wait(GRACE_S + 1)
    assert [name for name in open_files() if name.startswith(str(log))] == [str(log)]


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_f10_parent_directory_deleted_and_made_again(start: Start, tmp_path: Path, moved: bool) -> None:
    log = tmp_path / "logs" / "moe.log"
    log.parent.mkdir()
    log.write_bytes(b"0\n")
    reader = start(log)
    for i in range(1, 4):
        reader.wait(2)
        append(log, b"last %d\n" % i)
        if moved:
            log.parent.rename(tmp_path / f"old {i}")
        else:
            shutil.rmtree(log.parent)
        reader.wait(2)
        assert reader.follower.status().state is State.WAITING
        assert reader.follower.status().watch == "polling"
        log.parent.mkdir()
        reader.wait(2)
        log.write_bytes(b"%d\n" % i)
        reader.wait_for_event()
        reader.wait(2)
    assert reader.lines == [b"0", b"last 1", b"1", b"last 2", b"2", b"last 3", b"3"]


def test_f11_symlink_repointed_is_a_rotation(start: Start, tmp_path: Path) -> None:
    targets = [tmp_path / "runs" / f"{i}.log" for i in range(3)]
    targets[0].parent.mkdir()
    link = tmp_path / "current.log"
    for i, target in enumerate(targets):
        target.write_bytes(b"%d\n" % i)
        new = tmp_path / "new link"
        new.symlink_to(target)
        new.replace(link)
        if i == 0:
            reader = start(link)
        reader.wait(GRACE_S + 2)
        append(target, b"%d more\n" % i)
        reader.wait_for_event()  # of the directory that the link leads to
        reader.read()
    assert reader.lines == [b"0", b"0 more", b"1", b"1 more", b"2", b"2 more"]
    assert reader.follower.status().rotations == 2


@pytest.mark.parametrize("away", [0.0, GRACE_S / 2, 10 * GRACE_S])
def test_f11_symlink_pointed_back_goes_on_where_reading_ended(
    start: Start, tmp_path: Path, away: float
) -> None:
    link = tmp_path / "current.log"
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"one\nunfin")
    two.write_bytes(b"two\n")
    link.symlink_to(one)
    reader = start(link)
    reader.read()
    link.unlink()
    link.symlink_to(two)
    reader.read()
    reader.wait(away)
    link.unlink()
    link.symlink_to(one)
    append(one, b"ished\n")
    reader.wait(3 * GRACE_S)
    assert sorted(reader.lines) == [b"one", b"two", b"unfinished"]


def test_f11_file_rewritten_while_the_symlink_pointed_elsewhere_is_read_anew(start: Start, log: Path) -> None:
    one, two = log.with_name("one"), log.with_name("two")
    one.write_bytes(b"one\n")
    two.write_bytes(b"two\n")
    log.symlink_to(one)
    reader = start(log)
    reader.read()
    log.unlink()
    log.symlink_to(two)
    reader.wait(GRACE_S + 1)
    one.write_bytes(b"one rewritten\n")
    log.unlink()
    log.symlink_to(one)
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"one", b"two", b"one rewritten"]
    assert reader.breaks == [Break.ROTATED, Break.ROTATED]
