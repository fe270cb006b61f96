"""What the dashboard writes to files: each kind, where, and beside what is there."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from moe_live.dashboard import draw_static
from moe_live.dashboard.state import Kept
from moe_live.dashboard.theme import Look
from moe_live.errors import MoeLiveError
from moe_live.keeping import keep
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from tests.dashboard.factory import status
from tests.reports.snapshots import analyzed_with_labels

SNAPSHOT = analyzed_with_labels()
FRAME = draw_static(SNAPSHOT, status(), width=100, height=30, view="Heatmap")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_figures_are_those_of_the_reports() -> None:
    assert json.loads(Path(keep(Kept.JSON, SNAPSHOT, FRAME)).read_text()) == to_json(SNAPSHOT)
    assert Path(keep(Kept.TABLES, SNAPSHOT, FRAME)).read_text().splitlines() == list(summary_lines(SNAPSHOT))
    assert "<!doctype html>" in Path(keep(Kept.PAGE, SNAPSHOT, FRAME)).read_text().lower()


@pytest.mark.parametrize("light", [True, False])
def test_a_picture_has_the_text_of_the_frame(*, light: bool) -> None:
    frame = draw_static(SNAPSHOT, status(), width=100, height=30, view="Balance", look=Look(light=light))
    root = ET.fromstring(Path(keep(Kept.PICTURE, SNAPSHOT, frame)).read_text())
    assert root.tag.endswith("svg")
    words = {word for text in root.itertext() for word in text.split()}
    assert {"Balance", "balance", "effective"} <= words
    assert len(root) > 100


def test_nothing_that_is_there_is_written_over(here: Path) -> None:
    names = {keep(kept, SNAPSHOT, FRAME) for kept in Kept for _ in range(3)}
    assert len(names) == 3 * len(Kept)
    assert names == {path.name for path in here.iterdir()}


def test_what_cannot_be_written_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(MoeLiveError, match="cannot write"):
        keep(Kept.JSON, SNAPSHOT, FRAME)
