"""Accumulators that are fed, settled and merged together, so that none is forgotten in one of these."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from moe_live.dataclass import dataclass
from moe_live.isolation import Failures
from moe_live.settings import Settings


class Accumulator(Protocol):
    """What a statistic keeps. It is fed by a method of its own, mostly called `update`."""

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        ...

    def __iadd__(self, other: Self) -> Self:
        """Add what was found in another log, which comes after this one."""
        ...


Kept = TypeVar("Kept", bound=Accumulator)
Fed = TypeVar("Fed")


@dataclass(frozen=True, slots=True)
class Member(Generic[Kept, Fed]):
    """One accumulator.

    Attributes:
        kind: its class, by which it is found.
        feed: hands it what its container is fed.
        join: adds what another found in other rows of the same steps.
        new: makes one; None where `kind` does.
    """

    kind: type[Kept]
    feed: Callable[[Kept, Fed], None]
    join: Callable[[Kept, Kept], object] = operator.iadd
    new: Callable[[Settings], Kept] | None = None

    def made(self, settings: Settings) -> Kept:
        """One that was fed nothing."""
        return self.kind() if self.new is None else self.new(settings)


class Members(Generic[Fed]):
    """The accumulators of a table, one of each kind. What fails in one of them leaves the others alone.

    Args:
        settings: what is to be counted.
        failures: takes what fails.

    Attributes:
        TABLE: the members, each with the name that its statistic has in a warning.
    """

    TABLE: ClassVar[Sequence[tuple[str, Member[Any, Any]]]] = ()

    def __init__(self, settings: Settings, failures: Failures) -> None:
        self.failures = failures
        self._accumulators: dict[type[Any], Any] = {
            member.kind: member.made(settings) for _, member in self.TABLE
        }

    def __contains__(self, kind: type[Any]) -> bool:
        return kind in self._accumulators

    def __getitem__(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind."""
        found: Kept = self._accumulators[kind]
        return found

    def feed(self, what: Fed) -> None:
        """Hand it to each."""
        for name, member in self.TABLE:
            accumulator = self._accumulators[member.kind]
            self.failures.attempt(name, partial(member.feed, accumulator, what), None)

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        for name, member in self.TABLE:
            self.failures.attempt(name, self._accumulators[member.kind].settle, None)

    def take(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind, made without arguments; a new one stands in its place."""
        found, self._accumulators[kind] = self[kind], kind()
        return found

    def join(self, other: Self) -> None:
        """Add what was found in other rows of the same steps."""
        self.failures |= other.failures
        for name, member in self.TABLE:
            ours, theirs = self._accumulators[member.kind], other._accumulators[member.kind]
            self.failures.attempt(name, partial(member.join, ours, theirs), None)

    def __iadd__(self, other: Self) -> Self:
        """Add what was found in another log."""
        self.failures |= other.failures
        for name, member in self.TABLE:
            theirs = other._accumulators[member.kind]
            self.failures.attempt(name, partial(self._accumulators[member.kind].__iadd__, theirs), None)
        return self
