"""The page in a real browser."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from moe_live.cli import main
from moe_live.dashboard.heat import shades
from moe_live.reports.json_report import to_json
from moe_live.reports.page import live_page, page_with
from moe_live.simulator import HEADER, ModelShape, SimulatedServer
from tests.dashboard.factory import snapshot
from tests.outputs.browser import Watched, browser, needs_chromium, opened
from tests.outputs.served import serving

__all__ = ["browser"]  # a fixture

pytestmark = needs_chromium

SECTIONS = (
    "verdicts",
    "heatmap",
    "layer",
    "layers",
    "balance",
    "hot-set",
    "cache",
    "overlap",
    "pairs",
    "next-layer",
    "drift",
    "labels",
    "distances",
    "plans",
    "input",
)

LATER = {
    "budget": [{"experts": 10, "bytes": 1e9, "share_uniform": 0.3, "share_best": 0.5, "slots": [1, 2]}],
    "cache": [
        {"bytes": size * 1e9, "optimum": 0.9, "lru": 0.5, "lfu": None, "layer_lru": 0.6, "static_unseen": 0.4}
        for size in (1, 2, 4)
    ],
    "compare": {
        "names": ["a.log", "b.log"],
        "same_text": None,
        "agreement": 0.91,
        "rows": {"matched": 0.95, "layers": [{"layer": 3, "pairs": 9, "in_common": 5.5, "top_k": 6.0}]},
        "usage": {"layers": [3, 4], "in_common": [0.9, None], "js": [0.01, 0.02], "js_within": [[0.1, 0.2]]},
        "figures": [{"overlap": 0.3, "unused": 7.0}, {"overlap": 0.4}],
    },
    "runs": [
        {"run": run, "log": log, "word": word}
        | dict(zip(("logged", "counted", "recovered", "unrecoverable"), rows, strict=True))
        for run, log, word, rows in (
            (1, "a.log", "strided", (12, 5, 1, 7)),
            (2, "b.log", "sound", (3, 3, 0, 0)),
        )
    ],
    "sources": [
        {
            "name": "a.log",
            "left_out": None,
            "rows": {"logged": 1200, "word": "sound"},
            "steps": {"total": 300},
            "hottest": [{"layer": 3, "expert": 7, "count": 10, "share": 0.25}],
            "js": 0.0521,
            "js_by_chance": 0.001,
        },
        {
            "name": "b.log",
            "left_out": "it is damaged",
            "rows": {"logged": 0, "word": ""},
            "steps": {"total": 0},
            "hottest": [],
            "js": None,
            "js_by_chance": None,
        },
    ],
    "cache_gain": {"experts": 4, "lru_hit_rate": 0.58, "chance": 0.25, "gain": 0.33, "gain_error": 0.01},
    "shards": [{"number": 1, "rows": "sound", "tokens": 12}, {"number": 2, "rows": "strided", "tokens": 3}],
    "something_new": {"deep": {"deeper": [1, 2, 3]}, "text": "of tomorrow"},
}
"""Keys that a summary may come to have."""


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(to_json(snapshot(warnings=("one warning", "another")))))
    return found


@pytest.fixture(scope="module")
def address(summary: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a file with all sections of a summary of now."""
    return written(tmp_path_factory.mktemp("page") / "page.html", summary)


def written(path: Path, summary: dict[str, Any]) -> str:
    path.write_text(page_with(summary))
    return path.as_uri()


@pytest.fixture
def watched(browser: Browser, address: str) -> Iterator[Watched]:
    found = opened(browser, address)
    yield found
    assert found.complaints == []
    assert [request.partition("#")[0] for request in found.requests] == [address]
    found.page.close()


def text_of(watched: Watched, selector: str) -> str:
    return watched.page.locator(selector).inner_text().replace("\xa0", " ")


def rows_of(watched: Watched, caption: str) -> list[list[str]]:
    """The cells of a table."""
    table = watched.page.locator("table", has=watched.page.locator("caption", has_text=caption)).first
    lines = table.locator("tbody tr").all()
    return [
        [cell.replace("\xa0", " ") for cell in line.locator("th, td").all_inner_texts()] for line in lines
    ]


