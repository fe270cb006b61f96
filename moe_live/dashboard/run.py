"""The loop of the dashboard: wait, read, draw."""

from __future__ import annotations

import gc
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from moe_live import view_names
from moe_live.dashboard.background import QUESTION, is_light, may_be_asked, says_no_more
from moe_live.dashboard.bindings import Request, press
from moe_live.dashboard.canvas import Line, fill, fit, text
from moe_live.dashboard.figures import EVERYTHING, PLANS, Complete, Figures, Scope, of_view
from moe_live.dashboard.frame import Frame, compose
from moe_live.dashboard.keys import Answer, Event, KeyDecoder, Mouse
from moe_live.dashboard.pointer import point
from moe_live.dashboard.screen import ColorChoice, Screen, color_system
from moe_live.dashboard.state import Kept, ViewState
from moe_live.dashboard.theme import CAUTION, Look, Theme
from moe_live.dashboard.trend import TrendRecorder
from moe_live.dashboard.view import layer_index, phase_of
from moe_live.dashboard.views import VIEWS
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, printable
from moe_live.isolation import Failures
from moe_live.pace import UNTIMED
from moe_live.running import LiveRun
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import State
from moe_live.terminal import Signals, Terminal
from moe_live.wrapping import wrap

_INGEST_SECONDS = 0.05
_IDLE_PERIOD = 1.0
_ESCAPE_SECONDS = 0.05
"""So long a lone ESC waits for the rest of a sequence."""
_RESTING_SECONDS = 0.05
"""So long after a key the view is taken to be the one looked for: keys held down repeat faster."""
_BODY_SECONDS = 0.5
"""So long what is below the header stays as it is, unless a key is pressed: it is most of what a frame costs,
and figures over a whole run hardly change. The header comes with every frame."""
_DRAWING_SHARE = 5
"""Making the figures and drawing them takes a fifth of the time at most."""
_ANSWER_SECONDS = 0.05
"""So long the first frame waits for the terminal to say whether its background is light."""
_LATE_SECONDS = 0.5
"""So long after the question the terminal may still answer; it must not be the shell that gets it."""


Keep = Callable[[Kept, Snapshot, Frame], str]


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
    session: LiveRun,
    signals: Signals,
    *,
    publish: Callable[[LiveRun], object] = lambda _: None,
    complete: Complete = lambda snapshot, _: snapshot,
    keep: Keep | None = None,
    refresh: float = 4.0,
    color: ColorChoice = "auto",
    theme: Theme = Theme.AUTO,
    ascii_only: bool = False,
    stays: bool = False,
    first: str = "overview",
    output: int = 1,
) -> Ending:
    """Show the session until a key, the end of the input or a signal ends it.

    Afterwards the terminal is as it was before, also if this raises. The session is not finished yet: its
    `drain` and `finish` are the caller's.

    Args:
        session: what is shown.
        signals: entered already.
        publish: called at every turn without a key, for outputs that follow.
        complete: adds to the figures the plans of these names.
        keep: writes something to a file, of a snapshot with everything and the frame that is shown; returns
            its path. MoeLiveError if it cannot be written.
        refresh: frames a second, when something changes; fewer if they are expensive. What is below the
            header comes with every second one, or twice a second.
        color: whether to use colours.
        theme: the background of the terminal, or that it is asked for.
        ascii_only: whether to show nothing but ASCII.
        stays: whether the end of the input ends nothing: what it came to is looked at.
        first: the view that is shown first, of those in `view_names`.
        output: descriptor of the terminal.

    Raises:
        MoeLiveError: the source cannot be read; if `stays`, not all of it could.
    """
    look = Look(
        color_system(color),
        light=theme is Theme.LIGHT,
        ascii_only=ascii_only,
        block_halves=os.environ.get("TERM") != "linux",  # its colours behind text are eight
    )
    gc.freeze()  # what was loaded is no garbage: to look through it now and then takes longer than a frame
    asks = theme is Theme.AUTO and look.system is not None and may_be_asked(os.environ)
    with Terminal(signals, output) as terminal:
        loop = _Loop(
            session,
            signals,
            terminal,
            refresh,
            look,
            publish=publish,
            complete=complete,
            keep=keep,
            stays=stays,
            first=first,
        )
        return loop.run(asks=asks)


