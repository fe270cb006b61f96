"""The subcommand `moe-live analyze`: many finished logs, read by many processes.

What it needs is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moe_live.arguments import Address, cores, file_name, subcommand_options, whole_number
from moe_live.commands import add_command
from moe_live.counting import add_counting, counting_of
from moe_live.errors import MoeLiveError, StoppedError, UsageError
from moe_live.total import add_total, check_total, write_total

if TYPE_CHECKING:
    from moe_live.analyzer import Analyzer
    from moe_live.many.engine import Engine
    from moe_live.many.logs import Log

_DESCRIPTION = """\
Sum up many finished logs, read by several processes here or by the workers of a dask cluster. The result is
that of one process which reads them all, in the order given.
"""
_EPILOG = """\
examples:
  moe-live analyze 'logs/**/*.log.gz' --json all.json
  moe-live analyze --on dask://scheduler:8786 's3://bucket/moe/*.log.zst' --state all.state

dask:// and URLs need: pip install 'moe-live[dask]', on the workers too.

exit status: 0 done, also if some logs could not be read, which are named; 1 none could be read, or one could
not and --strict is given, or the result cannot be written; 2 wrong usage, or no such log where that ends it.
"""

LOCAL = "local"

_NAMED = 3
"""Logs that the summary names of those that could not be read."""

_DASK = re.compile(r"dask://(\[[^]]+\]|[^:/]+):([0-9]{1,5})/?")


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with `analyze`; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    return _run(subcommand_options(argv, add_parsers))


def add_parsers(subparsers: Any) -> None:
    """Add `analyze` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "analyze", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "patterns",
        type=file_name,
        nargs="+",
        metavar="PATTERN",
        help="finished logs, .gz .xz .bz2 .zst too: paths, s3:// gs:// hdfs:// http:// and other URLs of "
        "fsspec, with * ? [...] and ** for any directories; quote them",
    )
    parser.add_argument(
        "--on",
        type=_engine,
        default=LOCAL,
        metavar="ENGINE",
        help="who reads: local, processes here (default), or dask://HOST:PORT, a scheduler with its workers",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number(1, 1024),
        metavar="N",
        help="processes that read here (default: one for each core)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail if a log cannot be read to its end, instead of naming it"
    )
    add_total(parser)
    add_counting(parser.add_argument_group("analysis"))


def _engine(text: str) -> str | Address:
    """What reads the logs.

    >>> _engine("dask://scheduler:8786")
    Address(host='scheduler', port=8786)
    """
    if text == LOCAL:
        return LOCAL
    found = _DASK.fullmatch(text)
    if found is None or not 0 < int(found[2]) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is neither local nor of the form dask://HOST:PORT")
    return Address(found[1], int(found[2]))


def _run(options: argparse.Namespace) -> int:
    from moe_live.many.logs import find_logs
    from moe_live.reports.unusable import require_usable

    if options.jobs is not None and options.on != LOCAL:
        raise UsageError("--jobs goes with --on local: a cluster has the workers it has")
    logs, problems = find_logs(options.patterns)
    if problems and (options.strict or not logs):
        raise UsageError(problems[0])
    check_total(options, [(log.path, "one of the logs") for log in logs])
    analyzer = _analyzed(logs, problems, options)
    for problem in problems:
        sys.stderr.write(f"moe-live: {problem}\n")
    if problems and not analyzer.tally.bytes:
        raise MoeLiveError("no log could be read")
    if problems:
        analyzer.notes += (_left_out(problems),)
    require_usable(analyzer.snapshot(sections=()))
    write_total(analyzer, analyzer.snapshot(), options)
    return 0


def _analyzed(logs: Sequence[Log], problems: list[str], options: argparse.Namespace) -> Analyzer:
    """What all logs come to; why some could not be read is added to `problems`.

    Raises:
        MoeLiveError: there are no figures.
    """
    from moe_live.many.logs import cut, format_of
    from moe_live.many.session import ManyLogs
    from moe_live.reports.plain import run_plain
    from moe_live.terminal import Signals

    settings = counting_of(options)
    settings = replace(settings, format=format_of(logs, settings))
    engine = _started(options)
    try:
        sizes = [log.size for log in logs]
        session = ManyLogs(
            cut(logs, engine.workers, settings),
            engine,
            settings,
            name=f"{len(logs)} logs",
            size=None if None in sizes else sum(size or 0 for size in sizes),
            strict=options.strict,
        )
        with Signals() as signals:
            run_plain(session, stderr=sys.stderr, stop=lambda: signals.stop is not None, wait=signals.wait)
        if not session.ended and signals.stop is not None:
            read = session.source.position
            raise StoppedError(f"interrupted after {read:,} bytes: nothing is written", signals.stop)
    finally:
        engine.close()
    problems += session.problems
    return session.analyzer


def _started(options: argparse.Namespace) -> Engine:
    """What reads the logs.

    Raises:
        MoeLiveError: it cannot be had.
    """
    if options.on == LOCAL:
        from moe_live.many.local import LocalEngine

        return LocalEngine(options.jobs or cores())
    from moe_live.many.dask import DaskEngine

    return DaskEngine(*options.on)


def _left_out(problems: Sequence[str]) -> str:
    """That something is missing, in every summary from now on."""
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return f"not all logs could be read to their end: {'; '.join(problems[:_NAMED])}{more}"
