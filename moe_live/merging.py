"""The subcommand `moe-live merge`: states of several runs or machines as one.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name, subcommand_options
from moe_live.commands import add_command
from moe_live.errors import UsageError, printable
from moe_live.total import add_total, check_total, write_total

if TYPE_CHECKING:
    from moe_live.analyzer import Analyzer
    from moe_live.snapshot import Snapshot

_DESCRIPTION = """\
Add up states, as --state and Analyzer.save write them: the summary is that of one run over all their logs, in
the order given, or with --watch in that of their names. A state may be read while it is being written. Steps
that are open are closed.
"""
_EPILOG = """\
exit status: 0 done; 1 the result cannot be written; 2 wrong usage, a state that is damaged, or states that
do not count alike.
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with `merge`; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    return _run(subcommand_options(argv, add_parsers))


def add_parsers(subparsers: Any) -> None:
    """Add `merge` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "merge", _DESCRIPTION, _EPILOG)
    parser.add_argument("states", type=file_name, nargs="*", metavar="STATE", help="what --state wrote")
    parser.add_argument(
        "--watch",
        type=file_name,
        metavar="DIR",
        help="show what all files *.state of a directory are together, while others keep writing them",
    )
    add_total(parser)


def merged(paths: Sequence[str]) -> Analyzer:
    """The states of these files as one, in their order.

    Raises:
        MoeLiveError: one of them cannot be read, or counts otherwise than the first.
    """
    from moe_live.analyzer import Analyzer
    from moe_live.whole import add_state

    first, *others = paths
    whole = Analyzer.load(first)
    whole.finish()
    for path in others:
        found = Analyzer.load(path)
        found.finish()
        add_state(whole, found, path, printable(first))
    return whole


def _run(options: argparse.Namespace) -> int:
    if bool(options.states) == (options.watch is not None):
        raise UsageError("give STATEs, or --watch DIR; see moe-live merge --help")
    for path in {path for path in options.states if options.states.count(path) > 1}:
        raise UsageError(f"{printable(path)} is given twice; give each state once")
    check_total(options, [(each, "a state to be merged") for each in options.states])
    if options.watch is not None:
        write_total(*_watched(options), options)
    else:
        analyzer = merged(options.states)
        write_total(analyzer, analyzer.snapshot(), options)
    return 0


def _watched(options: argparse.Namespace) -> tuple[Analyzer, Snapshot]:
    """The states of a directory as they were last, after they were shown for as long as somebody looks."""
    from moe_live.states import States
    from moe_live.terminal import Signals, can_draw

    fleet = States(options.watch)
    with Signals() as signals:
        if options.json != "-" and can_draw():
            from moe_live.dashboard.run import run_dashboard

            run_dashboard(fleet, signals)
        else:
            from moe_live.reports.plain import run_plain

            run_plain(fleet, stderr=sys.stderr, stop=lambda: signals.stop is not None, wait=signals.wait)
    snapshot = fleet.finish()
    return fleet.analyzer, snapshot
