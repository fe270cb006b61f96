"""The loop: what is read, what is drawn and when, with a scripted terminal."""

import re
import signal
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace
from unittest.mock import patch

import pytest

import moe_live.dashboard.run as loop
import moe_live.session
from moe_live.analyzer import Analyzer
from moe_live.dashboard import figures
from moe_live.dashboard.background import QUESTION
from moe_live.dashboard.figures import Complete
from moe_live.dashboard.frame import Frame
from moe_live.dashboard.run import Ending, Reason
from moe_live.dashboard.state import Kept
from moe_live.dashboard.theme import Look
from moe_live.errors import MoeLiveError
from moe_live.session import READ_AHEAD, Session
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Break, SourceStatus, State
from moe_live.terminal import Signals


@pytest.fixture(autouse=True)
def _looks_as_often_as_the_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts count by these looks."""
    monkeypatch.setattr(moe_live.session, "COLLECT_PAUSE", 0.0)


LINES = b"".join(b"%d,1 2\n" % layer for layer in (0, 1))


class Source:
    """Gives the same step again and again, or what it was told."""

    def __init__(self, reads: int = 10**9) -> None:
        self.left = reads
        self.closed = False
        self.woken = 0

    def read(self, limit: int) -> Sequence[bytes | Break]:
        # Every other read is empty: the data come slowly, each ingest takes one piece.
        self.left -= 1
        return [LINES[:limit]] if self.left % 2 else []

    def pause(self) -> float:
        return 0.01

    def wake_fd(self) -> int | None:
        self.woken += 1
        return 99

    def status(self) -> SourceStatus:
        return SourceStatus("made up", State.ENDED if self.left <= 0 else State.FOLLOWING)

    def close(self) -> None:
        self.closed = True


class Terminal:
    """Types what the script says, one entry a wait; notes what is drawn.

    Time goes by only while nothing is typed, and by `drawing` seconds a frame.
    """

    def __init__(
        self, script: Sequence[bytes | signal.Signals], signals: Signals, drawing: float = 0.0
    ) -> None:
        self.now = 0.0
        self.drawing = drawing
        self.script = list(script)
        self.signals = signals
        self.redraw = True
        self.ours = True
        self.frames: list[str] = []
        self.raw: list[str] = []
        self.drawn_at: list[float] = []
        self.asked = False
        self.mouse: list[bool] = []
        self.waited: list[float] = []
        self.watched: Sequence[int] = ()

    def wait(self, timeout: float, descriptors: Sequence[int] = ()) -> bytes:
        self.watched = descriptors
        self.waited.append(timeout)
        entry = self.script.pop(0) if self.script else b"q"
        if entry == b"":
            self.now += timeout + 1e-6
        if isinstance(entry, signal.Signals):
            self.signals.stop = entry
            return b""
        return entry

    def size(self) -> tuple[int, int]:
        return 100, 30

    def tell_of_mouse(self, *, wanted: bool) -> None:
        self.mouse.append(wanted)

    def write(self, text: str) -> None:
        if text == QUESTION:
            self.asked = True
            return
        self.now += self.drawing
        self.raw.append(text)
        self.drawn_at.append(self.now)
        self.frames.append(re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", text))


def run(
    script: Sequence[bytes | signal.Signals],
    source: Source | None = None,
    *,
    session: Session | None = None,
    refresh: float = 1e6,
    drawing: float = 0.0,
    look: Look = Look(None),  # noqa: B008 - it is frozen
    asks: bool = False,
    stays: bool = False,
    keep: loop.Keep | None = None,
    complete: Complete = lambda snapshot, _: snapshot,
) -> tuple[Ending, Terminal, Session]:
    signals = Signals()
    terminal = Terminal(script, signals, drawing)
    session = session or Session(source or Source(), Analyzer())
    if isinstance(session, Asked):
        session.terminal = terminal
    with patch.object(loop, "time", SimpleNamespace(monotonic=lambda: terminal.now)):
        driver = loop._Loop(
            session,
            signals,
            terminal,  # type: ignore[arg-type]  # scripted
            refresh,
            look,
            complete=complete,
            keep=keep,
            stays=stays,
        )
        return driver.run(asks=asks), terminal, session


def test_q_ends_it() -> None:
    ending, terminal, _ = run([b"", b"", b"q", b"x"])
    assert ending == Ending(Reason.QUIT)
    assert terminal.script == [b"x"]


def test_figures_are_completed_before_they_are_shown() -> None:
    asked = []

    def complete(snapshot: Snapshot, plans: Collection[str]) -> Snapshot:
        asked.append(set(plans))
        return replace(snapshot, warnings=("completed by somebody",))

    _, terminal, _ = run([*REST, b"x", *REST, b" ", *REST], complete=complete)
    assert "completed by somebody" in "".join(terminal.frames)
    every = {"cache", "offload", "placement", "prune"}
    assert [plans for plans, _ in groupby(asked)] == [set(), {"prune"}, every]


def test_a_signal_ends_it_and_is_told() -> None:
    ending, _, _ = run([b"", signal.SIGTERM])
    assert ending == Ending(Reason.SIGNAL, signal.SIGTERM)


def test_the_end_of_the_input_ends_it_once_everything_is_read() -> None:
    source = Source(reads=20)
    ending, _, session = run([b""] * 100, source)
    assert ending == Ending(Reason.INPUT_ENDED)
    assert session.finish().input.tally.lines == 20
    assert source.closed


def test_it_can_stay_with_all_that_came_and_wait_for_keys_alone() -> None:
    source = Source(reads=20)
    ending, terminal, session = run([b""] * 100 + [b"3"] + [b""] * 20, source, stays=True)
    assert ending == Ending(Reason.QUIT)
    assert " 10 decode " in "".join(terminal.frames)  # the last step is not open any more
    assert "Layers · all steps" in "".join(terminal.frames)
    assert "10 decode    –/s" in "".join(terminal.frames)
    assert terminal.waited[-1] > 0.9
    assert session.finish().tokens.decode == 10


class Damaged(Source):
    """Raises at its end, once."""

    raised = False

    def read(self, limit: int) -> Sequence[bytes | Break]:
        if self.left <= 0 and not self.raised:
            self.raised = True
            raise MoeLiveError("cut short")
        return super().read(limit) if self.left > 0 else []

    def status(self) -> SourceStatus:
        return SourceStatus("made up", State.ENDED if self.raised else State.READING)


def test_what_could_be_read_is_looked_at_before_the_rest_is_told() -> None:
    source = Damaged(reads=20)
    with pytest.raises(MoeLiveError, match="cut short"):
        run([b""] * 100 + [b"3", b"x"], source, stays=True)
    assert source.raised
    with pytest.raises(MoeLiveError, match="cut short"):
        run([b""] * 100, Damaged(reads=20))


def test_what_is_asked_for_is_written_with_everything_and_told() -> None:
    wanted = []

    def keep(kept: Kept, snapshot: Snapshot, frame: Frame) -> str:
        wanted.append((kept, snapshot.locality is not None and snapshot.history is not None, frame.width))
        if kept is Kept.PAGE:
            raise MoeLiveError("no room for it")
        return "figures.json"

    _, terminal, _ = run([*[b""] * 50, b"w", b"j", b"", b"w", b"h", b""], keep=keep)
    assert wanted == [(Kept.JSON, True, 100), (Kept.PAGE, True, 100)]
    assert "written: figures.json" in "".join(terminal.frames)
    assert "no room for it" in "".join(terminal.frames)


def test_the_source_can_wake_it() -> None:
    source = Source()
    _, terminal, _ = run([b"", b""], source)
    assert terminal.watched == (99,)


def tokens(frames: list[str]) -> int:
    return max(int(found) for frame in frames for found in re.findall(r"(\d+) decode", frame))


def test_paused_the_figures_stand_still_while_reading_goes_on() -> None:
    wait = [b""] * 60
    assert tokens(run(wait)[1].frames) > 20
    _, paused, session = run([b"", b"", b" ", *wait])
    assert tokens(paused.frames) < 10
    assert session.analyzer.progress().tokens > 20
    _, resumed, _ = run([b"", b"", b" ", *wait, b" ", *[b""] * 10])
    assert tokens(resumed.frames) > 20


class Asked(Session):
    """Notes which figures were asked for; each time making them takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(Source(), Analyzer())
        self.seconds = seconds
        self.asked: list[tuple[set[Section], set[int] | None]] = []
        self.terminal: Terminal | None = None

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        if self.terminal is not None:
            self.terminal.now += self.seconds
        self.asked.append((set(sections), None if pairs_of is None else set(pairs_of)))
        return super().snapshot(sections, pairs_of=pairs_of, anew=anew)


