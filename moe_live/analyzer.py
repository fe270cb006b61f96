"""The whole chain: bytes of a log in, a snapshot of all statistics out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from moe_live.formats.dialect import Dialect
from moe_live.formats.records import LineTally, Records
from moe_live.formats.sniff import SniffingDecoder
from moe_live.routing.batch import Kind, StepBatch
from moe_live.routing.steps import StepAssembler
from moe_live.settings import Settings
from moe_live.snapshot import Input, Section, Snapshot
from moe_live.snapshot_maker import SnapshotMaker, decode_kinds, phases
from moe_live.sources.source import Break
from moe_live.statistics.collection import Statistics


class Progress(NamedTuple):
    """Running totals, cheap to ask for; `decode` are those of the tokens that belong to decode steps."""

    bytes: int
    lines: int
    tokens: int
    decode: int = 0


class Finished(Protocol):
    """The statistics of a log that was read to its end, here or by another process, for merging."""

    def pieces(self, highest: int) -> Iterator[Any]:
        """What was found, in the pieces and the order that `Analyzer.merge` takes.

        Merged one at a time, they never are in memory all at once.

        Args:
            highest: the highest layer in what comes before.
        """
        ...


class _Outline(NamedTuple):
    """All of an analyzer but its statistics."""

    assembler: StepAssembler
    highest: int
    tally: LineTally
    paths: tuple[str, ...]
    restarts: int
    rotations: int


class Analyzer:
    """Running statistics of one log, or of several read one after the other.

    The result does not depend on how the bytes are cut into pieces.

    Args:
        settings: what to count.
        paths: where the bytes come from, for the report.
        dialect: what the log is written in; None to find out from its first lines.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        paths: tuple[str, ...] = (),
        dialect: Dialect | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._paths = paths
        self._decoder = SniffingDecoder(
            gate_layers=frozenset() if self._settings.counts_only else self._settings.gate_layers,
            dialect=dialect,
        )
        self._assembler = StepAssembler(max_slots=self._settings.max_slots)
        self._assembler.label = self._settings.label
        self._statistics = self._new_statistics()
        self._highest = -1
        self._merged_tally = LineTally()
        self._restarts = self._rotations = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Analyze the next bytes of the log, cut anywhere."""
        self._take(self._decoder.feed(data))

    def _take(self, decoded: Iterable[Records]) -> None:
        for records in decoded:
            if len(records.gates.layer):
                self._statistics.gate_layers.update(np.unique(records.gates.layer).tolist())
            self._update(self._assembler.feed(records))

    @property
    def label(self) -> str:
        """What the user calls the time in which the steps begin that come from now on; "" for nothing."""
        return self._assembler.label

    @label.setter
    def label(self, label: str) -> None:
        self._assembler.label = label

    def interrupt(self, reason: Break) -> None:
        """What follows does not continue what was fed: drop an unfinished line, close the open step."""
        self._end(emptied=reason in (Break.RESTARTED, Break.SHORTENED))
        self._restarts += reason is Break.RESTARTED
        self._rotations += reason is Break.ROTATED

    def finish(self) -> None:
        """The input has ended: an unfinished line is incomplete, the open step complete."""
        self._end(emptied=False)

    def _end(self, *, emptied: bool) -> None:
        self._take(self._decoder.restart(emptied=emptied))
        self._update(self._assembler.interrupt())
        self._statistics.flush()

    def reset(self, *, same_server: bool = True) -> None:
        """Start the statistics anew and leave the open step out of them.

        Args:
            same_server: what was learned about the logger and the model still holds.
        """
        for _ in self._assembler.interrupt():
            pass
        if not same_server:
            label = self._assembler.label
            self._assembler = StepAssembler(max_slots=self._settings.max_slots)
            self._assembler.label = label
            self._highest = -1
        self._statistics = self._new_statistics()

    def merge(self, other: Finished) -> None:
        """Add a log that comes after this one, which is finished as well; `other` is used up."""
        pieces = other.pieces(self._highest)
        outline: _Outline = next(pieces)
        if self._highest < outline.highest:
            self._statistics.settle()
        self._assembler.absorb(outline.assembler)
        self._highest = self._assembler.highest
        self._merged_tally += outline.tally
        self._paths += outline.paths
        self._restarts += outline.restarts
        self._rotations += outline.rotations
        self._statistics.merge(pieces)

    def pieces(self, highest: int) -> Iterator[Any]:
        """What a finished analyzer has found, one piece after the other; see `Finished`."""
        if self._highest < highest:
            self._statistics.settle()
        yield _Outline(
            self._assembler, self._highest, self.tally, self._paths, self._restarts, self._rotations
        )
        yield from self._statistics.pieces()

    def _new_statistics(self) -> Statistics:
        return Statistics(self._settings.window, counts_only=self._settings.counts_only)

    @property
    def tally(self) -> LineTally:
        """Bytes and lines read so far."""
        return self._decoder.tally + self._merged_tally

    def progress(self) -> Progress:
        """Totals so far."""
        tally = self.tally
        tokens = phases(self._statistics.tokens, self._decode_kinds())
        return Progress(tally.bytes, tally.lines, tokens.total, tokens.decode)

    def _decode_kinds(self) -> list[Kind]:
        """The kinds of steps that are decode, as far as is known."""
        return decode_kinds(self._assembler)

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of all complete steps; see `SnapshotMaker.make`."""
        maker = SnapshotMaker(
            statistics=self._statistics,
            assembler=self._assembler,
            input=self._input(),
            settings=self._settings,
        )
        return maker.make(sections, pairs_of=pairs_of, anew=anew)

    def _input(self) -> Input:
        dialect = self._decoder.dialect
        return Input(
            self._paths,
            self.tally,
            self._restarts,
            self._rotations,
            format="" if dialect is None else dialect.name,
        )

    def _update(self, batches: Iterable[StepBatch]) -> None:
        for batch in batches:
            if batch.highest > self._highest:
                self._statistics.settle()
                self._highest = batch.highest
            self._statistics.update(batch)
