"""Documents: made when somebody asks, of figures of now, and handed out finished."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus

import pytest

from moe_live.outputs import document
from moe_live.outputs.document import Document
from moe_live.outputs.http import Answer, Request
from moe_live.running import Status
from moe_live.snapshot import Snapshot
from tests.dashboard.factory import nothing, status

NOW = status()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ask(made: Document, **headers: str) -> Answer:
    return asyncio.run(made.answer(Request("/", {name.replace("_", "-"): v for name, v in headers.items()})))


@contextmanager
def reading(made: Document, snapshot: Snapshot, state: Status = NOW) -> Iterator[None]:
    """A loop that reads the log, in a thread of its own."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(0.001):
            if made.wants_update():
                made.update(snapshot, state)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def numbered(clock: Clock) -> Document:
    """Says how often it was made."""
    made = []

    def make(_: Snapshot, state: Status) -> bytes:
        made.append(state)
        return b"%d, %d lines a second" % (len(made), state.lines_per_second)

    return Document("text/plain", make, (), clock)


def test_what_nobody_asks_for_is_not_made(clock: Clock) -> None:
    made = numbered(clock)
    assert not made.wants_update()
    with reading(made, nothing()):
        assert ask(made).body == b"1, 9123 lines a second"
    assert not made.wants_update()


def test_within_a_second_the_same_bytes_go_to_everybody(clock: Clock) -> None:
    made = numbered(clock)
    with reading(made, nothing()):
        ask(made)
    clock.now += 0.9
    answers = [ask(made) for _ in range(5)]  # nobody reads: what is handed out was finished before
    assert {answer.body for answer in answers} == {b"1, 9123 lines a second"}
    assert answers[0].body is answers[1].body


def test_older_figures_are_not_handed_out(clock: Clock) -> None:
    made = numbered(clock)
    with reading(made, nothing()):
        ask(made)
        clock.now += 1.1
    with reading(made, nothing(), replace(NOW, lines_per_second=1.0)):
        assert ask(made).body == b"2, 1 lines a second"


def test_what_has_not_changed_is_not_made_again(clock: Clock) -> None:
    made, snapshot = numbered(clock), nothing()
    with reading(made, snapshot):
        first = ask(made)
        clock.now += 5
        assert ask(made) == first


def test_a_run_that_does_not_come_by_is_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made = numbered(clock)
    with reading(made, nothing()):
        ask(made)
    clock.now += 5

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(document, "_LOOK_AGAIN", 1.0)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    answer = ask(made)
    assert answer.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert b"busy or stopped" in answer.body
    assert made.idle > 10


def test_a_failure_is_told_and_the_next_try_counts(clock: Clock) -> None:
    failing = [True]

    def make(_: Snapshot, __: Status) -> bytes:
        if failing:
            failing.pop()
            raise ZeroDivisionError("secret")
        return b"well"

    made = Document("text/plain", make, (), clock)
    made._asked = True
    with pytest.raises(ZeroDivisionError):
        made.update(nothing(), NOW)
    answer = ask(made)
    assert answer.status is HTTPStatus.INTERNAL_SERVER_ERROR
    assert answer.body == b"the figures could not be made: ZeroDivisionError\n"
    clock.now += 2
    with reading(made, nothing()):
        assert ask(made).body == b"well"


def test_tags_and_compression(clock: Clock) -> None:
    made = numbered(clock)
    with reading(made, nothing()):
        plain = ask(made)
    assert plain.headers["Content-Type"] == "text/plain"
    assert "Content-Encoding" not in plain.headers
    packed = ask(made, accept_encoding="br, gzip;q=0.5")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert ask(made, accept_encoding="gzip;q=0, br").body == plain.body
    unchanged = ask(made, if_none_match=plain.headers["ETag"])
    assert (unchanged.status, unchanged.body) == (HTTPStatus.NOT_MODIFIED, b"")
    assert ask(made, if_none_match='"another"').body == plain.body
