"""The subcommands, by name: what each does, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe_live.capture import cli as capture
from moe_live.plans import cli as plans


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
    for module in (capture, plans)
    for name, what in module.SUBCOMMANDS.items()
}
