"""One row a layer: how many selections, how many experts, which ones lead."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, text
from moe_live.dashboard.listing import GUTTER, Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import CAUTION, TITLE
from moe_live.dashboard.view import View, absent, counts_of
from moe_live.dataclass import dataclass
from moe_live.formatting import percent, times, whole
from moe_live.snapshot import Snapshot
from moe_live.verdicts import FEW

_RANKS = ("top expert", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th")
_RANK_WIDTH = 11
_COUNT_WIDTH = 13


@dataclass(frozen=True)
class _Row:
    """One layer: (n_experts,) counts of the phase, selections of prefill and decode."""

    layer: int
    counts: NDArray[np.int64]
    prefill: int
    decode: int

    @cached_property
    def selections(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def order(self) -> list[int]:
        """The leading experts, most selected first."""
        leading: list[int] = np.argsort(-self.counts, kind="stable")[: len(_RANKS)].tolist()
        return leading

    @property
    def used(self) -> int:
        return int(np.count_nonzero(self.counts))

    @property
    def top_share(self) -> float:
        return int(self.counts.max()) / max(1, self.selections)

    def leader(self, rank: int) -> str:
        if rank >= len(self.order) or not self.counts[self.order[rank]]:
            return "–"
        expert = self.order[rank]
        return f"#{expert} {percent(int(self.counts[expert]) / self.selections):>5}"

    def ratio(self) -> str | Segment:
        if not self.selections:
            return "–"
        ratio = times(self.top_share * len(self.counts))
        return text(ratio, CAUTION) if self.selections < FEW * len(self.counts) else ratio


def _ranked(rank: int) -> Column[_Row]:
    return Column(_RANKS[rank], _RANK_WIDTH, lambda row: row.leader(rank), optional=rank)


_COLUMNS: tuple[Column[_Row], ...] = (
    Column("layer", 5, lambda row: str(row.layer)),
    Column("selections", _COUNT_WIDTH, lambda row: whole(row.selections, _COUNT_WIDTH)),
    Column("prefill", _COUNT_WIDTH, lambda row: whole(row.prefill, _COUNT_WIDTH), optional=4),
    Column("decode", _COUNT_WIDTH, lambda row: whole(row.decode, _COUNT_WIDTH), optional=3),
    Column("used", 9, lambda row: f"{row.used}/{len(row.counts)}"),
    Column("× uniform", 9, lambda row: row.ratio()),
    *(_ranked(rank) for rank in range(3)),
)
_MORE = tuple(_ranked(rank) for rank in range(3, len(_RANKS)))
_LISTING: Listing[_Row] = Listing(
    lambda row: row.layer,
    (
        Order("layer", lambda row: row.layer, ascending=True),
        Order("selections", lambda row: row.selections),
        Order("used", lambda row: row.used),
        Order("top expert", lambda row: row.top_share),
    ),
)


def _rows(snapshot: Snapshot, state: ViewState) -> list[_Row]:
    return [
        _Row(
            entry.layer,
            counts_of(entry.usage, state.phase),
            int(entry.usage.prefill.sum()),
            int(entry.usage.decode.sum()),
        )
        for entry in snapshot.layers
    ]


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(_rows(snapshot, state), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The table, its visible rows."""
    if not snapshot.layers:
        return absent(snapshot)
    rows = _rows(snapshot, state)
    title: list[Line] = [(text(f"Layers · {state.phase.value} steps", TITLE),)]
    if max(row.selections for row in rows) < FEW * len(rows[0].counts):
        title.append((text("few selections: shares are noisy", CAUTION),))
    spare = width - GUTTER - sum(column.width + 2 for column in _COLUMNS)
    columns = [*_COLUMNS, *_MORE[: max(0, spare // (_RANK_WIDTH + 2))]]
    return _LISTING.lines(rows, columns, state, width=width, height=height, title=title)


VIEW = View(
    key="3",
    title="Layers",
    brief="Lay",
    render=render,
    gist="How much each layer was used, by how many of its experts, and which ones lead.",
    reading=(
        "Selections: how often experts of the layer were chosen (tokens times top-k). Used: experts "
        "chosen at least once, of all. × uniform: the top expert's use, relative to every expert being "
        "chosen equally often. Then the leading experts, each with its share of the layer's selections."
    ),
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
    phases=True,
)
