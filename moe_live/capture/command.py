"""`moe-live capture --log FILE -- COMMAND`: a program that was not made for it, run with the tap."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_live.capture.linkage import find_program, linkage, why_not
from moe_live.capture.supervisor import (
    PASSED_ON,
    BoundedOutput,
    Command,
    LaunchError,
    NotFoundError,
)
from moe_live.capture.tap_library import tap_library
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, printable

OUTPUT_LIMIT = 16 << 20
"""Bytes that are kept of what a command prints, if that goes to a file."""

_MODEL = b"GGUF"  # what a model file begins with
_LAST_LINES = 10
_ECHO_SECONDS = (
    0.25  # the same signal within this time is the same request, as in `moe_live.terminal.Signals`
)
_TRIM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TapSettings:
    """What the tap is told.

    Attributes:
        log: the file, named pipe or socket to write.
        weights: whether the weights of the experts are logged.
        gate_layers: layers of which the routers' inputs are logged.
        drafts: where the rows of drafts and other models go; None to leave them out.
    """

    log: str
    weights: bool
    gate_layers: frozenset[int]
    drafts: str | None

    def environ(self, library: Path, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of a program with the tap.

        Args:
            library: the tap.
            base: the environment without it.
        """
        environ = {name: value for name, value in base.items() if name not in _VARIABLES}
        # Libraries that must come first, such as those of sanitizers, stay there.
        environ["LD_PRELOAD"] = " ".join(filter(None, (base.get("LD_PRELOAD"), str(library))))
        environ["MOE_LIVE_LOG"] = str(Path(self.log).absolute())
        if self.weights:
            environ["MOE_LIVE_WEIGHTS"] = "1"
        if self.gate_layers:
            environ["MOE_LIVE_GATE_LAYERS"] = ",".join(map(str, sorted(self.gate_layers)))
        if self.drafts is not None:
            environ["MOE_LIVE_DRAFTS"] = str(Path(self.drafts).absolute())
        return environ


_VARIABLES = frozenset({"MOE_LIVE_LOG", "MOE_LIVE_WEIGHTS", "MOE_LIVE_GATE_LAYERS", "MOE_LIVE_DRAFTS"})


def capture_command(arguments: Sequence[str], settings: TapSettings, output: str | None) -> int:
    """Run a command with the tap until it ends; returns the exit status: 0 if Ctrl-C ended it, else its own.

    Args:
        arguments: the command.
        settings: of the tap.
        output: the file for what it prints; None to leave that to moe-live's own output.

    Raises:
        LaunchError: it was not started, and why.
    """
    program, library = prepared(arguments[0], settings)
    before = _size(settings.log)
    printed = None if output is None else BoundedOutput(Path(output), OUTPUT_LIMIT)
    environ = settings.environ(library, os.environ)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    status = _supervise(Command(program, arguments, environ, printed), printed)
    if status and printed is not None:
        tell_of_failure(arguments[0], status, printed)
    if before is not None and _size(settings.log) == before:
        sys.stderr.write(
            f"moe-live: nothing was logged in {printable(settings.log)}: {nothing_computed(arguments[0])}\n"
        )
    return status


def tell_of_failure(name: str, status: int, output: BoundedOutput) -> None:
    """Say on standard error how a command ended, after the last that it said."""
    for line in output.last_lines(_LAST_LINES):
        sys.stderr.write(f"{line}\n")
    sys.stderr.write(
        f"moe-live: {printable(name)} ended with status {status}; all it said: {printable(output.path)}\n"
    )


def nothing_computed(name: str) -> str:
    """Why no row may have come from a command."""
    return (
        f"{printable(name)} computed no model with experts, or is linked statically "
        "(moe-live capture --model works without it)"
    )


def prepared(name: str, settings: TapSettings) -> tuple[str, Path]:
    """The path of a program and the tap for it.

    Raises:
        LaunchError: there is no such program, the tap cannot work in it or be made, or the log cannot be
            written.
    """
    program = find_program(name)
    if program is None:
        raise NotFoundError(f"there is no command {printable(name)}: check its name and PATH")
    reason = why_not(name, linkage(program))
    if reason is not None:
        raise LaunchError(reason)
    for path in filter(None, (settings.log, settings.drafts)):
        _check_log(path)
    try:
        return program, tap_library()
    except MoeLiveError as error:
        raise LaunchError(str(error)) from None


def _check_log(path: str) -> None:
    directory = Path(path).absolute().parent
    if not directory.is_dir():
        raise LaunchError(
            f"cannot write {printable(path)}: there is no directory {printable(directory)}: make it"
        )
    if Path(path).is_dir():
        raise LaunchError(f"cannot write {printable(path)}: it is a directory; name a file in it")
    if Path(path).is_file() and os.access(path, os.R_OK):
        with Path(path).open("rb") as file:
            if file.read(len(_MODEL)) == _MODEL:
                raise LaunchError(f"cannot write {printable(path)}: it holds a model; choose another log")
    if not os.access(path if Path(path).exists() else directory, os.W_OK):
        raise LaunchError(f"cannot write {printable(path)}: permission denied; choose another log")


def _size(log: str) -> int | None:
    """Bytes of a log, 0 if there is none yet; None if it is a pipe or the like."""
    try:
        status = Path(log).stat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _supervise(command: Command, output: BoundedOutput | None) -> int:
    """Pass signals on until the command has ended. They are blocked, and taken here one by one."""
    last, last_at = 0, -_ECHO_SECONDS
    while (status := command.poll()) is None:
        came = signal.sigtimedwait({*PASSED_ON, signal.SIGCHLD}, _TRIM_SECONDS)
        now = time.monotonic()
        if output is not None:
            output.trim()
        if came is not None and came.si_signo in PASSED_ON:
            number = came.si_signo
            if number == last and now - last_at < _ECHO_SECONDS:
                continue
            last, last_at = number, now
            command.pass_on(number)
    return 0 if command.interrupts else status
