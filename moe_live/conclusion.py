"""What a run leaves behind: files, and on standard output the summary, its short form or one frame."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from moe_live.config import Config
from moe_live.errors import MoeLiveError, printable
from moe_live.outputs.live import LiveOutputs
from moe_live.reports.json_report import json_text
from moe_live.reports.summary import write_summary
from moe_live.reports.unusable import has_usable_lines, why_unusable
from moe_live.running import Status
from moe_live.snapshot import Snapshot
from moe_live.terminal import can_draw

_NO_COLOR = {"auto": None, "always": False, "never": True}
"""What rich is told; None leaves it to NO_COLOR."""


def conclude(snapshot: Snapshot, status: Status, config: Config, outputs: LiveOutputs) -> None:
    """Write all that is asked for: each of it even if another fails, and at last what was written.

    Args:
        snapshot: the final statistics.
        status: at the end of reading.
        config: of the run.
        outputs: of the run, closed.

    Raises:
        MoeLiveError: something could not be written.
        OSError: standard output could not.
    """
    usable = has_usable_lines(snapshot.input.tally)
    with ExitStack() as reports:  # the last first
        reports.callback(sys.stdout.flush)
        if config.json_alone:
            reports.callback(sys.stdout.write, json_text(snapshot))
        elif usable and not config.stdout_taken:
            reports.callback(_tell, snapshot, status, config, outputs)
        reports.callback(outputs.finish, snapshot)


def _tell(snapshot: Snapshot, status: Status, config: Config, outputs: LiveOutputs) -> None:
    """What there is to be seen."""
    if config.once is not None:
        _print_frame(snapshot, status, config, config.once)
    elif config.full or not sys.stdout.isatty():
        write_summary(snapshot, sys.stdout, top=config.top)
    else:
        from moe_live.reports.ending import Ran, write_ending

        log = None if config.launch is None else config.launch.log
        followed = snapshot.input.paths if config.follows_several else config.follow
        logs = config.paths or followed or (() if log is None else (log,))
        written = tuple((to.what, to.path) for to in outputs.written)
        ran = Ran(logs, follows=not config.paths, written=written)
        write_ending(snapshot, ran, sys.stdout, no_color=_NO_COLOR[config.color])


def _print_frame(snapshot: Snapshot, status: Status, config: Config, view: str) -> None:
    """One view in the size of the terminal, or of an ordinary one, and in colour if a terminal shows it."""
    import shutil

    from moe_live.dashboard.print import print_view
    from moe_live.dashboard.screen import color_system
    from moe_live.dashboard.theme import Look, Theme

    styled = can_draw() or config.color == "always"
    look = Look(
        color_system(config.color) if styled else None,
        light=config.theme == Theme.LIGHT.value,
        ascii_only=config.ascii,
    )
    width, height = shutil.get_terminal_size()
    print_view(
        snapshot,
        status,
        sys.stdout,
        view=view,
        look=look,
        styled=styled,
        width=width,
        height=height,
    )


def tell_of_nothing(snapshot: Snapshot, config: Config, *, ended: bool, killed: bool) -> None:
    """Say that there was no usable line; where some may still have come that is no error.

    Args:
        snapshot: the final statistics.
        config: of the run.
        ended: whether the input has ended.
        killed: whether a signal other than that of Ctrl-C ended the run.

    Raises:
        MoeLiveError: the input has ended, or holds something else.
    """
    tally = snapshot.input.tally
    names = config.paths or config.follow or ("standard input",)
    name = printable(names[0]) if len(names) == 1 else f"{len(names)} files"
    if not killed and (ended or tally.malformed_lines):
        raise MoeLiveError(f"no usable line in {name}{why_unusable(tally)}")
    if not config.paths:
        sys.stderr.write(f"moe-live: nothing to sum up: no usable line came in {name}\n")
