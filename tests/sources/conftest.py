"""Fixtures of the tests of sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .reader import Reader, Start


@pytest.fixture(params=[True, False], ids=["watched", "polled"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    readers: list[Reader] = []

    def begin(path: Path, *, from_end: bool = False) -> Reader:
        reader = Reader(path, watch=request.param, from_end=from_end)
        readers.append(reader)
        return reader

    yield begin
    for reader in readers:
        reader.follower.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "moe.log"
