"""How much of finished logs has been read, drawn on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from moe_live.errors import printable
from moe_live.running import Status


def progress_bar(stderr: TextIO, status: Status, *, no_color: bool) -> ProgressBar | None:
    """A bar on a terminal; None if that has no cursor to move.

    Args:
        stderr: the terminal.
        status: at the beginning.
        no_color: draw it without colours, whatever the environment says.
    """
    console = Console(file=stderr, no_color=no_color or None)
    return None if console.is_dumb_terminal else ProgressBar(console, status)


class ProgressBar:
    """A progress bar that disappears at the end. Drawn by `update` alone, there is no second thread."""

    def __init__(self, console: Console, status: Status) -> None:
        self._progress = Progress(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(max_width=30, no_wrap=True, overflow="ellipsis"),
            ),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        name = printable(Path(status.source.name).name)
        self._task = self._progress.add_task(name, total=status.source.total)
        self._progress.start()
        console.show_cursor()  # whatever ends this need not put it right

    def update(self, status: Status) -> None:
        """Show how far it is."""
        self._progress.tasks[0].total = status.source.total
        self._progress.update(self._task, completed=status.source.position)
        self._progress.refresh()

    def close(self) -> None:
        """Leave nothing behind."""
        self._progress.stop()
