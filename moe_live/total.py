"""What is left of several states or logs that were added up: options, and what they write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe_live.arguments import file_name, whole_number
from moe_live.settings import MAX_EXPERTS

if TYPE_CHECKING:
    from moe_live.analyzer import Analyzer
    from moe_live.snapshot import Snapshot


def add_total(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
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


def check_total(options: argparse.Namespace, taken: Sequence[tuple[str, str]]) -> None:
    """See that nothing is written over.

    Args:
        options: as parsed.
        taken: paths, and what each is.

    Raises:
        UsageError: something would be.
    """
    from moe_live.reports.files import check_destination

    for path, what in ((options.state, "the state"), (options.json, "the JSON summary")):
        if path not in (None, "-"):
            check_destination(path, what, taken)


def write_total(analyzer: Analyzer, snapshot: Snapshot, options: argparse.Namespace) -> None:
    """Write all that is asked for.

    Args:
        analyzer: what all came to.
        snapshot: made of it.
        options: as parsed.

    Raises:
        MoeLiveError: something cannot be written.
    """
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
        return
    if options.json is not None:
        write_text(json_text(snapshot), options.json, "the JSON summary")
        written.append(("the JSON summary", options.json))
    if options.full or not sys.stdout.isatty():
        write_summary(snapshot, sys.stdout, top=options.top)
    else:
        write_ending(snapshot, Ran(written=tuple(written)), sys.stdout)
