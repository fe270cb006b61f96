"""What a dialect is: a grammar of logs of MoE routing, and what turns them into records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Protocol

from moe_live.dataclass import dataclass
from moe_live.formats.records import LineTally, Records


class Decoder(Protocol):
    """Turns the bytes of one log into records. The result does not depend on how they are cut into chunks."""

    @property
    def tally(self) -> LineTally:
        """What was read so far."""
        ...

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """Take in the next chunk of the log. Iterate to the end before anything else is asked.

        Yields:
            The records that this chunk completes, in the order of the log. Their arrays hold until the next
            one is asked for.
        """
        ...

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """The log starts anew, or has ended: drop the unfinished line. Iterate to the end, as after `feed`.

        Args:
            emptied: the same file goes on, perhaps with the rest of that line.

        Returns:
            What only the end completes.
        """
        ...


class Opener(Protocol):
    """Makes a decoder."""

    def __call__(self, *, gate_layers: frozenset[int] | None, weights: bool) -> Decoder:
        """A decoder at the beginning of a log.

        Args:
            gate_layers: the layers whose router inputs are needed; None for all.
            weights: whether those of the experts are needed; who has to read them anyway may tell them.
        """
        ...


def nothing(line: bytes) -> str:  # noqa: ARG001 - it takes more than the line
    """The fault of a malformed line where that cannot be told from the line alone."""
    return ""


class Fit(IntEnum):
    """Whether lines are of a dialect."""

    NONE = 0
    POSSIBLE = 1
    """They are right in this dialect, and may be in another."""
    CERTAIN = 2
    """There is a line among them that only this dialect has."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One grammar.

    All that is callable is a function or class of a module, so that other processes find it too.

    Attributes:
        name: what it is called in reports.
        example: a few lines of it, for people.
        recognize: whether lines, the first ones of a log and without newlines, are of it.
        open: makes a decoder.
        fault: what is wrong with a malformed line, given without its newline or as its first `SAMPLE_BYTES`
            bytes; "" if it cannot be told from that.
        places: where large files may be cut, None for nowhere. Of a text that begins with a line: offsets
            (before, start, end) of two neighbouring rows, ascending; the second, `text[start:end]`, begins
            a step as far as its own beginning and that of the row before show. Whether it does is tested.
        resumed: the dialect as its lines are read on, given the first ones of a log, without newlines: what
            its decoders learn from a header or first line they know from the start, and there are `places`.
            None if that cannot be, or if it is the same.
        is_text: whether there are lines at all, around which there may be something.
        named: the same, where the user says what columns or keys are called, by our names of them; None if
            there are none.
    """

    name: str
    example: str
    recognize: Callable[[Sequence[bytes]], Fit]
    open: Opener
    fault: Callable[[bytes], str] = nothing
    places: Callable[[bytes], Iterator[tuple[int, int, int]]] | None = None
    resumed: Callable[[Sequence[bytes]], Dialect | None] | None = None
    is_text: bool = True
    named: Callable[[Mapping[str, str]], Dialect] | None = None
