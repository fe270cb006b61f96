"""Logs analyzed to their end."""

from __future__ import annotations

from collections.abc import Iterable

from moe_live.analyzer import Analyzer
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot


def analyzed(chunks: Iterable[bytes], settings: Settings | None = None) -> Analyzer:
    """A finished analyzer of the bytes of one log."""
    analyzer = Analyzer(settings)
    for chunk in chunks:
        analyzer.feed(chunk)
    analyzer.finish()
    return analyzer


def snapshot_of(*chunks: bytes) -> Snapshot:
    """What it shows."""
    return analyzed(chunks).snapshot()
