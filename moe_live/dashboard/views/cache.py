"""What caches of experts of so many bytes would have served, and what each layer would get."""

from __future__ import annotations

from rich.segment import Segment

from moe_live.caching import POLICIES
from moe_live.dashboard.canvas import Column, Line, Table, bar, flow, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, FAINT, GOOD, STRONG, TITLE
from moe_live.dashboard.view import View, unplanned
from moe_live.dataclass import dataclass
from moe_live.formatting import chosen_size, memory, percents, whole
from moe_live.judgement import HELPS, PAYS, Word, worth
from moe_live.snapshot import CacheSizing, Section, Snapshot
from moe_live.statistics.sizing import CacheSize

_BAR = 24
_FEWEST_LAYERS, _ROOMY = 4, 6
"""Lines that slots by layer need beneath the sizes, and with more than how many they are set off."""

_OPTIONAL = {"optimum": 0, "lru": 0, "lfu": 3, "layer_lru": 4, "layer_lfu": 5, "static_unseen": 0}
"""Which policies make way where it is narrow, the highest first."""

_WORDS = {
    Word.PAYS: text("yes", GOOD),
    Word.HELPS: text("some", STRONG),
    Word.HARDLY_PAYS: text("no", STRONG),
}


def _pays(entry: CacheSize) -> Segment:
    """Whether a size pays, as the verdict on caches has it: what is not certain is nothing."""
    if entry.gains is None:
        return text("early", CAUTION)
    return _WORDS[worth(entry.served.rate, entry.chance) if entry.gains else Word.HARDLY_PAYS]


def _policy(name: str) -> Column[CacheSize]:
    return Column(
        POLICIES[name], 7, lambda entry: percents(getattr(entry.rates, name).rate), optional=_OPTIONAL[name]
    )


_SIZES: tuple[Column[CacheSize], ...] = (
    Column("size", 8, lambda entry: chosen_size(entry.rates.bytes)),
    Column("of all", 6, lambda entry: percents(entry.chance)),
    *map(_policy, POLICIES),
    Column("pays", 5, _pays),
    Column("loaded", 8, lambda entry: memory(entry.served.missed), optional=1),
    Column("", _BAR, lambda entry: text(bar(entry.served.rate, _BAR), BAR), right=False, optional=6),
)


@dataclass(frozen=True, slots=True)
class _Slots:
    """A layer's number, and of each size its experts among the most used ones that fit."""

    layer: int
    slots: tuple[int, ...]


_LAYERS: Listing[_Slots] = Listing(
    lambda row: row.layer, (Order("layer", lambda row: row.layer, ascending=True),)
)


def _slots(sizing: CacheSizing) -> list[_Slots]:
    by_layer = zip(*(entry.slots.tolist() for entry in sizing.sizes), strict=True)
    return [_Slots(layer, slots) for layer, slots in zip(sizing.layers, by_layer, strict=True)]


def _column(place: int, entry: CacheSize) -> Column[_Slots]:
    """Of the sizes the middle ones make way where it is narrow."""
    return Column(chosen_size(entry.rates.bytes), 8, lambda row: str(row.slots[place]), optional=place % 2)


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LAYERS.axis([] if snapshot.cache is None else _slots(snapshot.cache), state)


def _title(sizing: CacheSizing, snapshot: Snapshot) -> list[Line]:
    low, high = (memory(int(count)) for count in (sizing.expert_bytes.min(), sizing.expert_bytes.max()))
    items: list[Line] = [
        (text(f"The latest {whole(sizing.steps)} of {whole(snapshot.steps.decode)} decode steps", TITLE),),
        (text("experts of ", FAINT), text(low if low == high else f"{low} to {high}")),
        (text("all ", FAINT), text(memory(sizing.total))),
        (text("a token uses ", FAINT), text(memory(sizing.token_bytes))),
    ]
    if sizing.knee is not None:
        items.append(
            (text("knee of LRU ", FAINT), text(f"{memory(sizing.knee)}: {percents(sizing.knee_rate)}"))
        )
    return items


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The sizes, whether each gains, and where there is room the experts of each layer."""
    sizing = snapshot.cache
    if sizing is None:
        return unplanned("cache", snapshot, width)
    table = Table(_SIZES, width)
    title = _title(sizing, snapshot)
    if table.narrow:
        title.append((text(table.narrow, CAUTION),))
    lines = [*flow(title, width), table.header(), *[table.row(entry) for entry in sizing.sizes]]
    room = height - len(lines)
    if room < _FEWEST_LAYERS:
        return lines[:height]
    if room > _ROOMY:
        lines, room = [*lines, ()], room - 1
    columns: list[Column[_Slots]] = [Column("layer", 5, lambda row: str(row.layer))]
    columns += [_column(place, entry) for place, entry in enumerate(sizing.sizes)]
    head: Line = (text("Experts of each layer that fit, in hindsight", TITLE),)
    slots = _LAYERS.lines(_slots(sizing), columns, state, width=width, height=room, title=[head])
    return [*lines, *slots]


VIEW = View(
    key="C",
    title="Cache",
    brief="Ca",
    render=render,
    gist="What a cache of so many bytes would have served. All but static start empty.",
    reading=(
        "The latest decode steps are replayed through caches. Optimum gives up what is needed last in the "
        "future: a bound. LRU and LFU are one cache over all layers, * a cache a layer, of an equal part or, "
        "if that is more, of what a step of the layer needs. Static are the most used experts of one half of "
        "the steps, tested on the other. Of all is the share of all experts, and what as many at random "
        f"serve: a size pays if the best of LRU and LFU avoids at least {PAYS:.0%} of their misses, helps "
        f"some from {HELPS:.0%} on, and either by four standard errors; loaded is what that one reads a "
        "token. Caches are empty at first, so few steps make them look worse than they are: moe-live plan "
        "cache LOG replays more. The experts of each layer among the most used ones that "
        "fit are known with hindsight: what to give each layer."
    ),
    sections=frozenset({Section.LATEST}),
    plan="cache",
    rows=_axis,
    opens=True,
)
