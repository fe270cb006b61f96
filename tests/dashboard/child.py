"""A small program with a dashboard, for tests in a pseudo-terminal: `python -m tests.dashboard.child MODE`.

Its statistics are made up; MODE says what goes wrong: quiet, ends, panel, statistic, stuck, forgotten.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from moe_live.analyzer import Analyzer, Progress
from moe_live.dashboard import Frame, run_dashboard
from moe_live.dashboard.frame import compose
from moe_live.session import Session
from moe_live.snapshot import Section, Snapshot
from moe_live.sources.source import Break, SourceStatus, State
from moe_live.terminal import Signals, Terminal
from tests.dashboard.factory import snapshot


class Source:
    """Yields a few bytes now and then, until it ends or gets stuck."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._reads = 0

    def read(self, limit: int) -> Sequence[bytes | Break]:
        self._reads += 1
        stuck = self._mode == "stuck" and self._reads > 4
        if (touched := os.environ.get("TOUCH")) and (stuck or self._mode != "stuck"):
            Path(touched).touch()
        if stuck:
            time.sleep(60)
        return [b"x" * min(limit, 10)] if self._reads % 2 else []

    def pause(self) -> float:
        return 0.05

    def wake_fd(self) -> int | None:
        return None

    def status(self) -> SourceStatus:
        ended = self._mode == "ends" and self._reads > 4
        return SourceStatus("made up", State.ENDED if ended else State.FOLLOWING)

    def close(self) -> None:
        pass


class Statistics(Analyzer):
    """Shows the same figures whatever is fed."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode
        self._snapshots = 0

    def feed(self, data: bytes | memoryview) -> None:
        pass

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(),  # noqa: ARG002 - the same figures whatever is asked for
        *,
        pairs_of: Iterable[int] | None = None,  # noqa: ARG002 - as above
        anew: bool = True,  # noqa: ARG002 - as above
    ) -> Snapshot:
        self._snapshots += 1
        if self._mode == "statistic" and self._snapshots > 2:
            raise ZeroDivisionError("a statistic broke")
        return snapshot()

    def progress(self) -> Progress:
        return Progress(0, 0, 0)


def breaking_panel() -> Callable[..., Frame]:
    """`compose`, until the third frame."""
    drawn: list[Frame] = []

    def panel(*args: Any, **options: Any) -> Frame:
        if len(drawn) == 2:
            raise ValueError("a panel broke")
        drawn.append(compose(*args, **options))
        return drawn[-1]

    return panel


def main() -> None:
    mode = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    session = Session(Source(mode), Statistics(mode))
    panel = breaking_panel() if mode == "panel" else compose
    with Signals() as signals, patch("moe_live.dashboard.run.compose", panel):
        if mode == "forgotten":
            Terminal(signals).__enter__()
            sys.exit(0)
        ending = run_dashboard(session, signals, refresh=20)
        sys.stdout.write(f"ENDED {ending.reason.value} {ending.signal.name if ending.signal else ''}\n")


if __name__ == "__main__":
    main()