REST = [b""] * 8  # longer than keys held down take to repeat


@pytest.fixture
def nothing_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections are made anew with the counts."""
    monkeypatch.setattr(figures, "LASTING", 0.0)


@pytest.mark.usefixtures("nothing_lasts")
def test_only_what_the_view_shows_is_made() -> None:
    session = Asked()
    run([*REST, b"3", *REST, b"0", *REST, b"9", *REST, b"\x1b[C", *REST], session=session)
    overview = {Section.LOCALITY}
    assert session.asked[0] == (overview, set())
    assert [asked for asked, _ in groupby(session.asked)] == [
        (overview, set()),
        (set(), set()),
        ({Section.TRANSITIONS}, set()),
        ({Section.PAIRS}, {0}),
        ({Section.PAIRS}, {1}),
    ]


def test_paused_everything_is_made_once_so_that_all_views_show_one_moment() -> None:
    session = Asked()
    _, terminal, _ = run([*REST, b" ", *REST, b"9", *REST, b"\x1b[C", *REST, b"0", *REST], session=session)
    everything = (set(Section), None)
    assert session.asked.count(everything) == 1
    assert session.asked[-1] == everything
    assert "One moment" not in "".join(terminal.frames)


@pytest.mark.usefixtures("nothing_lasts")
def test_views_that_are_passed_by_are_not_made() -> None:
    session = Asked()
    _, terminal, _ = run([*REST, *[b"\t"] * 9, *REST], session=session)
    assert {frozenset(sections) for sections, _ in session.asked} == {
        frozenset({Section.LOCALITY}),
        frozenset({Section.TRANSITIONS}),
    }
    assert "One moment" in "".join(terminal.frames)
    assert "One moment" not in terminal.frames[-1]


@pytest.mark.parametrize(("seconds", "refreshed"), [(0.5, False), (0.01, True)])
def test_figures_that_take_long_wait_until_the_keys_rest(seconds: float, refreshed: bool) -> None:
    def asked(script: list[bytes]) -> int:
        session = Asked(seconds)
        run(script, session=session)
        return len(session.asked)

    begin = [*[b""] * 400, b"3", *REST]
    keys = [b"j", *[b""] * 20] * 10  # one in 0.2 seconds
    assert (asked([*begin, *keys]) > asked(begin)) is refreshed


def test_a_key_is_answered_before_any_figures_are_made() -> None:
    session = Asked(seconds=100.0)
    _, terminal, _ = run([b"3"], session=session)
    assert terminal.now == 100
    first, answer = terminal.frames
    assert "empty so far" in first
    assert "z zoom" in first
    assert "z zoom" not in answer


def test_the_first_frame_does_not_wait_for_the_log() -> None:
    class Long(Source):
        def read(self, limit: int) -> Sequence[bytes | Break]:
            assert terminal.frames
            return super().read(limit)

        def status(self) -> SourceStatus:
            return SourceStatus("made up", State.READING, size=10**10)

    signals = Signals()
    terminal = Terminal([b""], signals)
    loop._Loop(Session(Long(), Analyzer()), signals, terminal, 1e6, Look(None)).run()  # type: ignore[arg-type] # a stand-in
    assert "It has 10.0 GB so far" in terminal.frames[0]


def test_what_trickles_in_is_analyzed_once_a_frame() -> None:
    portions = []

    class Noting(Analyzer):
        def feed(self, data: bytes | memoryview) -> None:
            portions.append(len(data))
            super().feed(data)

    session = Session(Source(), Noting(), read_ahead=READ_AHEAD)
    _, terminal, _ = run([b""] * 200, session=session, refresh=4)
    assert len(portions) <= len(terminal.frames)
    assert sum(portions) > 5 * len(portions) * len(LINES)
    session.ingest(1.0)
    assert session.status().source.lag == 0


class Quiet(Source):
    """Gives nothing any more after a while, and may yet."""

    def read(self, limit: int) -> Sequence[bytes | Break]:
        return super().read(limit) if self.left > 0 else []

    def pause(self) -> float:
        return 0.01 if self.left > 0 else 0.25

    def status(self) -> SourceStatus:
        return SourceStatus("made up", State.FOLLOWING)


def followed(source: Source, script: Sequence[bytes]) -> Terminal:
    session = Session(source, Analyzer(), read_ahead=READ_AHEAD)
    return run(script, session=session, refresh=4)[1]


def tells(frame: str) -> tuple[bool, bool]:
    """Whether the header is drawn anew, and whether what is below it."""
    return " decode" in frame, " counted" in frame


def test_what_is_below_the_header_comes_twice_a_second() -> None:
    terminal = followed(Source(), [b""] * 500)
    drawn = list(map(tells, terminal.frames[2:]))  # the first is of no line, the next of the first ones
    assert len(drawn) == pytest.approx(4 * terminal.now, rel=0.2)
    assert all(header for header, _ in drawn)
    assert {tuple(bodies) for bodies in zip(drawn[::2], drawn[1::2], strict=False)} in (
        {((True, False), (True, True))},
        {((True, True), (True, False))},
    )


def test_a_key_brings_all_of_the_view_at_once() -> None:
    waiting = [b""] * 100
    for extra in range(60):
        terminal = followed(Source(), [*waiting, *[b""] * extra, b"3"])
        assert "Layers · all steps" in terminal.frames[-1]


def test_before_it_rests_the_screen_tells_all_that_was_counted() -> None:
    for reads in range(100, 160, 7):
        terminal = followed(Quiet(reads), [b""] * 300)
        frames = list(zip(terminal.drawn_at, terminal.frames, strict=True))
        steps = tokens(terminal.frames)
        assert steps == reads // 2 - 1  # the last one is open
        header = min(at for at, frame in frames if f" {steps} decode" in frame)
        body = min(at for at, frame in frames if f" {2 * steps} of {2 * steps} rows counted" in frame)
        assert body <= header + 0.3


def test_a_label_can_be_typed() -> None:
    _, terminal, session = run([b"", b"", *[key.encode() for key in "lmath"], b"\r", *REST])
    assert session.analyzer.label == "math"
    assert session.snapshot().labels is not None
    assert "label math" in "".join(terminal.frames)
    (usage,) = session.finish().labels.usages  # type: ignore[union-attr]  # all sections are made
    assert (usage.label, usage.tokens > 0) == ("math", True)


def test_two_capital_r_start_the_statistics_anew() -> None:
    _, _, session = run([b""] * 60 + [b"R", b"R"])
    assert session.analyzer.progress().tokens < 10


def test_nothing_is_drawn_on_a_screen_that_is_not_ours() -> None:
    signals = Signals()
    terminal = Terminal([b""] * 30, signals)
    terminal.ours = False
    session = Session(Source(), Analyzer())
    loop._Loop(session, signals, terminal, 1e6, Look(None)).run()  # type: ignore[arg-type]  # the scripted one
    assert terminal.frames == []
    assert session.analyzer.progress().tokens > 10


@pytest.mark.parametrize(("making", "drawing"), [(0.3, 0.0), (0.0, 0.3), (0.2, 0.1)])
def test_dear_figures_and_frames_come_less_often(making: float, drawing: float) -> None:
    session = Asked(making)
    _, terminal, _ = run([b""] * 2000, session=session, refresh=4, drawing=drawing)
    assert 0.3 * len(terminal.frames) == pytest.approx(terminal.now / 6, rel=0.15)


LIGHT, DARK = b"\x1b]11;rgb:ffff/ffff/dddd\x1b\\", b"\x1b]11;rgb:0000/0000/2222\x1b\\"
KIND = b"\x1b[?62;c"


def is_light(terminal: Terminal) -> bool:
    """Titles are blue on a light background, cyan on a dark one."""
    assert ("\x1b[1;34m" in terminal.raw[-1]) != ("\x1b[1;36m" in terminal.raw[-1])
    return "\x1b[1;34m" in terminal.raw[-1]


@pytest.mark.parametrize(
    ("answers", "light"),
    [
        ([LIGHT + KIND], True),
        ([DARK + KIND], False),
        ([KIND], False),
        ([LIGHT[:7], LIGHT[7:] + KIND], True),
        ([b""], False),
    ],
)
def test_the_first_frame_fits_the_background(answers: list[bytes], *, light: bool) -> None:
    _, terminal, _ = run([*answers, b"q"], look=Look(), asks=True)
    assert terminal.asked
    assert is_light(terminal) is light


def test_nobody_waits_long_for_a_terminal_that_does_not_answer() -> None:
    _, terminal, _ = run([b"", b"", b"q"], look=Look(), asks=True)
    assert terminal.waited[0] == pytest.approx(0.05)
    _, silent, _ = run([b"q"], look=Look())
    assert not silent.asked


def test_keys_typed_before_the_answer_are_not_lost() -> None:
    ending, terminal, _ = run([b"3", b"j" + LIGHT, b"j" + KIND, *REST, *REST], look=Look(), asks=True)
    assert ending.reason is Reason.QUIT
    assert "Layers · all steps" in "".join(terminal.frames)


def test_a_late_answer_changes_the_colours_and_does_not_come_to_the_shell() -> None:
    _, terminal, _ = run([b"", LIGHT + KIND, *[b""] * 4, b"q"], look=Look(), asks=True)
    assert is_light(terminal)
    _, terminal, _ = run([b"", b"q"], look=Look(), asks=True)
    assert terminal.script == []
    assert 0 < terminal.waited[-1] <= 0.5


def test_the_mouse_is_asked_for_and_left_alone_with_m() -> None:
    _, terminal, _ = run([b"", b"m", b"", b"m", b""])
    assert terminal.mouse == [True, False, True]


def test_the_mouse_clicks_tabs_and_chooses() -> None:
    _, terminal, _ = run([*[b""] * 9, b"\x1b[<0;14;4M", *REST])
    assert "Rows are layers, columns experts" in "".join(terminal.frames)
