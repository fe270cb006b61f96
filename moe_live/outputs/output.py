"""What an output is: a place that figures go to, while a run goes on, at its end, or both."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from moe_live.dataclass import dataclass

if TYPE_CHECKING:
    from moe_live.running import Status
    from moe_live.snapshot import Section, Snapshot
    from moe_live.statistics.step_distances import StepDistance


@dataclass(frozen=True, slots=True)
class Destination:
    """A file that an output writes: its path, and what is written there, for messages."""

    path: str
    what: str


class Output:
    """One output of a run, which does nothing as it stands: each does what concerns it.

    All is called by the thread that reads the log; whatever is slow, or may never end, is another thread's
    business.

    Attributes:
        destination: the file it writes; None if it writes none.
        takes_stdout: whether standard output is its own: nothing else is printed then.
        wants_steps: whether it takes the distances of each step.
    """

    destination: Destination | None = None
    takes_stdout: bool = False
    wants_steps: bool = False

    def start(self) -> None:
        """Make ready, before anything is read.

        Raises:
            MoeLiveError: it cannot be; nothing has to be closed then.
        """

    def sections(self) -> Collection[Section]:
        """What the snapshots for `update` are to hold."""
        return ()

    def wants_update(self) -> bool:
        """Whether `update` is worth while. It must be quick: the loop that reads asks at every turn."""
        return False

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Take the figures of this moment, at most once a second.

        What has not changed since it was called last is the same object.

        Args:
            snapshot: with `sections`.
            status: how the run is going.

        Raises:
            MoeLiveError: they cannot be taken; the next ones may be.
        """

    def take_steps(self, steps: Sequence[StepDistance]) -> None:
        """Take the distances of steps as they happen, if it `wants_steps`; the last ones after `close`.

        Raises:
            OSError: standard output cannot be written.
        """

    def close(self) -> None:
        """Nothing more comes while the run goes on: give back what `start` took."""

    def finish(self, snapshot: Snapshot) -> None:
        """Take the final figures, after `close`.

        Raises:
            MoeLiveError: they cannot be taken.
        """


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The options on the command line that ask for one kind of output.

    Attributes:
        add: adds them to a group of options, as returned by `ArgumentParser.add_argument_group`.
        make: the outputs that the parsed options ask for, not started yet. Raises UsageError where they do
            not go together.
    """

    add: Callable[[Any], None]
    make: Callable[[argparse.Namespace], Iterable[Output]]
