"""One view as lines of text, for where nothing is to be pressed and nothing moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TextIO

from moe_live import view_names
from moe_live.dashboard.frame import MIN_HEIGHT, MIN_WIDTH, draw_static
from moe_live.dashboard.screen import ansi
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.pace import UNTIMED
from moe_live.running import Status
from moe_live.snapshot import Snapshot


def print_view(
    snapshot: Snapshot,
    status: Status,
    out: TextIO,
    *,
    view: str,
    look: Look,
    styled: bool,
    width: int,
    height: int,
) -> None:
    """Write a view without the line of keys; what the encoding of `out` lacks is written as an escape.

    Args:
        snapshot: what is shown.
        status: of the run; how fast it was read is left out.
        out: where to.
        view: its name, of those in `view_names`.
        look: what `out` can show.
        styled: whether escape codes mean anything there.
        width: columns there are; the smallest dashboard takes more if need be, as it does of
        height: lines, one of them for the prompt that follows.
    """
    title = VIEWS[list(view_names.VIEWS).index(view)].title
    still = replace(status, bytes_per_second=0.0, lines_per_second=0.0, prefill=UNTIMED, decode=UNTIMED)
    size = {"width": max(width, MIN_WIDTH), "height": max(height, MIN_HEIGHT)}
    frame = draw_static(snapshot, still, view=title, look=look, **size)
    lines = [ansi(line, look) for line in frame.lines] if styled else frame.plain.splitlines()
    encoding = out.encoding or "utf-8"
    text = "\n".join(line.rstrip() for line in lines[:-1]).rstrip("\n") + "\n"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding))
