"""What a frame of each view costs: its figures, its lines, and the bytes for the terminal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.color import ColorSystem

from moe_live.analyzer import Analyzer
from moe_live.dashboard.figures import LASTING, Figures, Scope, of_view
from moe_live.dashboard.frame import draw_static
from moe_live.dashboard.screen import Screen
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.running import Status
from moe_live.session import Session
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource

FRAMES = 4
"""For each time that sections last."""

SIZES = ((80, 24), (120, 40), (200, 60))


def measure(path: Path, repeat: int = 5) -> dict[str, dict[str, float]]:
    """Milliseconds by view: for its figures where they cost most, and for drawing it in each size."""
    session = Session(ArchiveSource([path]), Analyzer())
    while not session.ended:
        session.ingest(1.0)
    session.analyzer.finish()
    session.analyzer.snapshot()  # counts what was put off
    result = {}
    layers = session.snapshot(frozenset()).layers
    chosen = frozenset({layers[0].layer} if layers else ())
    for view in VIEWS:
        scope = replace(of_view(view), pairs_of=chosen)
        figures, costs = _Figures(session, scope), {}
        turns = zip(*(figures.spent() for _ in range(repeat)), strict=True)
        costs["figures"] = max(statistics.median(spent) for spent in turns)
        snapshot = figures.figures.snapshot
        for width, height in SIZES:
            draw = partial(_draw, snapshot, session.status(), view.title, width, height)
            costs[f"{width}x{height}"] = _median(draw, repeat)
        result[view.title] = costs
    return result


class _Figures:
    """What the dashboard makes for each frame of a view."""

    def __init__(self, session: Session, scope: Scope) -> None:
        self._scope = scope
        self._now = 0.0
        self.figures = Figures(session, lambda snapshot, _: snapshot, scope, clock=lambda: self._now)

    def spent(self) -> list[float]:
        """Milliseconds for each frame of the time in which every section is made anew once."""
        spent = []
        for _ in range(FRAMES):
            self._now += LASTING / FRAMES
            spent.append(_median(partial(self.figures.make, self._scope), 1))
        return spent


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
