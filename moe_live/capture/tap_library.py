"""The tap: a library in C that is preloaded into a program on a shared libggml and logs its routing.

It is compiled when it is first used and kept in the user's cache directory, under a name that tells what it
was made of.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from moe_live.compiler import cache_directory, compiler, is_ours, make
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.version import __version__

SOURCES = Path(__file__).parent / "tap"

FLAGS = (
    *("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wpedantic"),
    "-Wl,-z,lazy",  # a program that never computes a model needs none of the functions
)
LIBRARIES = ("-ldl", "-lpthread")

_INSTALL = (
    "install one (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; Arch: pacman -S gcc), "
    "set CC to the one you have, or build the library elsewhere with moe-live tap --build FILE and set "
    "MOE_LIVE_TAP=FILE here"
)


def tap_library() -> Path:
    """The library to preload: what MOE_LIVE_TAP names, or the one in the cache, compiled if need be.

    Raises:
        MoeLiveError: it cannot be compiled, or preloaded from where it is.
    """
    given = os.environ.get("MOE_LIVE_TAP")
    library = Path(given).absolute() if given else _cached()
    if not library.is_file():
        raise UsageError(f"MOE_LIVE_TAP names {printable(library)}, which is no file: check the path")
    if set(str(library)) & set(" \t\n:"):
        remedy = "put it elsewhere" if given else "set XDG_CACHE_HOME to another directory"
        raise UsageError(
            f"{printable(library)} cannot be preloaded: its path has a blank or a colon; {remedy}"
        )
    return library


def build(destination: Path) -> None:
    """Compile the library into a file.

    Raises:
        MoeLiveError: there is no compiler, it fails, or the file cannot be written.
    """
    _check_platform()
    try:
        make(destination, _compile)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(destination)}: {error.strerror}; choose another place "
            "(XDG_CACHE_HOME is where the cache is)"
        ) from None


def _cached() -> Path:
    _check_platform()
    directory = _cache_directory()
    library = directory / f"tap-{_fingerprint()}.so"
    if not is_ours(library):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot make {printable(directory)}: {error.strerror}; "
                "set XDG_CACHE_HOME to a directory that can be written"
            ) from None
        build(library)
    return library


def _cache_directory() -> Path:
    try:
        return cache_directory()
    except RuntimeError:
        raise UsageError("there is no home directory to keep the tap in: set XDG_CACHE_HOME") from None


def _sources() -> list[Path]:
    return sorted(SOURCES.glob("*.[ch]"))


def _fingerprint() -> str:
    """Of the sources, the compiler and its flags."""
    digest = hashlib.sha256(repr((FLAGS, LIBRARIES, __version__, compiler(), _compiler_version())).encode())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compiler_version() -> str:
    return _run([*compiler(), "--version"]).stdout


def _compile(library: Path) -> None:
    """Raises MoeLiveError if that fails."""
    sources = [str(source) for source in _sources() if source.suffix == ".c"]
    version = f'-DTAP_VERSION="{__version__}"'
    command = [*compiler(), *FLAGS, version, "-o", str(library), *sources, *LIBRARIES]
    run = _run(command)
    if run.returncode:
        errors = (
            [line for line in run.stderr.splitlines() if "error" in line]
            or run.stderr.splitlines()
            or ["no reason"]
        )
        raise MoeLiveError(
            f"{printable(shlex.join(compiler()))} cannot compile the tap: {printable(errors[0])}; "
            "are the headers of the C library installed (Debian, Ubuntu: apt install libc6-dev)?"
        )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - the compiler that the user has chosen
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise MoeLiveError(
            f"there is no C compiler ({printable(command[0])}) to make the tap: {_INSTALL}"
        ) from None
    except OSError as error:
        raise MoeLiveError(f"cannot run {printable(command[0])}: {error.strerror}; {_INSTALL}") from None


def _check_platform() -> None:
    if sys.platform != "linux":
        raise UsageError("the tap works on Linux only; elsewhere moe-live capture --model runs a model")
