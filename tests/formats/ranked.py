"""A dialect as somebody would add one: a layer on a line, then a line for each of its experts, best first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.records import Experts, LineTally, Records

_LAYER = re.compile(rb"layer ([0-9]{1,4})")
_EXPERT = re.compile(rb"  ([0-9]{1,4})")


class RankedDecoder:
    """Decodes it line by line. A row is complete when the next one begins, or the log ends."""

    def __init__(self, *, gate_layers: frozenset[int] | None = None, weights: bool = True) -> None:  # noqa: ARG002 - it has neither
        self.tally = LineTally()
        self._unfinished = b""
        self._layer = -1
        self._experts: list[int] = []

    def feed(self, data: bytes | memoryview) -> Iterator[Records]:
        self.tally = replace(self.tally, bytes=self.tally.bytes + len(data))
        *lines, self._unfinished = (self._unfinished + bytes(data)).split(b"\n")
        for line in lines:
            self.tally = replace(self.tally, lines=self.tally.lines + 1)
            if found := _LAYER.fullmatch(line):
                yield from self._row()
                self._layer = int(found[1])
            elif self._layer >= 0 and (found := _EXPERT.fullmatch(line)):
                self._experts.append(int(found[1]))
            else:
                self.tally = replace(
                    self.tally,
                    malformed_lines=self.tally.malformed_lines + 1,
                    samples=(*self.tally.samples, line)[: LineTally.MAX_SAMPLES],
                )

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:  # noqa: ARG002 - it is all the same
        left = len(self._unfinished)
        self.tally = replace(
            self.tally,
            incomplete_bytes=self.tally.incomplete_bytes + left,
            incomplete_lines=self.tally.incomplete_lines + (left > 0),
        )
        self._unfinished = b""
        yield from self._row()

    def _row(self) -> Iterator[Records]:
        if self._experts:
            table = np.array([self._experts], np.uint16)
            yield Records(np.array([self._layer], np.uint16), Experts((table,)))
        self._layer, self._experts = -1, []


def recognize(lines: Sequence[bytes]) -> Fit:
    return Fit.CERTAIN if any(map(_LAYER.fullmatch, lines)) else Fit.NONE


def fault(line: bytes) -> str:
    return "an expert without a layer" if _EXPERT.fullmatch(line) else ""


RANKED = Dialect("ranked", "layer 3\n  51\n  12", recognize, RankedDecoder, fault)

DIALECTS = (RANKED,)
