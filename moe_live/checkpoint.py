"""The state of a run as a file, kept up to date while the run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError, printable
from moe_live.state.file import pack, write
from moe_live.state.graph import Frozen

PERIOD = 30.0
"""Seconds between two states, at least."""

SHARE = 200
"""States take a two-hundredth of a core at most, whatever the size of the model."""

LEAST = 1.0
"""Seconds between two states of a log that is rotated or restarted again and again."""


class Checkpoint:
    """Writes states. The thread that analyzes copies what is kept; another one packs and writes it.

    Args:
        path: of the file.
        position: where reading stands, if all that was read is analyzed; None for a pipe, which has no
            position: its last step is closed at the end.
        whole: what is read are finished files, and a state has all of them or none.
        clock: seconds, monotonic.

    Attributes:
        problem: why the last state could not be written, in one line; "" if it could.
    """

    def __init__(
        self,
        path: str,
        position: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        whole: bool = False,
    ) -> None:
        self.problem = ""
        self._path = path
        self._position = position
        self._whole = whole
        self._clock = clock
        self._begun = self._due = clock()
        self._due += PERIOD
        self._has_caught_up = False
        self._spent = 0.0
        self._has_changed = False
        self._writer: threading.Thread | None = None

    @property
    def is_due(self) -> bool:
        """Whether a state is to be written."""
        is_writing = self._writer is not None and self._writer.is_alive()
        return not (self._whole or is_writing) and self._clock() >= self._due

    def begin(self, analyzer: Analyzer) -> None:
        """Write the first state: what comes from now on is what a second process has to know of.

        Raises:
            MoeLiveError: it cannot be written.
        """
        if not self._whole:
            write(self._path, pack(analyzer.freeze(None if self._position is None else self._position())))

    def changed(self, *, hurry: bool = False) -> None:
        """Something was analyzed.

        Args:
            hurry: the log was rotated, or the server restarted: what was read before may soon be gone.
        """
        self._has_changed = True
        if hurry:
            self._due = min(self._due, self._begun + max(LEAST, SHARE * self._spent))

    def keep(self, analyzer: Analyzer, *, has_all: bool) -> None:
        """Write the state, if it is due, and something has changed.

        Args:
            analyzer: of all that was read.
            has_all: whether that is all there is for now; once the backlog is read, a state is due.
        """
        if has_all and not self._has_caught_up:
            self._has_caught_up = True
            self._due = min(self._due, self._clock())
        if not self.is_due:
            return
        self._begun, begun = self._clock(), time.thread_time()
        self._due = self._begun + PERIOD
        if not self._has_changed:
            return
        self._has_changed = False
        frozen = self._frozen(analyzer)
        self._spent = time.thread_time() - begun
        if frozen is not None:
            self._writer = threading.Thread(target=self._write, args=(frozen,), daemon=True)
            self._writer.start()

    def finish(self, analyzer: Analyzer, *, has_all: bool) -> None:
        """Write the last state; an open step stays open if it is of a log that is followed.

        Args:
            analyzer: of what was read.
            has_all: whether that is all there was, and nothing was wrong with it.
        """
        if self._writer is not None:
            self._writer.join()
        if self._whole and not has_all:
            self.problem = f"not all could be read: {printable(self._path)} is as it was; read it once more"
            return
        if self._whole or self._position is None:
            analyzer.finish()
        if (frozen := self._frozen(analyzer)) is not None:
            self._write(frozen)

    def _frozen(self, analyzer: Analyzer) -> Frozen | None:
        """What is to be written; None if what is read now has no state, which is a problem if it stays so."""
        try:
            return analyzer.freeze(None if self._position is None else self._position())
        except MoeLiveError as error:
            self.problem = str(error)
            return None

    def _write(self, frozen: Frozen) -> None:
        """Pack and write a state. What goes wrong is told at the end; the next one is tried all the same."""
        begun = time.thread_time()
        try:
            write(self._path, pack(frozen))
            self.problem = ""
        except Exception as error:  # in a thread nobody else would see it
            what = "" if isinstance(error, MoeLiveError) else f"no state is written: {type(error).__name__}: "
            self.problem = what + printable(str(error))
        self._spent += time.thread_time() - begun
        self._due = max(self._due, self._begun + SHARE * self._spent)
