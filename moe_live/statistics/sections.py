"""The statistics whose figures are made on demand: each is a line here, and a field for what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Self

from moe_live.dataclass import dataclass
from moe_live.statistics.coactivation import PAIRS
from moe_live.statistics.drift import DRIFT, Drift
from moe_live.statistics.history import HISTORY, History
from moe_live.statistics.labels import LABELS, Labels
from moe_live.statistics.latest import LATEST, Uses
from moe_live.statistics.layer_locality import LayerLocality
from moe_live.statistics.pairs import LayerPairs
from moe_live.statistics.reuse_totals import ReuseTotals
from moe_live.statistics.sequences import LOCALITY, REUSE
from moe_live.statistics.statistic import OnDemand
from moe_live.statistics.transitions import TRANSITIONS, LayerTransition


class Section(Enum):
    """Figures that are made only when they are asked for, because making them takes time.

    Attributes:
        statistic: what is kept for them, and how they are made.
    """

    statistic: OnDemand[Any]

    DRIFT = DRIFT
    LOCALITY = LOCALITY
    REUSE = REUSE
    PAIRS = PAIRS
    TRANSITIONS = TRANSITIONS
    HISTORY = HISTORY
    LABELS = LABELS
    LATEST = LATEST

    def __new__(cls, statistic: OnDemand[Any]) -> Self:
        """Its value is the name it has in a warning."""
        section = object.__new__(cls)
        section._value_ = statistic.name
        section.statistic = statistic
        return section

    @property
    def field(self) -> str:
        """The name of the field of `Sections` that holds them."""
        return self.name.lower()


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Sections:
    """The figures of each `Section`; None if they were not asked for, or are left out."""

    drift: Drift | None = None  # the latest decode steps beside all; its layers are those of the snapshot
    locality: tuple[LayerLocality, ...] | None = None  # of each layer with decode steps
    reuse: ReuseTotals | None = None  # what that comes to over all layers
    pairs: Mapping[int, LayerPairs] | None = None  # by layer, experts chosen together
    transitions: tuple[LayerTransition, ...] | None = None  # how experts foretell those of the next layer
    history: History | None = None  # use over time; its layers are those of the snapshot
    labels: Labels | None = None  # use by label; their layers are those of the snapshot
    latest: Uses | None = None  # which experts the latest steps use; None too if these are not kept
