"""What a frame of each view costs: its figures, its lines, and the bytes for the terminal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.color import ColorSystem

from moe_live.analyzer import Analyzer
from moe_live.dashboard.frame import draw_static
from moe_live.dashboard.screen import Screen
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.running import Status
from moe_live.session import Session
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource

SIZES = ((80, 24), (120, 40), (200, 60))


def measure(path: Path, repeat: int = 5) -> dict[str, dict[str, float]]:
    """Milliseconds by view: for its figures, and for drawing it in each size."""
    session = Session(ArchiveSource([path]), Analyzer())
    while not session.ended:
        session.ingest(1.0)
    session.analyzer.finish()
    session.analyzer.snapshot()  # counts what was put off
    result = {}
    layers = session.snapshot(frozenset()).layers
    chosen = {layers[0].layer} if layers else set()
    for view in VIEWS:
        make = partial(session.snapshot, view.sections, pairs_of=chosen, anew=False)
        costs = {"figures": _median(make, repeat)}
        snapshot = make()
        for width, height in SIZES:
            draw = partial(_draw, snapshot, session.status(), view.title, width, height)
            costs[f"{width}x{height}"] = _median(draw, repeat)
        result[view.title] = costs
    return result


def _draw(snapshot: Snapshot, status: Status, view: str, width: int, height: int) -> None:
    look = Look(ColorSystem.EIGHT_BIT)
    frame = draw_static(snapshot, status, width=width, height=height, view=view, look=look)
    Screen(lambda _: None).draw(frame, everything=True)


def _median(work: Callable[[], object], repeat: int) -> float:
    spent = []
    for _ in range(repeat):
        begun = time.process_time()
        work()
        spent.append((time.process_time() - begun) * 1e3)
    return statistics.median(spent)
