"""`--steps`: the distances of each step as lines of CSV, as they happen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from moe_live.arguments import file_name
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.outputs.output import Destination, Output, OutputOptions

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot
    from moe_live.statistics.step_distances import StepDistance

STEPS = "the distances of each step"


class StepsFile(Output):
    """A file of a line for each step and pair of layers, or standard output if its name is -.

    It ends with what could be written: what fails is told at the end.
    """

    wants_steps = True

    def __init__(self, path: str) -> None:
        self.takes_stdout = path == "-"
        self.destination = None if self.takes_stdout else Destination(path, STEPS)
        self._path = path
        self._what = f"{STEPS} to {printable(path)}"
        self._file: TextIO | None = None
        self._problem = ""

    def start(self) -> None:
        """Open it, and write what the columns are.

        Raises:
            UsageError: it cannot be.
        """
        from moe_live.statistics.step_distances import HEADER

        if not self.takes_stdout:
            try:
                self._file = Path(self._path).open("w", encoding="ascii")  # noqa: SIM115 - `finish` closes it
            except OSError as error:
                raise UsageError(f"cannot write {self._what}: {error.strerror}; name another file") from error
        self._write(",".join(HEADER) + "\n")

    def take_steps(self, steps: Sequence[StepDistance]) -> None:
        """Write them."""
        self._write("".join(",".join(map(str, step)) + "\n" for step in steps))

    def finish(self, snapshot: Snapshot) -> None:  # noqa: ARG002 - all is written already
        """Close it.

        Raises:
            MoeLiveError: not all of it could be written.
        """
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._problem = self._problem or str(error.strerror)
        self._file = None
        if self._problem:
            raise MoeLiveError(f"cannot write {self._what}: {self._problem}; the last lines are missing")

    def _write(self, text: str) -> None:
        if self.takes_stdout:  # what fails there is told where all that is printed fails
            sys.stdout.write(text)
            sys.stdout.flush()
        elif self._file is not None and not self._problem:
            try:
                self._file.write(text)
                self._file.flush()
            except OSError as error:
                self._problem = str(error.strerror)


def _add(group: Any) -> None:
    group.add_argument(
        "--steps",
        type=file_name,
        metavar="FILE",
        help="write the distances between gate inputs in each step as CSV, as it happens; "
        "- for nothing but these on standard output",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.steps is None:
        return
    others = {"--json -": options.json == "-", "--once": options.once is not None, "--browse": options.browse}
    for other in [other for other, given in others.items() if given and options.steps == "-"]:
        raise UsageError(f"--steps - and {other} both want standard output: name a file for the steps")
    if options.only is not None:
        raise UsageError("--only frequency reads no gate inputs, and --steps is of nothing else")
    yield StepsFile(options.steps)


OPTIONS = OutputOptions(_add, _make)
