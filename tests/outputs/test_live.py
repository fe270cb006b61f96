"""Outputs that follow a run: when they are given figures, and what becomes of the others if one fails."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

import pytest

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError, UsageError
from moe_live.outputs.live import LONGEST_PERIOD, PERIOD, LiveOutputs
from moe_live.outputs.output import Output
from moe_live.running import Status
from moe_live.session import Session
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import SourceStatus, State

STEP = b"0,1 2\n1,1 2\n"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Gives what it was told to."""

    def __init__(self) -> None:
        self.given = b""

    def read(self, limit: int) -> list[bytes]:
        given, self.given = self.given[:limit], self.given[limit:]
        return [given] if given else []

    def pause(self) -> float:
        return 0.1

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        return SourceStatus("made up", State.FOLLOWING)

    def close(self) -> None:
        pass


class Noting(Output):
    """Notes what it is given; taking it costs `seconds`."""

    def __init__(
        self, clock: Clock, name: str = "", log: list[str] | None = None, seconds: float = 0
    ) -> None:
        self.clock, self.name, self.seconds = clock, name, seconds
        self.log = [] if log is None else log
        self.taken: list[tuple[float, Snapshot, Status]] = []
        self.wants = True
        self.failure: Exception | None = None

    def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.log.append(f"start {self.name}")

    def sections(self) -> Collection[Section]:
        return {Section.DRIFT}

    def wants_update(self) -> bool:
        return self.wants

    def update(self, snapshot: Snapshot, status: Status) -> None:
        self.taken.append((self.clock.now, snapshot, status))
        self.clock.now += self.seconds
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.log.append(f"close {self.name}")

    def finish(self, snapshot: Snapshot) -> None:
        self.log.append(f"finish {self.name}, {snapshot.steps.total} steps")
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Session:
    return Session(Source(), Analyzer(), clock=clock)


def run(outputs: LiveOutputs, session: Session, clock: Clock, seconds: float) -> None:
    """Turns of a loop that reads a step in each, twenty a second."""
    until = clock.now + seconds
    while clock.now < until:
        session.source.given = STEP  # type: ignore[attr-defined]  # the one above
        session.ingest(0.01)
        outputs.update(session)
        clock.now += 0.05


def test_figures_come_at_most_once_a_second_with_the_sections_asked_for(
    clock: Clock, session: Session
) -> None:
    output = Noting(clock)
    run(LiveOutputs([output], clock=clock, work=clock), session, clock, 10)
    times = [when for when, _, _ in output.taken]
    assert len(times) == 10
    assert min(b - a for a, b in pairwise(times)) >= PERIOD
    _, snapshot, status = output.taken[-1]
    assert snapshot.drift is not None
    assert snapshot.locality is None
    assert snapshot.tokens.decode + snapshot.tokens.prefill > output.taken[0][1].tokens.decode
    assert status.source.state is State.FOLLOWING


def test_who_wants_none_costs_nothing(
    clock: Clock, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Noting(clock)
    output.wants = False
    monkeypatch.setattr(session, "snapshot", pytest.fail)
    run(LiveOutputs([output], clock=clock, work=clock), session, clock, 5)
    assert output.taken == []


@pytest.mark.parametrize(("seconds", "period"), [(0.1, 5.0), (3.0, LONGEST_PERIOD)])
def test_what_costs_much_comes_less_often(
    clock: Clock, session: Session, seconds: float, period: float
) -> None:
    dear, cheap = Noting(clock, seconds=seconds), Noting(clock)
    run(LiveOutputs([dear, cheap], clock=clock, work=clock), session, clock, 100)
    times = [when for when, _, _ in dear.taken]
    assert min(b - a for a, b in pairwise(times)) == pytest.approx(period, abs=0.1)
    assert len(cheap.taken) > 60  # the other is not held up by it, but while it is being made


def test_when_nothing_has_changed_the_same_figures_come_again(clock: Clock, session: Session) -> None:
    output = Noting(clock)
    outputs = LiveOutputs([output], clock=clock, work=clock)
    run(outputs, session, clock, 2)
    clock.now += 10  # rates fall to nothing
    for _ in range(10):
        session.ingest(0.01)
        outputs.update(session)
        clock.now += 1
    assert len({id(snapshot) for _, snapshot, _ in output.taken[2:]}) == 1
    *_, (_, first, first_status), (_, last, last_status) = output.taken
    assert last is first
    assert last_status is first_status
    session.reset()
    outputs.update(session)
    _, anew, _ = output.taken[-1]
    assert anew is not last
    assert anew.tokens.decode == 0


def test_one_that_fails_takes_neither_the_run_nor_another_with_it(clock: Clock, session: Session) -> None:
    failing, well, odd = Noting(clock), Noting(clock), Noting(clock)
    outputs = LiveOutputs([failing, well, odd], clock=clock, work=clock)
    failing.failure = MoeLiveError("cannot write the page to x: disk full")
    odd.failure = ZeroDivisionError("by\x1b zero")
    run(outputs, session, clock, 3)
    assert len(well.taken) == len(failing.taken) == 3
    assert outputs.problems == [
        "cannot write the page to x: disk full (3 times)",
        "an output failed: ZeroDivisionError: by\\x1b zero (3 times)",
    ]
    failing.failure = None
    run(outputs, session, clock, 3)
    assert outputs.problems[0] == "cannot write the page to x: disk full (3 times)"


def test_all_are_started_closed_and_finished_in_order(clock: Clock, session: Session) -> None:
    log: list[str] = []
    outputs = LiveOutputs([Noting(clock, name, log) for name in "ab"], clock=clock, work=clock)
    with outputs:
        assert log == ["start a", "start b"]
    outputs.finish(session.finish())
    assert log[2:] == ["close b", "close a", "finish a, 0 steps", "finish b, 0 steps"]


def test_one_that_cannot_start_leaves_none_running(clock: Clock) -> None:
    log: list[str] = []
    first, second = Noting(clock, "a", log), Noting(clock, "b", log)
    second.failure = UsageError("the port is taken")
    with pytest.raises(UsageError, match="taken"), LiveOutputs([first, second], clock=clock, work=clock):
        pytest.fail("it began all the same")
    assert log == ["start a", "close a"]


def test_all_get_the_final_figures_even_if_one_fails(clock: Clock, session: Session) -> None:
    log: list[str] = []
    first, second = Noting(clock, "a", log), Noting(clock, "b", log)
    first.failure = MoeLiveError("disk full")
    with pytest.raises(MoeLiveError, match="disk full"):
        LiveOutputs([first, second], clock=clock, work=clock).finish(session.finish())
    assert log == ["finish a, 0 steps", "finish b, 0 steps"]


def test_figures_are_completed(clock: Clock, session: Session) -> None:
    output = Noting(clock)

    def complete(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, warnings=("completed",))

    run(LiveOutputs([output], complete, clock=clock, work=clock), session, clock, 2)
    assert [snapshot.warnings for _, snapshot, _ in output.taken] == [("completed",)] * len(output.taken)
    assert output.taken
