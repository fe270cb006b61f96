"""The subcommands, by name: what each does, and where it is. A module is imported when its command is run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        help: what it does, in a few words.
        module: the module that has it: `run_subcommand` takes the arguments from its name on, and returns the
            exit status; `add_parsers` adds the parsers of all commands there.
    """

    help: str
    module: str

    def run(self, argv: Sequence[str]) -> int:
        """Run `argv`, which begins with the name; returns the exit status.

        Raises:
            MoeLiveError: something a user can act on.
        """
        status: int = import_module(self.module).run_subcommand(argv)
        return status


_AS_ONE = "states of several runs or servers, or many logs, as one"

COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "capture": Command(
            "write the log of a server as it is, or of a model run here", "moe_live.capture.cli"
        ),
        "tap": Command(
            "the library to preload into a server, for units and containers", "moe_live.capture.cli"
        ),
        "verify": Command("hold a log against the routers of its model", "moe_live.capture.cli"),
        "plan": Command("what to do with the figures: cache, prune ...", "moe_live.plans.cli"),
        "compare": Command("two runs side by side: is it still the same model?", "moe_live.plans.cli"),
        "rows": Command("a log as a table of its rows: Parquet or CSV", "moe_live.tables.cli"),
        "merge": Command(_AS_ONE, "moe_live.merging"),
        "analyze": Command(_AS_ONE, "moe_live.many.cli"),
        "formats": Command("what is read: each format with an example", "moe_live.format_list"),
        "completion": Command("complete command lines in bash, zsh or fish", "moe_live.completion"),
    }
)


def add_parsers(subparsers: Any) -> None:
    """Add those of all commands to what `ArgumentParser.add_subparsers` returned."""
    for module in dict.fromkeys(command.module for command in COMMANDS.values()):
        import_module(module).add_parsers(subparsers)


def add_command(
    subparsers: Any, name: str, description: str, epilog: str, *, usage: str | None = None
) -> argparse.ArgumentParser:
    """Add the parser of a command; its texts are shown as they are.

    Args:
        subparsers: what `ArgumentParser.add_subparsers` returned.
        name: of the command, one of `COMMANDS`.
        description: stands above its options.
        epilog: below them.
        usage: its first line; by default what argparse makes of the options.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=COMMANDS[name].help,
        usage=usage,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser
