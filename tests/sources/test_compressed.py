"""Finished logs that are compressed with xz, bzip2 or zstd."""

from __future__ import annotations

import bz2
import lzma
import os
import sys
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_live.errors import MoeLiveError
from moe_live.parallel.plan import plan
from moe_live.reading import read
from moe_live.settings import Settings
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import State
from tests.sources.reader import read_to_end

TEXT = b"layer_id,expert_ids\n" + b"3,1 2\n4,5 6\n" * 500
ZSTD = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
WAYS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda data: ZSTD.compress(data, options={ZSTD.CompressionParameter.checksum_flag: 1}),
}


def unpacked(path: Path, limit: int = 1 << 16) -> tuple[bytes, str]:
    """The text, and what was wrong."""
    source = ArchiveSource([str(path)])
    try:
        return b"".join(item for item in read_to_end(source, limit) if isinstance(item, bytes)), ""
    except MoeLiveError as error:
        return b"", str(error)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=200), min_size=1, max_size=4), limit=st.integers(1, 300))
def test_any_streams_any_limit(way: str, tmp_path: Path, pieces: list[bytes], limit: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(WAYS[way], pieces)))
    assert unpacked(path, limit) == (b"".join(pieces), "")


@pytest.mark.parametrize("way", WAYS)
def test_streams_begin_wherever_what_is_read_at_once_ends(way: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    first, second = WAYS[way](b"one "), WAYS[way](b"two")
    path.write_bytes(first + second)
    for limit in range(len(first) - 3, len(first) + 9):
        assert unpacked(path, limit) == (b"one two", "")
    for kept in range(1, len(second)):
        path.write_bytes(first + second[:kept])
        for limit in (len(first), len(first) + 1, 1 << 16):
            assert "cut short" in unpacked(path, limit)[1]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_as_if_it_were_not_compressed(way: str, tmp_path: Path) -> None:
    path = tmp_path / f"moe.log.{way}"
    path.write_bytes(WAYS[way](TEXT))
    snapshot = read(path)
    assert (snapshot.rows.logged, snapshot.input.tally.bytes) == (1000, len(TEXT))
    assert plan([str(path)], 2, Settings(), min_bytes=0, part_bytes=100) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_is_cut_or_damaged_is_said(way: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    packed = WAYS[way](os.urandom(4000))
    path.write_bytes(packed[:-30])
    assert "is cut short" in unpacked(path)[1]
    path.write_bytes(packed[:100] + b"\xff" * 50 + packed[150:])
    assert "is damaged" in unpacked(path)[1]


def test_where_zstd_is_missing_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "moe.log.zst"
    path.write_bytes(ZSTD.compress(TEXT))
    assert "zstd is missing: pip install 'moe-live[zstd]'); unpack it first" in unpacked(path)[1]


@pytest.mark.parametrize("text", [b"B", b"BZ", b"\xfd7z", b"\x1f", b"BZ,1\n"])
def test_what_only_begins_so_is_read_as_it_is(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    assert unpacked(path) == (text, "")


@pytest.mark.parametrize("way", WAYS)
def test_unpacking_is_bounded(way: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(WAYS[way](bytes(60 << 20)))
    source = ArchiveSource([str(path)])
    tracemalloc.start()
    try:
        while source.read(1 << 16) or source.status().state is not State.ENDED:
            pass
        assert tracemalloc.get_traced_memory()[1] < 12 << 20  # xz looks back over 8 MB
    finally:
        tracemalloc.stop()
