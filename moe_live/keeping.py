"""What the dashboard writes to a file when its user asks for it."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path

from moe_live.dashboard.frame import Frame
from moe_live.dashboard.picture import svg
from moe_live.dashboard.state import Kept
from moe_live.reports.files import write_text
from moe_live.reports.json_report import json_text, to_json
from moe_live.reports.page import page_with
from moe_live.reports.summary import write_summary
from moe_live.snapshot import Snapshot

_ENDINGS = {Kept.JSON: "json", Kept.TABLES: "txt", Kept.PAGE: "html", Kept.PICTURE: "svg"}


def keep(kept: Kept, snapshot: Snapshot, frame: Frame) -> str:
    """Write it to a file in the current directory that is not there yet, and return its name.

    Args:
        kept: what.
        snapshot: with all sections.
        frame: what is shown.

    Raises:
        MoeLiveError: it cannot be written.
    """
    stem = time.strftime("moe-live-%Y%m%d-%H%M%S")
    names = (f"{stem}{more}.{_ENDINGS[kept]}" for more in itertools.chain([""], itertools.count(-2, -1)))
    name = next(name for name in names if not Path(name).exists())
    write_text(_text(kept, snapshot, frame), name, "what was asked for")
    return name


def _text(kept: Kept, snapshot: Snapshot, frame: Frame) -> str:
    if kept is Kept.PICTURE:
        return svg(frame)
    if kept is Kept.PAGE:
        return page_with(to_json(snapshot))
    if kept is Kept.JSON:
        return json_text(snapshot)
    out = io.StringIO()
    write_summary(snapshot, out)
    return out.getvalue()
