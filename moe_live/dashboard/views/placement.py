"""Which expert on which device, and how even that makes the load."""

from __future__ import annotations

import math

from moe_live.dashboard.canvas import Column, Line, flow, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, unplanned
from moe_live.dataclass import dataclass
from moe_live.formatting import fraction, leading, percents, whole
from moe_live.snapshot import Placements, Section, Snapshot

_GAINS = {
    True: ("more even than {}", STRONG),
    False: ("not certainly more even than {}", CAUTION),
    None: ("too few layers to tell what is gained", CAUTION),
}

_LEAST_ROWS = 8
"""Layers are shown before devices are."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer, and how even each rule makes its load on unseen steps."""

    layer: int
    even: dict[str, float]


_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("layer", lambda row: row.layer, ascending=True),
        Order("greedy", lambda row: row.even.get("greedy", math.nan), ascending=True),
        Order("replicated", lambda row: row.even.get("replicated", math.nan), ascending=True),
    ),
)


def _rows(found: Placements | None) -> list[_Row]:
    if found is None:
        return []
    by_layer = zip(*(rule.by_layer.tolist() for rule in found.rules.values()), strict=True)
    return [
        _Row(layer, dict(zip(found.rules, even, strict=True)))
        for layer, even in zip(found.layers, by_layer, strict=True)
    ]


def _rule(name: str) -> Column[_Row]:
    return Column(name, max(8, len(name)), lambda row: fraction(row.even[name], 3))


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot.placement), state)


def _devices(found: Placements, layer: int, width: int) -> list[Line]:
    """The experts of a layer by device."""
    if layer not in found.layers:
        return []
    by_device = found.experts[found.layers.index(layer)].reshape(found.devices, -1).tolist()
    head: Line = (text(f"Experts of layer {layer} by device", TITLE),)
    return [
        head,
        *(
            (text(f"{device:>4}  ", STRONG), text(leading(map(str, experts), width - 6)))
            for device, experts in enumerate(by_device)
        ),
    ]


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """How even each rule makes the load, a row a layer, and the experts of the chosen one by device."""
    found = snapshot.placement
    if found is None:
        return unplanned("placement", snapshot, width)
    each = found.experts.shape[1] // found.devices
    facts: list[Line] = [
        (text(f"{found.n_experts} experts a layer on {found.devices} devices, {each} on each", TITLE),),
        (text(f"tested on unseen halves of the latest {whole(found.steps)} decode steps", FAINT),),
    ]
    for name, rule in found.rules.items():
        fact: Line = (text(f"{name} ", FAINT), text(fraction(rule.mean, 3), STRONG))
        if rule.beside:
            said, style = _GAINS[rule.gains]
            fact = (*fact, text(f" {said.format(rule.beside)}", style))
        facts.append(fact)
    label = "load by device "
    loads = leading(map(percents, found.rule.by_device.tolist()), width - len(label))
    facts.append((text(label, FAINT), text(loads)))
    rows = _rows(found)
    columns: list[Column[_Row]] = [Column("layer", 5, lambda row: str(row.layer))]
    columns += map(_rule, found.rules)
    axis = _LISTING.axis(rows, state)
    layer = _LISTING.ordered(rows, state.place)[axis.at].layer
    beneath = _devices(found, layer, width)
    room = height - len(beneath) - 1
    if room < len(flow(facts, width)) + _LEAST_ROWS:
        return _LISTING.lines(rows, columns, state, width=width, height=height, title=facts)[:height]
    return [*_LISTING.lines(rows, columns, state, width=width, height=room, title=facts), (), *beneath]


VIEW = View(
    key="P",
    title="Placement",
    brief="Pl",
    render=render,
    gist="How evenly --devices G are loaded: their mean over the most loaded, 1 is even.",
    reading=(
        "Each device gets equally many places for experts of each layer; --replicas R are places beyond one "
        "an expert. Contiguous: experts by number, as engines do. Greedy: the most used expert first, to the "
        "device with the least load that has room. Any replicas: of whatever experts, without knowing the "
        "load. Replicated: of those with most load a place, then as greedy (DeepSeek's EPLB without groups). "
        "The figure is the mean load of a device over that of the most loaded one, learned on one half of "
        "the latest decode steps and tested on the other, both ways. What is placed, by device, was learned "
        "on all of them. moe-live plan placement LOG writes it for SGLang, vLLM-Ascend and TensorRT-LLM."
    ),
    sections=frozenset({Section.LATEST}),
    plan="placement",
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
)
