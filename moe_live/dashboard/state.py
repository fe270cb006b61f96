"""What the user has chosen to see."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """Which steps a figure of use counts."""

    ALL = "all"
    PREFILL = "prefill"
    DECODE = "decode"

    @property
    def next(self) -> Phase:
        """The phase the key switches to."""
        phases = list(Phase)
        return phases[(phases.index(self) + 1) % len(phases)]


@dataclass(slots=True)
class Place:
    """Where one view stands.

    Attributes:
        offset: first row shown, or the row chosen.
        page: rows a page key moves by.
        sort: index into the view's sort orders.
        reverse: whether that order is turned around.
    """

    offset: int = 0
    page: int = 1
    sort: int = 0
    reverse: bool = False


@dataclass(slots=True)
class ViewState:
    """What the user has chosen to see; views read it and only move `Place.offset` back into bounds.

    Attributes:
        view: index of the view.
        phase: which steps count where that can be chosen.
        paused: the figures stand still; reading goes on.
        help: the keys are shown instead of the view.
        confirming: the next press of the same key starts the statistics anew.
        entry: what was typed so far for a label; None while nothing is typed.
        label: the label typed last.
        colour: whether shades are colours; glyphs otherwise.
        places: where each view stands, by index.
    """

    view: int = 0
    phase: Phase = Phase.ALL
    paused: bool = False
    help: bool = False
    confirming: bool = False
    entry: str | None = None
    label: str = ""
    colour: bool = True
    places: defaultdict[int, Place] = field(default_factory=lambda: defaultdict(Place))

    _HELP = -1

    @property
    def place(self) -> Place:
        """Where the present view stands; the help has its own place."""
        return self.places[self._HELP if self.help else self.view]

    def window(self, total: int, visible: int) -> range:
        """The rows of `total` to show where `visible` fit; moves the offset back into bounds."""
        place = self.place
        visible = max(1, visible)
        place.page = visible
        place.offset = max(0, min(place.offset, total - visible))
        return range(place.offset, min(total, place.offset + visible))

    def chosen(self, total: int, page: int = 10) -> int:
        """The chosen row of `total`; moves the choice back into bounds."""
        place = self.place
        place.page = max(1, page)
        place.offset = max(0, min(place.offset, total - 1))
        return place.offset
