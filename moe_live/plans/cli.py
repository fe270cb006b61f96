"""The subcommands `moe-live plan` and `moe-live compare`.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from moe_live.arguments import Parser, file_name, subcommand_options
from moe_live.commands import COMMANDS
from moe_live.plans.compare import add_compare, run_compare
from moe_live.plans.options import add_reading
from moe_live.plans.progress import bar
from moe_live.plans.result import write_result
from moe_live.plans.table import PLANS

_EPILOG = """\
A plan rests on the decode steps of finished logs. What it learns it learns on one half of them, and what it
would have gained is tested on the other half.
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with one of its commands; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    if argv[0] == "compare":
        return run_compare(argv)
    return _run(subcommand_options(argv, add_parsers))


def add_parsers(subparsers: Any) -> None:
    """Add those of its commands to what `ArgumentParser.add_subparsers` returned."""
    parser = subparsers.add_parser(
        "plan", help=COMMANDS["plan"].help, description="Make a plan from logs.", epilog=_EPILOG
    )
    whats = parser.add_subparsers(required=True, metavar="WHAT", parser_class=Parser)
    for plan in PLANS:
        added = whats.add_parser(plan.name, help=plan.help, description=plan.description)
        added.set_defaults(plan=plan)
        added.add_argument(
            "logs", type=file_name, nargs="+", metavar="LOG", help="finished logs, .gz too, or one state"
        )
        plan.add(added)
        add_reading(added)
    add_compare(subparsers)


def _run(options: argparse.Namespace) -> int:
    from moe_live.plans.reading import read_logs
    from moe_live.reports.files import check_destination

    options.plan.check(options)
    if options.json not in (None, "-"):
        check_destination(options.json, "the plan", [(log, "the log itself") for log in options.logs])
    snapshot = read_logs(options)
    with bar(f"plan {options.plan.name}") as progress:
        result = options.plan.make(options, snapshot, progress)
    head = {"schema": "moe-live.plan/1", "plan": options.plan.name}
    write_result(result, head, options.logs, snapshot.warnings, options.json)
    return 0
