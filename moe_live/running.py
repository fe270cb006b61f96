"""A run, as those see it who show it or write what it finds, and how fast it goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import Protocol

from moe_live.analyzer import Analyzer, Progress
from moe_live.dataclass import dataclass
from moe_live.pace import Pace, PaceCounter
from moe_live.share import SourceNow
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Source, SourceStatus, State
from moe_live.statistics.step_distances import StepDistance

RATE_WINDOW = 5.0
"""Seconds over which rates are taken."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the run is going: what a view shows beside the `Snapshot`.

    Attributes:
        source: state, position, lag, restarts, rotations, watch mode.
        bytes_per_second: over the last few seconds.
        lines_per_second: over the last few seconds.
        prefill: tokens a second of prefill steps.
        decode: tokens a second of decode steps.
        seconds_left: until the backlog is read at the present rate; None if unknown.
        label: what the user calls the present time; "" for nothing.
        sources: of several logs, or states, how each is, by its name.
    """

    source: SourceStatus
    bytes_per_second: float
    lines_per_second: float
    prefill: Pace
    decode: Pace
    seconds_left: float | None
    label: str = ""
    sources: Mapping[str, SourceNow] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of prefill and decode steps together, over the last few seconds."""
        return self.prefill.now + self.decode.now

    @property
    def progress(self) -> float | None:
        """Share of the known bytes that is read, 0 to 1; None for a pipe."""
        size = self.source.size
        return None if not size else min(1.0, self.source.position / size)


class Run(Protocol):
    """Bytes from a source to the statistics of all that came."""

    @property
    def source(self) -> Source:
        """Where the bytes come from."""
        ...

    @property
    def ended(self) -> bool:
        """Whether all is analyzed and no byte will ever come again."""
        ...

    @property
    def held(self) -> int:
        """Bytes that are read and not yet analyzed."""
        ...

    @property
    def pause(self) -> float:
        """Seconds after which the next `ingest` is worth while."""
        ...

    def ingest(self, seconds: float) -> bool:
        """Read and analyze what is there, for about `seconds` at most.

        Returns:
            Whether anything came.

        Raises:
            MoeLiveError: not everything could be read; what could be is in the figures.
        """
        ...

    def progress(self) -> Progress:
        """Totals of what is analyzed; cheap to ask for."""
        ...

    def status(self) -> Status:
        """Rates and state now. Call it regularly: the rates are taken between calls."""
        ...

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of what is analyzed; see `Analyzer.snapshot`."""
        ...

    def take_steps(self) -> list[StepDistance]:
        """The distances of each step since this was called last; see `Analyzer.take_steps`."""
        ...

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:
        """Close the source, analyze what is held, close the open step: the final statistics.

        Args:
            stop: whether to leave the rest of what is held out of them; asked now and then.

        Raises:
            MoeLiveError: there are no figures.
        """
        ...


class LiveRun(Run, Protocol):
    """One that a dashboard can show while it goes on."""

    @property
    def analyzer(self) -> Analyzer:
        """What the figures are made of."""
        ...

    def collect(self, seconds: float) -> bool:
        """Read what is there; hold what is little until the next `ingest`: one portion costs less than many.

        Args:
            seconds: how long to analyze, if it is much.

        Returns:
            Whether there is news.

        Raises:
            MoeLiveError: the source cannot be read.
        """
        ...

    def drain(self) -> None:
        """Read what is there, as far as it may be held, and leave the rest to `finish`.

        Raises:
            MoeLiveError: the source cannot be read.
        """
        ...

    def reset(self) -> None:
        """Start the statistics anew; reading goes on where it is."""
        ...

    def set_label(self, label: str) -> None:
        """Call what is read from now on so; what is held was there before."""
        ...


class Meter:
    """Takes rates between one call and the next.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._samples: deque[tuple[float, int, int, int, int, int]] = deque()
        self._paces = (PaceCounter(), PaceCounter())
        self._was_reading = False

    def restart(self) -> None:
        """The totals begin anew."""
        self._samples.clear()

    def status(self, source: SourceStatus, progress: Progress, label: str) -> Status:
        """The status now.

        Args:
            source: whose position is what is analyzed.
            progress: the totals.
            label: in force.
        """
        now = self._clock()
        prefill, decode = progress.tokens - progress.decode, progress.decode
        is_reading = source.state is State.READING
        for counter, total in zip(self._paces, (prefill, decode), strict=True):
            counter.update(now - self._started, total, older=is_reading or self._was_reading)
        self._was_reading = is_reading
        # What is packed is longer than its file: time left is told by the file.
        totals = (progress.bytes, progress.lines, prefill, decode, source.position)
        self._samples.append((now, *totals))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_WINDOW:
            self._samples.popleft()
        then, *before = self._samples[0]
        span = now - then
        rates = [
            max(0, new - old) / span if span > 0 else 0.0 for new, old in zip(totals, before, strict=True)
        ]
        prefill_pace, decode_pace = (
            Pace(rate, counter.lately) for rate, counter in zip(rates[2:4], self._paces, strict=True)
        )
        return Status(
            source=source,
            bytes_per_second=rates[0],
            lines_per_second=rates[1],
            prefill=prefill_pace,
            decode=decode_pace,
            seconds_left=source.lag / rates[4] if source.size is not None and rates[4] > 0 else None,
            label=label,
        )
