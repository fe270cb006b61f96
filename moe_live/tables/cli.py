"""The subcommand `moe-live rows`: a log as a table of its rows.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from moe_live.arguments import cores, file_name, label_of, subcommand_options, whole_number
from moe_live.commands import add_command
from moe_live.errors import printable
from moe_live.formats.columns import add_format
from moe_live.settings import Settings

TABLE = "the table of rows"

_DESCRIPTION = """\
Write the rows of finished logs, in any format that is read, as a table with a line for each expert of each
row: step, layer, row, rank, expert, weight, phase, label, believed. docs/tables.md tells what they are.
"""
_EPILOG = """\
examples:
  moe-live rows moe.log --to rows.parquet                     needs the extra: pip install 'moe-live[tables]'
  moe-live rows math.log code.log --label-by-file --to rows.csv
  moe-live rows moe.log.gz --to - | head                      CSV on standard output

What a row is worth may show at the end of the logs. Then they are read twice: they are files, and no pipes.
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with `rows`; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    return _run(subcommand_options(argv, add_parsers))


def add_parsers(subparsers: Any) -> None:
    """Add that of `rows` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "rows", _DESCRIPTION, _EPILOG)
    parser.add_argument("logs", type=file_name, nargs="+", metavar="LOG", help="finished logs, .gz too")
    parser.add_argument(
        "--to",
        type=file_name,
        required=True,
        metavar="FILE",
        help="where the table goes: a name that ends with .parquet or .csv; - for CSV on standard output",
    )
    add_format(parser)
    parser.add_argument(
        "--jobs",
        type=whole_number(1, 1024),
        metavar="N",
        help="with 2 or more another process reads a large LOG beside (default: one for each core)",
    )
    parser.add_argument(
        "--label-by-file",
        action="store_true",
        help="label what each of the logs holds by its name: math.log is math",
    )


def _run(options: argparse.Namespace) -> int:
    from moe_live.reports.files import check_destination, is_replaced
    from moe_live.tables.convert import write_rows
    from moe_live.tables.files import check_name, table_writer
    from moe_live.tables.reading import Logs
    from moe_live.tables.rows import COLUMNS
    from moe_live.terminal import Signals

    check_name(options.to)
    if options.to != "-":
        check_destination(options.to, TABLE, [(log, "the log itself") for log in options.logs])
    logs = Logs(
        paths=tuple(options.logs),
        settings=Settings(format=options.format, columns=options.columns, counts_only=True),
        labels=tuple(map(label_of, options.logs)) if options.label_by_file else (),
    )
    with Signals() as signals, signals.breaking():  # what is written in part is removed
        written = write_rows(
            logs,
            lambda: table_writer(options.to, COLUMNS, TABLE),
            beside=(options.jobs or cores()) > 1,
            again=options.to != "-" and is_replaced(options.to),
        )
    for warning in written.snapshot.warnings:
        sys.stderr.write(f"moe-live: warning: {printable(warning)}\n")
    if options.to != "-":
        rows = written.snapshot.rows
        sys.stdout.write(
            f"{printable(options.to)}: {written.lines:,} lines of {rows.logged:,} rows; {rows.verdict}\n"
        )
    if written.problem is not None:
        raise written.problem
    return 0