class _Loop:
    """The loop's state, between one wait and the next."""

    def __init__(
        self,
        session: LiveRun,
        signals: Signals,
        terminal: Terminal,
        refresh: float,
        look: Look,
        *,
        publish: Callable[[LiveRun], object] = lambda _: None,
        complete: Complete = lambda snapshot, _: snapshot,
        keep: Keep | None = None,
        stays: bool = False,
        first: str = "overview",
    ) -> None:
        self._session = session
        self._signals = signals
        self._terminal = terminal
        self._publish = publish
        self._complete = complete
        self._keep = keep
        self._stays = stays
        self._at_rest = False
        self._problem: MoeLiveError | None = None
        self._period = 1 / refresh
        # Frames do not come at exactly these times.
        self._body_period = min(2 * self._period, max(self._period, _BODY_SECONDS)) - self._period / 2
        self._screen = Screen(terminal.write)
        self._state = ViewState(list(view_names.VIEWS).index(first), look=look, mouse=True)
        self._trend = TrendRecorder()
        self._decoder = KeyDecoder()
        self._early: list[Event] = []
        self._frame = Frame([], 0)
        self._answers_until = -1e9
        self._typed_at = -1e9
        self._drawing = 0.0
        self._drawn_at = self._body_at = -1e9
        self._body_lags = False
        terminal.tell_of_mouse(wanted=True)
        self._figures = Figures(session, complete, of_view(VIEWS[self._state.view]), clock=time.monotonic)
        self._stale = False
        self._note_trend()
        self._state.phase = phase_of(self._figures.snapshot)

    def run(self, *, asks: bool = False) -> Ending:
        """Until something ends it.

        Args:
            asks: whether the terminal is asked what its background is.

        Raises:
            MoeLiveError: the source cannot, or could not, be read.
        """
        if self._terminal.ours and asks:
            self._ask()
        if self._terminal.ours:
            self._draw()  # reading the first bytes may take a while
        while self._goes_on():
            if (ending := self._turn()) is not None:
                break
        else:
            ending = Ending(Reason.INPUT_ENDED)
        if self._problem is not None:
            raise self._problem
        return ending

    def _goes_on(self) -> bool:
        """Whether there is more to come, or to be looked at; at the end all of it is counted."""
        if not self._session.ended:
            return True
        if self._stays and not self._at_rest:
            self._at_rest = self._stale = True
            self._session.analyzer.finish()
        return self._stays

    def _turn(self) -> Ending | None:
        """Wait, read and draw once; returns how that ended it, if so."""
        session, terminal = self._session, self._terminal
        wake = session.source.wake_fd()
        typed = terminal.wait(self._timeout(), () if wake is None else (wake,))
        if self._signals.stop is not None:
            return Ending(Reason.SIGNAL, self._signals.stop)
        events = self._events(typed)
        for event in events:
            if self._do(event) is Request.QUIT:
                self._take_late_answers()
                return Ending(Reason.QUIT)
        due = time.monotonic() >= self._due()
        if not self._at_rest:
            self._read(session.ingest if due or events else session.collect)
        if not events:  # which come first
            self._publish(session)
        if not terminal.ours:
            return None
        if events or terminal.redraw:
            self._draw()  # at once, from the figures there are
        elif due:
            wanted = self._wanted()
            is_other = wanted != self._figures.scope
            is_empty = not self._figures.snapshot.layers  # what says so is not to outlast the first figures
            whole = is_other or is_empty or time.monotonic() >= self._body_at + self._body_period
            behind = self._stale or self._figures.behind
            if is_other or (behind and not self._state.paused and (whole or not self._figures.count())):
                self._refresh(wanted)
            self._draw(whole=whole)
            self._drawn_at = time.monotonic()
        return None

    def _read(self, take: Callable[[float], bool]) -> None:
        """Read on. What could be read of finished files is looked at even if not all could."""
        try:
            self._stale |= take(_INGEST_SECONDS)
        except MoeLiveError as error:
            if not self._stays or self._problem is not None:
                raise
            self._problem = error

    def _do(self, event: Event) -> Request | None:
        """What a key or the mouse asks for, or the terminal says; returns what is left to be done."""
        if isinstance(event, Answer):
            self._hear(event)
            return None
        request = Failures().attempt("the key", lambda: self._requested(event), None)
        if request is Request.RESET:
            self._session.reset()
            self._refresh(self._wanted())
        elif request is Request.LABEL:
            self._session.set_label(self._state.label)
        elif request is Request.REPAINT:
            self._terminal.redraw = True
        elif request is Request.WRITE:
            self._state.note = self._written()
        elif request is Request.MOUSE:
            self._terminal.tell_of_mouse(wanted=self._state.mouse)
        return request

    def _requested(self, event: str | Mouse) -> Request | None:
        if isinstance(event, Mouse):
            return point(self._state, event, self._figures.snapshot, self._frame)
        return press(self._state, event, self._figures.snapshot)

    def _written(self) -> str:
        """Write what was asked for to a file; returns what is to be said of it."""
        if self._keep is None:
            return "nothing is written from here"
        try:
            path = self._keep(self._state.kept, self._complete(self._session.snapshot(), PLANS), self._frame)
        except MoeLiveError as error:
            return printable(str(error))
        return f"written: {printable(path)}"

    def _ask(self) -> None:
        """Ask the terminal whether its background is light, and wait a moment. Keys are kept for later."""
        self._terminal.write(QUESTION)
        now = time.monotonic()
        deadline, self._answers_until = now + _ANSWER_SECONDS, now + _LATE_SECONDS
        while self._signals.stop is None:
            left = min(deadline, self._answers_until) - time.monotonic()
            if left <= 0:
                break
            for event in self._events(self._terminal.wait(left)):
                if isinstance(event, Answer):
                    self._hear(event)
                else:
                    self._early.append(event)

    def _hear(self, answer: Answer) -> None:
        """Take what the terminal says of itself."""
        light = is_light(answer)
        if light is not None:
            self._state.look = replace(self._state.look, light=light)
        if says_no_more(answer):
            self._answers_until = -1e9

    def _take_late_answers(self) -> None:
        """Wait for what the terminal was asked a moment ago: the shell would take it for something typed."""
        if (left := self._answers_until - time.monotonic()) > 0:
            self._terminal.wait(left)

    def _wanted(self) -> Scope:
        """What the view shows; while paused, what any view may show, all of one moment."""
        if self._state.paused:
            return EVERYTHING
        scope, layers = of_view(VIEWS[self._state.view]), self._figures.snapshot.layers
        if Section.PAIRS not in scope.sections or not layers:
            return scope
        chosen = layers[layer_index(self._figures.snapshot, self._state.selection)].layer
        return replace(scope, pairs_of=frozenset({chosen}))

    def _refresh(self, scope: Scope) -> None:
        """Make the figures anew."""
        self._figures.make(scope)
        self._stale = False
        self._note_trend()

    def _note_trend(self) -> None:
        older = self._session.source.status().state in (State.READING, State.ENDED)
        self._state.trend = self._trend.note(time.monotonic(), self._figures.snapshot, older=older)

    def _due(self) -> float:
        """When figures should be made anew or the frame drawn again."""
        if self._wanted() != self._figures.scope:
            return self._typed_at + _RESTING_SECONDS
        # What was counted last is shown by all of the frame before it may rest.
        goes_on = self._stale or self._body_lags
        period = self._period if goes_on else max(self._period, _IDLE_PERIOD)
        # Making the figures waits until the keys have rested for as long as it takes: keys come first.
        return max(
            self._drawn_at + max(period, _DRAWING_SHARE * (self._figures.making + self._drawing)),
            self._typed_at + self._figures.making,
        )

    def _timeout(self) -> float:
        now = time.monotonic()
        # A background job draws nothing: it only reads, and looks now and then whether it is in front again.
        until = self._due() if self._terminal.ours else now + _IDLE_PERIOD
        if self._early:
            return 0.0
        if self._decoder.pending:
            until = min(until, self._typed_at + _ESCAPE_SECONDS)
        pause = math.inf if self._at_rest else self._session.pause
        return max(0.0, min(until - now, pause))

    def _events(self, typed: bytes) -> list[Event]:
        """What the bytes complete, after what came before the first frame."""
        events, self._early = self._early, []
        now = time.monotonic()
        if typed:
            self._typed_at = now
            return events + self._decoder.feed(typed)
        if self._decoder.pending and now >= self._typed_at + _ESCAPE_SECONDS:
            return events + self._decoder.flush()
        return events

    def _draw(self, *, whole: bool = True) -> None:
        """Draw a frame, `whole` or only its header anew."""
        begun = time.monotonic()
        everything, self._terminal.redraw = self._terminal.redraw, False
        width, height = self._terminal.size()
        status, failures = self._session.status(), Failures()
        if self._stays:
            status = replace(status, prefill=UNTIMED, decode=UNTIMED)
        snapshot, before = self._figures.snapshot, None if whole else self._frame
        frame = failures.attempt(
            "this view",
            lambda: compose(snapshot, status, self._state, width, height, before=before),
            None,
        )
        self._frame = frame or self._complaint(failures, width, height)
        self._screen.draw(self._frame, everything=everything)
        self._body_lags = not whole
        if whole:
            self._body_at, self._drawing = begun, time.monotonic() - begun

    def _complaint(self, failures: Failures, width: int, height: int) -> Frame:
        """Instead of a view that cannot be drawn: all is read and counted on; other views are there."""
        says = [
            *failures.sentences(),
            "Reading goes on. Other keys lead to other views; q ends with the summary.",
        ]
        lines: list[Line] = [
            (text(part, CAUTION),) for sentence in says for part in wrap(sentence, width, height)
        ]
        return Frame([fit(line, width) for line in fill(lines, height)], width, self._state.look)
