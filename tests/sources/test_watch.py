"""The watcher wakes a follower up, and its failures never cost a line."""

from __future__ import annotations

import errno
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter
from watchdog.utils.delayed_queue import DelayedQueue

from moe_live.sources.follow import QUIET_S
from moe_live.sources.watch import Watcher

from .reader import Reader, append


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "moe.log"
    path.write_bytes(b"a\n")
    return path


@pytest.fixture
def reader(log: Path) -> Iterator[Reader]:
    reader = Reader(log, watch=True)
    yield reader
    reader.follower.close()


@pytest.fixture
def watcher(log: Path) -> Iterator[Watcher]:
    watcher = Watcher(log)
    yield watcher
    watcher.close()


def awake(watcher: Watcher, seconds: float = 120) -> bool:
    return bool(select.select([watcher.wake_fd], [], [], seconds)[0])


def make_idle(reader: Reader) -> None:
    reader.read()
    reader.wait(2 * QUIET_S)


def is_armed(reader: Reader) -> bool:
    watcher = reader.follower._watcher
    assert watcher is not None
    return watcher._watch is not None


def test_f02_what_came_before_the_watch_was_set_is_read_at_once(
    reader: Reader, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.read()
    real_schedule = BaseObserver.schedule

    def late_schedule(self: BaseObserver, *args: object, **kwargs: object) -> object:
        append(log, b"just before\n")
        return real_schedule(self, *args, **kwargs)  # type: ignore[arg-type]  # passed through as it came

    monkeypatch.setattr(BaseObserver, "schedule", late_schedule)
    reader.clock.now += 2 * QUIET_S
    reader.feed(reader.follower.read(1000))
    assert reader.lines[-1] == b"just before"


def test_armed_only_while_idle(reader: Reader, log: Path) -> None:
    reader.read()
    assert not is_armed(reader)
    for i in range(100):  # data flows
        append(log, b"%d\n" % i)
        reader.wait(0.25)
        assert not is_armed(reader)
    reader.wait(2 * QUIET_S)
    assert is_armed(reader)
    append(log, b"x\n")
    reader.wait_for_event()
    reader.read()
    assert not is_armed(reader)
    assert reader.follower.status().watch == "events"


@pytest.mark.parametrize("change", ["append", "create and write", "unlink", "truncate"])
def test_changes_wake_us_up(watcher: Watcher, log: Path, change: str) -> None:
    assert watcher.arm()
    assert not watcher.woken()
    if change == "append":
        append(log, b"b\n")
    elif change == "create and write":
        log.with_name("new").write_bytes(b"a\n")
    elif change == "unlink":
        log.unlink()
    else:
        os.truncate(log, 0)
    assert awake(watcher)
    assert watcher.woken()


def test_own_reading_and_opening_does_not_wake_us_up(watcher: Watcher, log: Path) -> None:
    watcher.arm()
    for _ in range(20):
        log.read_bytes()
    append(log, b"b\n")
    assert awake(watcher)  # that one; events come in order, so those of reading would have come before it
    assert len(os.read(watcher.wake_fd, 1000)) <= 2


def test_disarmed_watcher_is_silent(watcher: Watcher, log: Path) -> None:
    watcher.arm()
    watcher.disarm()
    append(log, b"b\n")
    watcher.arm()
    append(log, b"c\n")
    assert awake(watcher)


def test_disarming_does_not_wait_for_the_second_half_of_a_move(
    log: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_back = DelayedQueue.__init__
    monkeypatch.setattr(
        DelayedQueue, "__init__", lambda queue, _: hold_back(queue, 60.0)
    )  # not half a second
    watcher = Watcher(log)
    watcher.arm()
    log.rename(tmp_path_factory.mktemp("elsewhere") / "moe.log")
    begin = time.monotonic()
    watcher.disarm()
    assert time.monotonic() - begin < 30
    watcher.close()


def test_busy_neighbour_disarms_until_it_is_quiet_again(reader: Reader, log: Path) -> None:
    make_idle(reader)
    append(log.with_name("neighbour"), b"x")
    reader.wait_for_event()
    reader.read()
    assert not is_armed(reader)
    reader.wait(2 * QUIET_S)
    assert is_armed(reader)


class Count(FileSystemEventHandler):
    events = 0

    def dispatch(self, event: FileSystemEvent) -> None:  # noqa: ARG002
        self.events += 1


def test_full_pipe_does_not_kill_the_observer(watcher: Watcher, log: Path) -> None:
    watcher.arm()
    try:
        while True:
            os.write(watcher._wake_write_fd, bytes(4096))
    except BlockingIOError:
        pass
    assert watcher._observer is not None
    assert watcher._watch is not None
    count = Count()
    watcher._observer.add_handler_for_watch(count, watcher._watch)
    deadline = time.monotonic() + 60
    while count.events < 5:
        append(log, b"x\n")
        time.sleep(0.01)
        assert time.monotonic() < deadline
        assert watcher._observer.is_alive()
    while watcher.woken():
        pass
    append(log, b"y\n")
    assert awake(watcher)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOSPC, "no inotify watch left (raise fs.inotify.max_user_watches): polling"),
        (errno.EMFILE, "no inotify instance left (raise fs.inotify.max_user_instances): polling"),
        (errno.EACCES, "no file watcher ([Errno 13] Permission denied): polling"),
    ],
)
def test_f21_inotify_limits_fall_back_to_polling(
    reader: Reader, log: Path, monkeypatch: pytest.MonkeyPatch, error: int, words: str
) -> None:
    attempts = 0

    def failing_schedule(*_args: object, **_kwargs: object) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(BaseObserver, "schedule", failing_schedule)
    for i in range(20):
        make_idle(reader)
        append(log, b"%d\n" % i)
    reader.read()
    assert reader.lines == [b"a", *(b"%d" % i for i in range(20))]
    assert (reader.follower.status().watch, reader.follower.status().detail) == ("polling", words)
    assert attempts == 1


