"""The subcommand `moe-live formats`: what logs may be written in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from moe_live.arguments import subcommand_options
from moe_live.commands import COMMANDS


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with one of its commands; returns the exit status.

    Raises:
        UsageError: the arguments are wrong.
    """
    subcommand_options(argv, add_parsers)
    from moe_live.formats.sniff import DIALECTS

    for dialect in DIALECTS:
        sys.stdout.write(f"{dialect.name}\n")
        sys.stdout.writelines(f"    {line}\n" for line in dialect.example.split("\n"))
    return 0


def add_parsers(subparsers: Any) -> None:
    """Add those of its commands to what `ArgumentParser.add_subparsers` returned."""
    subparsers.add_parser(
        "formats",
        help=COMMANDS["formats"].help,
        description="Print the names of what logs may be written in, each with an example.",
    )
