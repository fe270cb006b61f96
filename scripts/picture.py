"""Draws the pictures of the dashboard in docs/ from a log, replayed as if a server wrote it.

Usage: scripts/picture.py LOG docs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.color import ColorSystem

from moe_live.analyzer import Analyzer
from moe_live.dashboard.bindings import press
from moe_live.dashboard.frame import compose
from moe_live.dashboard.picture import svg
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.session import Session
from moe_live.settings import Settings
from moe_live.sources.source import Break, SourceStatus, State

SIZES = {"locality": (200, 40)}
OTHERS = (120, 40)
TOKENS_A_SECOND = 12
WINDOW = 64
DARK, LIGHT = Look(ColorSystem.TRUECOLOR), Look(ColorSystem.TRUECOLOR, light=True)

PICTURES: dict[str, tuple[str, Sequence[str], Look]] = {
    "dashboard": ("Overview", (), DARK),
    "heatmap": ("Heatmap", ("z", "/", "1", "6", "enter"), DARK),
    "by-heat": ("Heatmap", ("s", "home"), DARK),
    "experts": ("Heatmap", ("enter", "down", "down"), DARK),
    "locality": ("Locality", ("/", "3", "1", "enter"), DARK),
    "light": ("Overview", ("down",), LIGHT),
}
"""Each by its view, the keys that are pressed there, and the terminal."""


@dataclass
class Replay:
    """A source that gives a log step by step."""

    name: str
    steps: list[bytes]
    given: int = 0
    position: int = 0
    due: list[bytes] = field(default_factory=list)

    def read(self, _limit: int) -> Sequence[bytes | Break]:
        found, self.due = self.due, []
        return found

    def give(self) -> None:
        self.due.append(self.steps[self.given])
        self.position += len(self.steps[self.given])
        self.given += 1

    def pause(self) -> float:
        return 1.0

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        return SourceStatus(
            self.name, State.FOLLOWING, position=self.position, size=self.position, watch="events"
        )

    def close(self) -> None:
        pass


def steps_of(log: bytes) -> Iterator[bytes]:
    """The log, cut where the layer goes down."""
    step, last = b"", -1
    for line in log.splitlines(keepends=True):
        fields = line.split(b",")
        number = fields[1] if fields[0] == b"gate_input" else fields[0]
        layer = int(number) if number.isdigit() else last
        if layer < last:
            yield step
            step = b""
        step, last = step + line, layer
    yield step


def replayed(path: Path) -> Session:
    """A session that has followed the log, a step of one token after the other at an even pace."""
    now = 0.0
    source = Replay(f"/var/log/{path.name}", list(steps_of(path.read_bytes())))
    session = Session(source, Analyzer(Settings(window=WINDOW)), clock=lambda: now)
    session.status()
    for _ in source.steps:
        source.give()
        session.ingest(1.0)
        session.status()
        now += 1 / TOKENS_A_SECOND
    return session


def main() -> None:
    log, directory = map(Path, sys.argv[1:])
    session = replayed(log)
    snapshot, status = session.snapshot(), session.status()
    for name, (title, keys, look) in PICTURES.items():
        size = SIZES.get(name, OTHERS)
        state = ViewState(view=[view.title for view in VIEWS].index(title), look=look, mouse=True)
        for key in keys:
            compose(snapshot, status, state, *size)
            press(state, key, snapshot)
        frame = compose(snapshot, status, state, *size)
        (directory / f"{name}.svg").write_text(svg(frame), encoding="utf-8")


if __name__ == "__main__":
    main()
