"""How it is read: refusals, errors, bounds, pauses, with the watcher and without."""

from __future__ import annotations

import errno
import gzip
import os
import time
from pathlib import Path

import pytest

from moe_live.errors import UsageError
from moe_live.sources import follow
from moe_live.sources.follow import GRACE_S, IDLE_PAUSE_S, Follower
from moe_live.sources.logfile import LogFile
from moe_live.sources.source import Break, State

from .reader import FailingCalls, Start, append, joined, numbered, open_files


def test_f17_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"cannot follow .*: it is a directory; name the log in it$"
    ) as error:
        Follower(tmp_path)
    assert error.value.exit_code == 2


def test_f17_fifo_is_refused_without_disturbing_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UsageError, match="Not a regular file; only a log file can be followed"):
        Follower(fifo)


def test_f17_path_that_becomes_a_directory_is_waited_for(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    log.unlink()
    log.mkdir()
    reader.wait(3)
    assert reader.follower.status().state is State.WAITING
    assert reader.follower.status().detail == f"waiting for {log}: Is a directory"
    log.rmdir()
    log.write_bytes(b"b\n")
    assert reader.wait(GRACE_S + 1) == [b"b"]


def test_f18_permission_denied_at_start(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"a\n")
    FailingCalls(monkeypatch, "open").error = errno.EACCES  # permission bits do not stop root
    with pytest.raises(UsageError, match=r"cannot read .*moe.log: permission denied; ") as error:
        Follower(log)
    assert error.value.exit_code == 2


def test_f18_permission_lost_while_following_goes_on_at_the_same_offset(start: Start, log: Path) -> None:
    log.write_bytes(b"a\nb")
    reader = start(log)
    reader.read()
    log.chmod(0)
    append_as_owner = os.open(log, os.O_WRONLY | os.O_APPEND) if os.geteuid() == 0 else None
    reader.wait(2)
    if append_as_owner is not None:
        os.write(append_as_owner, b"c\n")
        os.close(append_as_owner)
    log.chmod(0o600)
    append(log, b"d\n")
    reader.wait(1)
    assert reader.lines == ([b"a", b"bc", b"d"] if append_as_owner is not None else [b"a", b"bd"])
    assert reader.breaks == []


def test_f18_new_file_without_permission_is_waited_for(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    old = log.rename(log.with_suffix(".1"))
    log.write_bytes(b"secret\n")
    real_open = os.open

    def forbidding_open(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) == log:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbidding_open)
        append(old, b"b\n")
        reader.wait(5)
        assert reader.lines == [b"a", b"b"]
        assert reader.follower.status().state is State.WAITING
        assert "Permission denied" in reader.follower.status().detail
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"b", b"secret"]


