"""What a plan is: options of its own, and from a snapshot to lines of text and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_live.plans.result import Result

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot

Progress = Callable[[float], object]
"""Is told the share that is done, 0 to 1, every second or so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One kind of plan.

    Attributes:
        name: the word of the command line.
        help: what it does, in a line.
        description: what it does.
        add: adds its options.
        check: sees, before anything is read, whether the options can be followed.
        make: makes the plan; files that were asked for are written.
    """

    name: str
    help: str
    description: str
    add: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None]
    make: Callable[[argparse.Namespace, Snapshot, Progress], Result]
