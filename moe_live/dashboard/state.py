"""What the user has chosen to see."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import field, replace
from enum import Enum

from moe_live import settings
from moe_live.dashboard.selection import Selection, Window
from moe_live.dashboard.theme import Look
from moe_live.dashboard.trend import Trend
from moe_live.dataclass import dataclass


class Phase(Enum):
    """Which steps a figure of use counts."""

    ALL = "all"
    PREFILL = "prefill"
    DECODE = "decode"

    @property
    def of_log(self) -> settings.Phase:
        """The same as it is called outside the dashboard."""
        return settings.Phase(self.value)

    @property
    def next(self) -> Phase:
        """The phase the key switches to."""
        phases = list(Phase)
        return phases[(phases.index(self) + 1) % len(phases)]


class CellOf(Enum):
    """What a cell shows that stands for several experts."""

    HOTTEST = "hottest"
    MEAN = "mean"

    @property
    def other(self) -> CellOf:
        """The one the key switches to."""
        return CellOf.MEAN if self is CellOf.HOTTEST else CellOf.HOTTEST


class Asking(Enum):
    """What is being typed."""

    LABEL = "label"
    GO_TO = "go to"
    WRITE = "write"


class Kept(Enum):
    """What can be written to a file from inside, by the key that chooses it."""

    JSON = "j"
    TABLES = "t"
    PAGE = "h"
    PICTURE = "p"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something that is being typed, as far as it is."""

    asking: Asking
    typed: str = ""

    def with_typed(self, typed: str) -> Prompt:
        """The same with other text."""
        return replace(self, typed=typed)


@dataclass(slots=True)
class Place:
    """Where one view stands.

    Attributes:
        rows: the visible ones.
        columns: the visible cells of a heatmap.
        group: experts that a cell of it stands for, as it was drawn last.
        zoom: how much closer it is than needed to see all experts.
        sort: index into the view's sort orders.
        reverse: whether that order is turned around.
    """

    rows: Window = field(default_factory=Window)
    columns: Window = field(default_factory=Window)
    group: int = 1
    zoom: int = 0
    sort: int = 0
    reverse: bool = False


@dataclass(slots=True)
class ViewState:
    """What the user has chosen to see; views read it and only move windows and zoom back into bounds.

    Attributes:
        view: index of the view.
        selection: what is chosen, in all views.
        back: the views to go back to, the last one first to be gone to.
        phase: which steps count where that can be chosen.
        cell_of: what a cell of a heatmap shows that stands for several experts.
        paused: the figures stand still; reading goes on.
        help: the keys are shown instead of the view.
        folded: warnings are counted only, not shown at the top.
        mouse: whether the terminal tells of the mouse.
        confirming: the next press of the same key starts the statistics anew.
        prompt: what is being typed; None for nothing.
        note: what is to be said of the last key, "" for nothing.
        label: the label typed last.
        kept: what is to be written to a file.
        look: what the terminal can show.
        trend: how decode went in the last minutes.
        cache: experts a layer in the cache that is asked about; 0 for a fourth of them.
        places: where each view stands, by index.
    """

    view: int = 0
    selection: Selection = field(default_factory=Selection)
    back: tuple[int, ...] = ()
    phase: Phase = Phase.ALL
    cell_of: CellOf = CellOf.HOTTEST
    paused: bool = False
    help: bool = False
    folded: bool = False
    mouse: bool = False
    confirming: bool = False
    prompt: Prompt | None = None
    note: str = ""
    label: str = ""
    kept: Kept = Kept.JSON
    look: Look = field(default_factory=Look)
    trend: Trend = field(default_factory=Trend)
    cache: int = 0
    places: defaultdict[int, Place] = field(default_factory=lambda: defaultdict(Place))

    _HELP = -1

    @property
    def place(self) -> Place:
        """Where the present view stands; the help has its own place."""
        return self.places[self._HELP if self.help else self.view]
