"""The subcommands, by name: what each does, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from moe_live import completion, format_list, merging
from moe_live.capture import cli as capture
from moe_live.plans import cli as plans

_MODULES = (capture, plans, merging, format_list, completion)


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand.

    Attributes:
        help: what it does, in a few words.
        run: takes the arguments from its name on, and returns the exit status.
    """

    help: str
    run: Callable[[Sequence[str]], int]


COMMANDS: dict[str, Command] = {
    name: Command(what, module.run_subcommand)
    for module in _MODULES
    for name, what in module.SUBCOMMANDS.items()
}


def add_parsers(subparsers: Any) -> None:
    """Add those of all commands to what `ArgumentParser.add_subparsers` returned."""
    for module in _MODULES:
        module.add_parsers(subparsers)
