"""One run: bytes from a source into an analyzer, in bounded portions, and how fast that goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_live.analyzer import Analyzer, Progress
from moe_live.memory import give_back_freed_memory, own_pages
from moe_live.running import Meter, Status
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.label_file import LabelFile
from moe_live.sources.source import Break, Source, State
from moe_live.statistics.step_distances import StepDistance

if TYPE_CHECKING:
    from moe_live.checkpoint import Checkpoint

READ_SIZE = 1 << 20
"""Bytes asked of the source at a time: some milliseconds of work."""

TRICKLE = 1 << 16
"""Bytes that are not worth being analyzed one portion after the other as they arrive."""

COLLECT_PAUSE = 0.125
"""Seconds after which to look again where what was read is held anyway until the next frame: to wake the
processor up costs more than to read. A server that starts anew takes longer until it empties its log."""

READ_AHEAD = 1 << 25
"""Bytes of a followed log that are held until they are analyzed. What is held is safe when the server empties
the log, and reading is a hundred times faster than analyzing."""

LONG_PORTION = 0.1
"""Seconds that a portion should not take: keys and signals wait until it is analyzed."""

MIN_PORTION = 1 << 14
"""Bytes; smaller portions do not take less time."""

TRIM_AFTER = 1 << 25
"""Bytes that are analyzed before it is worth while to give back what memory they needed for a moment: that
takes some milliseconds, as does taking it anew."""


def portion_after(portion: int, seconds: float) -> int:
    """How many bytes to analyze at a time, if so many took so long."""
    if seconds > LONG_PORTION:
        return max(portion // 2, MIN_PORTION)
    return min(2 * portion, READ_SIZE) if seconds < LONG_PORTION / 4 else portion


class Session:
    """Feeds an analyzer from a source, as `Run`.

    Args:
        source: where bytes come from; closed by `finish`.
        analyzer: where they go.
        read_ahead: bytes that are held until they are analyzed.
        label_file: path of a file that tells the label of what comes now.
        file_labels: of each file that the source reads; nothing for none.
        checkpoint: a file that is to have the state of it all, now and then and at the end.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        analyzer: Analyzer,
        *,
        read_ahead: int = 0,
        label_file: str | None = None,
        file_labels: Sequence[str] = (),
        checkpoint: Checkpoint | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.analyzer = analyzer
        self._read_ahead = read_ahead
        self._held: deque[bytes | memoryview | Break | str] = deque()
        self._file_labels = deque(file_labels)
        self._label_next_file()
        self._label_file = None if label_file is None else LabelFile(label_file, clock)
        self._held_bytes = 0
        self._untrimmed = 0  # bytes analyzed since memory was given back
        self._collects = False
        self._checkpoint = checkpoint
        self._portion = READ_SIZE
        self._clock = clock
        self._meter = Meter(clock)

    @property
    def ended(self) -> bool:
        """Whether all is analyzed and no byte will ever come again."""
        return not self._held and self.source.status().state is State.ENDED

    @property
    def held(self) -> int:
        """Bytes that are read and not yet analyzed."""
        return self._held_bytes

    @property
    def pause(self) -> float:
        """Seconds after which the next `ingest` or `collect` is worth while."""
        if self._held_bytes >= READ_SIZE:
            return 0.0
        pause = self.source.pause()
        # A label is of what comes after it was given: that is looked for more often.
        waits = pause > 0 and self._collects and self._label_file is None
        return max(pause, COLLECT_PAUSE) if waits else pause

    def ingest(self, seconds: float) -> bool:
        """Read and analyze what is there, for about `seconds` at most.

        Returns:
            Whether anything came.

        Raises:
            MoeLiveError: the source cannot be read.
        """
        deadline = self._clock() + seconds
        came = has_all = False
        while True:
            # A log that grows line by line has something new after every line. That is left for next time.
            if not self._held:
                self._keep(has_all=False)
            has_all = has_all or self._fetch()
            if not self._held:
                self._caught_up(rests=not came)
                return came
            came = True
            self._analyze(self._next())
            if self._clock() >= deadline:
                return came

    def _caught_up(self, *, rests: bool) -> None:
        """All that is there is analyzed; `rests`: nothing new had come."""
        state = self.source.status().state
        self._keep(has_all=state is not State.READING)
        # While more comes, what was freed is needed again at once.
        if rests and self._untrimmed >= TRIM_AFTER and state in (State.FOLLOWING, State.WAITING):
            self._untrimmed = 0
            give_back_freed_memory()

    def _keep(self, *, has_all: bool) -> None:
        """All that was read is analyzed: a state of this moment may be written."""
        if self._checkpoint is not None:
            self._checkpoint.keep(self.analyzer, has_all=has_all)

    def collect(self, seconds: float) -> bool:
        """Read what is there; hold what is little until the next `ingest`: one portion costs less than many.

        Args:
            seconds: how long to analyze, if it is much.

        Returns:
            Whether anything is held, or was analyzed.

        Raises:
            MoeLiveError: the source cannot be read.
        """
        self._collects = True
        self._fetch()
        return self.ingest(seconds) if self._held_bytes >= READ_SIZE else bool(self._held)

    def drain(self) -> None:
        """Read what is there, as far as it may be held, and leave the rest to `finish`.

        Raises:
            MoeLiveError: the source cannot be read.
        """
        self._fetch()

    def progress(self) -> Progress:
        """Totals of what is analyzed."""
        return self.analyzer.progress()

    def _fetch(self) -> bool:
        """Read as far ahead as may be held; whether reading on is not worth while for now."""
        if self._held and self._checkpoint is not None and self._checkpoint.is_due:
            return False  # a state is of what is analyzed, and so is where reading stands
        while not self._held or self._held_bytes < self._read_ahead:
            if self._label_file is not None and (label := self._label_file.changed()) is not None:
                self._held.append(label)
            items = self.source.read(READ_SIZE)
            came = sum(map(self._hold, items))
            if not items or (came < TRICKLE and self.source.pause()):
                return True
        return False

    def _hold(self, item: bytes | Break) -> int:
        """Keep what was read until it is analyzed; returns how many bytes that is."""
        if not isinstance(item, bytes):
            self._held.append(item)
            if item is Break.FILE_ENDED:
                self._label_next_file()
            return 0
        behind_others = bool(self._held) and len(item) >= TRICKLE
        self._held.append(_in_own_pages(item) if behind_others else item)
        self._held_bytes += len(item)
        return len(item)

    def _label_next_file(self) -> None:
        """What is held from now on is of the next file."""
        if self._file_labels:
            self._held.append(self._file_labels.popleft())

    def _next(self) -> bytes | memoryview | Break | str:
        """What is to be analyzed next; pieces that came one after the other as one."""
        item = self._held.popleft()
        if isinstance(item, bytes | memoryview) and len(item) > self._portion:
            self._held.appendleft(item[self._portion :])
            return item[: self._portion]
        if not isinstance(item, bytes):
            return item
        pieces, room = [item], self._portion - len(item)
        while self._held and isinstance(piece := self._held[0], bytes) and len(piece) <= room:
            self._held.popleft()
            pieces.append(piece)
            room -= len(piece)
        return b"".join(pieces)

    def _analyze(self, item: bytes | memoryview | Break | str) -> None:
        if self._checkpoint is not None:
            self._checkpoint.changed(hurry=isinstance(item, Break))
        if isinstance(item, str):
            self.analyzer.label = item
            return
        if isinstance(item, bytes | memoryview):
            begun = self._clock()
            self.analyzer.feed(item)
            self._held_bytes -= len(item)
            self._untrimmed += len(item)
            self._portion = portion_after(self._portion, self._clock() - begun)
            return
        self.analyzer.interrupt(item)

    def set_label(self, label: str) -> None:
        """Call what is read from now on so; what is held was there before."""
        self._held.append(label)

    def reset(self) -> None:
        """Start the statistics anew; reading goes on where it is."""
        self.analyzer.reset()
        if self._checkpoint is not None:
            self._checkpoint.changed()
        self._meter.restart()

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of what is analyzed; see `Analyzer.snapshot`."""
        return self._with_gaps(self.analyzer.snapshot(sections, pairs_of=pairs_of, anew=anew))

    def take_steps(self) -> list[StepDistance]:
        """See `Run.take_steps`."""
        return self.analyzer.take_steps()

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:
        """Close the source, analyze what is held, close the open step: the final statistics.

        Args:
            stop: whether to leave the rest of what is held out of them; asked after each portion.
        """
        self.end(stop)
        snapshot = self._with_gaps(self.analyzer.snapshot())
        return replace(snapshot, warnings=(*left_out(self._held_bytes), *snapshot.warnings))

    def end(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Close the source, analyze what is held, close the open step; see `finish`."""
        status = self.source.status()
        self.source.close()
        while self._held and not stop():
            self._analyze(self._next())
        if self._checkpoint is not None and not self._held:
            has_all = status.state is State.ENDED and not status.detail
            self._checkpoint.finish(self.analyzer, has_all=has_all)
        self.analyzer.finish()

    def gaps(self) -> tuple[str, ...]:
        """What the source could not read, or may have read twice, in sentences."""
        source = self.source.status()
        return tuple(source.gaps.sentences(source.name))

    def _with_gaps(self, snapshot: Snapshot) -> Snapshot:
        """With that among the warnings."""
        gaps = self.gaps()
        return snapshot.having(warnings=(*gaps, *snapshot.warnings)) if gaps else snapshot

    def status(self) -> Status:
        """See `Run.status`."""
        source = self.source.status()
        left = replace(source, position=source.position - self._held_bytes)  # what is held is not read yet
        return self._meter.status(left, self.progress(), self.analyzer.label)


def left_out(held: int) -> tuple[str, ...]:
    """What is said of bytes that are still held at the end, if there are some."""
    if not held:
        return ()
    return (f"the run was ended before {held:,} bytes that were read could be analyzed",)


def _in_own_pages(data: bytes) -> memoryview:
    """The same bytes outside the heap."""
    pages = own_pages(len(data))
    pages.write(data)
    return memoryview(pages)
