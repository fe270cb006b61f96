"""What is known of one expert, in a line."""

from __future__ import annotations

import numpy as np

from moe_live.dashboard.canvas import Line, line_width, text
from moe_live.dashboard.state import Phase
from moe_live.dashboard.theme import FAINT, STRONG
from moe_live.dashboard.view import counts_of
from moe_live.dataclass import dataclass
from moe_live.formatting import percent, times, whole
from moe_live.snapshot import LayerUsage, Snapshot


@dataclass(frozen=True, slots=True)
class Standing:
    """An expert among those of its layer.

    Attributes:
        layer: the number of the layer.
        expert: its own.
        count: its selections.
        selections: those of all experts of the layer.
        rank: 1 for the most used; of those used alike the one with the lowest number comes first.
        multiple: its use relative to uniform use; 0 as long as nothing was selected.
        idle_steps: decode steps since the latest that used it, 0 for that itself, inf for more than can be
            told; None if none did, or it is not known.
    """

    layer: int
    expert: int
    count: int
    selections: int
    rank: int
    multiple: float
    idle_steps: float | None

    @property
    def share(self) -> float:
        """Its share of the selections."""
        return self.count / max(1, self.selections)


def standing(snapshot: Snapshot, entry: LayerUsage, expert: int, phase: Phase) -> Standing:
    """Where an expert of a layer stands in the steps of a phase."""
    counts = counts_of(entry.usage, phase)
    count, selections = int(counts[expert]), int(counts.sum())
    rank = 1 + np.count_nonzero(counts > count) + np.count_nonzero(counts[:expert] == count)
    return Standing(
        entry.layer,
        expert,
        count,
        selections,
        int(rank),
        count * len(counts) / max(1, selections),
        None if phase is Phase.PREFILL else _idle_steps(snapshot, entry.layer, expert),
    )


def _idle_steps(snapshot: Snapshot, layer: int, expert: int) -> float | None:
    for locality in snapshot.locality or ():
        if locality.layer == layer:
            steps = float(locality.idle_steps[expert])
            return None if np.isnan(steps) else steps
    return None


def readout(found: Standing, width: int, *, hottest: bool = False, of: str = "") -> Line:
    """The line, in at most `width` columns: less important facts are left out first.

    Args:
        found: the expert.
        width: columns.
        hottest: it is shown because no other is used as much, relative to uniform use.
        of: the steps that its share is of, "" where they stand above.
    """
    facts = [f"expert {found.expert}"]
    if found.count:
        facts += [
            f"{percent(found.share)[:-1]} %{of and f' of {of}'}",
            times(found.multiple),
            "hottest of all" if hottest else f"{_ordinal(found.rank)} in layer",
            *([] if found.idle_steps is None else [_last_used(found.idle_steps)]),
            f"{whole(found.count)} of {whole(found.selections)} selections",
        ]
    else:
        facts.append("never used")
    line: Line = (text(f"layer {found.layer}", STRONG),)
    for fact in facts:
        if line_width(line) + 3 + len(fact) > width:
            break
        line = (*line, text(" · ", FAINT), text(fact, STRONG if fact is facts[0] else None))
    return line


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _last_used(steps: float) -> str:
    if not steps:
        return "used in the last step"
    if steps == np.inf:
        return "last used 1000 or more steps ago"
    return f"last used {steps:.0f} step{'s'[: steps != 1]} ago"