def test_f21_no_thread_can_be_started(reader: Reader, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Observer, "start", no_thread)
    make_idle(reader)
    append(log, b"b\n")
    reader.read()
    assert reader.lines == [b"a", b"b"]
    assert reader.follower.status().watch == "polling"


@pytest.mark.parametrize("thread", ["observer", "emitter"])
def test_f21_dead_watcher_thread_is_noticed(reader: Reader, log: Path, thread: str) -> None:
    make_idle(reader)
    watcher = reader.follower._watcher
    assert watcher is not None
    assert watcher._observer is not None
    victim: BaseObserver | EventEmitter = watcher._observer
    if thread == "emitter":
        (victim,) = watcher._observer.emitters
    victim.stop()
    victim.join(10)
    assert not victim.is_alive()
    reader.wait(QUIET_S)
    for line in (b"b", b"c"):
        append(log, line + b"\n")
        make_idle(reader)
    assert reader.lines == [b"a", b"b", b"c"]
    assert reader.follower.status().watch == "polling"
    assert reader.follower.status().detail == "the file watcher stopped: polling"


def test_f10_watch_is_set_anew_on_a_directory_made_again(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "moe.log"
    log.parent.mkdir()
    watcher = Watcher(log)
    for i in range(20):  # the new directory would get the inode of the old one if that were not held
        assert watcher.arm() == (i == 0)
        shutil.rmtree(log.parent)
        if i % 2:
            assert not watcher.arm()
            assert watcher.problem == f"{log.parent} does not exist: polling"
        log.parent.mkdir()
        assert watcher.arm()
        assert watcher.problem == ""
        while watcher.woken():
            pass
        append(log, b"x\n")
        assert awake(watcher)
    watcher.close()


def test_a_working_directory_that_was_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    watcher = Watcher(Path("moe.log"))
    assert watcher.arm()
    directory.rmdir()
    assert not watcher.arm()
    assert watcher.problem == "the working directory was removed: polling"
    watcher.close()


def test_f24_idle_process_uses_hardly_any_time(log: Path) -> None:
    reader = Reader(log, watch=True)
    reader.follower._clock = time.monotonic
    reader.read()
    end = time.monotonic() + 1.5
    reads = 0
    cpu = time.process_time()
    while time.monotonic() < end:
        fd = reader.follower.wake_fd()
        assert fd is not None
        select.select([fd], [], [], reader.follower.pause())
        assert reader.follower.read(1 << 20) == []
        reads += 1
    cpu = time.process_time() - cpu
    assert is_armed(reader)
    reader.follower.close()
    assert reads <= 12
    assert cpu < 0.3


def test_close_ends_all_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(5):
        watcher = Watcher(tmp_path / "log")
        watcher.arm()
        watcher.close()
        watcher.close()
    deadline = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


PROGRAM = """
import logging, sys
from pathlib import Path
from moe_live.sources.watch import Watcher
watcher = Watcher(Path(sys.argv[1]))
assert watcher.arm()
logging.getLogger("watchdog.observers.inotify").error("noise")
watcher.close()
"""


def test_what_watchdog_logs_is_not_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log")]
    result = subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert result.stderr == b""
