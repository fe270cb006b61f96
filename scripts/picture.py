"""Draws the picture of the dashboard that the README shows, from the log of a simulated server.

Usage: scripts/picture.py docs/dashboard.svg
"""

import io
import sys
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from moe_live.analyzer import Analyzer
from moe_live.dashboard.frame import draw_static
from moe_live.pace import Pace
from moe_live.session import Status
from moe_live.simulator import HEADER, SimulatedServer
from moe_live.sources.source import SourceStatus, State

WIDTH, HEIGHT, REQUESTS = 120, 40, 6

server = SimulatedServer(seed=1)
analyzer = Analyzer()
analyzer.feed(HEADER)
for request in islice(server.requests(), REQUESTS):
    for step in server.serve(request):
        analyzer.feed(step.text)
analyzer.finish()

size = analyzer.tally.bytes
source = SourceStatus(
    "/var/log/moe_expert_selection.log", State.FOLLOWING, position=size, size=size, watch="events"
)
status = Status(
    source,
    elapsed=60.0,
    bytes_per_second=620e3,
    lines_per_second=2080.0,
    prefill=Pace(),
    decode=Pace(46.9),
    seconds_left=0,
)
console = Console(record=True, file=io.StringIO(), width=WIDTH, height=HEIGHT, color_system="truecolor")
console.print(draw_static(analyzer.snapshot(), status, width=WIDTH, height=HEIGHT))
Path(sys.argv[1]).write_text(console.export_svg(title="moe-live", theme=MONOKAI))
