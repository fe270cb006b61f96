"""The live dashboard: views of a `Snapshot` in a terminal."""

from moe_live.dashboard.frame import Frame, draw_static
from moe_live.dashboard.run import Ending, Reason, run_dashboard

__all__ = ["Ending", "Frame", "Reason", "draw_static", "run_dashboard"]
