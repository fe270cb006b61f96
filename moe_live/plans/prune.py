"""`plan prune`: which experts are hardly used, and what would be lost with them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moe_live.arguments import file_name
from moe_live.errors import MoeLiveError
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moe_live.snapshot import Snapshot
    from moe_live.statistics.pruning import Unseen

_DESCRIPTION = """\
List the experts of each layer that are used least, and tell the share of selections that would be lost with
them: in the whole log, with hindsight; chosen in one half of the decode steps and tested on the other; and by
label. Usage alone does not prove that an expert is useless.
"""

_SHOWN = 12  # experts of a layer that are named in the text


def _percentage(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage between 0 and 100")
    return value / 100


def _add(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--drop",
        type=_percentage,
        default=0.1,
        metavar="PERCENT",
        help="how many of each layer's experts may go: those used least (default 10)",
    )
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


def _make(options: argparse.Namespace, snapshot: Snapshot, _: Progress) -> Result:
    import numpy as np

    from moe_live.plans.prune_list import write_prune_list
    from moe_live.reports.numbers import number
    from moe_live.statistics.pruning import least_used, lost_unseen, share_lost

    counts, layers = snapshot.counts, snapshot.model.layers
    if not counts.sum():
        raise MoeLiveError("no expert is chosen in the log: there is nothing to go by")
    mass = _mass(snapshot)
    if options.by == "mass" and mass is None:
        raise MoeLiveError("the log has no weights of the experts: leave --by mass out, or capture --weights")
    if options.known is None:
        by_mass = options.by == "mass"
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
    labels = snapshot.labels.usages if snapshot.labels else ()
    expected = sum(balance.dead_expected for balance in snapshot.balance)
    return Result(
        tuple(_lines(snapshot, dropped, unseen, mass, expected)),
        {
            "rows": snapshot.rows.counted,
            "unused": {"experts": int((counts == 0).sum()), "expected": number(expected)},
            "dropped": {
                "experts": int(dropped.sum()),
                "lost": number(share_lost(counts, dropped)),
                "mass_lost": None if mass is None else number(share_lost(mass, dropped)),
                "lost_unseen": None if unseen is None else number(unseen.lost),
                "at_random": float(dropped.mean()),
                "gain": None if unseen is None else number(unseen.gain.mean),
                "gain_error": None if unseen is None else number(unseen.gain.error),
                "holds": None if unseen is None else unseen.holds,
            },
            "layers": [
                {
                    "layer": layer,
                    "unused": np.flatnonzero(counts[row] == 0).tolist(),
                    "dropped": np.flatnonzero(dropped[row]).tolist(),
                    "lost": number(share_lost(counts[row], dropped[row])),
                    "mass_lost": None if mass is None else number(share_lost(mass[row], dropped[row])),
                    "lost_unseen": None if unseen is None else number(unseen.by_layer.get(layer, math.nan)),
                }
                for row, layer in enumerate(layers)
            ],
            "labels": [
                {"label": usage.label, "lost": number(share_lost(usage.counts, dropped))} for usage in labels
            ],
        },
    )


def _mass(snapshot: Snapshot) -> NDArray[np.float64] | None:
    """The share of each layer's gate mass that its experts have (layers, n_experts); None without weights."""
    import numpy as np

    if not snapshot.gate_mass:
        return None
    mass = np.zeros(snapshot.counts.shape)
    for layer in snapshot.gate_mass:
        if layer.layer in snapshot.model.layers:
            mass[snapshot.model.layers.index(layer.layer), : len(layer.mass)] = layer.mass
    return mass


def _lines(
    snapshot: Snapshot,
    dropped: NDArray[np.bool_],
    unseen: Unseen | None,
    mass: NDArray[np.float64] | None,
    expected: float,
) -> Iterator[str]:
    """The plan for people."""
    import numpy as np

    from moe_live.errors import printable
    from moe_live.reports.numbers import decimals, percent
    from moe_live.statistics.pruning import share_lost

    counts = snapshot.counts
    unused, chance = counts == 0, float(dropped.mean())
    yield (
        f"prune: {int(unused.sum())} of {counts.size} experts are never chosen in {snapshot.rows.counted} "
        f"rows; even use would leave {expected:.1f}"
    )
    yield f"prune: share of selections lost with {int(dropped.sum())} of the least used experts of the layers"
    yield f"prune {'':<15}    lost     mass   unseen   random   unused   experts, the least used first"
    for row, layer in enumerate(snapshot.model.layers):
        named = np.flatnonzero(dropped[row])
        named = named[np.argsort(counts[row, named], kind="stable")]
        shown = " ".join(map(str, named[:_SHOWN].tolist())) + (" …" if len(named) > _SHOWN else "")
        elsewhere = "-" if unseen is None else percent(unseen.by_layer.get(layer, math.nan))
        yield (
            f"prune layer {layer:<9} {percent(share_lost(counts[row], dropped[row])):>7} "
            f"{'-' if mass is None else percent(share_lost(mass[row], dropped[row])):>8} {elsewhere:>8}"
            f" {percent(float(dropped[row].mean())):>8} {int(unused[row].sum()):>8}   {shown}"
        )
    elsewhere = "-" if unseen is None else percent(unseen.lost)
    of_mass = "-" if mass is None else percent(share_lost(mass, dropped))
    yield (
        f"prune all layers      {percent(share_lost(counts, dropped)):>7} {of_mass:>8} {elsewhere:>8} "
        f"{percent(chance):>8}"
    )
    for usage in snapshot.labels.usages if snapshot.labels else ():
        yield f"prune label {printable(usage.label)}: {percent(share_lost(usage.counts, dropped))} lost"
    if unseen is not None:
        yield (
            f"prune: unseen: chosen in one half of the latest {unseen.steps} decode steps, lost in the "
            "other, both ways"
        )
        yield f"prune: {_SENTENCES[unseen.holds]}"
        gain = f"{decimals(100 * unseen.gain.mean, 1)} ± {decimals(100 * unseen.gain.error, 1)}"
        yield f"prune: {gain} points less are lost there than with experts at random, mean of layers"
    yield "prune: usage alone does not prove that an expert is useless: what is rare here may be needed"
    yield "prune: elsewhere; try the smaller model before you rely on it"


_SENTENCES = {
    True: "the experts that one half uses least the other uses less than others too",
    False: "the experts that one half uses least the other does not certainly use less: this may be chance",
    None: "whether the other half uses them less cannot be told from so few layers",
}


PLAN = Plan(
    "prune", "which experts are hardly used, and what goes with them", _DESCRIPTION, _add, _check, _make
)
