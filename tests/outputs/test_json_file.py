"""The JSON summary as a file: how it is written, and when."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moe_live.errors import MoeLiveError, UsageError
from moe_live.outputs.json_file import JSON_SUMMARY, PERIOD, JsonFile
from moe_live.reports.files import check_destination
from moe_live.reports.json_report import to_json
from moe_live.snapshot import Section, Snapshot
from tests.dashboard.factory import status
from tests.reports.snapshots import EMPTY, FULL


def strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def written(snapshot: Snapshot, path: str) -> None:
    JsonFile(path, live=False).finish(snapshot)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def followed(path: Path, seconds: int, snapshot: Snapshot = FULL, *, live: bool = True) -> list[int]:
    """The seconds after which the file was another one, asked every second."""
    clock = Clock()
    output = JsonFile(str(path), live=live, clock=clock)
    output.start()
    changes, before = [], None
    for second in range(seconds):
        clock.now = second
        if output.wants_update():
            output.update(snapshot, status())
        found = path.stat().st_ino if path.is_file() else None
        if found != before:
            changes.append(second)
        before = found
    output.finish(snapshot)
    return changes


def test_it_is_there_while_the_log_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    assert set(JsonFile(str(path), live=True).sections()) == set(Section)
    assert followed(path, 100) == [PERIOD]  # nothing new came after that
    assert strict(path.read_text()) == to_json(FULL)


def test_it_is_written_again_when_there_is_something_new(tmp_path: Path) -> None:
    path, clock = tmp_path / "summary.json", Clock()
    output = JsonFile(str(path), live=True, clock=clock)
    output.start()
    for second in (PERIOD, 2 * PERIOD):
        path.unlink(missing_ok=True)
        clock.now = second - 0.1
        assert not output.wants_update()
        clock.now = second
        assert output.wants_update()
        output.update(replace(FULL), status())
        assert strict(path.read_text()) == to_json(FULL)


def test_what_is_there_is_not_replaced_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("of the last run")
    assert followed(path, 100, EMPTY) == [0]
    assert strict(path.read_text()) == to_json(EMPTY)  # at the end it is


def test_a_finished_input_is_told_of_at_its_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    assert followed(path, 100, live=False) == []
    assert strict(path.read_text()) == to_json(FULL)


def test_who_reads_a_pipe_gets_the_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for place in (str(path), "/dev/null", "/dev/fd/1"):
        output = JsonFile(place, live=True, clock=lambda: 1e9)
        output.start()
        assert not output.wants_update()


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(path)
    with path.open() as reader:
        written(FULL, str(link))
        assert reader.read() == "old"  # who had it open sees no half-written file
    assert link.is_symlink()
    assert strict(path.read_text()) == to_json(FULL)
    assert sorted(tmp_path.iterdir()) == [link, path]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_mode_respects_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "summary.json"
    before = os.umask(umask)
    try:
        written(EMPTY, str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_fifo_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    check_destination(str(path), JSON_SUMMARY)
    writer = threading.Thread(target=written, args=(FULL, str(path)))
    writer.start()
    assert strict(path.read_text()) == to_json(FULL)
    writer.join()
    assert path.is_fifo()


def test_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, f"No space left on device: {self} {target}")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MoeLiveError, match="No space left"):
        written(FULL, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_told_in_one_line(tmp_path: Path) -> None:
    for place, reason in [(tmp_path, "directory"), (tmp_path / "no\x1bne" / "x", "not exist|No such")]:
        with pytest.raises(UsageError, match=reason) as early:
            check_destination(str(place), JSON_SUMMARY)
        with pytest.raises(MoeLiveError, match=reason) as late:
            written(FULL, str(place))
        for error in (early, late):
            assert str(error.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_writable_places_pass_the_check(tmp_path: Path) -> None:
    check_destination("/dev/null", JSON_SUMMARY)
    check_destination(str(tmp_path / "new.json"), JSON_SUMMARY)
    (tmp_path / "old.json").touch()
    check_destination(str(tmp_path / "old.json"), JSON_SUMMARY)
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
