"""Whose a result file is and who may read it: as before, or fewer."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moe_live.errors import MoeLiveError, UsageError
from moe_live.reports.files import check_destination, write_text

USER, OTHER = 12345, 23456
WHAT = "the result"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can reach, and `USER` owns if there are several."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(path, USER, USER)
        yield path
        path.chmod(0o755)


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """As a user of this number, whose only group has the same number."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def make(path: Path, mode: int, owner: int | None = None, group: int | None = None) -> Path:
    path.write_text("old")
    if owner is not None:
        os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)
    return path


def write(path: Path) -> None:
    """As a run does: checked, then written."""
    check_destination(str(path), WHAT)
    write_text("new", str(path), WHAT)


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666, 0o444, 0o755])
def test_the_mode_is_kept(directory: Path, mode: int) -> None:
    path = make(directory / "x", mode)
    before = owner_and_mode(path)
    write(path)
    assert path.read_text() == "new"
    assert owner_and_mode(path) == before
    assert list(directory.iterdir()) == [path]


def test_special_bits_are_not(directory: Path) -> None:
    path = make(directory / "x", 0o6755)
    write(path)
    assert owner_and_mode(path)[2] == 0o755


@root_only
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_root_keeps_whose_it_is(directory: Path, mode: int) -> None:
    path = make(directory / "x", mode, OTHER)
    write(path)
    assert path.read_text() == "new"
    assert owner_and_mode(path) == (OTHER, OTHER, mode)


@root_only
@pytest.mark.parametrize(
    ("owner", "group", "mode", "becomes"),
    [
        (OTHER, OTHER, 0o600, (USER, USER, 0o600)),
        (OTHER, OTHER, 0o640, (USER, USER, 0o600)),  # the user's group could not read it
        (OTHER, OTHER, 0o644, (USER, USER, 0o644)),
        (OTHER, OTHER, 0o660, (USER, USER, 0o600)),
        (OTHER, USER, 0o640, (USER, USER, 0o640)),
        (OTHER, USER, 0o660, (OTHER, USER, 0o660)),  # may be written to as it is
        (OTHER, OTHER, 0o666, (OTHER, OTHER, 0o666)),
        (USER, OTHER, 0o640, (USER, OTHER, 0o640)),
    ],
)
def test_a_user_keeps_it_where_that_is_possible_and_nobody_else_gains(
    directory: Path, owner: int, group: int, mode: int, becomes: tuple[int, int, int]
) -> None:
    path = make(directory / "x", mode, owner, group)
    with acting_as(USER):
        write(path)
    assert path.read_text() == "new"
    assert owner_and_mode(path) == becomes
    assert list(directory.iterdir()) == [path]


def closed_to_us(directory: Path) -> None:
    """Make it a directory that we cannot write to."""
    if os.geteuid() == 0:
        os.chown(directory, OTHER, OTHER)
    directory.chmod(0o555)


@contextmanager
def acting_as_a_user() -> Iterator[None]:
    """As somebody whom permissions hold for."""
    if os.geteuid() == 0:
        with acting_as(USER):
            yield
    else:
        yield


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_file_that_cannot_be_replaced_is_written_to(directory: Path, size: int) -> None:
    path = directory / "x"
    path.write_text("o" * size)
    path.chmod(0o666)
    before = owner_and_mode(path)
    closed_to_us(directory)
    with acting_as_a_user():
        write(path)
    assert path.read_text() == "new"
    assert owner_and_mode(path) == before


def test_one_that_can_neither_be_replaced_nor_written_to_is_told_at_the_start(directory: Path) -> None:
    path = make(directory / "x", 0o444)
    closed_to_us(directory)
    with acting_as_a_user():
        for place in (path, directory / "new"):
            with pytest.raises(UsageError, match="Permission denied"):
                check_destination(str(place), WHAT)
            with pytest.raises(MoeLiveError, match="Permission denied"):
                write_text("new", str(place), WHAT)
    assert path.read_text() == "old"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EPERM, errno.EROFS])
def test_a_file_that_is_mounted_or_fixed_is_written_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    path = make(directory / "x", 0o600)
    before = path.stat().st_ino
    write(path)
    assert (path.read_text(), path.stat().st_ino) == ("new", before)
    assert list(directory.iterdir()) == [path]


def test_a_link_stays_and_what_it_names_changes(directory: Path) -> None:
    (directory / "far").mkdir()
    path = make(directory / "far" / "x", 0o640)
    link = directory / "link"
    link.symlink_to("far/x")
    write(link)
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert owner_and_mode(path)[2] == 0o640
    dangling = directory / "dangling"
    dangling.symlink_to("far/y")
    write(dangling)
    assert (directory / "far" / "y").read_text() == "new"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_is_as_the_umask_says(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(directory / "x")
    finally:
        os.umask(before)
    assert owner_and_mode(directory / "x")[2] == 0o666 & ~umask


def test_while_it_is_written_nobody_reads_more_than_before(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    replace = Path.replace

    def noting(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noting)
    write(make(directory / "x", 0o600))
    assert modes == [0o600]
