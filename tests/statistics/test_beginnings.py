"""Steps that are torn by those of another server are told from whole ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.snapshot import Snapshot
from tests.analysis import analyzed, snapshot_of
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs


def lines(layers: range, step: int) -> list[bytes]:
    return [b"%d,%d %d\n" % (layer, step % 7, 7 + (step + layer) % 5) for layer in layers]


def interleaved(rng: np.random.Generator, servers: int, steps: int, layers: range) -> bytes:
    """One-row steps of several servers in one log, flushed a layer or more at a time."""
    rest = [[line for step in range(steps) for line in lines(layers, step)] for _ in range(servers)]
    text = []
    while any(rest):
        mine = rest[int(rng.integers(servers))]
        size = int(rng.integers(1, 9))
        text += mine[:size]
        del mine[:size]
    return b"".join(text)


def said(snapshot: Snapshot) -> bool:
    return any("several servers seem to write this log" in warning for warning in snapshot.warnings)


@pytest.mark.parametrize("servers", [2, 3])
def test_steps_of_several_servers_are_counted_once(servers: int) -> None:
    found = snapshot_of(interleaved(np.random.default_rng(1), servers, 100, range(3, 19)))
    assert said(found)
    assert found.tokens.total == 100 * servers
    assert found.steps.total == pytest.approx(100 * servers, rel=0.1)


def test_one_server_with_a_draft_model_and_a_head_writes_whole_steps() -> None:
    text = b""
    for step in range(100):
        text += b"".join(lines(range(3, 19), step) + lines(range(19, 20), step) + lines(range(19, 20), step))
        text += b"".join(lines(range(6), step))
    found = snapshot_of(text)
    assert not said(found)
    assert found.steps.total > 100


@given(logs(max_steps=40))
def test_no_other_log_is_said_to_be_of_several_servers(log: SyntheticLog) -> None:
    assert not said(snapshot_of(log.text))


@given(st.integers(0, 99), st.integers(0, 10**6))
def test_it_is_the_same_however_the_log_is_cut(seed: int, place: int) -> None:
    text = interleaved(np.random.default_rng(seed), 2, 20, range(3, 9))
    place %= len(text)
    assert plain(snapshot_of(text)) == plain(snapshot_of(text[:place], text[place:]))


def test_steps_of_logs_that_are_merged_add_up() -> None:
    text = interleaved(np.random.default_rng(2), 2, 60, range(3, 19))
    merged, alone = analyzed([text]), snapshot_of(text)
    merged += analyzed([text])
    assert merged.snapshot().tokens.total == 2 * alone.tokens.total
    assert merged.snapshot().steps.total == 2 * alone.steps.total
