"""The errors a user can meet."""

from __future__ import annotations

import os
import signal
from typing import Self


class MoeLiveError(Exception):
    """One line for the user: what happened, where, and what to do. Ends the run with `exit_code`."""

    exit_code = 1


class UsageError(MoeLiveError):
    """Wrong command line, or an input that cannot be read at all."""

    exit_code = 2


class StoppedError(MoeLiveError):
    """A signal, or the terminal that has gone, ended the run before all was done."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number

    @classmethod
    def by(cls, number: int) -> Self:
        """Of the signal `number`."""
        name = signal.Signals(number).name
        return cls(f"{name} ended it before all results were written", number)


def printable(text: str | bytes | os.PathLike[str]) -> str:
    """`text` on one line, safe to print: control characters, undecodable bytes and the like are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fsdecode(text))
