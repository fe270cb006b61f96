"""The list of hot experts as other programs read it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from moe_live.outputs.hot_list import HotListFile
from moe_live.snapshot import Usage
from tests.reports.snapshots import EMPTY, analyzed_with_labels


def test_json_and_csv_agree_with_the_counts(tmp_path: Path) -> None:
    snapshot = analyzed_with_labels()
    HotListFile(str(tmp_path / "hot.json"), 20).finish(snapshot)
    HotListFile(str(tmp_path / "hot.csv"), 20).finish(snapshot)
    written = json.loads((tmp_path / "hot.json").read_text())
    assert written["schema"] == "moe-live.hot-experts/1"
    experts = written["experts"]
    with (tmp_path / "hot.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(map(str, entry.values())) for entry in experts] == [list(row.values()) for row in rows]
    assert list(rows[0]) == ["layer", "expert", "count", "share", "rank"]
    counts = sorted((int(count) for count in snapshot.resident_counts.reshape(-1)), reverse=True)
    assert snapshot.prompt_share > 0
    assert [entry["count"] for entry in experts] == counts[:20]
    for entry in experts:
        (decode,) = (known.usage.decode for known in snapshot.layers if known.layer == entry["layer"])
        usage = Usage(decode, decode)
        assert usage.counts[entry["expert"]] == entry["count"]
        assert entry["share"] == entry["count"] / usage.selections
        assert usage.top(entry["rank"])[-1].count == entry["count"]


def test_more_than_there_are_and_none_at_all(tmp_path: Path) -> None:
    snapshot = analyzed_with_labels()
    path = tmp_path / "hot.json"
    HotListFile(str(path), 10_000).finish(snapshot)
    assert len(json.loads(path.read_text())["experts"]) == (snapshot.counts > 0).sum()
    HotListFile(str(path), 10).finish(EMPTY)
    assert json.loads(path.read_text())["experts"] == []
