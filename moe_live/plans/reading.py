"""Reads finished logs for plans and comparisons, and shows how far it is."""

from __future__ import annotations

import argparse
import sys
import time

from moe_live.analyzer import Analyzer
from moe_live.errors import UsageError, printable
from moe_live.plans.options import settings_of
from moe_live.reports.plain import run_plain
from moe_live.reports.unusable import require_usable
from moe_live.session import Session
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource
from moe_live.state.file import is_state


def read_logs(options: argparse.Namespace) -> Snapshot:
    """Read the logs to their end, or one state instead.

    Raises:
        MoeLiveError: they cannot be read, or have no usable line.
    """
    if any(map(is_state, options.logs)):
        return _read_state(options)
    session = Session(ArchiveSource(options.logs), Analyzer(settings_of(options), paths=tuple(options.logs)))
    run_plain(session, stderr=sys.stderr, stop=lambda: False, wait=time.sleep)
    snapshot = session.finish()
    require_usable(snapshot)
    return snapshot


def _read_state(options: argparse.Namespace) -> Snapshot:
    """What a state knows.

    Raises:
        UsageError: it is not all that is given, cannot be read, counts otherwise, or has no steps to plan by.
    """
    first, *others = options.logs
    if others:
        raise UsageError("a plan is made of logs, or of one state: moe-live merge makes one of several")
    analyzer = finished_state(first, settings_of(options))
    if not analyzer.settings.latest_uses:
        raise UsageError(
            f"{printable(first)} has no steps that a plan could be tried out on: those of the dashboard "
            "have, and of runs with --budget or --devices; or give the log"
        )
    snapshot = analyzer.snapshot()
    require_usable(snapshot)
    return snapshot


def finished_state(path: str, wanted: Settings) -> Analyzer:
    """What a state knows, its open steps closed.

    Raises:
        UsageError: it cannot be read, or does not count as is wanted.
    """
    analyzer = Analyzer.load(path)
    analyzer.finish()
    differences = wanted.differences(analyzer.settings)
    for name in ("rows", "n_experts", "max_slots"):
        if name in differences:
            here, there = differences[name]
            raise UsageError(
                f"{printable(path)} counts otherwise: {name} is {there} there and {here} here; give the same"
            )
    return analyzer
