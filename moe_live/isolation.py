"""What fails is left out and named; it takes nothing else with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self, TypeVar

from moe_live.errors import MoeLiveError, printable
from moe_live.version import __version__

Made = TypeVar("Made")


class Failures:
    """What failed so far. What failed once is not tried again: what it has counted can no longer be believed.

    >>> failures = Failures()
    >>> failures.attempt("halves", lambda: 1 / 0, 0.5), "halves" in failures
    (0.5, True)
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def attempt(self, name: str, make: Callable[[], Made], instead: Made) -> Made:
        """What `make` returns, or `instead` if that fails, or whatever has this name failed before.

        Raises:
            MoeLiveError, MemoryError: it is not this that fails, but the run that is to end.
        """
        if name in self._reasons:
            return instead
        try:
            return make()
        except (MoeLiveError, MemoryError):
            raise
        except Exception as error:  # whatever it is: a defect of ours
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self._reasons[name] = printable(reason)
            return instead

    def __contains__(self, name: str) -> bool:
        return name in self._reasons

    def __iter__(self) -> Iterator[str]:
        """The names of what failed, in the order in which it did."""
        return iter(self._reasons)

    def __ior__(self, other: Failures) -> Self:
        """Add what failed elsewhere."""
        self._reasons = other._reasons | self._reasons
        return self

    def copy(self) -> Failures:
        """The same, to which others can be added."""
        failures = Failures()
        failures |= self
        return failures

    def sentences(self) -> Iterator[str]:
        """A warning for each: what is missing, why, and what to do about it."""
        for name, reason in self._reasons.items():
            yield (
                f"{name} left out, making it failed: {reason}; this is a defect of moe-live "
                f"{__version__}: please report this line and the first lines of the log"
            )
