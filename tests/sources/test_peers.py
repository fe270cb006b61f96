"""Processes that connect are read whole, one after the other, and nothing of one is joined to another."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.errors import UsageError
from moe_live.sources.peers import PeerSource
from moe_live.sources.source import Break, State


def connect(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(str(path))
    return peer


def read_all(source: PeerSource, limit: int = 1 << 20) -> list[bytes | Break]:
    """What is there, in pieces that belong together."""
    items: list[bytes | Break] = []
    while got := source.read(limit):
        assert sum(len(item) for item in got if isinstance(item, bytes)) <= limit
        for item in got:
            if isinstance(item, bytes) and items and isinstance(before := items[-1], bytes):
                items[-1] = before + item
            else:
                items.append(item)
    return items


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def test_one_process_after_the_other(path: Path) -> None:
    source = PeerSource(str(path), "server")
    assert (source.status().state, source.status().name) == (State.WAITING, "server")
    assert source.read(100) == []
    first, second = connect(path), connect(path)
    second.sendall(b"second\n")
    first.sendall(b"fir")
    assert read_all(source) == [b"fir"]
    assert source.status().state is State.FOLLOWING
    assert "another process" in source.status().detail
    first.sendall(b"st\nunfin")
    first.close()
    assert read_all(source) == [b"st\nunfin", Break.RESTARTED, b"second\n"]
    status = source.status()
    assert (status.restarts, status.position, status.detail, status.lag) == (1, 18, "", 0)
    second.close()
    assert source.read(100) == []
    assert source.status().state is State.WAITING
    source.close()
    source.close()
    assert source.status().state is State.ENDED
    assert source.read(100) == []
    assert source.wake_fd() is None
    assert not path.exists()


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 60))
def test_all_that_is_sent_is_read_in_pieces_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], limit: int
) -> None:
    path = tmp_path_factory.mktemp("peers") / "rows"
    source = PeerSource(str(path), "server")
    for text in texts:
        with connect(path) as peer:
            peer.sendall(text)
    whole: list[bytes] = []
    for item in [Break.RESTARTED, *read_all(source, limit)] if texts else read_all(source, limit):
        if isinstance(item, Break):
            whole.append(b"")
        else:
            whole[-1] += item
    source.close()
    assert whole == texts


def test_it_is_woken_by_who_connects_and_by_what_is_sent(path: Path) -> None:
    source = PeerSource(str(path), "server")
    door = source.wake_fd()
    with connect(path) as peer:
        source.read(100)
        assert source.wake_fd() != door
        assert 0 < source.pause() < 0.3
        peer.sendall(b"x" * 100)
        assert source.read(50) == [b"x" * 50]
        assert source.pause() == 0
    source.close()


def test_a_path_that_cannot_be_a_socket_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 200), tmp_path / "missing" / "rows"):
        with pytest.raises(UsageError, match=r"cannot listen at .*TMPDIR"):
            PeerSource(str(path), "server")
