"""All dialects, and which of them a log is written in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import overload

from moe_live.formats.dialect import Decoder, Dialect, Fit
from moe_live.formats.nearest import is_foreign_table, nearest
from moe_live.formats.prefixes import Recoder, UnwrappingDecoder, Wrapping, unwrapped
from moe_live.formats.records import LineTally, Records
from moe_live.formats.spans import SAMPLE_BYTES
from moe_live.settings import FORMATS


class _Dialects(Sequence[Dialect]):
    """All, in the order of `FORMATS`; modules are loaded as they are reached, of most logs only the first."""

    def __len__(self) -> int:
        return len(FORMATS)

    @overload
    def __getitem__(self, index: int) -> Dialect: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Dialect]: ...

    def __getitem__(self, index: int | slice) -> Dialect | Sequence[Dialect]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return _reached(index)


@cache
def _reached(index: int) -> Dialect:
    """One of all dialects; each line of a log that is of none of them is held against all."""
    name, module = list(FORMATS.items())[index]
    dialects: Sequence[Dialect] = import_module(f"moe_live.formats.{module}").DIALECTS
    return next(dialect for dialect in dialects if dialect.name == name)


DIALECTS: Sequence[Dialect] = _Dialects()
"""All, in the order of `FORMATS`."""

_TABLE = "table"

USUAL = next(iter(FORMATS))
"""The dialect that needs no mention."""

_NOTHING_TOLD: Mapping[str, str] = MappingProxyType({})

HEAD_BYTES = 1 << 16
"""Bytes of a log that are looked at to tell its dialect, at most."""

HEAD_LINES = 200
"""Lines that are looked at, at most."""


def dialect_named(name: str) -> Dialect:
    """The dialect of this name.

    Raises:
        KeyError: there is none.
    """
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    raise KeyError(name)


def candidates(name: str = "", columns: Mapping[str, str] = _NOTHING_TOLD) -> Sequence[Dialect]:
    """The dialects a log may be written in.

    Args:
        name: of the one it is; "" for all.
        columns: what columns and keys are called, by our names of them.
    """
    known = [dialect_named(name)] if name else DIALECTS
    return [one.named(columns) if one.named else one for one in known] if columns else known


class Sniffer:
    """Tells the dialect of a log from its first lines, as soon as one is certain.

    The answer does not depend on how the bytes are cut into chunks.

    Args:
        known: the dialects it may be of; None for all.

    Attributes:
        head: what was taken in so far.
        wrapping: what is around the lines.
    """

    def __init__(self, known: Sequence[Dialect] | None = None) -> None:
        self._known = DIALECTS if known is None else known
        self.head = bytearray()
        self.wrapping = Wrapping()
        self._lines: list[bytes] = []
        self._looked_at = 0
        self._judged, self._fits = 0, True  # what is known of how many lines

    def feed(self, data: bytes | memoryview) -> Dialect | None:
        """Take in the next bytes; the dialect, once it is known."""
        self.head += data
        while (end := self.head.find(b"\n", self._looked_at, HEAD_BYTES)) >= 0:
            self._lines.append(bytes(self.head[self._looked_at : end]))
            self._looked_at = end + 1
            for wrapping, line in unwrapped(self._lines[-1]):
                for dialect in self._known:
                    if dialect.recognize([line]) is Fit.CERTAIN:
                        self.wrapping = wrapping if dialect.is_text else Wrapping()
                        return dialect
            if len(self._lines) == HEAD_LINES:
                return self.end()
        return self.end() if len(self.head) >= HEAD_BYTES else None

    def end(self) -> Dialect:
        """The dialect, by what there is."""
        if near := self._near():
            return near
        dialect, self.wrapping = self._fitting() or (self._known[0], self.wrapping)
        return dialect

    def _near(self) -> Dialect | None:
        """The tables, if there is a header but for the names of its columns: its lines may look like rows."""
        is_near = bool(nearest(self._lines)) or is_foreign_table(self._lines)
        return next((one for one in self._known if one.name == _TABLE and is_near), None)

    @property
    def unknown(self) -> Sequence[bytes]:
        """The lines so far, if they can be of no dialect."""
        if self._judged != len(self._lines):  # whoever waits for more asks again and again
            self._judged = len(self._lines)
            self._fits = not self._near() and self._fitting() is not None
        return () if self._fits else self._lines

    def _fitting(self) -> tuple[Dialect, Wrapping] | None:
        """The first dialect that the lines can be of, as they are or without what may be around the first."""
        text = b"".join(line + b"\n" for line in self._lines)
        around = [wrapping for line in self._lines[:1] for wrapping, _ in unwrapped(line)]
        for wrapping in (Wrapping(), *around):
            lines = wrapping.taken_off(text).split(b"\n")[:-1]
            for dialect in self._known:
                if (dialect.is_text or not wrapping) and dialect.recognize(lines) is not Fit.NONE:
                    return dialect, wrapping
        return None


class SniffingDecoder:
    """Decodes a log of any dialect: what comes before that is known is held, some `HEAD_BYTES` at most.

    Args:
        gate_layers: the layers whose router inputs are needed; None for all.
        weights: whether those of the experts are needed.
        dialect: what the log is written in; None to find out.
        known: the dialects it may be; None for all.

    Attributes:
        dialect: the first; what was found out, once it is.
    """

    def __init__(
        self,
        *,
        gate_layers: frozenset[int] | None = None,
        weights: bool = True,
        dialect: Dialect | None = None,
        known: Sequence[Dialect] | None = None,
    ) -> None:
        self._gate_layers = gate_layers
        self._weights = weights
        self._bytes = 0
        self._recoder = Recoder()
        self._sniffer = Sniffer(known)
        self.dialect = dialect
        self._decoder = None if self.dialect is None else self._opened(self.dialect)

    @property
    def tally(self) -> LineTally:
        """What was read so far; while the dialect is unknown no line is counted but those of none."""
        if self._decoder is not None:
            tally = self._decoder.tally
        else:
            lines = self._sniffer.unknown
            samples = tuple(line[:SAMPLE_BYTES] for line in lines[: LineTally.MAX_SAMPLES])
            tally = LineTally(lines=len(lines), malformed_lines=len(lines), samples=samples)
        return replace(tally, bytes=self._bytes)

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """See `Decoder.feed`."""
        self._bytes += len(data)
        yield from self._feed(self._recoder.feed(data))

    def _feed(self, data: bytes | memoryview) -> Iterator[Records]:
        """Take in text without a mark of its encoding."""
        if self._decoder is None:
            if (dialect := self._sniffer.feed(data)) is None:
                return
            yield from self._begin(dialect)
        else:
            yield from self._decoder.feed(data)

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`. The dialect is told by then, if there was anything; it stays the same."""
        if rest := self._recoder.end():
            yield from self._feed(rest)
        self._recoder = Recoder()
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
        decoder = dialect.open(gate_layers=self._gate_layers, weights=self._weights)
        wrapping = self._sniffer.wrapping
        return UnwrappingDecoder(wrapping, decoder) if wrapping else decoder
