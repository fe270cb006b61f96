"""Reads finished logs for plans and comparisons, and shows how far it is."""

from __future__ import annotations

import argparse
import sys
import time

from moe_live.analyzer import Analyzer
from moe_live.plans.options import settings_of
from moe_live.reports.plain import run_plain
from moe_live.reports.unusable import require_usable
from moe_live.session import Session
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource


def read_logs(options: argparse.Namespace) -> Snapshot:
    """Read the logs to their end.

    Raises:
        MoeLiveError: they cannot be read, or have no usable line.
    """
    session = Session(ArchiveSource(options.logs), Analyzer(settings_of(options), paths=tuple(options.logs)))
    run_plain(session, stderr=sys.stderr, stop=lambda: False, wait=time.sleep)
    snapshot = session.finish()
    require_usable(snapshot)
    return snapshot
