"""The outputs of a run, kept up to date by the thread that reads the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from moe_live.errors import MoeLiveError, printable
from moe_live.outputs.output import Destination, Output

if TYPE_CHECKING:
    from moe_live.running import Run, Status
    from moe_live.snapshot import Snapshot

PERIOD = 1.0
"""Seconds between two updates of an output, at least."""

LONGEST_PERIOD = 10.0
"""The same, at most, if it wants them: a share of the time that is exceeded is better than no figures."""

_SHARE = 50
"""Updating an output takes a fiftieth of a core at most."""


class LiveOutputs:
    """All outputs of a run, as a context manager around the time in which the log is read.

    An output that fails takes neither the run nor another output with it.

    Args:
        outputs: not started yet.
        complete: adds to the figures what they are not made with.
        clock: seconds, monotonic.
        work: seconds that this thread has computed.

    Attributes:
        written: the files that are finished.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        complete: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        self._outputs = outputs
        self._turns = [_Turn(output, complete, clock, work) for output in outputs]
        self._running = ExitStack()
        self.written: list[Destination] = []

    def __enter__(self) -> Self:
        """Start all of them.

        Raises:
            MoeLiveError: one cannot be; none is left running.
        """
        with ExitStack() as started:
            for output in self._outputs:
                output.start()
                started.callback(output.close)
            self._running = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """The log is not read any more."""
        self._running.close()

    @property
    def problems(self) -> list[str]:
        """What went wrong in updates, a line for each output."""
        return [turn.problem for turn in self._turns if turn.problem]

    def update(self, session: Run) -> None:
        """Hand the figures of this moment to those who want them and have not had any for a while.

        Raises:
            OSError: standard output cannot be written.
        """
        self.take_steps(session)
        for turn in self._turns:
            turn.take(session)

    def take_steps(self, session: Run) -> None:
        """Hand what steps were completed to those who want them.

        Raises:
            OSError: standard output cannot be written.
        """
        takers = [output for output in self._outputs if output.wants_steps]
        if takers and (steps := session.take_steps()):
            for output in takers:
                output.take_steps(steps)

    def finish(self, snapshot: Snapshot) -> None:
        """Hand the final figures to each, even if another fails.

        Raises:
            MoeLiveError: one has failed; the last one, if several have.
        """
        with ExitStack() as outputs:
            for output in reversed(self._outputs):
                outputs.callback(self._finish, output, snapshot)

    def _finish(self, output: Output, snapshot: Snapshot) -> None:
        output.finish(snapshot)
        if output.destination is not None:
            self.written.append(output.destination)


class _Turn:
    """One output, and when it is its turn again."""

    def __init__(
        self,
        output: Output,
        complete: Callable[[Snapshot], Snapshot],
        clock: Callable[[], float],
        work: Callable[[], float],
    ) -> None:
        self._output = output
        self._complete = complete
        self._clock = clock
        self._work = work
        self._due = clock()
        self._snapshot: Snapshot | None = None
        self._read: object = None
        self._status: Status | None = None
        self._failures = 0
        self._first_failure = ""

    @property
    def problem(self) -> str:
        """What went wrong in updates, in a line; "" for nothing."""
        times = f" ({self._failures:,} times)" if self._failures > 1 else ""
        return self._first_failure + times if self._failures else ""

    def take(self, session: Run) -> None:
        """Update the output, if it is time."""
        begun, before = self._clock(), self._work()
        if not self._output.wants_update() or begun < self._due:
            return
        try:
            self._output.update(self._figures(session), self._state(session))
        except Exception as error:
            self._fail(error)
        spent = self._work() - before
        self._due = begun + min(max(PERIOD, _SHARE * spent), LONGEST_PERIOD)

    def _figures(self, session: Run) -> Snapshot:
        """Those of this moment: those of last time if nothing was read since."""
        source = session.source.status()
        read = (session.progress(), source.restarts, source.rotations)
        if self._snapshot is None or read != self._read:
            self._snapshot = self._complete(session.snapshot(self._output.sections(), anew=False))
            self._read = read
        return self._snapshot

    def _state(self, session: Run) -> Status:
        """How the run goes, less what changes though nothing happens: how fast it was when."""
        status = session.status()
        prefill, decode = (replace(pace, lately=()) for pace in (status.prefill, status.decode))
        status = replace(status, prefill=prefill, decode=decode)
        if self._status != status:
            self._status = status
        return self._status

    def _fail(self, error: Exception) -> None:
        self._snapshot = None
        self._failures += 1
        if not self._first_failure:
            name = "" if isinstance(error, MoeLiveError) else f"an output failed: {type(error).__name__}: "
            self._first_failure = name + printable(str(error))
