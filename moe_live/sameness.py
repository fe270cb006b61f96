"""Whether two logs can be of one model."""

from __future__ import annotations

from collections.abc import Sequence

from moe_live.snapshot import Snapshot

_STEPS = 8
"""Fewer tell nothing of a model: the first and the last may be cut, and draft heads show late."""


def other_model(there: Snapshot, here: Snapshot) -> str:
    """What tells the model of one log from that of another; "" for nothing."""
    if min(there.steps.total, here.steps.total) < _STEPS:
        return ""
    for what, new, old in (
        ("layers", _ranges(there.model.layers), _ranges(here.model.layers)),
        ("experts a row", there.model.top_k, here.model.top_k),
    ):
        if new != old:
            return f"{what} {new} there and {old} here"
    return ""


def _ranges(layers: Sequence[int]) -> str:
    return f"{layers[0]}-{layers[-1]} ({len(layers)})" if layers else "none"
