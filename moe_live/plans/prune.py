"""`plan prune`: which experts are hardly used, and what would be lost with them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from moe_live.arguments import file_name
from moe_live.errors import MoeLiveError
from moe_live.plans.given import Given
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot
    from moe_live.statistics.pruning import Pruning

_DESCRIPTION = """\
List the experts of each layer that are used least, and tell the share of selections that would be lost with
them: in the whole log, with hindsight; chosen in one half of the decode steps and tested on the other; and by
label. Usage alone does not prove that an expert is useless.
"""

DROPPED = 0.1
"""Share of each layer's experts, unless another is asked for."""


def _percentage(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage between 0 and 100")
    return value / 100


def add_drop(parser: argparse._ActionsContainer, *, default: float | None = None) -> None:
    """Add the option that tells how many experts may go."""
    parser.add_argument(
        "--drop",
        type=_percentage,
        default=default,
        metavar="PERCENT",
        help="how many of each layer's experts may go, those used least: what is lost with them",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    add_drop(what, default=DROPPED)
    what.add_argument(
        "--test",
        type=file_name,
        metavar="LIST",
        help="tell instead what would be lost here with the experts in a list that was written before",
    )
    parser.add_argument(
        "--by",
        choices=("count", "mass"),
        default="count",
        help="what least used means: chosen least often, or with the least gate mass, of a log with weights",
    )
    parser.add_argument(
        "--list",
        type=file_name,
        metavar="FILE",
        help="write the experts: JSON, or CSV if FILE ends in .csv",
    )


def _check(options: argparse.Namespace) -> None:
    from moe_live.plans.prune_list import PRUNE_LIST, read_prune_list
    from moe_live.reports.files import check_destination

    options.known = None if options.test is None else read_prune_list(options.test)
    if options.list is not None:
        taken = [(log, "the log itself") for log in options.logs]
        taken += [] if options.test is None else [(options.test, "the list that is tested")]
        check_destination(options.list, PRUNE_LIST, taken)


def _figures(snapshot: Snapshot, given: Given, _progress: Progress) -> Pruning:
    from moe_live.statistics.pruning import Pruning, lost_unseen

    drop = given.drop or DROPPED
    return Pruning(drop, None if snapshot.latest is None else lost_unseen(snapshot.latest, drop))


def _make(options: argparse.Namespace, snapshot: Snapshot, _: Progress) -> Result:
    import numpy as np

    from moe_live.plans.prune_list import write_prune_list
    from moe_live.reports.sections.prune import mass_of, prune_json, prune_lines
    from moe_live.statistics.pruning import least_used, lost_unseen

    counts, layers = snapshot.counts, snapshot.model.layers
    if not counts.sum():
        raise MoeLiveError("no expert is chosen in the log: there is nothing to go by")
    mass, by_mass = mass_of(snapshot), options.by == "mass"
    if by_mass and mass is None:
        raise MoeLiveError("the log has no weights of the experts: leave --by mass out, or capture --weights")
    if options.known is None:
        dropped = least_used(counts if mass is None or not by_mass else mass, options.drop)
        unseen = None if by_mass or snapshot.latest is None else lost_unseen(snapshot.latest, options.drop)
    else:
        dropped, unseen = np.zeros(counts.shape, np.bool_), None
        for row, layer in enumerate(layers):
            there = [expert for expert in options.known.get(layer, ()) if expert < counts.shape[1]]
            dropped[row, there] = True
    if options.list is not None:
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        write_prune_list(
            options.list,
            (
                (layers[row], expert, int(counts[row, expert]), float(share[row, expert]))
                for row, expert in np.argwhere(dropped).tolist()
            ),
        )
    return Result(tuple(prune_lines(snapshot, dropped, unseen)), prune_json(snapshot, dropped, unseen))


PLAN = Plan(
    "prune",
    "which experts are hardly used, and what goes with them",
    _DESCRIPTION,
    _add,
    _check,
    _make,
    _figures,
)
