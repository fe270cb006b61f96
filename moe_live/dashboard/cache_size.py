"""A cache of the size that the user chooses: experts of each layer, and bytes where those are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_live.dashboard.canvas import Line, flow, text
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import FAINT, STRONG
from moe_live.formatting import memory, percents
from moe_live.snapshot import LayerLocality, Snapshot
from moe_live.verdicts import CACHED

_STEPS = 32
"""Key presses from an empty cache to one of all experts, at least."""


def experts_cached(state: ViewState, n_experts: int) -> int:
    """Experts of a layer in the cache that is asked about: those that the user chose, or a fourth of them."""
    return max(1, min(n_experts, state.cache or n_experts // CACHED))


def resize(state: ViewState, snapshot: Snapshot, by: int) -> None:
    """Ask about a larger or smaller cache."""
    n_experts = len(snapshot.overall.counts)
    if n_experts:
        wanted = experts_cached(state, n_experts) + by * max(1, n_experts // _STEPS)
        state.cache = max(1, min(n_experts, wanted))


def bytes_cached(snapshot: Snapshot, experts: int) -> int | None:
    """Bytes of so many experts of each layer; None if those of a layer are not known."""
    known = [snapshot.model.expert_bytes.get(entry.layer, 0) for entry in snapshot.layers]
    return experts * sum(known) if all(known) else None


def size_marks(snapshot: Snapshot, sizes: Sequence[int]) -> list[str]:
    """Sizes of caches as they stand below a curve of all layers."""
    found = [(size, bytes_cached(snapshot, size)) for size in sizes]
    return [f"{size}" if taken is None else f"{size} {memory(taken)}" for size, taken in found]


def cache_line(
    snapshot: Snapshot, layers: Sequence[LayerLocality], state: ViewState, width: int
) -> list[Line]:
    """What the cache that is asked about would serve, and the size that is farthest above chance.

    Args:
        snapshot: whose layers are cached.
        layers: those with uses.
        state: tells the size.
        width: columns.
    """
    uses = [layer.uses for layer in layers]
    recent = np.average([layer.of_caches(layer.lru_hit_rate) for layer in layers], axis=0, weights=uses)
    fixed = np.average([layer.of_caches(layer.static_hit_rate) for layer in layers], axis=0, weights=uses)
    n_experts = len(recent)
    experts = experts_cached(state, n_experts)
    taken = bytes_cached(snapshot, experts)
    chance = np.arange(1, n_experts + 1) / n_experts
    knee = int(np.nanargmax(recent - chance)) + 1
    held: Line = (text(f"{experts} of {n_experts}", STRONG), text(" + -", FAINT))
    return flow(
        [
            (*held, text(f" {memory(taken)}", STRONG)) if taken is not None else held,
            (text("last ", FAINT), text(percents(float(recent[experts - 1])))),
            (text("most ", FAINT), text(percents(float(fixed[experts - 1])))),
            (text("chance ", FAINT), text(percents(float(chance[experts - 1])))),
            (text("knee ", FAINT), text(str(knee))),
        ],
        width,
    )
