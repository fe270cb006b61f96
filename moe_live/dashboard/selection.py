"""What is chosen to be looked at: one choice for all views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from moe_live.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """What is chosen; None where nothing is.

    Attributes:
        layer: the number of a layer.
        expert: the number of an expert of it.
        partner: that of another one, where two are looked at.
        label: a label.
    """

    layer: int | None = None
    expert: int | None = None
    partner: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """What arrows move over.

    Attributes:
        count: how many choices there are.
        at: index of the present one.
        choice: the selection that is made with each.
    """

    count: int
    at: int
    choice: Callable[[int], Selection]

    def moved(self, by: int) -> Selection:
        """The choice so many further on, at most the last or the first; there are some."""
        return self.choice(max(0, min(self.count - 1, self.at + by)))


NO_AXIS = Axis(0, 0, lambda _: Selection())


@dataclass(slots=True)
class Window:
    """The visible part of a list. It moves when it must to show what was chosen, and by itself never.

    Attributes:
        first: the first entry shown.
        page: how many are.
        shows: the selection it was last moved to show; None to have the next one in the middle.
    """

    first: int = 0
    page: int = 1
    shows: Selection | None = field(default_factory=Selection)

    def over(self, total: int, visible: int) -> range:
        """The entries of `total` to show where `visible` fit; moves it back into bounds."""
        self.page = max(1, visible)
        self.first = max(0, min(self.first, total - self.page))
        return range(self.first, min(total, self.first + self.page))

    def scrolled(self, by: int, total: int) -> range:
        """The entries to show after moving on by so many."""
        self.first += by
        return self.over(total, self.page)

    def around(self, total: int, visible: int, selection: Selection, at: int) -> range:
        """The same, and `at` is among them if the selection, which stands there, is new."""
        self.page = max(1, visible)
        if self.shows is None:
            self.first = at - self.page // 2
        elif self.shows != selection:
            self.first = max(min(self.first, at), at - self.page + 1)
        self.shows = selection
        return self.over(total, visible)
