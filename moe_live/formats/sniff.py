"""All dialects, and which of them a log is written in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from moe_live.formats.dialect import Decoder, Dialect, Fit
from moe_live.formats.json_lines import JSON_LINES
from moe_live.formats.llama_server import LLAMA_SERVER
from moe_live.formats.patterns import PATTERNS
from moe_live.formats.records import LineTally, Records
from moe_live.formats.table import TABLE

DIALECTS: list[Dialect] = [
    LLAMA_SERVER,
    TABLE,
    JSON_LINES,
    *PATTERNS,
]
"""Of several that are possible the first is taken; and the very first for a log that fits none."""

USUAL = LLAMA_SERVER.name
"""The dialect that needs no mention."""

HEAD_BYTES = 1 << 16
"""Bytes of a log that are looked at to tell its dialect, at most."""

HEAD_LINES = 200
"""Lines that are looked at, at most."""


def dialect_named(name: str) -> Dialect:
    """The dialect of this name.

    Raises:
        KeyError: there is none.
    """
    return {dialect.name: dialect for dialect in DIALECTS}[name]


class Sniffer:
    """Tells the dialect of a log from its first lines, as soon as one is certain.

    The answer does not depend on how the bytes are cut into chunks.
    """

    def __init__(self) -> None:
        self.head = bytearray()
        self._lines: list[bytes] = []
        self._looked_at = 0

    def feed(self, data: bytes | memoryview) -> Dialect | None:
        """Take in the next bytes; the dialect, once it is known."""
        self.head += data
        if len(DIALECTS) == 1:
            return DIALECTS[0]
        while (end := self.head.find(b"\n", self._looked_at, HEAD_BYTES)) >= 0:
            self._lines.append(bytes(self.head[self._looked_at : end]))
            self._looked_at = end + 1
            for dialect in DIALECTS:
                if dialect.recognize(self._lines) is Fit.CERTAIN:
                    return dialect
            if len(self._lines) == HEAD_LINES:
                return self.end()
        return self.end() if len(self.head) >= HEAD_BYTES else None

    def end(self) -> Dialect:
        """The dialect, by what there is."""
        fits = [dialect for dialect in DIALECTS if dialect.recognize(self._lines) is not Fit.NONE]
        return (fits or DIALECTS)[0]


class SniffingDecoder:
    """Decodes a log of any dialect: what comes before that is known is held, some `HEAD_BYTES` at most.

    Args:
        gate_layers: the layers whose router inputs are needed; None for all.
        dialect: what the log is written in; None to find out.

    Attributes:
        dialect: the same; what was found out, once it is.
    """

    def __init__(self, *, gate_layers: frozenset[int] | None = None, dialect: Dialect | None = None) -> None:
        self._gate_layers = gate_layers
        self._sniffer = Sniffer()
        self.dialect = dialect or self._sniffer.feed(b"")
        self._decoder = None if self.dialect is None else self._opened(self.dialect)

    @property
    def tally(self) -> LineTally:
        """What was read so far; while the dialect is unknown no line is counted."""
        return LineTally(bytes=len(self._sniffer.head)) if self._decoder is None else self._decoder.tally

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        if self._decoder is None:
            if (dialect := self._sniffer.feed(data)) is None:
                return
            yield from self._begin(dialect)
        else:
            yield from self._decoder.feed(data)

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`. The dialect is told by then, if there was anything; it stays the same."""
        if self._decoder is None and self._sniffer.head:
            yield from self._begin(self._sniffer.end())
        if self._decoder is not None:
            yield from self._decoder.restart(emptied=emptied)

    def _begin(self, dialect: Dialect) -> Iterator[Records]:
        """Decode what was held."""
        self.dialect = dialect
        self._decoder = self._opened(dialect)
        head = bytes(self._sniffer.head)
        self._sniffer.head.clear()
        yield from self._decoder.feed(head)

    def _opened(self, dialect: Dialect) -> Decoder:
        return dialect.open(gate_layers=self._gate_layers)
