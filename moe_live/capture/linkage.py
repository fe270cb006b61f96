"""Whether the tap can work in a program: found out before the program runs, as far as its file tells."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import struct
import subprocess
from enum import Enum
from pathlib import Path

from moe_live.errors import printable

_ELF = b"\x7fELF"
_PROGRAM_HEADER = 56
_PT_INTERP = 3
_INSIDE = b"ggml-backend.cpp"
"""In what a failed assertion of ggml would print: in every binary that has it inside."""

_LDD_SECONDS = 20


class Linkage(Enum):
    """How a program gets its ggml."""

    SHARED = "ggml is a library of its own"
    STATIC = "ggml is inside"
    MUSL = "it needs musl"
    PRIVILEGED = "it runs with other rights than its user's"
    UNKNOWN = "it may load ggml later, or start another program that does"


def linkage(program: str) -> Linkage:
    """Look at a program.

    Args:
        program: its path.
    """
    try:
        if _is_privileged(program):
            return Linkage.PRIVILEGED
        with Path(program).open("rb") as file:
            if file.read(4) != _ELF:
                return Linkage.UNKNOWN  # a script, say
            file.seek(0)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
                interpreter = _interpreter(contents)
                if b"musl" in interpreter:
                    return Linkage.MUSL
                if interpreter and "libggml" in _needed(program):
                    return Linkage.SHARED
                return Linkage.STATIC if contents.find(_INSIDE) >= 0 else Linkage.UNKNOWN
    except (OSError, ValueError, IndexError, struct.error):  # not a whole program
        return Linkage.UNKNOWN


def why_not(name: str, found: Linkage) -> str | None:
    """Why the tap cannot work in a program, and what to do; None if it may.

    Args:
        name: what the user calls the program.
        found: what `linkage` says of it.
    """
    otherwise = "moe-live capture --model, which runs a model by itself"
    program = printable(name)
    match found:
        case Linkage.STATIC:
            return (
                f"{program} is linked statically: use one of the official dynamic builds, or build with "
                "-DBUILD_SHARED_LIBS=ON, or moe-live capture --model"
            )
        case Linkage.MUSL:
            return (
                f"{program} is linked with musl, where the tap does not work: use another build, or "
                f"{otherwise}"
            )
        case Linkage.PRIVILEGED:
            return (
                f"{program} changes its rights when it starts (setuid, setgid), so nothing can be preloaded: "
                "start it as the user it is to run as"
            )
        case Linkage.SHARED | Linkage.UNKNOWN:
            return None


def find_program(name: str) -> str | None:
    """The path of a command as the system would find it; None if there is none."""
    return shutil.which(name)


def _is_privileged(program: str) -> bool:
    status = Path(program).stat()
    return bool(
        (status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid())
        or (status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP and status.st_gid != os.getegid())
    )


def _interpreter(contents: mmap.mmap) -> bytes:
    """Path of the program that loads this one's libraries; empty if it has none."""
    if contents[4] != 2 or contents[5] != 1:  # of 64 bits, the low byte first: others are not looked into
        return b""
    (headers,) = struct.unpack_from("<Q", contents, 32)
    (count,) = struct.unpack_from("<H", contents, 56)
    for i in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", contents, headers + i * _PROGRAM_HEADER)
        if kind == _PT_INTERP:
            return contents[offset : offset + size].rstrip(b"\0")
    return b""


def _needed(program: str) -> str:
    """What `ldd` says the program needs, and what that needs in turn; nothing if it cannot be run."""
    try:
        run = subprocess.run(  # noqa: S603 - on what the user is about to start
            ["ldd", program],  # noqa: S607 - wherever the system has it
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_LDD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout
