"""Options that all plans and comparisons have, and the settings they make."""

from __future__ import annotations

import argparse

from moe_live.arguments import file_name, whole_number
from moe_live.settings import (
    DEFAULT_LATEST_USES,
    DEFAULT_MAX_SLOTS,
    LATEST_USES,
    MAX_SLOTS,
    N_EXPERTS,
    RowMode,
    Settings,
)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument(
        "--json", type=file_name, metavar="FILE", help="write the result as JSON too; - for JSON alone"
    )
    parser.add_argument(
        "--rows", choices=tuple(RowMode), default=RowMode.AUTO, help="which expert rows count"
    )
    parser.add_argument("--n-experts", type=whole_number(*N_EXPERTS), metavar="N", help="experts a layer")
    parser.add_argument(
        "--max-slots",
        type=whole_number(*MAX_SLOTS),
        default=DEFAULT_MAX_SLOTS,
        metavar="N",
        help="tokens a decode step has at most (default 64)",
    )
    parser.add_argument(
        "--uses",
        type=whole_number(1, LATEST_USES[1]),
        default=DEFAULT_LATEST_USES,
        metavar="N",
        help="uses of experts that are kept, the latest (default 360000: 500 steps of 90 layers, top-8)",
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """What is to be counted."""
    return Settings(
        rows=RowMode(options.rows),
        n_experts=options.n_experts,
        max_slots=options.max_slots,
        latest_uses=options.uses,
    )
