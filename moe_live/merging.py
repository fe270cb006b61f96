"""The subcommand `moe-live merge`: states of several runs or machines as one.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name, subcommand_options, whole_number
from moe_live.commands import COMMANDS
from moe_live.errors import UsageError, printable
from moe_live.settings import MAX_EXPERTS

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
    parser = subparsers.add_parser(
        "merge",
        help=COMMANDS["merge"].help,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("states", type=file_name, nargs="*", metavar="STATE", help="what --state wrote")
    parser.add_argument(
        "--watch",
        type=file_name,
        metavar="DIR",
        help="show what all files *.state of a directory are together, while others keep writing them",
    )
    parser.add_argument("--state", type=file_name, metavar="OUT", help="write the state of all together")
    parser.add_argument(
        "--json",
        type=file_name,
        metavar="FILE",
        help="write the summary as JSON too; - for JSON alone on standard output",
    )
    parser.add_argument("--full", action="store_true", help="all tables on a terminal too, as in a pipe")
    parser.add_argument(
        "--top",
        type=whole_number(1, MAX_EXPERTS),
        default=10,
        metavar="N",
        help="experts a list of the summary has (default 10)",
    )


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
    from moe_live.reports.files import check_destination

    if bool(options.states) == (options.watch is not None):
        raise UsageError("give STATEs, or --watch DIR; see moe-live merge --help")
    for path in {path for path in options.states if options.states.count(path) > 1}:
        raise UsageError(f"{printable(path)} is given twice; give each state once")
    for path, what in ((options.state, "the state"), (options.json, "the JSON summary")):
        if path not in (None, "-"):
            check_destination(path, what, [(each, "a state to be merged") for each in options.states])
    if options.watch is not None:
        return _conclude(*_watched(options), options)
    analyzer = merged(options.states)
    return _conclude(analyzer, analyzer.snapshot(), options)


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


def _conclude(analyzer: Analyzer, snapshot: Snapshot, options: argparse.Namespace) -> int:
    from moe_live.reports.ending import Ran, write_ending
    from moe_live.reports.files import write_text
    from moe_live.reports.json_report import json_text
    from moe_live.reports.summary import write_summary

    written = []
    if options.state is not None:
        analyzer.save(options.state)
        written.append(("the state", options.state))
    if options.json == "-":
        sys.stdout.write(json_text(snapshot))
        return 0
    if options.json is not None:
        write_text(json_text(snapshot), options.json, "the JSON summary")
        written.append(("the JSON summary", options.json))
    if options.full or not sys.stdout.isatty():
        write_summary(snapshot, sys.stdout, top=options.top)
    else:
        write_ending(snapshot, Ran(written=tuple(written)), sys.stdout)
    return 0
