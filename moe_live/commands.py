"""The subcommands, by name: each takes the arguments from its name on, and returns the exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_live.capture import cli as capture
from moe_live.plans import cli as plans

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    **dict.fromkeys(capture.SUBCOMMANDS, capture.run_subcommand),
    **dict.fromkeys(plans.SUBCOMMANDS, plans.run_subcommand),
}
