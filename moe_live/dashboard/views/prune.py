"""Which experts of each layer are used least, and what would be lost with them."""

from __future__ import annotations

import math

import numpy as np

from moe_live.dashboard.canvas import Column, Line, text
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, unplanned
from moe_live.dataclass import dataclass
from moe_live.formatting import expected, leading, percent, whole
from moe_live.snapshot import Section, Snapshot
from moe_live.statistics.pruning import least_used, share_lost

_LEAST = "least used"

_NAMES = 60
"""Columns of their numbers at most."""

_HOLDS = {
    True: text("the other half uses them less than others too", STRONG),
    False: text("the other half may use them less by chance alone", CAUTION),
    None: text("too few layers to tell whether the other half uses them less", CAUTION),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer: its unused experts, those expected, its least used ones, and the shares that go with them."""

    layer: int
    unused: int
    expected: float
    least: tuple[int, ...]
    lost: float
    mass: float
    unseen: float
    random: float


_FIGURES: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer)),
    Column("unused", 7, lambda row: str(row.unused)),
    Column("by chance", 9, lambda row: expected(row.expected)),
    Column("lost", 6, lambda row: percent(row.lost)),
    Column("mass", 6, lambda row: percent(row.mass), optional=2),
    Column("unseen", 7, lambda row: percent(row.unseen)),
    Column("random", 6, lambda row: percent(row.random), optional=3),
)


def _columns(width: int) -> list[Column[_Row]]:
    """The figures, and of the experts as many as there is room for."""
    room = width - GUTTER - sum(column.width + 2 for column in _FIGURES)
    names = min(max(room, len(_LEAST)), _NAMES)
    named: Column[_Row] = Column(
        _LEAST, names, lambda row: leading(map(str, row.least), names), right=False, optional=1
    )
    return [*_FIGURES, named]


_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("lost", lambda row: row.lost, ascending=True),
        Order("layer", lambda row: row.layer, ascending=True),
        Order("unused", lambda row: row.unused),
        Order("unseen", lambda row: row.unseen, ascending=True),
    ),
)


def _rows(snapshot: Snapshot) -> list[_Row]:
    counts, pruning = snapshot.counts, snapshot.prune
    if pruning is None or not counts.any():
        return []
    dropped, unseen = least_used(counts, pruning.drop), pruning.unseen
    mass = {layer.layer: layer.mass for layer in snapshot.gate_mass}
    total = counts.sum(axis=1)
    lost = (np.where(dropped, counts, 0).sum(axis=1) / np.where(total > 0, total, np.nan)).tolist()
    least = np.nonzero(dropped)[1].reshape(len(counts), -1)  # as many of each layer
    order = np.argsort(np.take_along_axis(counts, least, axis=1), axis=1, kind="stable")
    least = np.take_along_axis(least, order, axis=1)
    share = dropped.mean(axis=1).tolist()
    rows = []
    for i, (gone, entry, balance) in enumerate(zip(dropped, snapshot.layers, snapshot.balance, strict=True)):
        own = mass.get(entry.layer)
        rows.append(
            _Row(
                entry.layer,
                balance.dead_experts,
                balance.dead_expected,
                tuple(least[i].tolist()),
                lost[i],
                math.nan if own is None else share_lost(own, gone[: len(own)]),
                math.nan if unseen is None else unseen.by_layer.get(entry.layer, math.nan),
                share[i],
            )
        )
    return rows


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """What the least used experts of each layer would take away, and whether that holds on unseen steps."""
    pruning, counts = snapshot.prune, snapshot.counts
    if pruning is None:
        return unplanned("prune", snapshot, width)
    title: list[Line] = [
        (text(f"The {pruning.drop:.0%} of each layer used least", TITLE),),
        (
            text("all layers lose ", FAINT),
            text(percent(share_lost(counts, least_used(counts, pruning.drop)))),
            text(" in hindsight", FAINT),
        ),
    ]
    if (unseen := pruning.unseen) is not None:
        title.append(
            (text(f"unseen, of {whole(unseen.steps)} decode steps ", FAINT), text(percent(unseen.lost)))
        )
        title.append((_HOLDS[unseen.holds],))
    return _LISTING.lines(_rows(snapshot), _columns(width), state, width=width, height=height, title=title)


VIEW = View(
    key="x",
    title="Prune",
    brief="Pr",
    render=render,
    gist="What goes with the least used experts. Usage alone proves none useless.",
    reading=(
        "Lost is the share of a layer's selections, prompts included, that its least used tenth of experts "
        "has, known with hindsight; mass the share of its gate mass, where the log has weights; random what "
        "as many experts at random would have. Unseen: chosen in one half of the latest decode steps, lost "
        "in the other, both ways. Unused experts stand beside the number that even use would leave. What is "
        "rare here may be what other input needs: prune, then measure the smaller model. moe-live plan prune "
        "LOG writes the list."
    ),
    sections=frozenset({Section.LATEST}),
    plan="prune",
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
)
