"""What runs tasks. The analysis knows no more of it than this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from moe_live.many.tasks import Found, Told


class Task(Protocol):
    """A task that was handed out."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        ...

    def told(self) -> Told:
        """What its result tells of itself; the result stays where it is.

        Raises:
            Exception: what it failed of.
        """
        ...

    def found(self) -> Found:
        """Its result.

        Raises:
            Exception: what it failed of.
        """
        ...


class Engine(Protocol):
    """Processes that run tasks. One that dies is only time: what it did is done again."""

    @property
    def name(self) -> str:
        """What it is, for whoever waits."""
        ...

    @property
    def workers(self) -> int:
        """Tasks that run at once; 0 if there is nobody yet."""
        ...

    def submit(self, function: Callable[..., Found], *arguments: object) -> Task:
        """Have a function called; arguments may be tasks, for what they find."""
        ...

    def wait(self, seconds: float) -> None:
        """Until a task ends, so long at most.

        Raises:
            MoeLiveError: nothing will come any more.
        """
        ...

    def close(self) -> None:
        """End whatever still runs."""
        ...
