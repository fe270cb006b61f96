"""The styles of the dashboard, named by what they say.

They use the terminal's own colours: these fit light and dark ones.
"""

from rich.style import Style

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
