"""What a plan is: options of its own, and from a snapshot to figures, lines of text and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moe_live.dataclass import dataclass
from moe_live.plans.result import Result
from moe_live.settings import DEFAULT_LATEST_USES

if TYPE_CHECKING:
    from moe_live.plans.given import Given
    from moe_live.snapshot import Snapshot

Progress = Callable[[float], object]
"""Is told the share that is done, 0 to 1, every second or so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One kind of plan.

    Attributes:
        name: the word of the command line, and the field of a snapshot that holds its figures.
        help: what it does, in a line.
        description: what it does.
        add: adds its options.
        check: sees, before anything is read, whether the options can be followed.
        make: makes the plan; files that were asked for are written.
        figures: what a view and the summary show of it; `MoeLiveError` says why that cannot be made.
        live_uses: how many of the latest uses of experts they rest on while a log is followed.
    """

    name: str
    help: str
    description: str
    add: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None]
    make: Callable[[argparse.Namespace, Snapshot, Progress], Result]
    figures: Callable[[Snapshot, Given, Progress], Any]
    live_uses: Callable[[Given], int] = lambda _: DEFAULT_LATEST_USES
