"""How evenly the selections fall on the experts."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.reports.numbers import decimals, number
from moe_live.reports.section import Json, Keys, ReportSection
from moe_live.snapshot import Balance, Snapshot


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if not snapshot.layers:
        return
    yield ""
    yield "balance: entropy over its maximum, 2^entropy, Gini, MaxVio, unused experts (expected by chance)"
    yield "balance              entropy effective    gini  maxvio  unused (chance)"
    rows = [
        (f"layer {entry.layer}", figures)
        for entry, figures in zip(snapshot.layers, snapshot.balance, strict=True)
    ]
    for name, figures in [*rows, ("overall", snapshot.overall_balance)]:
        yield (
            f"balance {name:<12} {decimals(figures.entropy_normalized):>7}"
            f" {decimals(figures.effective_experts, 1):>9} {decimals(figures.gini):>7}"
            f" {decimals(figures.max_violation, 2):>7} {figures.dead_experts:>7}"
            f" ({decimals(figures.dead_expected, 1)})"
        )


def _keys(snapshot: Snapshot) -> Keys:
    return Keys(
        layers=[{"balance": _balance(figures)} for figures in snapshot.balance],
        overall={"balance": _balance(snapshot.overall_balance)},
    )


def _balance(figures: Balance) -> Json:
    """Load balance under the names of its attributes."""
    fields = figures._asdict()
    return {name: value if isinstance(value, int) else number(value) for name, value in fields.items()}


SECTION = ReportSection("balance", _lines, _keys)
