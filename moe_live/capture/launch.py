"""What is told to `moe-live run` of the command it runs: its options."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from moe_live.arguments import Parser, file_name
from moe_live.capture.supervisor import LaunchError
from moe_live.dataclass import dataclass

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LEAST_LIMIT = 10**5


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to run with the tap.

    Attributes:
        command: its name and its arguments.
        weights: whether the weights of the experts are logged.
        gate_layers: layers of which the routers' inputs are logged.
        drafts: a log for drafts and other models; None to leave them out.
        output: the file for what it prints; None for a temporary one.
        log: the log that is kept; None for none.
        log_limit: bytes after which that is rotated; None for never.
    """

    command: tuple[str, ...]
    weights: bool
    gate_layers: frozenset[int]
    drafts: str | None
    output: str | None
    log: str | None
    log_limit: int | None


class CommandParser(Parser):
    """Of a line in which a command follows `--`: failures of our own have a status that no command uses."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to find what is right."""
        raise LaunchError(f"{message}; see {self.prog} --help")


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    """Add what `Launch` holds beside the command and the layers."""
    group = parser.add_argument_group("command")
    group.add_argument(
        "--log", type=file_name, metavar="FILE", help="keep the log in FILE, which is appended to"
    )
    group.add_argument(
        "--log-limit",
        type=_size,
        metavar="SIZE",
        help="begin a new FILE after SIZE bytes (500M, 2G); the last ones are kept as FILE.1 to FILE.4",
    )
    add_tap_options(group, weights="read the weights of the experts too", output="a temporary file")


def add_tap_options(group: Any, *, weights: str, output: str) -> None:
    """Add those of all commands that run another with the tap.

    Args:
        group: of options.
        weights: what `--weights` does.
        output: where what the command prints goes by default.
    """
    group.add_argument("--weights", action="store_true", help=weights)
    group.add_argument(
        "--drafts",
        type=file_name,
        metavar="FILE",
        help="a log for drafts and other models, which are left out else",
    )
    group.add_argument(
        "--output",
        type=file_name,
        metavar="FILE",
        help=f"where what COMMAND prints goes, the last 16 MB of it; default: {output}",
    )


def launch(parser: argparse.ArgumentParser, options: argparse.Namespace, command: tuple[str, ...]) -> Launch:
    """What the options say.

    Args:
        parser: told of what is wrong.
        options: of `add_launch_options`.
        command: to be run.
    """
    if not command:
        parser.error("there is no command: give it after --")
    if options.log_limit is not None and options.log is None:
        parser.error("--log-limit SIZE goes with --log FILE")
    return Launch(
        command=command,
        weights=options.weights,
        gate_layers=options.gate_layers or frozenset(),
        drafts=options.drafts,
        output=options.output,
        log=options.log,
        log_limit=options.log_limit,
    )


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)B?", text, re.IGNORECASE)
    size = int(found[1]) * _UNITS[found[2].upper()] if found else 0
    if size < _LEAST_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M or 2G, of 100K at least")
    return size
