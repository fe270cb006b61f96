"""Reading in portions: what is held, and when it is analyzed."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from moe_live.analyzer import Analyzer
from moe_live.session import READ_AHEAD, READ_SIZE, TRIM_AFTER, Session
from moe_live.sources.gaps import Gaps
from moe_live.sources.source import Break, SourceStatus, State

STEP = b"0,1 2\n1,2 3\n"


class Script:
    """Gives one entry a read; then it has ended."""

    def __init__(self, *entries: bytes | Break) -> None:
        self.entries = list(entries)
        self.position = 0

    def read(self, limit: int) -> Sequence[bytes | Break]:  # noqa: ARG002 - what a source must accept
        if not self.entries:
            return []
        entry = self.entries.pop(0)
        self.position += len(entry) if isinstance(entry, bytes) else 0
        return [entry]

    def pause(self) -> float:
        return 0.05

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        state = State.FOLLOWING if self.entries else State.ENDED
        return SourceStatus("script", state, position=self.position, size=self.position)

    def close(self) -> None:
        pass


class Portions(Analyzer):
    """Notes what it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.portions: list[bytes] = []

    def feed(self, data: bytes | memoryview) -> None:
        self.portions.append(bytes(data))
        super().feed(data)


def collecting(*entries: bytes | Break) -> tuple[Session, list[bytes]]:
    analyzer = Portions()
    return Session(Script(*entries), analyzer, read_ahead=READ_AHEAD, clock=lambda: 0.0), analyzer.portions


def test_little_is_held_and_then_analyzed_as_one() -> None:
    session, portions = collecting(STEP, STEP[:5], STEP[5:])
    for held in (len(STEP), len(STEP) + 5, 2 * len(STEP)):
        assert session.collect(1.0)
        assert (portions, session.status().source.lag, session.pause) == ([], held, 0.125)
    assert not session.ended
    assert session.ingest(1.0)
    assert session.pause == 0.125
    assert portions == [2 * STEP]
    assert (session.ended, session.status().source.lag) == (True, 0)
    assert not session.collect(1.0)


def test_much_is_analyzed_at_once() -> None:
    half = STEP * (READ_SIZE // len(STEP) // 2 + 1)
    session, portions = collecting(half, half, STEP)
    assert session.collect(60.0)
    assert b"".join(portions) == half + half + STEP
    assert max(map(len, portions)) <= READ_SIZE


def test_what_the_source_could_not_read_is_among_the_warnings() -> None:
    class Lossy(Script):
        def status(self) -> SourceStatus:
            return replace(super().status(), gaps=Gaps(replaced=3, missing_files=1, repeated_lines=20))

    session = Session(Lossy(STEP), Analyzer())
    expected = (
        "script was replaced 3 times while nobody looked: 1 file of that time cannot be read any more",
        "up to 20 lines may be counted twice: script was cut, or written anew with the same beginning",
    )
    session.ingest(1.0)
    assert session.snapshot().warnings[:2] == expected
    assert session.finish().warnings[:2] == expected


def test_pieces_on_both_sides_of_a_break_stay_apart() -> None:
    session, portions = collecting(STEP, STEP[:3], Break.RESTARTED, STEP[:9], STEP[9:])
    for _ in range(5):
        session.collect(1.0)
    snapshot = session.finish()
    assert portions == [STEP + STEP[:3], STEP]
    assert (snapshot.input.tally.lines, snapshot.input.tally.incomplete_bytes) == (4, 3)


class SlowPortions(Portions):
    """Takes a fifth of a second for 64 KB, by a clock that only it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def feed(self, data: bytes | memoryview) -> None:
        super().feed(data)
        self.now += 0.2 * len(data) / (1 << 16)


def test_what_takes_long_is_analyzed_in_small_portions() -> None:
    analyzer = SlowPortions()
    text = STEP * (4 * READ_SIZE // len(STEP))
    source = Script(*(text[i : i + READ_SIZE] for i in range(0, len(text), READ_SIZE)))
    session = Session(source, analyzer, read_ahead=READ_AHEAD, clock=lambda: analyzer.now)
    begun = []
    while not session.ended:
        begun.append(analyzer.now)
        session.ingest(0.0)
    assert begun[1] > 1
    assert max(after - before for before, after in pairwise(begun[-20:])) <= 0.1
    assert b"".join(analyzer.portions) == text
    assert session.finish().steps.total == len(text) // len(STEP)


def test_what_is_held_at_the_end_can_be_left_out_and_that_is_said() -> None:
    analyzer = SlowPortions()
    text = STEP * (2 * READ_SIZE // len(STEP))
    session = Session(Script(text), analyzer, read_ahead=READ_AHEAD, clock=lambda: analyzer.now)
    session.drain()
    assert session.held == len(text)
    snapshot = session.finish(lambda: analyzer.now > 4)
    analyzed = snapshot.input.tally.bytes
    assert 0 < analyzed < len(text)
    assert f"{len(text) - analyzed:,} bytes that were read" in snapshot.warnings[0]


def test_a_backlog_is_held_outside_the_heap() -> None:
    class Fresh(Script):
        """Gives bytes that nobody else holds."""

        def read(self, limit: int) -> Sequence[bytes | Break]:
            return [bytes(len(item)) if isinstance(item, bytes) else item for item in super().read(limit)]

    hole = bytes(READ_SIZE)
    analyzer = Analyzer()
    analyzer.feed(b"3,1 2\n")  # what a decoder needs to work with is there once it has read a line
    session = Session(Fresh(*[hole] * 20, Break.RESTARTED, hole), analyzer, read_ahead=READ_AHEAD)
    tracemalloc.start()
    try:
        assert session.ingest(0.0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert session.status().source.lag == 19 * len(hole)
    assert most < 10 * len(hole)
    snapshot = session.finish()
    assert (snapshot.input.tally.nul_bytes, snapshot.input.restarts) == (20 * len(hole), 1)


@pytest.mark.parametrize("state", State)
def test_memory_is_given_back_when_nothing_more_comes_of_a_followed_log(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []

    class Still(Script):
        """Is in one state all the time."""

        def status(self) -> SourceStatus:
            return replace(super().status(), state=state)

    source = Still()
    session = Session(source, Analyzer(), clock=lambda: 0.0)
    monkeypatch.setattr("moe_live.session.give_back_freed_memory", lambda: given_back.append(source.position))
    text = bytes(READ_SIZE)  # cheap to analyze
    rounds = 2 * TRIM_AFTER // len(text)
    for _ in range(rounds):
        source.entries.append(text)
        session.ingest(1.0)
        assert source.position not in given_back  # there may be more at once
        session.ingest(1.0)
        session.ingest(1.0)
    goes_on = state in (State.FOLLOWING, State.WAITING)
    assert given_back == [len(text) * n for n in (rounds // 2, rounds) if goes_on]
