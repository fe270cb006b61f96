"""Several logs that grow, each followed and analyzed by itself, as one run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from moe_live.analyzer import Analyzer, Progress
from moe_live.fleet import PERIOD, Fleet, Part
from moe_live.running import Meter, Status
from moe_live.session import READ_AHEAD, READ_SIZE, Session, left_out
from moe_live.settings import Settings
from moe_live.share import SourceNow
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.several import FollowedLogs

_READ_AHEAD = READ_AHEAD >> 3
"""Bytes of each log that are held until they are analyzed."""


class Logs(Fleet):
    """What several logs are together, each with an analyzer of its own: the merge of all.

    Args:
        logs: what to follow; its patterns are looked at again every second.
        settings: what is counted.
        label_of: what a log is labelled, by its path; None for nothing in particular.
        label_file: path of a file that tells the label of what comes now, in all logs.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        logs: FollowedLogs,
        settings: Settings | None = None,
        *,
        label_of: Callable[[str], str] | None = None,
        label_file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(logs, settings, clock)
        self._logs = logs
        self._label_of = label_of
        self._label_file = label_file
        self._label = ""
        self._sessions: dict[str, Session] = {}
        self._turn: deque[Session] = deque()
        self._look_at = clock() + PERIOD
        self._shown: object = None
        self._meter = Meter(clock)
        self._begin()

    def _begin(self) -> None:
        """Make sessions for logs that are new."""
        for path, follower in self._logs.followers.items():
            if path not in self._sessions:
                session = Session(
                    follower,
                    Analyzer(self._settings, paths=(path,)),
                    read_ahead=_READ_AHEAD,
                    label_file=self._label_file,
                    file_labels=() if self._label_of is None else (self._label_of(path),),
                    clock=self._clock,
                )
                if self._label:
                    session.set_label(self._label)
                self._sessions[path] = session
                self._turn.append(session)

    @property
    def pause(self) -> float:
        """Seconds after which the next `ingest` or `collect` is worth while."""
        return 0.0 if self.held >= READ_SIZE else super().pause

    @property
    def held(self) -> int:
        """Bytes that are read and not yet analyzed."""
        return sum(session.held for session in self._sessions.values())

    def ingest(self, seconds: float) -> bool:
        """Read and analyze for about `seconds` at most; whether another picture is complete."""
        self._analyze(seconds)
        return super().ingest(seconds)

    def collect(self, seconds: float) -> bool:
        """Read what is there; analyze if that is much; whether another picture is complete."""
        self.drain()
        if self.held >= READ_SIZE:
            self._analyze(seconds)
        return super().ingest(seconds)

    def drain(self) -> None:
        """Read what is there, as far as it may be held, and leave the rest to `finish`."""
        for session in self._sessions.values():
            session.drain()

    def _analyze(self, seconds: float) -> None:
        """Let one log after the other read and analyze; those that find no time come first the next time."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + PERIOD
            self._logs.look()
            self._begin()
        deadline = self._clock() + seconds
        for i in range(len(self._turn)):
            left = deadline - self._clock()
            if i and left <= 0:
                break
            self._turn[0].ingest(max(0.0, left))
            self._turn.rotate(-1)
        self.drain()  # what is held is safe

    def reset(self) -> None:
        """Start the statistics of all logs anew."""
        for session in self._sessions.values():
            session.reset()
        self.analyzer, self.shares, self.problems = Analyzer(self._settings), (), ()
        self._making, self._shown, self._due = None, None, self._clock()
        self._meter.restart()

    def set_label(self, label: str) -> None:
        """Call so what is read of all logs from now on."""
        self._label = label
        for session in self._sessions.values():
            session.set_label(label)

    def status(self) -> Status:
        """See `Run.status`."""
        each = [session.progress() for session in self._sessions.values()]
        total = Progress(*map(sum, zip(*each, strict=True))) if each else Progress(0, 0, 0)
        source = self._logs.status()
        left = replace(source, position=source.position - self.held)  # what is held is not read yet
        labels = {session.analyzer.label for session in self._sessions.values()}
        label = labels.pop() if len(labels) == 1 else ""
        return replace(self._meter.status(left, total, label), sources=self._now())

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The picture, with what could not be read, or may have been read twice, among its warnings."""
        snapshot = super().snapshot(sections, pairs_of=pairs_of, anew=anew)
        gaps = [sentence for session in self._sessions.values() for sentence in session.gaps()]
        return replace(snapshot, warnings=(*self._logs.warnings(), *gaps, *snapshot.warnings))

    def finish(self, stop: Callable[[], bool] = lambda: False) -> Snapshot:
        """Close the logs, analyze what is held, close the open steps: the final statistics.

        Args:
            stop: whether to leave the rest of what is held out of them; asked after each portion.
        """
        now = self._now()
        self._logs.close()
        for session in self._sessions.values():
            session.end(stop)
        for _ in self._make(self._parts_of(lambda finished: finished)):
            pass
        snapshot = self.snapshot()
        shares = tuple(replace(share, now=now.get(share.name)) for share in snapshot.input.sources)
        warnings = (*left_out(self.held), *self.problems, *snapshot.warnings)
        return replace(snapshot, input=replace(snapshot.input, sources=shares), warnings=warnings)

    def _parts(self) -> Sequence[Part] | None:
        shown = [
            (path, session.progress(), status.restarts, status.rotations)
            for path, session in self._sessions.items()
            for status in [session.source.status()]
        ]
        if shown == self._shown:
            return None
        self._shown = shown
        return self._parts_of(Analyzer.complete)

    def _parts_of(self, get: Callable[[Analyzer], Analyzer]) -> Sequence[Part]:
        return [
            Part(path, Path(path), partial(get, session.analyzer)) for path, session in self._sessions.items()
        ]

    def _now(self) -> dict[str, SourceNow]:
        found = {}
        for path, session in self._sessions.items():
            status = session.status()
            found[path] = SourceNow(
                status.source.state.value,
                lines_per_second=status.lines_per_second,
                decode_per_second=status.decode.now,
            )
        return found