def test_f18_path_that_cannot_be_looked_at_for_a_while(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    with monkeypatch.context() as patch:
        stat = FailingCalls(patch, "stat")
        stat.error = errno.EACCES
        append(log, b"b\n")
        reader.wait(1)
        assert "Permission denied" in reader.follower.status().detail
    append(log, b"c\n")
    reader.wait(1)
    assert reader.lines == [b"a", b"b", b"c"]
    assert reader.breaks == []
    assert reader.follower.status().detail == ""


def test_f20_compressed_log_is_not_followed(log: Path) -> None:
    log.write_bytes(gzip.compress(b"a\n"))
    with pytest.raises(UsageError, match="read it without --follow"):
        Follower(log)


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE], ids=["EIO", "ESTALE"])
def test_f22_read_error_keeps_the_place_and_is_tried_again_ever_more_slowly(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    log.write_bytes(b"a\nb")
    reader = start(log)
    reader.read()
    append(log, b"c\n")
    preads = FailingCalls(monkeypatch, "pread")
    preads.error = error
    for _ in range(40):
        reader.wait(1)
        assert reader.follower.pause() > 0
    status = reader.follower.status()
    assert status.detail == f"cannot read {log}: {os.strerror(error)}; trying again"
    assert preads.calls <= 12  # 0.25, 0.5, 1, 2, 4, 8, 8, … seconds
    preads.error = None
    reader.wait(8)
    assert reader.lines == [b"a", b"bc"]
    assert reader.breaks == []
    assert reader.follower.status().detail == ""

    append(log, b"d\n")
    preads.error = error
    reader.wait(0.25)
    preads.error = None
    assert reader.wait(0.5) == [b"d"]  # after a good read it is tried again soon


def test_f22_stale_descriptor_is_exchanged(start: Start, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"a\nb")
    reader = start(log)
    reader.read()
    (file,) = reader.follower._files
    assert isinstance(file, LogFile)
    stale = file.fd
    real_pread = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        if os.path.samestat(os.fstat(fd), log.stat()) and fd == stale and not exchanged(fd):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real_pread(fd, count, offset)

    def exchanged(fd: int) -> bool:
        return os.lseek(fd, 0, os.SEEK_CUR) == 0  # set below on the first descriptor alone

    os.lseek(stale, 1, os.SEEK_SET)
    monkeypatch.setattr(os, "pread", pread)
    append(log, b"c\n")
    reader.wait(3)
    assert reader.lines == [b"a", b"bc"]
    assert reader.follower.status().detail == ""


def test_f22_rotation_ends_a_file_that_cannot_be_read_any_more(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    broken = log.stat().st_ino
    log.rename(log.with_suffix(".1"))
    log.write_bytes(b"b\n")
    real_pread = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert reader.wait(10) == [b"b"]
    assert reader.follower.status().detail == ""


def test_f23_reads_are_bounded_and_progress_shows(start: Start, log: Path) -> None:
    log.write_bytes(joined(numbered(0, 600_000)))
    size = log.stat().st_size
    reader = start(log)
    received = 0
    states = []
    while items := reader.follower.read(100_000):
        (data,) = items
        assert isinstance(data, bytes)
        assert len(data) <= 100_000
        received += len(data)
        status = reader.follower.status()
        states.append(status.state)
        assert (status.position, status.size, status.lag) == (received, size, size - received)
        assert (reader.follower.pause() == 0) == (received < size)
    assert received == size
    assert (states[0], states[-1]) == (State.READING, State.FOLLOWING)
    assert len(reader.follower.read(1 << 30)) == 0


def test_f23_a_huge_limit_is_cut_down(start: Start, log: Path) -> None:
    log.write_bytes(b"x" * (3 << 20))
    (data,) = start(log).follower.read(1 << 40)
    assert isinstance(data, bytes)
    assert len(data) == follow.READ_BYTES


def test_f24_pause_grows_to_a_quarter_second_when_idle(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    pauses = []
    for _ in range(20):
        reader.clock.now += reader.follower.pause()
        reader.follower.read(1000)
        pauses.append(reader.follower.pause())
    assert pauses == sorted(pauses)
    assert pauses[-1] == IDLE_PAUSE_S
    append(log, b"b\n")
    reader.follower.read(1000)
    assert reader.follower.pause() == 0.05


def test_f24_idle_reads_are_few_and_cheap(start: Start, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(joined(numbered(0, 1000)))
    reader = start(log)
    reader.read()
    reader.wait(2)
    preads = FailingCalls(monkeypatch, "pread")
    for _ in range(40):  # ten seconds
        reader.clock.now += reader.follower.pause()
        reader.follower.read(1 << 20)
        fd = reader.follower.wake_fd()
        assert fd is None or not os.get_blocking(fd)
    assert preads.calls <= 40 * 3


def test_f27_only_the_given_clock_counts(start: Start, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(b"a\n")
    reader = start(log)
    reader.read()
    old = log.rename(log.with_suffix(".1"))
    log.write_bytes(b"b\n")
    reader.read()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    reader.read()
    append(old, b"late\n")
    reader.wait(GRACE_S + 1)
    assert reader.lines == [b"a", b"late", b"b"]


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (b"", b"next"),
        (b"a\nb\n", b"next"),
        (b"a\nb\nunfinished ", b"unfinished next"),
        (b"unfinished ", b"unfinished next"),
        (b"a\n" + b"y" * 200_000, b"y" * 200_000 + b"next"),
        (joined(numbered(0, 20_000)), b"next"),
    ],
)
def test_f25_start_at_the_end_means_after_the_last_newline(
    start: Start, log: Path, content: bytes, first: bytes
) -> None:
    log.write_bytes(content)
    reader = start(log, from_end=True)
    reader.read()
    assert reader.lines == []
    append(log, b"next\nmore\n")
    reader.read()
    assert reader.lines == [first, b"more"]


def test_f25_rewriting_and_rotation_are_noticed_and_read_from_0(start: Start, log: Path) -> None:
    log.write_bytes(joined(numbered(0, 1000)))
    reader = start(log, from_end=True)
    reader.read()
    log.write_bytes(joined(numbered(5000, 2000)))
    assert reader.read() == numbered(5000, 2000)
    log.unlink()
    log.write_bytes(b"a\nb\n")
    assert reader.wait(GRACE_S + 1) == [b"a", b"b"]
    assert reader.breaks == [Break.RESTARTED, Break.ROTATED]


def test_f25_file_that_appears_later_is_read_from_0(start: Start, log: Path) -> None:
    reader = start(log, from_end=True)
    reader.read()
    log.write_bytes(b"a\nb\n")
    assert reader.wait(1) == [b"a", b"b"]


def test_closing_twice_and_reading_afterwards_are_harmless(start: Start, log: Path) -> None:
    log.write_bytes(b"a\n")
    before = sorted(open_files())
    reader = start(log)
    reader.wait(2)
    reader.follower.close()
    reader.follower.close()
    assert reader.follower.read(10) == []
    assert reader.follower.status().state is State.ENDED
    assert reader.follower.wake_fd() is None
    assert sorted(open_files()) == before
