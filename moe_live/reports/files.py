"""Results to files: whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from moe_live.errors import MoeLiveError, UsageError, printable


def check_destination(path: str, what: str, inputs: Iterable[str] = ()) -> None:
    """See before a long run whether `write_text` has a chance.

    Args:
        path: of the file.
        what: is to be written there, for the message.
        inputs: files that are read, none of which may be overwritten.

    Raises:
        UsageError: it has none.
    """
    target = Path(os.path.realpath(path))
    problem = ""
    if any(target == Path(os.path.realpath(name)) for name in inputs):
        problem = "it is the log itself"
    elif target.is_dir():
        problem = "it is a directory"
    elif not target.parent.is_dir():
        problem = "its directory does not exist"
    elif not os.access(target.parent if target.is_file() or not target.exists() else target, os.W_OK):
        problem = "no permission"
    if problem:
        raise UsageError(f"cannot write {what} to {printable(path)}: {problem}; name another file")


def write_text(text: str, path: str, what: str) -> None:
    """Write a file that appears or changes at once and as a whole; a device or FIFO is simply written to.

    Args:
        text: its content.
        path: of the file.
        what: is written, for the message.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    try:
        _write(Path(os.path.realpath(path)), text)
    except OSError as error:
        raise MoeLiveError(
            f"cannot write {what} to {printable(path)}: {error.strerror}; name another file"
        ) from error


def _write(target: Path, text: str) -> None:
    if target.exists() and not target.is_file():
        target.write_text(text)
        return
    temporary = target.with_name(f".moe-live-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x") as file:
            file.write(text)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
