"""The most used experts as a list for other programs: JSON or CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

from moe_live.reports.files import write_text
from moe_live.snapshot import HotExpert, Snapshot

HOT_LIST = "the list of hot experts"


def write_hot_list(snapshot: Snapshot, path: str, n: int) -> None:
    """Write the n experts, over all layers, that serve most selections: the best residents of fast memory.

    Layer, expert, count, share of the layer's selections and rank in the layer, by descending count. CSV if
    the path ends in .csv, else JSON.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    entries = [dataclasses.asdict(expert) for expert in snapshot.hot_list(n)]
    if path.endswith(".csv"):
        out = io.StringIO()
        names = [field.name for field in dataclasses.fields(HotExpert)]
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)
        text = out.getvalue()
    else:
        text = json.dumps({"schema": "moe-live.hot-experts/1", "experts": entries}) + "\n"
    write_text(text, path, HOT_LIST)
