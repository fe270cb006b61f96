"""`plan cache`: whether a cache of experts pays, how large it should be, and what each layer would get."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moe_live.arguments import byte_count, file_name
from moe_live.errors import MoeLiveError
from moe_live.plans.given import Given
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result

if TYPE_CHECKING:
    from moe_live.snapshot import CacheSizing, Snapshot, Uses

SHARES = (5, 10, 20, 30, 40, 50, 70, 90)
"""Sizes of a table nobody asked otherwise for, in percent of all experts."""

_DESCRIPTION = """\
Replay the latest steps of a log through caches of experts of several sizes: the optimum (Belady), LRU, LFU,
one cache over all layers and one a layer, and the most used experts of one half of the steps tested on the
other half.
"""

LIVE_USES = 1 << 16
"""Uses of experts that are replayed for one size: 92 decode steps of 89 layers, top-8; fewer for several."""

_OVERHEAD = 4
"""What a replay costs whatever the sizes are, in those of one size."""


def add_sizes(parser: argparse._ActionsContainer) -> None:
    """Add the options that tell the bytes of an expert."""
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--model",
        type=file_name,
        metavar="GGUF",
        help="the model that wrote the log, or the first part of it: tells the bytes of its experts",
    )
    known.add_argument("--expert-bytes", type=byte_count, metavar="N", help="bytes of an expert of a layer")


def add_budget(parser: argparse._ActionsContainer) -> None:
    """Add the option for sizes of caches."""
    parser.add_argument(
        "--budget",
        type=byte_count,
        action="append",
        default=[],
        metavar="SIZE",
        help="what a cache of experts of so many bytes would serve, as 8GiB; may be given again",
    )


def sizing_of(
    uses: Uses | None,
    known: Mapping[int, int] | int,
    budgets: Sequence[int],
    progress: Progress = lambda _: None,
) -> CacheSizing:
    """What caches of these sizes, or of eight sizes, would have served.

    Args:
        uses: of the latest steps.
        known: the bytes of an expert, by layer or of all.
        budgets: the sizes, in bytes; none for eight shares of all experts.
        progress: is told how far it is.

    Raises:
        MoeLiveError: there is nothing to try, or an expert whose size is not known.
    """
    from moe_live.plans.expert_bytes import of_layers
    from moe_live.statistics.sizing import size_up, total_bytes

    if uses is None or not uses.steps:
        raise MoeLiveError("there is no whole decode step to try them on")
    expert_bytes = of_layers(known, uses.layers)
    total = total_bytes(uses, expert_bytes)
    return size_up(uses, expert_bytes, budgets or [total * share // 100 for share in SHARES], progress)


def _add(parser: argparse.ArgumentParser) -> None:
    add_sizes(parser)
    add_budget(parser)
    parser.add_argument(
        "--bandwidth",
        type=byte_count,
        metavar="RATE",
        help="at which missing experts are loaded, as 25GB/s: shows milliseconds a token",
    )


def _check(options: argparse.Namespace) -> None:
    from moe_live.plans.expert_bytes import model_bytes

    options.given = Given(
        None if options.model is None else model_bytes(options.model),
        options.expert_bytes or 0,
        tuple(options.budget),
    )


def _figures(snapshot: Snapshot, given: Given, progress: Progress) -> CacheSizing:
    return sizing_of(snapshot.latest, given.known_sizes(snapshot.model), given.budgets, progress)


def _live_uses(given: Given) -> int:
    return LIVE_USES * (_OVERHEAD + 1) // (_OVERHEAD + len(given.budgets or SHARES))


def _make(options: argparse.Namespace, snapshot: Snapshot, progress: Progress) -> Result:
    from moe_live.caching import slots_sentence
    from moe_live.formatting import memory
    from moe_live.reports.numbers import number, percent
    from moe_live.reports.sections.cache import budget_json, rates_json, sizing_lines

    sizing = _figures(snapshot, options.given, progress)
    lines = list(sizing_lines(sizing, snapshot.steps.decode, options.bandwidth))
    if sizing.knee is not None:
        lines.append(
            f"cache knee: the curve of LRU bends most at {memory(sizing.knee)}, where it serves "
            f"{percent(sizing.knee_rate)}"
        )
    lines += [slots_sentence(entry, sizing.layers) for entry in sizing.sizes if options.budget]
    return Result(
        tuple(lines),
        {
            "steps": sizing.steps,
            "prefill_steps": sizing.prefill,
            "layers": list(sizing.layers),
            "expert_bytes": sizing.expert_bytes.tolist(),
            "token_bytes": number(sizing.token_bytes),
            "cache": [rates_json(entry) for entry in sizing.sizes],
            "milliseconds": _times(sizing, options.bandwidth),
            "budget": [budget_json(entry) for entry in sizing.sizes],
            "knee": {"bytes": sizing.knee, "lru": number(sizing.knee_rate)},
        },
    )


def _times(sizing: CacheSizing, bandwidth: int | None) -> list[dict[str, Any]] | None:
    """Milliseconds a token to load what is missing."""
    from moe_live.caching import POLICIES
    from moe_live.reports.numbers import number

    if bandwidth is None:
        return None
    return [
        {"bytes": entry.rates.bytes}
        | {name: number(1000 * getattr(entry.rates, name).missed / bandwidth) for name in POLICIES}
        for entry in sizing.sizes
    ]


PLAN = Plan(
    "cache",
    "does an expert cache pay, and how large",
    _DESCRIPTION,
    _add,
    _check,
    _make,
    _figures,
    _live_uses,
)
