"""Results to files: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.sources.stream import own_descriptor

_NOT_REPLACED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
"""What replacing a file can fail of that may be written to: no permission, a mount point."""


def check_destination(path: str, what: str, taken: Iterable[tuple[str, str]] = ()) -> None:
    """See before a long run whether `write_text` has a chance.

    Args:
        path: of the file.
        what: is to be written there, for the message.
        taken: paths of files that must not be overwritten, each with what it is.

    Raises:
        UsageError: it has none.
    """
    try:
        problem = _problem(path, taken)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise UsageError(f"cannot write {what} to {printable(path)}: {problem}; name another file")


def write_text(text: str, path: str, what: str) -> None:
    """Write a file that appears or changes at once and as a whole; a device or pipe is simply written to.

    A file that is there keeps its owner, group and mode; where one in its place could not, or cannot be put
    there, it is written to. A pipe that nobody reads is waited for: only an exception out of a signal handler
    ends that.

    Args:
        text: its content.
        path: of the file.
        what: is written, for the message.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    try:
        _write(path, text)
    except OSError as error:
        raise MoeLiveError(
            f"cannot write {what} to {printable(path)}: {error.strerror}; name another file"
        ) from error


@contextmanager
def file_in_place(path: str, what: str) -> Iterator[IO[bytes]]:
    """A file to be written little by little that appears, or changes, as a whole at the end of this.

    What fails leaves what was there. A file that is there keeps its owner, group and mode; a device or pipe
    is simply written to.

    Args:
        path: of the file.
        what: is written, for the message.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if not is_replaced(path):
            with _opened(path) as file:
                yield file
            return
        with _replacement(target) as file:
            yield file
    except OSError as error:
        raise MoeLiveError(
            f"cannot write {what} to {printable(path)}: {error.strerror}; name another file"
        ) from error


def is_replaced(path: str) -> bool:
    """Whether `write_text` puts a file in the place of what may be there, as far as can be known."""
    return own_descriptor(path) is None and stat.S_ISREG(_mode(Path(os.path.realpath(path))) or stat.S_IFREG)


def _problem(path: str, taken: Iterable[tuple[str, str]]) -> str:
    """Why the file cannot be written, as far as can be known; "" for nothing.

    Raises:
        OSError: for another reason.
    """
    if (descriptor := own_descriptor(path)) is not None:
        os.write(descriptor, b"")  # changes nothing, and fails where more would fail
        return ""
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if stat.S_ISDIR(mode):
        return "it is a directory"
    if stat.S_ISSOCK(mode):
        return "it is a socket"
    if mode and not stat.S_ISREG(mode):
        return "" if os.access(target, os.W_OK) else "no permission"
    for other, use in taken:
        if target == Path(os.path.realpath(other)):
            return f"it is {use}"
    if not target.parent.is_dir():
        return "its directory does not exist"
    temporary = _beside(target)
    try:
        temporary.touch(exist_ok=False)
    except OSError:
        if _is_writable(target):
            return ""
        raise
    temporary.unlink()
    return ""


def _write(path: str, text: str) -> None:
    target, data = Path(os.path.realpath(path)), text.encode("utf-8")
    if not is_replaced(path):
        with _opened(path) as file:
            file.write(data)
        return
    try:
        with _replacement(target) as file:
            file.write(data)
    except OSError as error:
        if error.errno not in _NOT_REPLACED or not _is_writable(target):
            raise
        target.write_bytes(data)


def _opened(path: str) -> IO[bytes]:
    """What is there, such as a device or a pipe, to be written to."""
    descriptor = own_descriptor(path)
    return open(
        path if descriptor is None else descriptor,
        "wb",
        closefd=descriptor is None,
        opener=lambda name, _: os.open(name, os.O_WRONLY),
    )


@contextmanager
def _replacement(target: Path) -> Iterator[IO[bytes]]:
    """A new file that is put in the place of what may be there.

    Raises:
        OSError: that may not be done, or `target` had better be written to.
    """
    former = target.stat() if target.exists() else None
    temporary = _beside(target)
    try:
        with open(
            temporary,
            "xb",
            opener=lambda name, flags: os.open(name, flags, 0o666 if former is None else 0o600),
        ) as file:
            if former is not None and sys.platform != "win32":
                _take_after(file.fileno(), former, or_else=not _is_writable(target))
            yield file
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_after(descriptor: int, former: os.stat_result, *, or_else: bool) -> None:
    """Give a file the owner, group and mode of another.

    Args:
        descriptor: of the file.
        former: the other one.
        or_else: do what can be done, so that nobody but its owner may do more with it.

    Raises:
        PermissionError: not all can be done.
    """
    mode = former.st_mode & 0o777
    try:
        os.fchown(descriptor, former.st_uid, former.st_gid)
    except PermissionError:
        if not or_else:
            raise
        try:
            os.fchown(descriptor, -1, former.st_gid)
        except PermissionError:  # the group is one of ours: it may do what everybody may
            mode &= 0o707 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)


def _is_writable(path: Path) -> bool:
    """Whether a file is there and may be written to."""
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def _mode(path: Path) -> int:
    """What kind of file it is, as in `stat`; 0 if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def _beside(target: Path) -> Path:
    """A name in the same directory that nobody uses."""
    return target.with_name(f".moe-live-{os.urandom(8).hex()}.tmp")
