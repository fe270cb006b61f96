"""The library of the loops in C: compiled before the first large log is read, and kept."""

from __future__ import annotations

import ctypes
import os
import sys
import zlib
from functools import cache
from pathlib import Path

from moe_live.compiler import cache_directory, compiler, is_ours, make
from moe_live.version import __version__

SOURCES = sorted(Path(__file__).parent.glob("*.c"))

FLAGS = (
    "-std=c11",
    "-O2",
    "-ftree-vectorize",
    "-ffp-contract=off",  # a product and a sum are rounded each, as in numpy
    "-fPIC",
    "-shared",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
)

WORTH = 1 << 24
"""Bytes of logs for which it is worth to compile the library, which takes a second: everything of such a log
takes a third of a second less then."""

SWITCH = "MOE_LIVE_KERNELS"
"""The variable of the environment that is `off` where nothing is to be compiled or loaded."""

_PATIENCE_S = 30.0  # with a compiler


def prepare(size: int | None) -> None:
    """Compile the library if it is not there yet, and so many bytes are to be read (None: nobody knows).

    Where that cannot be done all is computed without it, and nothing is said. It is tried on Linux only:
    elsewhere `cc` may be there to ask the user to install a compiler.
    """
    if size is None or size < WORTH or os.environ.get(SWITCH) == "off" or library() is not None:
        return
    try:
        path = _path()
        if sys.platform != "linux" or path.exists():  # one that cannot be loaded is not made again each time
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make(path, build)
    except (OSError, RuntimeError, ValueError):
        return  # no home, no compiler, a CC that is none, or one that fails
    library.cache_clear()


@cache
def library() -> ctypes.CDLL | None:
    """The library, None if there is none."""
    if os.environ.get(SWITCH) == "off":
        return None
    try:
        path = _path()
        return ctypes.CDLL(str(path)) if is_ours(path) else None
    except (OSError, RuntimeError):
        return None  # no home, or a directory from which nothing may be executed


def build(path: Path, *more: str) -> None:
    """Compile the library into a file, with more flags than usual if there are any.

    Raises:
        OSError: there is no compiler.
        RuntimeError: it fails, or takes too long.
    """
    import subprocess

    try:
        subprocess.run(  # noqa: S603 - the compiler that the user has chosen
            [*compiler(), *FLAGS, *more, "-o", str(path), *map(str, SOURCES)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise RuntimeError(str(error)) from error


def _path() -> Path:
    """Where it is kept, under a name that tells what it was made of."""
    machine = os.uname()
    made_of = repr((__version__, FLAGS, machine.sysname, machine.machine)).encode()
    for source in sorted(Path(__file__).parent.glob("*.[ch]")):
        made_of += source.read_bytes()
    return cache_directory() / f"kernels-{zlib.crc32(made_of):08x}.so"
