"""Options that say how logs are counted, and the settings they make."""

from __future__ import annotations

import argparse
from typing import Any

from moe_live.arguments import layer_set, whole_number
from moe_live.formats.columns import add_format
from moe_live.settings import (
    DEFAULT_MAX_SLOTS,
    DEFAULT_WINDOW,
    MAX_SLOTS,
    N_EXPERTS,
    WINDOW,
    Phase,
    RowMode,
    Settings,
)


def add_counting(
    analysis: Any, gate_layers: str = "compare only these layers' gate inputs: 20-24,30"
) -> None:
    """Add them.

    Args:
        analysis: a group of a parser.
        gate_layers: what `--gate-layers` does.
    """
    add_format(analysis)
    analysis.add_argument(
        "--rows",
        choices=[mode.value for mode in RowMode],
        default=RowMode.AUTO.value,
        help="which expert rows count: all until the log is proven to hold wrong ones (auto, the default), "
        "all as written, or only those that can be believed",
    )
    analysis.add_argument(
        "--phase",
        choices=[phase.value for phase in (Phase.ALL, Phase.PREFILL, Phase.DECODE)],
        help="the steps whose selections count (default: all, but decode for hot set, budget and hot list)",
    )
    analysis.add_argument(
        "--layers",
        type=layer_set,
        metavar="LIST",
        help="look at these layers only, as if the log had no others: 3-18",
    )
    analysis.add_argument("--include-prompt", action="store_true", help="distances count prompt steps too")
    analysis.add_argument("--gate-layers", type=layer_set, metavar="LIST", help=gate_layers)
    analysis.add_argument(
        "--n-experts",
        type=whole_number(*N_EXPERTS),
        metavar="N",
        help="experts a layer (default: highest id seen + 1)",
    )
    analysis.add_argument(
        "--max-slots",
        type=whole_number(*MAX_SLOTS),
        default=DEFAULT_MAX_SLOTS,
        metavar="N",
        help=f"tokens a decode step has at most (default {DEFAULT_MAX_SLOTS})",
    )
    analysis.add_argument(
        "--window",
        type=whole_number(*WINDOW),
        default=DEFAULT_WINDOW,
        metavar="STEPS",
        help=f"latest decode steps that are held against the whole run (default {DEFAULT_WINDOW})",
    )
    analysis.add_argument(
        "--label", default="", metavar="NAME", help="what to call the run: a type of prompt"
    )
    analysis.add_argument(
        "--only",
        choices=("frequency",),
        help="count how often experts are chosen and leave out all other figures and the dashboard: fastest",
    )


def counting_of(options: argparse.Namespace) -> Settings:
    """What is to be counted."""
    return Settings(
        rows=RowMode(options.rows),
        phase=None if options.phase is None else Phase(options.phase),
        layers=options.layers,
        include_prompt=options.include_prompt,
        gate_layers=options.gate_layers,
        n_experts=options.n_experts,
        max_slots=options.max_slots,
        window=options.window,
        format=options.format,
        columns=options.columns,
        label=options.label,
        counts_only=options.only is not None,
    )
