"""What a followed log held and could not be read, and what of it may have been read twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from moe_live.dataclass import dataclass

UNSEEN_S = 1.0
"""After more time than this without a look, say because the process was stopped, all may have happened."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """How much may be missing, or be there twice, since the beginning of the run.

    Attributes:
        replaced: how many times, at least, the path was given another file while nobody looked. Only those
            times count after which something is missing, or may be.
        missing_files: how many of these files are gone, or cannot be read.
        uncertain: how many times it cannot be told whether there were more of them.
        unseen_seconds: for how long nobody had looked then, all in all.
        emptied: how many times the log was emptied, or written anew, with no copy of its end beside it.
        shortened: how many times the log was cut inside a line, and what was left recognized as read.
        cut_seconds: how long before it had last been read, for both of them, all in all.
        lost_bytes: how many bytes were seen to be there, and were gone before they were read.
        repeated_lines: how many lines may have been read twice, at most.
    """

    replaced: int = 0
    missing_files: int = 0
    uncertain: int = 0
    unseen_seconds: float = 0.0
    emptied: int = 0
    shortened: int = 0
    cut_seconds: float = 0.0
    lost_bytes: int = 0
    repeated_lines: int = 0

    def sentences(self, name: str) -> Iterator[str]:
        """What a reader of the figures must know; `name` is that of the log."""
        if self.replaced or self.uncertain:
            missing = f"{_number(self.missing_files, 'file')} of that time cannot be read any more"
            if self.uncertain:
                missing = f"{missing}, and perhaps others" if self.missing_files else "files may be missing"
                missing += f" of the {self.unseen_seconds:,.1f} s without a look"
            least = "at least " if self.uncertain else ""
            event = f"replaced {least}{_times(self.replaced)}" if self.replaced else "removed"
            yield f"{name} was {event} while nobody looked: {missing}"
        if self.emptied:
            yield f"{name} was emptied {_times(self.emptied)} with no copy of its end beside it"
        if self.shortened:
            yield (
                f"{name} was cut inside a line {_times(self.shortened)}: what was left of it had been read "
                "and is not counted again"
            )
        if self.emptied or self.shortened:
            yield f"what was written to {name} in the {self.cut_seconds:,.1f} s before that may be missing"
        if self.lost_bytes:
            yield f"{_number(self.lost_bytes, 'byte')} of {name} were gone before they could be read"
        if self.repeated_lines:
            yield (
                f"up to {self.repeated_lines:,} lines may be counted twice: {name} was cut, or written anew "
                "with the same beginning"
            )


class _Emptied(NamedTuple):
    """A log that was emptied, or written anew.

    Attributes:
        file: the log.
        first_line: that of what it held.
        seconds: since it had last been read.
    """

    file: object
    first_line: bytes
    seconds: float


class GapCounter:
    """Counts gaps, of which some show only later.

    Attributes:
        gaps: the count.
    """

    def __init__(self) -> None:
        self.gaps = Gaps()
        self._emptied: _Emptied | None = None

    def add(self, **more: float) -> None:
        """Count so much more in these fields."""
        now = {name: getattr(self.gaps, name) + count for name, count in more.items()}
        self.gaps = replace(self.gaps, **now)

    def note_emptied(self, file: object, first_line: bytes, seconds: float) -> None:
        """Take in that a log was emptied, or written anew, with no copy beside it.

        If it begins with the same line then, a server did that which had started again: its predecessor had
        written to the end long before.

        Args:
            file: the log.
            first_line: that of what it held.
            seconds: since it had last been read.
        """
        self.settle()
        self._emptied = _Emptied(file, first_line, seconds)
        if seconds > UNSEEN_S:
            self.settle()

    def note_beginning(self, file: object, data: bytes, *, is_known: bool) -> None:
        """Take in the first bytes of a file; `is_known`: more of them than a line are what it began with."""
        if self._emptied is not None and self._emptied.file is file:
            if is_known or not data.startswith(self._emptied.first_line[: len(data)]):
                self.settle()
            self._emptied = None

    def settle(self) -> None:
        """No beginning will come that shows a server to have started again."""
        if self._emptied is not None:
            self.add(emptied=1, cut_seconds=self._emptied.seconds)
            self._emptied = None


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s'[: count != 1]}"
