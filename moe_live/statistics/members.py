"""Accumulators that are fed, settled and merged together, so that none is forgotten in one of these."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from moe_live.isolation import Failures


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
        section: the figures it is for, as they are called where one of them fails.
        kind: its class, by which it is found.
        feed: hands it what its container is fed.
        join: adds what another found in other rows of the same steps.
    """

    section: str
    kind: type[Kept]
    feed: Callable[[Kept, Fed], None]
    join: Callable[[Kept, Kept], object] = operator.iadd


class Members(Generic[Fed]):
    """The accumulators of a table, one of each kind. What fails in one of them leaves the others alone.

    Args:
        failures: takes what fails.
        made: those that are made with arguments.

    Attributes:
        TABLE: the members.
    """

    TABLE: ClassVar[tuple[Member[Any, Any], ...]] = ()

    def __init__(self, failures: Failures, made: Mapping[type[Any], Any] | None = None) -> None:
        self.failures = failures
        kinds = [member.kind for member in self.TABLE]
        self._accumulators: dict[type[Any], Any] = dict(made or {})
        self._accumulators |= {kind: kind() for kind in kinds if kind not in self._accumulators}

    def __getitem__(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind."""
        found: Kept = self._accumulators[kind]
        return found

    def feed(self, what: Fed) -> None:
        """Hand it to each."""
        for member, accumulator in self._pairs():
            self.failures.attempt(member.section, partial(member.feed, accumulator, what), None)

    def settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        for member, accumulator in self._pairs():
            self.failures.attempt(member.section, accumulator.settle, None)

    def take(self, kind: type[Kept]) -> Kept:
        """The accumulator of this kind, made without arguments; a new one stands in its place."""
        found, self._accumulators[kind] = self[kind], kind()
        return found

    def join(self, other: Self) -> None:
        """Add what was found in other rows of the same steps."""
        self.failures |= other.failures
        for member, accumulator in self._pairs():
            theirs = other._accumulators[member.kind]
            self.failures.attempt(member.section, partial(member.join, accumulator, theirs), None)

    def __iadd__(self, other: Self) -> Self:
        """Add what was found in another log."""
        self.failures |= other.failures
        for member, accumulator in self._pairs():
            theirs = other._accumulators[member.kind]
            self.failures.attempt(member.section, partial(accumulator.__iadd__, theirs), None)
        return self

    def _pairs(self) -> Iterator[tuple[Member[Any, Fed], Any]]:
        for member in self.TABLE:
            yield member, self._accumulators[member.kind]
