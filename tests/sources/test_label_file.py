"""The file that tells what is going on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moe_live.errors import UsageError
from moe_live.sources.label_file import LabelFile, check_label_file


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_label_is_told_once_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "label"
    label = LabelFile(path, Clock())
    assert label.changed() is None
    path.write_text(" math \nsecond line\n")
    assert [label.changed(), label.changed()] == ["math", None]
    path.write_bytes(b"caf\xc3\xa9\xff")
    assert [label.changed(), label.changed()] == ["caf\u00e9\ufffd", None]
    path.write_text("x" * 1000)
    assert label.changed() == "x" * 256
    path.unlink()
    assert [label.changed(), label.changed()] == ["", None]


def test_what_cannot_be_read_is_no_label_and_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "missing" / "label"):
        assert LabelFile(path, Clock()).changed() is None


def test_what_can_never_be_a_label_file_is_told_at_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="cannot read labels"):
            check_label_file(str(path))
    (tmp_path / "label").touch()
    for path in (tmp_path / "label", tmp_path / "missing", tmp_path / "label" / "missing"):
        check_label_file(str(path))


def test_it_is_not_looked_at_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "label"
    now = [0.0]
    label = LabelFile(path, lambda: now[0])
    assert label.changed() is None
    path.write_text("code")
    assert label.changed() is None
    now[0] = 0.06
    assert label.changed() == "code"
