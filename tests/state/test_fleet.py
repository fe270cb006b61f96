"""`moe-live merge --watch`: a directory of states that others keep writing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from moe_live.errors import UsageError
from moe_live.fleet import PERIOD
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.source import State
from moe_live.states import States
from tests.analysis import analyzed
from tests.comparison import together
from tests.pseudo_terminal import started
from tests.state.test_merge import text


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def settled(fleet: States, clock: Clock) -> Snapshot:
    """What it shows once all that is there is loaded."""
    for _ in range(30):
        clock.now += PERIOD
        fleet.ingest(0.1)
    return fleet.snapshot()


def merged(*texts: bytes) -> Snapshot:
    whole = analyzed(texts[:1])
    for each in texts[1:]:
        whole += analyzed([each])
    return whole.snapshot()


def test_it_shows_what_all_states_are_together(tmp_path: Path) -> None:
    clock = Clock()
    fleet = States(str(tmp_path), clock)
    assert settled(fleet, clock).rows.logged == 0
    assert fleet.status().source.state is State.WAITING
    for name, seed in (("a", 0), ("b", 1)):
        analyzed([text(seed)]).save(tmp_path / f"{name}.state")
    assert together(settled(fleet, clock)) == together(merged(text(0), text(1)))
    assert "a 240 rows" in fleet.status().source.detail
    shares = fleet.snapshot().input.sources
    assert [(share.name, share.rows, share.steps) for share in shares] == [("a", 240, 60), ("b", 240, 60)]
    assert all(share.now is not None and share.now.age is not None for share in shares)
    analyzed([text(1) + text(2)]).save(tmp_path / "b.state")
    assert together(settled(fleet, clock)) == together(merged(text(0), text(1) + text(2)))
    (tmp_path / "a.state").unlink()
    assert together(settled(fleet, clock)) == together(merged(text(1) + text(2)))


def test_a_state_that_does_not_fit_is_left_out_and_told(tmp_path: Path) -> None:
    clock = Clock()
    fleet = States(str(tmp_path), clock)
    for name in ("a", "b", "c"):
        analyzed([text(0)]).save(tmp_path / f"{name}.state")
    (tmp_path / "b.state").write_bytes((tmp_path / "b.state").read_bytes()[:-1])
    analyzed([text(1)], Settings(window=512)).save(tmp_path / "c.state")
    assert together(settled(fleet, clock)) == together(merged(text(0)))
    detail = fleet.status().source.detail
    assert "cannot use the state" in detail
    assert "window is 512 there and 256 in the others" in detail
    assert [bool(share.left_out) for share in fleet.shares] == [False, True, True]
    assert fleet.finish().warnings[:2] == fleet.problems


def test_what_is_no_directory_is_told() -> None:
    with pytest.raises(UsageError, match="it is no directory"):
        States("/dev/null")


def test_it_ends_with_the_summary_of_all(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        analyzed([text(seed)]).save(tmp_path / f"{name}.state")
    with started("merge", "--watch", tmp_path, "--json", "-") as process:
        assert process.stderr is not None
        while b"(2 states)" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    found = json.loads(out)
    assert found["rows"]["logged"] == 480
    assert [(each["name"], each["rows"]["logged"], each["left_out"]) for each in found["sources"]] == [
        ("a", 240, None),
        ("b", 240, None),
    ]
