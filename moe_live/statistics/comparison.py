"""Two runs, or two labels of one, held against each other: what was found."""

from __future__ import annotations

import math

from moe_live.dataclass import dataclass
from moe_live.formatting import percents
from moe_live.statistics.agreement import RowAgreement
from moe_live.statistics.likeness import Likeness

FIGURES = {
    "entropy_normalized": "entropy over its maximum, mean of layers",
    "experts_90": "experts that serve 90 %, mean of layers",
    "unused": "unused experts",
    "overlap": "overlap with the step before",
    "lru": "LRU hits, a fourth of the experts",
}
"""What stands side by side, by name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """What two sides have in common.

    Attributes:
        names: what the sides are called.
        layers: those of both, ascending.
        figures: of each side: `entropy_normalized` and `experts_90`, means of layers; `unused`; of a log also
            `overlap` with the step before and `lru`, hits in a cache of a fourth of each layer's experts.
        usage: how alike the usage of the experts is, over decode steps where both have some, else over all.
        rows: what rows of the same step, layer and token have in common; None without rows.
        matched: share of the rows of both logs that have a counterpart in the other.
        same_text: whether the logs are of one text: nearly all rows have a counterpart, and more in common
            with it than with others. None if that cannot be told.
        without_rows: why there are no rows to be held against each other; "" if there are.
    """

    names: tuple[str, str]
    layers: tuple[int, ...]
    figures: tuple[dict[str, float], dict[str, float]]
    usage: Likeness
    rows: RowAgreement | None = None
    matched: float = 0.0
    same_text: bool | None = None
    without_rows: str = ""

    @property
    def agreement(self) -> float:
        """One figure, 0 to 1: of the experts of one text's rows, else of the selections; NaN without any."""
        if self.same_text and self.rows is not None:
            return self.rows.spans.share(shifted=False)
        known = [share for share in self.usage.common.tolist() if math.isfinite(share)]
        return sum(known) / len(known) if known else math.nan

    @property
    def conclusion(self) -> str:
        """The result in a sentence."""
        common = percents(self.agreement)
        if self.rows is not None and self.same_text:
            many = int(self.rows.rows.sum())
            if not many:
                return "one text: no row has a counterpart in the other log"
            mean, width = self.rows.common.sum() / many, self.rows.width.sum() / many
            return f"one text: {mean:.2f} of {width:g} experts of a row in common ({common})"
        if self.rows is None:
            return f"{self.without_rows}: {common} of the selections in common"
        if self.same_text is None:
            return f"too few steps to tell whether this is one text: {common} of the selections in common"
        return f"other texts: {common} of the selections in common"
