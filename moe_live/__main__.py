"""`python -m moe_live`."""

from moe_live.cli import entry_point

entry_point()
