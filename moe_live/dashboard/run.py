"""The loop of the dashboard: wait, read, draw."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from moe_live.dashboard.bindings import Request, press
from moe_live.dashboard.frame import compose
from moe_live.dashboard.keys import KeyDecoder
from moe_live.dashboard.screen import ColorChoice, Screen, color_system, shades_in_colour
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.views import VIEWS
from moe_live.session import Session
from moe_live.snapshot import Section
from moe_live.terminal import Signals, Terminal

_INGEST_SECONDS = 0.05
_IDLE_PERIOD = 1.0
_ESCAPE_SECONDS = 0.05
"""So long a lone ESC waits for the rest of a sequence."""
_RESTING_SECONDS = 0.05
"""So long after a key the view is taken to be the one looked for: keys held down repeat faster."""
_DRAWING_SHARE = 5
"""Making the figures and drawing them takes a fifth of the time at most."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a snapshot is to hold beside what each one does: the arguments of `Session.snapshot`."""

    sections: frozenset[Section]
    pairs_of: frozenset[int] | None = frozenset()
    anew: bool = False


_EVERYTHING = _Scope(frozenset(Section), pairs_of=None, anew=True)


class Reason(Enum):
    """Why the dashboard ended."""

    QUIT = "quit"
    INPUT_ENDED = "input ended"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Ending:
    """How the dashboard ended: the reason, and the signal if it was one."""

    reason: Reason
    signal: signal.Signals | None = None


def run_dashboard(
    session: Session,
    signals: Signals,
    *,
    publish: Callable[[Session], object] = lambda _: None,
    refresh: float = 4.0,
    color: ColorChoice = "auto",
    output: int = 1,
) -> Ending:
    """Show the session until a key, the end of the input or a signal ends it.

    Afterwards the terminal is as it was before, also if this raises. The session is not finished yet: its
    `drain` and `finish` are the caller's.

    Args:
        session: what is shown.
        signals: entered already.
        publish: called at every turn without a key, for outputs that follow.
        refresh: frames a second, when something changes; fewer if they are expensive.
        color: whether to use colours.
        output: descriptor of the terminal.

    Raises:
        MoeLiveError: the source cannot be read.
    """
    with Terminal(signals, output) as terminal:
        return _Loop(session, signals, terminal, refresh, color, publish=publish).run()


class _Loop:
    """The loop's state, between one wait and the next."""

    def __init__(
        self,
        session: Session,
        signals: Signals,
        terminal: Terminal,
        refresh: float,
        color: ColorChoice,
        *,
        publish: Callable[[Session], object] = lambda _: None,
    ) -> None:
        self._session = session
        self._signals = signals
        self._terminal = terminal
        self._publish = publish
        self._period = 1 / refresh
        system = color_system(color)
        self._screen = Screen(terminal.write, system)
        self._state = ViewState(colour=shades_in_colour(system))
        self._decoder = KeyDecoder()
        self._typed_at = -1e9
        self._drawing = 0.0
        self._drawn_at = -1e9
        self._refresh(_Scope(VIEWS[self._state.view].sections))

    def run(self) -> Ending:
        """Until something ends it."""
        session, terminal = self._session, self._terminal
        if terminal.ours:
            self._draw()  # reading the first bytes may take a while
        while not session.ended:
            wake = session.source.wake_fd()
            typed = terminal.wait(self._timeout(), () if wake is None else (wake,))
            if self._signals.stop is not None:
                return Ending(Reason.SIGNAL, self._signals.stop)
            keys = self._keys(typed)
            for key in keys:
                request = press(self._state, key)
                if request is Request.QUIT:
                    return Ending(Reason.QUIT)
                if request is Request.RESET:
                    session.reset()
                    self._refresh(self._wanted())
                if request is Request.LABEL:
                    session.set_label(self._state.label)
                if request is Request.REPAINT:
                    terminal.redraw = True
            due = time.monotonic() >= self._due()
            take = session.ingest if due or keys else session.collect
            self._stale |= take(_INGEST_SECONDS)
            if not keys:  # which come first
                self._publish(session)
            if not terminal.ours:
                continue
            if keys or terminal.redraw:
                self._draw()  # at once, from the figures there are
            elif due:
                wanted = self._wanted()
                if wanted != self._scope or (self._stale and not self._state.paused):
                    self._refresh(wanted)
                self._draw()
                self._drawn_at = time.monotonic()
        return Ending(Reason.INPUT_ENDED)

    def _wanted(self) -> _Scope:
        """What the view shows; while paused, what any view may show, all of one moment."""
        if self._state.paused:
            return _EVERYTHING
        sections = VIEWS[self._state.view].sections
        layers = [entry.layer for entry in self._snapshot.layers]
        if Section.PAIRS not in sections or not layers:
            return _Scope(sections)
        return _Scope(sections, frozenset({layers[self._state.chosen(len(layers))]}))

    def _refresh(self, scope: _Scope) -> None:
        """Make the figures anew."""
        begun = time.monotonic()
        self._snapshot = self._session.snapshot(scope.sections, pairs_of=scope.pairs_of, anew=scope.anew)
        self._scope = scope
        self._stale = False
        self._making = time.monotonic() - begun

    def _due(self) -> float:
        """When figures should be made anew or the frame drawn again."""
        if self._wanted() != self._scope:
            return self._typed_at + _RESTING_SECONDS
        period = self._period if self._stale else max(self._period, _IDLE_PERIOD)
        # Making the figures waits until the keys have rested for as long as it takes: keys come first.
        return max(
            self._drawn_at + max(period, _DRAWING_SHARE * (self._making + self._drawing)),
            self._typed_at + self._making,
        )

    def _timeout(self) -> float:
        now = time.monotonic()
        # A background job draws nothing: it only reads, and looks now and then whether it is in front again.
        until = self._due() if self._terminal.ours else now + _IDLE_PERIOD
        if self._decoder.pending:
            until = min(until, self._typed_at + _ESCAPE_SECONDS)
        return max(0.0, min(until - now, self._session.pause))

    def _keys(self, typed: bytes) -> list[str]:
        now = time.monotonic()
        if typed:
            self._typed_at = now
            return self._decoder.feed(typed)
        if self._decoder.pending and now >= self._typed_at + _ESCAPE_SECONDS:
            return self._decoder.flush()
        return []

    def _draw(self) -> None:
        begun = time.monotonic()
        everything, self._terminal.redraw = self._terminal.redraw, False
        frame = compose(self._snapshot, self._session.status(), self._state, *self._terminal.size())
        self._screen.draw(frame, everything=everything)
        self._drawing = time.monotonic() - begun
