"""`moe-live compare`: two runs side by side."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name, subcommand_options
from moe_live.commands import add_command
from moe_live.errors import UsageError, printable
from moe_live.plans.options import add_reading, settings_of
from moe_live.plans.progress import bar
from moe_live.plans.result import Result, write_result

if TYPE_CHECKING:
    from moe_live.plans.comparison import Comparison

_DESCRIPTION = """\
Is it still the same model? Two logs of one text are held against each other row by row: experts in common,
the best expert, the first row that differs. Logs of different texts are held against each other as a whole,
beside how far each differs from itself; so are states, which have no rows. Of one log, two labels.
"""
_EPILOG = """\
exit status: 0 done; 1 less in common than --fail-below, or a log cannot be read to its end; 2 wrong usage.
"""


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return value


def run_compare(argv: Sequence[str]) -> int:
    """Run with the arguments, which begin with `compare`; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    options = subcommand_options(argv, add_compare)
    if len(options.logs) != (2 if options.labels is None else 1):
        raise UsageError("give two LOGs, or one and --labels A B; see moe-live compare --help")
    return _run(options)


def add_compare(subparsers: Any) -> None:
    """Add `compare` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "compare", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "logs", type=file_name, nargs="+", metavar="LOG", help="two finished logs, .gz too, or states"
    )
    parser.add_argument(
        "--labels", nargs=2, metavar=("A", "B"), help="compare two labels of one LOG instead of two logs"
    )
    text = parser.add_mutually_exclusive_group()
    text.add_argument(
        "--same-text", dest="same_text", action="store_true", default=None, help="both are of one text"
    )
    text.add_argument(
        "--other-texts",
        dest="same_text",
        action="store_false",
        help="they are not; by default it is told from the rows",
    )
    parser.add_argument(
        "--fail-below",
        type=_share,
        metavar="SHARE",
        help="exit with 1 if less than this is in common, as 0.95: of the experts of each row, or of all "
        "selections where the texts are others",
    )
    parser.add_argument(
        "--browse", action="store_true", help="look around in it, and in the first log, in the dashboard"
    )
    parser.add_argument(
        "--html",
        type=file_name,
        metavar="FILE",
        help="write a page: the summary of the first LOG, with the comparison",
    )
    add_reading(parser)


def _run(options: argparse.Namespace) -> int:
    from moe_live.plans.comparison import compare_labels, compare_logs
    from moe_live.plans.reading import read_logs
    from moe_live.reports.files import check_destination
    from moe_live.state.file import is_state
    from moe_live.terminal import can_draw

    if options.browse and not can_draw():
        raise UsageError("--browse needs a terminal")
    if options.browse and is_state(options.logs[0]):
        raise UsageError("--browse looks around in a log, and this is a state: give the log")
    taken = [(log, "the log itself") for log in options.logs]
    if options.json not in (None, "-"):
        check_destination(options.json, "the comparison", taken)
        taken.append((options.json, "where the comparison goes"))
    if options.html is not None:
        check_destination(options.html, "the page", taken)
    with bar("compare") as progress:
        if options.labels is not None:
            found = compare_labels(read_logs(options), (options.labels[0], options.labels[1]))
        else:
            found = compare_logs(
                options.logs, settings_of(options), same_text=options.same_text, progress=progress
            )
    if options.browse:
        _browse(options, found)
    warnings = dict.fromkeys(warning for snapshot in found.snapshots for warning in snapshot.warnings)
    result = Result(tuple(_lines(found)), _json(found))
    head = {"schema": "moe-live.compare/1"}
    write_result(result, head, options.logs, tuple(warnings), options.json)
    if options.html is not None:
        from moe_live.reports.files import write_text
        from moe_live.reports.json_report import to_json
        from moe_live.reports.page import page_with

        page = page_with(to_json(found.snapshots[0]) | {"compare": result.json})
        write_text(page, options.html, "the page")
    if options.fail_below is None or found.agreement >= options.fail_below:
        return 0
    sys.stderr.write(f"moe-live: {found.agreement:.3f} in common, less than {options.fail_below:g}\n")
    return 1


def _browse(options: argparse.Namespace, found: Comparison) -> None:
    """Show it in the dashboard, beside all views of the first log."""
    from dataclasses import replace

    from moe_live.analyzer import Analyzer
    from moe_live.dashboard.run import run_dashboard
    from moe_live.session import Session
    from moe_live.sources.archive import ArchiveSource
    from moe_live.terminal import Signals

    log = options.logs[:1]
    session = Session(ArchiveSource(log), Analyzer(settings_of(options), paths=tuple(log)))
    with Signals() as signals:
        run_dashboard(
            session,
            signals,
            complete=lambda snapshot, _: replace(snapshot, compared=found),
            stays=True,
            first="a-and-b",
        )


def _lines(found: Comparison) -> Iterator[str]:
    """The comparison for people."""
    from moe_live.reports.numbers import decimals, percent
    from moe_live.statistics.comparison import FIGURES

    for side, name in zip("AB", found.names, strict=True):
        yield f"compare: {side} is {printable(name)}"
    if found.rows is not None:
        yield from _row_lines(found)
    usage = found.usage
    yield "compare usage        in common   hot in both   divergence   between halves   within A   within B"
    for row, layer in enumerate(found.layers):
        yield (
            f"compare usage layer {layer:<3} {percent(float(usage.common[row])):>6} "
            f"{percent(float(usage.hot[row])):>13} {decimals(float(usage.js[row]), 4):>12} "
            f"{decimals(float(usage.between[row]), 4):>16} {decimals(float(usage.within[0, row]), 4):>10} "
            f"{decimals(float(usage.within[1, row]), 4):>10}"
        )
    yield "compare usage: divergence in bits; between halves: of a half of A's latest steps and a half of"
    yield "compare usage: B's, beside the two halves of each. What differs may be the texts, not the model"
    yield f"compare {'':<42} {'A':>9} {'B':>9}"
    for name, what in FIGURES.items():
        if all(name in figures for figures in found.figures):
            cells = "".join(f" {decimals(figures[name], 3):>9}" for figures in found.figures)
            yield f"compare {what:<42}{cells}"
    yield f"compare: {found.conclusion}"


def _row_lines(found: Comparison) -> Iterator[str]:
    """Row by row."""
    from moe_live.reports.numbers import percent

    rows = found.rows
    if rows is None or not rows.rows.sum():
        yield "compare rows: no row has a counterpart in the other log"
        return
    spans = rows.spans
    yield (
        f"compare rows: {percent(found.matched)} have a counterpart; experts in common "
        f"{percent(spans.share(shifted=False))}, of rows of different tokens "
        f"{percent(spans.share(shifted=True))}"
    )
    if found.same_text:
        yield "compare rows              rows   in common   top-1 equal   all equal   first that differs"
        for layer in (layer for layer in found.layers if rows.rows[layer]):
            many, step = int(rows.rows[layer]), rows.first_step(layer)
            width = rows.width[layer] / many
            yield (
                f"compare rows layer {layer:<3} {many:>7} {rows.common[layer] / many:>6.2f} of {width:<3g}"
                f"{percent(rows.top[layer] / many):>11} {percent(rows.same[layer] / many):>11}   "
                f"{'none' if step is None else f'step {step + 1}'}"
            )
        quarters = spans.quarters()
        if quarters:
            yield f"compare rows: in common in each quarter of the time: {', '.join(map(percent, quarters))}"
        if rows.first is not None:
            step, layer, token, experts = rows.first
            a, b = (" ".join(map(str, row)) for row in experts)
            place = f"step {step + 1}, layer {layer}, row {token + 1}"
            yield f"compare rows: first that differs: {place}: {a} / {b}"


def _json(found: Comparison) -> dict[str, Any]:
    from moe_live.reports.numbers import number, numbers

    rows, usage = found.rows, found.usage
    return {
        "names": list(found.names),
        "same_text": found.same_text,
        "agreement": number(found.agreement),
        "rows": None
        if rows is None
        else {
            "pairs": int(rows.rows.sum()),
            "matched": found.matched,
            "in_common": number(rows.spans.share(shifted=False)),
            "in_common_shifted": number(rows.spans.share(shifted=True)),
            "quarters": [number(share) for share in rows.spans.quarters()],
            "first": None if rows.first is None else rows.first._asdict(),
            "layers": [
                {
                    "layer": layer,
                    "pairs": int(rows.rows[layer]),
                    "in_common": number(rows.common[layer] / rows.rows[layer]),
                    "top_k": number(rows.width[layer] / rows.rows[layer]),
                    "top_equal": number(rows.top[layer] / rows.rows[layer]),
                    "all_equal": number(rows.same[layer] / rows.rows[layer]),
                    "first_step": rows.first_step(layer),
                }
                for layer in found.layers
                if rows.rows[layer]
            ],
        },
        "usage": {
            "layers": list(found.layers),
            "in_common": numbers(usage.common),
            "hot_in_both": numbers(usage.hot),
            "js": numbers(usage.js),
            "js_between_halves": numbers(usage.between),
            "js_within": [numbers(side) for side in usage.within],
        },
        "figures": [{name: number(value) for name, value in figures.items()} for figures in found.figures],
    }