def test_every_section_is_there(watched: Watched) -> None:
    for section in SECTIONS:
        expect(watched.page.locator(f"#{section}")).to_be_visible()
        expect(watched.page.locator(f"#{section} h2")).not_to_have_text(re.compile("cannot"))
    linked = watched.page.locator("nav li:visible a").evaluate_all("links => links.map(link => link.hash)")
    assert linked == [f"#{section}" for section in SECTIONS]
    assert "24 MoE layers · 160 experts · top-8" in text_of(watched, "#model")
    assert watched.page.locator(".warnings li").all_inner_texts() == ["one warning", "another"]


def test_verdicts_are_those_of_the_summary(watched: Watched, summary: dict[str, Any]) -> None:
    cards = watched.page.locator(".verdicts li")
    assert cards.count() == len(summary["verdicts"]) == 9
    for i, verdict in enumerate(summary["verdicts"]):
        card = cards.nth(i)
        assert card.locator("h3").inner_text() == verdict["subject"]
        assert card.locator(".word").inner_text() == verdict["word"]
        assert "; ".join(filter(None, card.locator("p:not(.word)").all_inner_texts())) == verdict["text"]
        assert ("unsure" in (card.get_attribute("class") or "")) is not verdict["sure"]


def expected_readout(layer: dict[str, Any], expert: int, counts: str = "counts") -> str:
    """What the heatmap says of an expert, worked out from the summary."""
    own = layer[counts]
    share = own[expert] / sum(own)
    rank = sorted(range(len(own)), key=lambda i: (-own[i], i)).index(expert) + 1
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    percent = f"{100 * share:.1f}" if 100 * share >= 0.995 else f"{100 * share:.2f}" if share else "0"
    ratio = share * len(own)
    times = (
        f"{ratio:.0f}" if ratio >= 99.95 else f"{ratio:.1f}" if ratio >= 0.95 or not ratio else f"{ratio:.2f}"
    )
    return (
        f"Layer {layer['layer']} · expert {expert} · {percent} % · {times}× uniform · "
        f"{rank}{ending} of {len(own)} · {own[expert]:,} of {sum(own):,} selections"
    )


@pytest.mark.slow
def test_the_readout_equals_the_summary(watched: Watched, summary: dict[str, Any]) -> None:
    """By the keyboard, by a click, in another phase, and with the columns in another order."""
    layers, field = summary["layers"], watched.page.locator(".field")
    field.focus()
    for key in ["Home"] + ["ArrowUp"] * 30:
        field.press(key)
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[0], 0)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight", "PageDown", "ArrowLeft"):
        field.press(key)
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], 2)
    field.press("End")
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], 159)
    assert watched.page.url.endswith("#layer-15-expert-159")
    watched.page.select_option("#heatmap-choice", "decode")
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], 159, "decode_counts")
    watched.page.select_option("#heatmap-choice", "all")
    watched.page.select_option("#heatmap-order", "heat")
    field.press("Home")
    hottest = layers[12]["top"][0]["expert"]
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], hottest)
    field.press("ArrowRight")
    second = layers[12]["top"][1]["expert"]
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], second)
    watched.page.select_option("#heatmap-order", "number")
    box = watched.page.locator(".field canvas").bounding_box()
    assert box is not None
    watched.page.mouse.move(box["x"] + (40.5 / 160) * box["width"], box["y"] + (3.5 / 24) * box["height"])
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[3], 40)
    watched.page.mouse.move(5, 5)  # what was chosen before is read out again
    assert text_of(watched, "#heatmap-readout") == expected_readout(layers[12], second)


def test_every_label_can_be_shown(watched: Watched, summary: dict[str, Any]) -> None:
    for label in summary["labels"]:
        watched.page.select_option("#heatmap-choice", f"label {label['label']}")
        watched.page.locator(".field").press("Home")
        assert text_of(watched, "#heatmap-readout").endswith(
            f"of {sum(shown_layer(watched, label)):,} selections"
        )


def shown_layer(watched: Watched, label: dict[str, Any]) -> list[int]:
    number = int(re.findall(r"#layer-(\d+)", watched.page.url)[0])
    (counts,) = [layer["counts"] for layer in label["layers"] if layer["layer"] == number]
    return list(counts)


