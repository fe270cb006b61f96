"""C to shared libraries, which are kept in the user's cache directory."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def compiler() -> list[str]:
    """The command that compiles C: CC, or `cc`."""
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def cache_directory() -> Path:
    """Where libraries are kept; it may be missing.

    Raises:
        RuntimeError: there is no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "moe-live"


def is_ours(library: Path) -> bool:
    """Whether the file is there, and nobody else can have written it."""
    try:
        status = library.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def make(library: Path, build: Callable[[Path], None]) -> None:
    """Have a file made elsewhere in its directory, and put it in its place once it is whole.

    Raises:
        OSError: it cannot be written. What `build` raises is let through.
    """
    import tempfile

    descriptor, name = tempfile.mkstemp(prefix=f".{library.name}.", dir=library.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        build(unfinished)
        unfinished.chmod(0o700)
        unfinished.replace(library)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
