"""Results to files: whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.sources.stream import own_descriptor


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

    A pipe that nobody reads is waited for: only an exception out of a signal handler ends that.

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
    temporary.touch(exist_ok=False)
    temporary.unlink()
    return ""


def _write(path: str, text: str) -> None:
    descriptor = own_descriptor(path)
    target = Path(os.path.realpath(path))
    if descriptor is not None or not stat.S_ISREG(_mode(target) or stat.S_IFREG):
        with open(
            path if descriptor is None else descriptor,
            "w",
            encoding="utf-8",
            closefd=descriptor is None,
            opener=lambda name, _: os.open(name, os.O_WRONLY),
        ) as file:
            file.write(text)
        return
    temporary = _beside(target)
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _mode(path: Path) -> int:
    """What kind of file it is, as in `stat`; 0 if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def _beside(target: Path) -> Path:
    """A name in the same directory that nobody uses."""
    return target.with_name(f".moe-live-{secrets.token_hex(8)}.tmp")
