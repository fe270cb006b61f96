"""The page as a file: what is in it, and what is not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.cli import main
from moe_live.errors import MoeLiveError
from moe_live.outputs.page import PageFile
from moe_live.reports.json_report import to_json
from moe_live.reports.page import MAX_SIZE, live_page, page_with
from tests.dashboard.factory import snapshot
from tests.reports.snapshots import EMPTY, FULL, analyzed_with_labels


def held(page: str) -> dict[str, Any]:
    """The summary in a page."""
    packed = re.search(r'<script type="text/plain" id="summary">([A-Za-z0-9+/=]*)</script>', page)
    assert packed is not None
    summary: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    return summary


def without_fractions(value: Any) -> Any:
    """The same, with fractions as six digits."""
    if isinstance(value, float):
        return f"{value:.5e}"
    if isinstance(value, list):
        return [without_fractions(item) for item in value]
    return {key: without_fractions(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("shown", [EMPTY, FULL, analyzed_with_labels()])
def test_it_holds_the_summary(shown: Any) -> None:
    summary = to_json(shown)
    assert without_fractions(held(page_with(summary))) == without_fractions(summary)


def test_it_names_nothing_outside_itself() -> None:
    for page in (page_with(to_json(FULL)), live_page()):
        addresses = set(re.findall(r"[a-z]+://[^\s\"')]+", page))
        assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address
        assert not re.findall(r"\b(?:src|href)=\"(?!#|data:,)", page)
        assert "{{" not in page
        assert not re.findall(r"\son[a-z]+=", page)
        assert "innerHTML" not in page


def test_only_its_own_script_and_style_are_allowed() -> None:
    for page, server in ((page_with(to_json(FULL)), "'none'"), (live_page(), "'self'")):
        found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert found is not None
        policy = dict(entry.split(" ", 1) for entry in found[1].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["connect-src"] == server
        for tag in ("script", "style"):
            (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


HOSTILE = "</script><script>window.hacked=1</script><!--\u2028\u2029\x00\udcff&\"'{{script}}"


def test_hostile_text_does_not_appear_in_it() -> None:
    summary = to_json(snapshot(path=HOSTILE, warnings=(HOSTILE,)))
    page = page_with(summary)
    assert "hacked" not in page
    assert page.count("</script>") == 2
    assert held(page)["warnings"] == [HOSTILE]


def large(labels: int) -> dict[str, Any]:
    """A summary of a long run of 94 layers of 512 experts, as incompressible as it can be."""
    random = np.random.default_rng(5)
    layers, experts = 94, 512

    def counts() -> list[int]:
        found: list[int] = random.integers(0, 2_000_000, experts).tolist()
        return found

    def curve() -> list[float]:
        found: list[float] = np.sort(random.random(experts)).tolist()
        return found

    return {
        "layers": [
            {
                "layer": layer,
                "counts": counts(),
                "prefill_counts": counts(),
                "decode_counts": counts(),
                "locality": {"lru_hit_rate": curve(), "static_hit_rate": curve()},
            }
            for layer in range(layers)
        ],
        "labels": [
            {
                "label": f"label {i}",
                "tokens": 1,
                "layers": [{"layer": n, "counts": counts()} for n in range(layers)],
            }
            for i in range(labels)
        ],
    }


@pytest.mark.parametrize(("labels", "kept"), [(0, True), (1, True), (8, False)])
def test_it_is_small_however_large_the_model(labels: int, kept: bool) -> None:
    summary = large(labels)
    page = page_with(summary)
    assert len(page.encode()) <= MAX_SIZE
    found = held(page)
    assert found["layers"][93]["counts"] == summary["layers"][93]["counts"]
    assert all(("layers" in label) is kept for label in found["labels"])
    assert [label["label"] for label in found["labels"]] == [label["label"] for label in summary["labels"]]
    assert ("left_out" in found) is not kept


def test_the_option_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, page = tmp_path / "moe.log", tmp_path / "page.html"
    log.write_bytes(b"layer_id,expert_ids\n" + b"0,1 2\n1,1 3\n" * 50)
    assert main([str(log), "--html", str(page), "--json", str(tmp_path / "s.json")]) == 0
    assert "lines: 101" in capsys.readouterr().out
    assert held(page.read_text())["source"] == json.loads((tmp_path / "s.json").read_text())["source"]


def test_a_file_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(b"0,1 2\n")
    for path, reason in (
        (tmp_path / "no" / "page.html", "its directory does not exist"),
        (log, "it is the log itself"),
    ):
        assert main([str(log), "--html", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == f"moe-live: cannot write the page to {path}: {reason}; name another file\n"
    assert main([str(log), "--json", str(tmp_path / "x"), "--html", str(tmp_path / "x")]) == 2
    assert "it is where the JSON summary goes" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_at_the_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MoeLiveError, match="cannot write the page"):
        PageFile(str(tmp_path / "gone" / "page.html")).finish(EMPTY)
