"""Several sources as one run, of which another picture is put together now and then."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from moe_live.analyzer import Analyzer, Progress
from moe_live.errors import MoeLiveError
from moe_live.running import Status
from moe_live.settings import Settings
from moe_live.share import SourceNow, SourceShare, named
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Source
from moe_live.statistics.step_distances import StepDistance
from moe_live.whole import Whole

PERIOD = 1.0
"""Seconds between two pictures, at least, and between two looks at what there is."""

_SHARE = 10
"""Putting pictures together takes a tenth of a core at most."""


class Part(NamedTuple):
    """What a picture is put together of.

    Attributes:
        name: what it is called.
        path: where it is.
        get: makes a finished analyzer, which is used up. MoeLiveError if that cannot be done.
    """

    name: str
    path: Path
    get: Callable[[], Analyzer]


class Fleet(ABC):
    """What several sources are together, as `LiveRun`, but for what tells how to read them.

    Putting it together goes on between other work, one source at a time; what is shown is the last picture
    that was completed.

    Args:
        source: all of them.
        settings: what is counted.
        clock: seconds, monotonic.
        work: seconds that this thread has computed.

    Attributes:
        source: as given.
        analyzer: of the last picture.
        shares: what each source has in it.
        problems: why some are left out, a line each.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings | None,
        clock: Callable[[], float],
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        self.source = source
        self.analyzer = Analyzer(settings)
        self.shares: tuple[SourceShare, ...] = ()
        self.problems: tuple[str, ...] = ()
        self._settings = settings
        self._clock = clock
        self._work = work
        self._making: Iterator[None] | None = None
        self._due = clock()
        self._spent = 0.0

    @abstractmethod
    def _parts(self) -> Sequence[Part] | None:
        """What the next picture is to be put together of, in this order; None if it would be the same."""

    @abstractmethod
    def _now(self) -> Mapping[str, SourceNow]:
        """How each source is, by its name."""

    @abstractmethod
    def status(self) -> Status:
        """See `Run.status`."""

    @property
    def ended(self) -> bool:
        """Never: others go on writing."""
        return False

    @property
    def held(self) -> int:
        """Bytes that are read and not yet analyzed."""
        return 0

    @property
    def pause(self) -> float:
        """Seconds after which the next `ingest` or `collect` is worth while."""
        return 0.0 if self._making is not None else self.source.pause()

    def ingest(self, seconds: float) -> bool:  # noqa: ARG002 - a source is added as a whole
        """Add one source more, if some have changed; whether another picture of all is complete."""
        if self._making is None:
            if self._clock() < self._due:
                return False
            self._due = self._clock() + PERIOD
            if (parts := self._parts()) is None:
                return False
            self._spent, self._making = 0.0, self._make(parts)
        begun = self._work()
        is_done = next(self._making, self) is self
        self._spent += self._work() - begun
        if is_done:
            self._making = None
            self._due = self._clock() + max(PERIOD, _SHARE * self._spent)
        return is_done

    def collect(self, seconds: float) -> bool:
        """As `ingest`."""
        return self.ingest(seconds)

    def progress(self) -> Progress:
        """Totals of the picture."""
        return self.analyzer.progress()

    def take_steps(self) -> list[StepDistance]:
        """None: the steps of several have no order."""
        return []

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The picture; see `Analyzer.snapshot`. What changes over time is that of each source, not of all."""
        snapshot = self.analyzer.snapshot(sections, pairs_of=pairs_of, anew=anew)
        now = self._now()
        shares = tuple(replace(share, now=now.get(share.name)) for share in self.shares)
        told = tuple(
            warning if warning == snapshot.rows.verdict else named(warning, shares)
            for warning in snapshot.warnings
        )
        snapshot = replace(snapshot, input=replace(snapshot.input, sources=shares), warnings=told)
        return _without_time(snapshot) if snapshot.input.is_several else snapshot

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:  # noqa: ARG002 - nothing is held
        """Close the source: the final statistics, with what is left out of them among the warnings."""
        snapshot = self.snapshot()
        self.source.close()
        return replace(snapshot, warnings=(*self.problems, *snapshot.warnings))

    def _make(self, parts: Sequence[Part]) -> Iterator[None]:
        """Put the picture together; None after each part."""
        whole = Whole()
        for part in parts:
            try:
                found = part.get()
            except MoeLiveError as error:
                whole.leave_out(part.name, str(error))
            else:
                whole.add(part.name, part.path, found)
            yield
        self.analyzer = whole.analyzer or Analyzer(self._settings)
        self.shares, self.problems = whole.shares(), tuple(whole.problems)


def _without_time(snapshot: Snapshot) -> Snapshot:
    """Without what is said of the latest steps and of the run that goes on, which are those of one source."""
    rows = snapshot.rows
    verdict = rows.verdict.replace(f"; {rows.run_verdict}", "") if rows.run_verdict else rows.verdict
    return replace(
        snapshot,
        rows=replace(rows, verdict=verdict, run_verdict=""),
        warnings=tuple(verdict if warning == rows.verdict else warning for warning in snapshot.warnings),
        drift=None,
        history=None,
    )
