"""What other programs put around the lines of a log: before them, at their ends, and in what encoding.

One shape of prefix is told from the first lines and taken off all that have it, as are colours, and blanks at
the ends of lines where the first ones have them. UTF-16 is told by the mark at its beginning.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from moe_live.dataclass import dataclass
from moe_live.formats.dialect import Decoder
from moe_live.formats.records import LineTally, Records
from moe_live.formats.spans import MAX_LINE_BYTES

_CLOCK = rb"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]" + _CLOCK + rb"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
_PROGRAM = rb"[^ \n:\[\]]{1,64}(?:\[[0-9]{1,10}\])?: "

SHAPES: dict[str, bytes] = {
    "llama.cpp": rb"[0-9]{1,6}\.[0-9]{2}\.[0-9]{3}\.[0-9]{3} [A-Z] ",
    "journald": rb"[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})? [^ \n]{1,255} "
    + _PROGRAM,
    "journald, ISO": _TIME + rb" [^ \n]{1,255} " + _PROGRAM,
    "time": rb"\[?" + _TIME + rb"\]?:? ",
    "docker compose": rb"[A-Za-z0-9_.-]{1,128} *\| (?:" + _TIME + rb" )?",
    "kubectl": rb"\[pod/[^\]\n]{1,255}\] (?:" + _TIME + rb" )?",
    "grep -Hn": rb"[^:\n#{\"\[ ]{1,255}:[0-9]{1,12}:",
    "grep -n": rb"[0-9]{1,12}:",
    "grep -H": rb"[^:\n#{\"\[ ]{1,255}:",
}
"""Prefixes of lines, the most telling first."""

_COLOURS = re.compile(rb"\x1b\[[0-9;]*[mK]")
_AT_END = re.compile(rb"[ \t]+(?=\r?\n)")

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LONGEST_MARK = max(len(mark) for mark, _ in _MARKS)


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What is around the lines.

    Attributes:
        prefix: the shape, one of `SHAPES`; "" for none.
        colours: whether there are sequences of bytes that colour text.
        blanks: whether there are blanks at the ends of lines.
    """

    prefix: str = ""
    colours: bool = False
    blanks: bool = False

    def __bool__(self) -> bool:
        return self != Wrapping()

    def taken_off(self, text: bytes) -> bytes:
        """Complete lines without it."""
        if self.colours:
            text = _COLOURS.sub(b"", text)
        if self.prefix:
            text = _at_beginnings(self.prefix).sub(b"", text)
        return _AT_END.sub(b"", text) if self.blanks else text


def unwrapped(line: bytes) -> Iterator[tuple[Wrapping, bytes]]:
    """What may be around a line, without its newline, and the line without it: the likeliest first."""
    plain = _COLOURS.sub(b"", line)
    bare = plain.rstrip(b" \t\r")
    wrapping = Wrapping(colours=len(plain) < len(line), blanks=plain.rstrip(b"\r") != bare)
    yield wrapping, bare
    for name in SHAPES:
        if found := _at_beginnings(name).match(plain):
            yield replace(wrapping, prefix=name), bare[found.end() :]


@cache
def _at_beginnings(prefix: str) -> re.Pattern[bytes]:
    """One of `SHAPES`, at the beginnings of lines: few logs have any."""
    return re.compile(b"^(?:" + SHAPES[prefix] + b")", re.MULTILINE)


class UnwrappingDecoder:
    """Takes the wrapping off and leaves the lines to another decoder.

    Args:
        wrapping: what there is.
        decoder: of the lines without it.
    """

    def __init__(self, wrapping: Wrapping, decoder: Decoder) -> None:
        self._wrapping = wrapping
        self._decoder = decoder
        self._unfinished = b""

    @property
    def tally(self) -> LineTally:
        """What was read so far, without the wrapping."""
        return self._decoder.tally

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        complete = bytes(data).rfind(b"\n") + 1
        text = self._unfinished + bytes(data[:complete]) if complete else b""
        self._unfinished = (b"" if complete else self._unfinished) + bytes(data[complete:])
        if len(self._unfinished) > 2 * MAX_LINE_BYTES:  # an over-long line, whatever is before it
            text, self._unfinished = text + self._unfinished, b""
        if text:
            yield from self._decoder.feed(self._wrapping.taken_off(text))

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`."""
        rest, self._unfinished = self._unfinished, b""
        if rest:
            yield from self._decoder.feed(self._wrapping.taken_off(rest + b"\n")[:-1])
        yield from self._decoder.restart(emptied=emptied)


class Recoder:
    """Text in UTF-16 to UTF-8, and the mark at the beginning of either taken off; all else stays as it is.

    Attributes:
        encoding: what the text is in; "" while that is not known.
    """

    def __init__(self) -> None:
        self.encoding = ""
        self._head = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def __getstate__(self) -> tuple[str, bytes, tuple[bytes, int]]:
        """What is known, and what is held of a character."""
        return self.encoding, self._head, (b"", 0) if self._decoder is None else self._decoder.getstate()

    def __setstate__(self, state: tuple[str, bytes, tuple[bytes, int]]) -> None:
        """As it was."""
        self.encoding, self._head, held = state
        if self.encoding not in {"", *(encoding for _, encoding in _MARKS)}:
            raise ValueError(f"{self.encoding} is not read")
        self._decoder = self._new_decoder()
        if self._decoder is not None:
            self._decoder.setstate(held)

    def _new_decoder(self) -> codecs.IncrementalDecoder | None:
        if self.encoding in {"", "utf-8"}:
            return None
        return codecs.getincrementaldecoder(self.encoding)("replace")

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """The next bytes of the log in UTF-8."""
        if not self.encoding:
            self._head += bytes(data)
            if len(self._head) < _LONGEST_MARK and any(
                mark.startswith(self._head) and mark != self._head for mark, _ in _MARKS
            ):
                return b""
            data, self._head = self._head, b""
            mark, self.encoding = next(
                ((mark, encoding) for mark, encoding in _MARKS if data.startswith(mark)), (b"", "utf-8")
            )
            data = data[len(mark) :]
            self._decoder = self._new_decoder()
        return data if self._decoder is None else self._decoder.decode(bytes(data)).encode()

    def end(self) -> bytes:
        """What is left of a log that is shorter than a mark."""
        rest, self._head = self._head, b""
        if self._decoder is not None:
            self._decoder.reset()
        return rest
