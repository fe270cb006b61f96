"""Which layers' experts go into the memory of the CPU, and what a token reads there."""

from __future__ import annotations

from moe_live.dashboard.canvas import Column, Line, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, FAINT, STRONG, TITLE
from moe_live.dashboard.view import View, unplanned
from moe_live.dataclass import dataclass
from moe_live.formatting import chosen_size, memory, tenths, whole
from moe_live.snapshot import Offloading, Section, Snapshot
from moe_live.statistics.offload import BATCHES
from moe_live.wrapping import wrap

_BY_USE = {
    True: text("by use: it reads less than by number on steps that were not seen", STRONG),
    False: text("by number: by use does not certainly read less", CAUTION),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A layer: bytes of its experts, different ones by batch, bytes that a token reads, where they are."""

    layer: int
    bytes: int
    distinct: tuple[float, ...]
    read: float
    on_cpu: bool


def _distinct(place: int, batch: int) -> Column[_Row]:
    return Column(f"in {batch}", 6, lambda row: tenths(row.distinct[place]), optional=place % 3)


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer)),
    Column("experts", 8, lambda row: memory(row.bytes)),
    *(_distinct(place, batch) for place, batch in enumerate(BATCHES)),
    Column("a token", 8, lambda row: memory(row.read)),
    Column("where", 5, lambda row: text("CPU", STRONG) if row.on_cpu else "GPU"),
)

_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("layer", lambda row: row.layer, ascending=True),
        Order("a token", lambda row: row.read),
        Order(f"in {BATCHES[-1]}", lambda row: row.distinct[-1]),
    ),
)


def _rows(found: Offloading | None) -> list[_Row]:
    if found is None:
        return []
    figures = zip(
        found.layers,
        found.layer_bytes.tolist(),
        found.distinct.tolist(),
        found.choice.read.tolist(),
        found.choice.slow.tolist(),
        strict=True,
    )
    return [_Row(layer, size, tuple(many), read, slow) for layer, size, many, read, slow in figures]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot.offload), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """What a token reads in the memory of the CPU, the arguments for llama.cpp, and a row a layer."""
    found = snapshot.offload
    if found is None:
        return unplanned("offload", snapshot, width)
    choice = found.choice
    slow = choice.slow
    facts: list[Line] = [
        (text(f"Experts of {int(slow.sum())} of {len(slow)} layers on the CPU", TITLE),),
        (text("a token reads ", FAINT), text(memory(found.read_on_cpu), STRONG)),
        (text("room on the GPU ", FAINT), text(chosen_size(found.room))),
        (text(f"the latest {whole(found.steps)} decode steps", FAINT),),
    ]
    if not found.knows_others:
        facts.append((text("what else is on the GPU is not known without --model", CAUTION),))
    if (choice.by_use != choice.by_number).any():
        facts.append((_BY_USE[choice.gains],))
    head: list[Line] = [(text(part, STRONG),) for part in wrap(found.command, width, 3)]
    room = height - len(head)
    table = _LISTING.lines(_rows(found), _COLUMNS, state, width=width, height=room, title=facts)
    return [*head, *table][:height]


VIEW = View(
    key="O",
    title="Offload",
    brief="Of",
    render=render,
    gist="Which layers' experts a GPU of --vram SIZE holds, and what the CPU reads.",
    reading=(
        "llama.cpp keeps all experts of a layer in one tensor, so the unit is the layer. The experts of as "
        "many layers as fit are on the GPU: --vram SIZE less what of the model is no expert (known with "
        "--model) and less --reserve for context and buffers. In 1, 4, 16, 64: different experts that so "
        "many successive decode steps need, which is what a batch or a draft of that size reads; a token: "
        "bytes of the layer's experts that one reads. Where each step has one token all layers read alike, "
        "and the last ones are put on the GPU; layers are chosen by use only if those that read much in one "
        "half of the steps do so in the other. moe-live plan offload LOG has milliseconds too."
    ),
    sections=frozenset({Section.LATEST}),
    plan="offload",
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
)
