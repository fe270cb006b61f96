"""The subcommand `moe-live plan`.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe_live.arguments import Parser, file_name, whole_number
from moe_live.errors import MoeLiveError
from moe_live.plans.progress import bar
from moe_live.plans.table import PLANS
from moe_live.settings import (
    DEFAULT_LATEST_USES,
    DEFAULT_MAX_SLOTS,
    LATEST_USES,
    MAX_SLOTS,
    N_EXPERTS,
    RowMode,
    Settings,
)

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot

SUBCOMMANDS = {"plan": "what to do with the figures: cache, prune ..."}
"""Each with what it does."""

_EPILOG = """\
A plan rests on the decode steps of finished logs. What it learns it learns on one half of them, and what it
would have gained is tested on the other half.
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with one of `SUBCOMMANDS`; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    parser = Parser(prog="moe-live plan", description="Make a plan from logs.", epilog=_EPILOG)
    subparsers = parser.add_subparsers(required=True, metavar="WHAT", parser_class=Parser)
    for plan in PLANS:
        added = subparsers.add_parser(plan.name, help=plan.help, description=plan.description)
        added.set_defaults(plan=plan)
        added.add_argument("logs", type=file_name, nargs="+", metavar="LOG", help="finished logs, .gz too")
        plan.add(added)
        added.add_argument(
            "--json", type=file_name, metavar="FILE", help="write the plan as JSON too; - for JSON alone"
        )
        added.add_argument(
            "--rows", choices=tuple(RowMode), default=RowMode.AUTO, help="which expert rows count"
        )
        added.add_argument("--n-experts", type=whole_number(*N_EXPERTS), metavar="N", help="experts a layer")
        added.add_argument(
            "--max-slots",
            type=whole_number(*MAX_SLOTS),
            default=DEFAULT_MAX_SLOTS,
            metavar="N",
            help="tokens a decode step has at most (default 64)",
        )
        added.add_argument(
            "--uses",
            type=whole_number(1, LATEST_USES[1]),
            default=DEFAULT_LATEST_USES,
            metavar="N",
            help="uses of experts that are kept, the latest (default 360000: 500 steps of 90 layers, top-8)",
        )
    options = parser.parse_args(argv[1:])
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    from moe_live.errors import printable
    from moe_live.reports.files import check_destination, write_text

    options.plan.check(options)
    if options.json not in (None, "-"):
        check_destination(options.json, "the plan", [(log, "the log itself") for log in options.logs])
    snapshot = _read(options)
    with bar(f"plan {options.plan.name}") as progress:
        result = options.plan.make(options, snapshot, progress)
    if options.json != "-":
        warnings = [f"warning: {printable(warning)}" for warning in snapshot.warnings]
        sys.stdout.write("".join(f"{line}\n" for line in (*warnings, *result.lines)))
    if options.json is not None:
        head = {"schema": "moe-live.plan/1", "plan": options.plan.name, "paths": options.logs}
        text = json.dumps(head | result.json | {"warnings": list(snapshot.warnings)}, allow_nan=False) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            write_text(text, options.json, "the plan")
    return 0


def _read(options: argparse.Namespace) -> Snapshot:
    """Read the logs to their end.

    Raises:
        MoeLiveError: they cannot be read, or have no usable line.
    """
    from moe_live.analyzer import Analyzer
    from moe_live.reports.plain import run_plain
    from moe_live.reports.unusable import has_usable_lines, why_unusable
    from moe_live.session import Session
    from moe_live.sources.archive import ArchiveSource

    settings = Settings(
        rows=RowMode(options.rows),
        n_experts=options.n_experts,
        max_slots=options.max_slots,
        latest_uses=options.uses,
    )
    session = Session(ArchiveSource(options.logs), Analyzer(settings, paths=tuple(options.logs)))
    run_plain(session, stderr=sys.stderr, stop=lambda: False, wait=time.sleep)
    snapshot = session.finish()
    tally = snapshot.input.tally
    if not has_usable_lines(tally):
        raise MoeLiveError(f"no usable line in {', '.join(options.logs)}{why_unusable(tally)}")
    return snapshot