@pytest.mark.parametrize(("width", "scheme"), [(200, "light"), (360, "dark"), (1280, "light")])
def test_a_cell_is_as_hot_as_the_hottest_expert_in_it(
    browser: Browser, address: str, summary: dict[str, Any], width: int, scheme: Literal["light", "dark"]
) -> None:
    watched = opened(browser, address, width=width, scheme=scheme)
    columns, colours, pixels = watched.page.evaluate(
        """() => {
            const canvas = document.querySelector(".field canvas"), field = document.querySelector(".field");
            const style = getComputedStyle(field);
            const colours = Array.from({length: 13}, (_, i) => style.getPropertyValue(`--heat-${i}`).trim());
            const note = field.parentElement.querySelector(".legend ~ .note").textContent;
            const group = Number((note.match(/stands for (\\d+)/) ?? [0, 1])[1]);
            const columns = Math.ceil(160 / group), rows = 24, found = [];
            const context = canvas.getContext("2d");
            for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
                const right = Math.floor((x + 0.5) / columns * canvas.width);
                const down = Math.floor((y + 0.5) / rows * canvas.height);
                const [r, g, b] = context.getImageData(right, down, 1, 1).data;
                found.push("#" + [r, g, b].map((part) => part.toString(16).padStart(2, "0")).join(""));
            }
            return [columns, colours, found];
        }"""
    )
    group = -(-160 // columns)
    assert (group > 1) is (width < 360 + 40)
    counts = np.array([layer["counts"] for layer in summary["layers"]])
    ratio = counts / counts.sum(axis=1, keepdims=True) * 160
    hottest = np.maximum.reduceat(ratio, np.arange(0, 160, group), axis=1)
    assert len(set(colours)) == 13
    assert pixels == [colours[shade] for shade in shades(hottest).reshape(-1).tolist()]
    watched.page.close()


def test_tables_sort_by_keyboard(watched: Watched) -> None:
    head = watched.page.locator("#balance thead button", has_text="MaxVio")
    head.focus()
    head.press("Enter")
    column = 6

    def figures() -> list[float]:
        return [float(row[column].replace(",", "")) for row in rows_of(watched, "Load balance by layer")]

    assert figures() == sorted(figures(), reverse=True)
    expect(watched.page.locator("#balance th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    head.press("Enter")
    assert figures() == sorted(figures())
    assert len(figures()) == 24


def test_the_tables_equal_the_summary(watched: Watched, summary: dict[str, Any]) -> None:
    for row, layer in zip(rows_of(watched, "Load balance by layer"), summary["layers"], strict=True):
        balance = layer["balance"]
        assert row[0] == str(layer["layer"])
        assert row[1] == f"{balance['entropy_normalized']:.3f}"
        assert row[9] == f"{balance['dead_experts']:,}"
    quarter = 160 // 4 - 1
    for row, layer in zip(rows_of(watched, "Cache by layer"), summary["layers"], strict=True):
        assert float(row[5].rstrip(" %")) == pytest.approx(
            100 * layer["locality"]["lru_hit_rate"][quarter], abs=0.051
        )
    rates = [transition["hit_rate"] for transition in summary["transitions"]]
    for row, rate in zip(rows_of(watched, "Experts of the next"), rates, strict=True):
        assert row[2] == ("–" if rate is None else f"{100 * rate:.1f} %")
    watched.page.select_option("#metric", "euclidean")
    for row, pair in zip(rows_of(watched, "Distances of"), summary["distances"]["pairs"], strict=True):
        assert row[:2] == [str(pair["from"]), str(pair["to"])]
        assert float(row[2]) == pytest.approx(pair["euclidean"]["mean"], rel=1e-3)


def test_the_cache_can_be_asked_for_any_size(watched: Watched, summary: dict[str, Any]) -> None:
    layers = [layer["locality"] for layer in summary["layers"]]
    uses = sum(layer["uses"] for layer in layers)
    slider = watched.page.locator("#cache-size")
    slider.focus()
    slider.press("Home")
    for n in range(1, 11):
        said = watched.page.locator("#cache output").inner_text().replace("\xa0", " ")
        rate = "–"
        if n >= 8:  # fewer cannot hold the experts of a step
            found = sum(layer["uses"] * layer["lru_hit_rate"][n - 1] for layer in layers) / uses
            rate = f"{100 * found:.1f} %"
        assert said.startswith(f"{n} of 160 experts of each layer: {rate} found")
        slider.press("ArrowRight")


@pytest.mark.parametrize(("layer", "expert"), [(20, None), (7, 12)])
def test_a_layer_has_an_address(
    browser: Browser, address: str, summary: dict[str, Any], layer: int, expert: int | None
) -> None:
    fragment = f"#layer-{layer}" + ("" if expert is None else f"-expert-{expert}")
    watched = opened(browser, address + fragment)
    (own,) = [entry for entry in summary["layers"] if entry["layer"] == layer]
    expert = own["top"][0]["expert"] if expert is None else expert
    assert watched.page.locator("#layer h2").inner_text() == f"Layer {layer}"
    assert text_of(watched, "#heatmap-readout") == expected_readout(own, expert)
    expect(watched.page.locator("#layer h2")).to_be_in_viewport()
    expect(watched.page.locator("#layers tr.chosen th")).to_have_text(str(layer))
    watched.page.locator("#layers tbody a").nth(1).click()
    expect(watched.page.locator("#layer h2")).to_have_text("Layer 4")
    watched.page.locator("#layer button", has_text="after").click()
    expect(watched.page.locator("#layer h2")).to_have_text("Layer 5")
    watched.page.go_back()
    expect(watched.page.locator("#layer h2")).to_have_text("Layer 4")
    assert watched.complaints == []
    watched.page.close()


def test_an_address_of_no_layer_is_none(browser: Browser, address: str) -> None:
    watched = opened(browser, address + "#layer-99-expert-5")
    expect(watched.page.locator("#layer h2")).to_have_text(re.compile(r"Layer \d"))
    assert watched.complaints == []
    watched.page.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(360, "dark"), *(pytest.param(width, "light", marks=pytest.mark.slow) for width in (1280, 2560))],
)
def test_nothing_is_wider_than_the_screen(
    browser: Browser, tmp_path: Path, summary: dict[str, Any], width: int, scheme: Literal["light", "dark"]
) -> None:
    watched = opened(browser, written(tmp_path / "page.html", summary | LATER), width=width, scheme=scheme)
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
    for section in (*SECTIONS, "compare", "more"):
        box = watched.page.locator(f"#{section}").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert watched.complaints == []
    watched.page.close()


@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)]
)
def test_everybody_can_use_it(
    browser: Browser, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    """A checker of accessibility finds no fault."""
    small = to_json(snapshot(layers=5, experts=16, first=19, warnings=("one warning",))) | LATER
    watched = opened(browser, written(tmp_path / "page.html", small), width=width, scheme=scheme)
    found = Axe().run(watched.page).response
    assert [(fault["impact"], fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 20
    watched.page.close()


def test_it_can_be_printed(watched: Watched) -> None:
    watched.page.emulate_media(media="print")
    expect(watched.page.locator("nav")).not_to_be_visible()
    for box in watched.page.locator("main section:visible .scroll:visible").all():
        assert box.evaluate("node => node.scrollHeight <= node.clientHeight + 1")
    assert watched.page.pdf(format="A4").startswith(b"%PDF")


def test_later_keys_are_shown(browser: Browser, tmp_path: Path, summary: dict[str, Any]) -> None:
    watched = opened(browser, written(tmp_path / "page.html", summary | LATER))
    assert rows_of(watched, "Experts kept in fast memory") == [["10", "1 GB", "30.0 %", "50.0 %", "1", "2"]]
    expect(watched.page.locator("#cache figure", has_text="of a size").locator("polyline")).to_have_count(4)
    assert "in common\n91.0 %" in text_of(watched, "#compare")
    assert rows_of(watched, "Figures of each") == [
        ["unused experts", "7", "–"],
        ["overlap with the step before", "30.0 %", "40.0 %"],
    ]
    assert rows_of(watched, "Rows of the same step")[0][:4] == ["3", "9", "5.50", "6.0"]
    runs = [["1", "strided", "12", "5", "1", "7", "a.log"], ["2", "sound", "3", "3", "0", "0", "b.log"]]
    assert rows_of(watched, "Runs of the server") == runs
    assert rows_of(watched, "Sources, shown as one") == [
        ["a.log", "sound", "1,200", "300", "layer 3 #7", "25.0 %", "0.052", "0.001"],
        ["b.log", "left out", "0", "0", "–", "–", "–", "–"],
    ]
    gained = "33.0 points above the 25.0 % of experts taken at random, standard error 1.0"
    assert gained in text_of(watched, "#cache")
    assert rows_of(watched, "shards") == [["1", "sound", "12"], ["2", "strided", "3"]]
    assert "of tomorrow" in text_of(watched, "#more")
    assert "1, 2, 3" in text_of(watched, "#more")
    assert watched.complaints == []
    watched.page.close()


def test_two_runs_are_held_against_each_other(browser: Browser, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("a.log", "b.log")]
    for log, seed in zip(logs, (1, 2), strict=True):
        server = SimulatedServer(ModelShape(n_layers=3, n_experts=32, gate_layers=()), seed=seed)
        steps = server.serve(next(server.requests()))
        log.write_bytes(HEADER + b"".join(step.text for step in steps))
    names = [str(log) for log in logs]
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    assert main(["compare", *names, "--html", str(page), "--json", str(told)]) == 0
    compared = json.loads(told.read_text())
    watched = opened(browser, page.as_uri())
    shown = text_of(watched, "#compare")
    assert f"A\n{names[0]}" in shown
    assert f"B\n{names[1]}" in shown
    usage = rows_of(watched, "Use of the experts, layer by layer")
    assert [row[0] for row in usage] == list(map(str, compared["usage"]["layers"]))
    assert [float(row[3]) for row in usage] == [round(bits, 4) for bits in compared["usage"]["js"]]
    expect(watched.page.locator("#compare figure polyline")).to_have_count(2)
    assert rows_of(watched, "Figures of each")[2][1:] == [
        f"{figures['unused']:,.0f}" for figures in compared["figures"]
    ]
    assert watched.complaints == []
    watched.page.close()


@pytest.mark.slow
def test_missing_keys_are_missed_by_nobody(browser: Browser) -> None:
    """Without each key of the summary, of its layers, of what lies in those, and with null instead.

    One after the other in one page, as a server could send them.
    """
    sent: list[dict[str, Any]] = [{"schema": "first"}]
    page = browser.new_page()
    page.route("http://page.test/", lambda route: route.fulfill(body=live_page(), content_type="text/html"))
    page.route("http://page.test/summary.json", lambda route: route.fulfill(json=sent[-1]))
    page.clock.install()
    watched = Watched(page)
    watched.watch()
    page.goto("http://page.test/")
    page.locator("#tool").filter(has_text="first").wait_for()
    for i, variant in enumerate(variants(to_json(snapshot(layers=3, experts=8, first=20, pairs=1)))):
        sent.append(variant | {"schema": f"number {i}."})
        page.clock.run_for(1000)
        page.locator("#tool").filter(has_text=f"number {i}.").wait_for()
        assert "cannot be" not in (page.locator("main").text_content() or "")
    assert len(sent) > 60
    assert watched.complaints == []
    page.close()


def variants(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {}
    yield to_json(snapshot(0, 0, pairs=0))
    for key in summary:
        yield {name: value for name, value in summary.items() if name != key}
        yield summary | {key: None}
    for key in ("drift", "distances"):
        yield summary | {key: {}}
    layers = summary["layers"]
    for key, value in layers[0].items():
        yield summary | {"layers": [layer | {key: None} for layer in layers]}
        if isinstance(value, dict):
            yield summary | {"layers": [layer | {key: {}} for layer in layers]}
        yield summary | {"layers": [{k: v for k, v in layer.items() if k != key} for layer in layers]}


PAYLOADS = (
    "<img src=x onerror=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
    "<svg/onload=window.hacked=1>",
    "\"'><a href=javascript:window.hacked=1>x</a>",
    "javascript:window.hacked=1",
    "{{script}}${window.hacked=1}`",
    "\u2028window.hacked=1\u2029",
    "\u202e\x00\x1b]0;x\x07\udcff",
    "__proto__",
    "x" * 5000,
)


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_text_stays_text(
    browser: Browser, tmp_path: Path, summary: dict[str, Any], payload: str
) -> None:
    """In labels, paths, warnings, verdicts, names of figures and figures."""
    hostile = json.loads(json.dumps(summary)) | {
        "warnings": [payload],
        payload: [{payload: payload}],
        "format": payload,
        "model": summary["model"] | {"top_k": payload, "layers": [payload]},
        "tool": {"name": "moe-live", "version": payload},
        "verdicts": [{"subject": payload, "word": payload, "text": payload, "sure": True}],
        "rows": summary["rows"] | {"verdict": payload, "mode": payload},
    }
    hostile["source"]["paths"] = [payload, f"/var/log/{payload}"]
    hostile["labels"][0]["label"] = hostile["label_divergences"][0]["a"] = payload
    hostile["layers"][0]["balance"]["gini"] = payload
    hostile["layers"][1]["counts"][0] = payload
    hostile["coactivation"][0]["pairs"][0]["a"] = payload
    watched = opened(browser, written(tmp_path / "page.html", hostile))
    assert watched.page.evaluate("window.hacked") is None
    assert (
        watched.page.locator("main img, main script, main iframe, main [onerror], main [onload]").count() == 0
    )
    assert (
        watched.page.locator("a").evaluate_all(
            "links => links.filter(a => !a.hash && a.hasAttribute('href')).length"
        )
        == 0
    )
    shown = payload.encode("utf-8", "replace").decode()
    for selector in (".warnings li", ".verdicts .word", "#labels tbody th >> nth=0"):
        found = watched.page.locator(selector).first.text_content() or ""
        assert found.encode("utf-8", "replace").decode().replace("\ufffd", "?") == shown.replace(
            "\ufffd", "?"
        )
    assert len(watched.requests) == 1
    assert watched.complaints == []
    watched.page.close()


def test_it_moves_while_a_log_grows(browser: Browser, tmp_path: Path) -> None:
    """What the reader does stays as it is meanwhile; the end is told; a new run is found."""
    server = SimulatedServer(
        ModelShape(n_layers=6, n_experts=32, top_k=4, gate_layers=(3, 4), n_embd=8), seed=2
    )
    steps = [
        HEADER,
        *(step.text for request in islice(server.requests(), 3) for step in server.serve(request)),
    ]
    log = tmp_path / "moe.log"
    log.write_bytes(b"".join(steps[:40]))
    with serving("--follow", log) as served:
        watched = opened(browser, served.url)
        page = watched.page
        expect(page.locator("#state")).to_contain_text("following")
        head = page.locator("#layers thead button", has_text="its share")
        head.click()
        page.locator(".field").press("ArrowDown")
        chosen = page.locator("#layer h2").inner_text()
        head.focus()
        with log.open("ab") as file:
            file.write(b"".join(steps[40:]))
        while (summary := served.summary())["source"]["bytes"] < log.stat().st_size:
            pass
        tokens = summary["tokens"]
        expect(page.locator("#model")).to_contain_text(f"{tokens['decode']} decode tokens", timeout=30_000)
        shown = rows_of(watched, "Main figures")
        counts = {str(layer["layer"]): f"{layer['selections']:,}" for layer in summary["layers"]}
        assert {row[0]: row[1] for row in shown} == counts
        shares = [float(row[5].rstrip(" %")) for row in shown]
        assert shares == sorted(shares, reverse=True)
        assert page.evaluate("document.activeElement.textContent") == "its share"
        assert page.locator("#layer h2").inner_text() == chosen
        assert {request.partition("#")[0] for request in watched.requests} == {
            served.url,
            f"{served.url}summary.json",
        }
        assert watched.complaints == []
        served.process.send_signal(signal.SIGINT)
        served.process.communicate(timeout=60)
        expect(page.locator("#state")).to_contain_text("no connection", timeout=30_000)
        expect(page.locator("#state")).to_contain_text("the figures are those of")
        page.close()


def test_a_reader_with_the_password_gets_in(browser: Browser, tmp_path: Path) -> None:
    log, password = tmp_path / "moe.log", "0123456789abcdef"
    log.write_bytes(b"0,1 2\n1,1 3\n" * 20)
    with serving("--follow", log, "--token", password, listen="127.0.0.1:0") as served:
        watched = opened(browser, served.url, password=password)
        expect(watched.page.locator("#state")).to_contain_text("following")
        watched.page.close()


def test_gate_mass_is_shown_where_weights_are_known(
    browser: Browser, summary: dict[str, Any], tmp_path: Path
) -> None:
    found = json.loads(json.dumps(summary))
    layer = found["layers"][0]
    experts = len(layer["counts"])
    share = [2 * (i + 1) / (experts * (experts + 1)) for i in range(experts)]
    layer["gate_mass"] = {
        "rows": 10,
        "undefined_rows": 0,
        "share": share,
        "weight_by_rank": [0.4, 0.3, 0.2, 0.1],
        "top1_share": 0.4,
        "margin": 0.1,
    }
    watched = opened(browser, written(tmp_path / "page.html", found) + f"#layer-{layer['layer']}")
    facts = text_of(watched, "#layer dl")
    assert "40.0 % of its row's, 0.100 before the second" in facts
    assert "0.400, 0.300, 0.200, 0.100" in facts
    titles = watched.page.locator("#layer table thead th").all_inner_texts()
    assert any("gate mass" in title for title in titles)
    (heaviest,) = [row for row in rows_of(watched, "Experts of this layer") if row[0] == str(experts - 1)]
    assert f"{100 * share[-1]:.1f} %" in heaviest
    assert watched.complaints == []
    watched.page.close()
