"""How far a plan is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from moe_live.plans.plan import Progress


@contextmanager
def bar(name: str) -> Iterator[Progress]:
    """A progress bar on standard error while a plan is made, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield lambda _: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Bar(*columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False) as shown:
        console.show_cursor()  # whatever ends this need not put it right
        task = shown.add_task(name, total=1.0)

        def update(share: float) -> None:
            shown.update(task, completed=share)
            shown.refresh()

        yield update
