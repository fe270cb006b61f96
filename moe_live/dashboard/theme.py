"""What a terminal can show, and the styles of the dashboard, named by what they say."""

from __future__ import annotations

from enum import Enum

from rich.color import ColorSystem
from rich.style import Style

from moe_live.dashboard.heat import DARK, DARK_16, DARK_BLANKS, LIGHT, LIGHT_16, LIGHT_BLANKS, Ramp
from moe_live.dataclass import dataclass

STRONG = Style(bold=True)
FAINT = Style(dim=True)
TITLE = Style(bold=True, color="cyan")
GOOD = Style(color="green")
BUSY = Style(bold=True, color="blue")
CAUTION = Style(color="yellow")
ALERT = Style(bold=True, color="red")
BANNER = Style(bold=True, color="black", bgcolor="yellow")
SELECTED = Style(bold=True, reverse=True)
BAR = Style(color="cyan")
COLD_BAR = Style(color="blue")

ON_LIGHT = {
    TITLE: Style(bold=True, color="blue"),
    CAUTION: Style(color="magenta"),
    BAR: Style(color="blue"),
    COLD_BAR: Style(color="bright_black"),
}
"""What is hard to read on a light background, and what stands for it there."""


class Theme(Enum):
    """The background of the terminal, or that it is to be asked for."""

    AUTO = "auto"
    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can show.

    Attributes:
        system: its colours; None for none: bold, faint and reverse remain.
        light: whether its background is light.
        ascii_only: whether only ASCII is to be shown.
        block_halves: whether both halves of a character can have any colour.
    """

    system: ColorSystem | None = ColorSystem.TRUECOLOR
    light: bool = False
    ascii_only: bool = False
    block_halves: bool = True

    @property
    def ramp(self) -> Ramp | None:
        """How shades look; None where they are glyphs."""
        if self.system is None:
            return None
        if self.system not in (ColorSystem.STANDARD, ColorSystem.WINDOWS):
            return LIGHT if self.light else DARK
        if self.ascii_only:
            return LIGHT_BLANKS if self.light else DARK_BLANKS
        return LIGHT_16 if self.light else DARK_16

    @property
    def halves(self) -> bool:
        """Whether the halves of a cell can have different shades."""
        return self.block_halves and self.system is not None and not self.ascii_only

    def styled(self, style: Style) -> Style:
        """The style as it is shown here."""
        return ON_LIGHT.get(style, style) if self.light else style
