"""Every view at fixed sizes against golden files: in text, in ASCII, and where which styles stand.

Set MOE_LIVE_UPDATE_GOLDEN=1 to write the golden files anew (with -n 0); then look at every one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.color import ColorSystem

from moe_live.dashboard.frame import MIN_HEIGHT, MIN_WIDTH, compose
from moe_live.dashboard.heat import SHADES, HeatRow
from moe_live.dashboard.screen import _sequences
from moe_live.dashboard.selection import Selection
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from moe_live.formats.records import LineTally
from moe_live.running import Status
from moe_live.snapshot import Labels, Snapshot
from moe_live.sources.source import State
from tests.dashboard.factory import NOW, SOURCES, compared, nothing, snapshot, status
from tests.dashboard.styles import names, styles

GOLDEN = Path(__file__).parent / "golden"
NOISE = LineTally(
    bytes=4711, lines=90, malformed_lines=90, samples=(b"llama_server: \x1b[31mhello\xff", b"3,1 2 3 x 4")
)
STRIDED = "most prompt rows in this log are not real selections: 8,865 of 12,345 rows left out, 120 recovered"
WARNINGS = (STRIDED, "the model's last layer is not known yet")

FULL = snapshot(tally=replace(NOISE, lines=1234567), warnings=WARNINGS)
CASES: dict[str, tuple[Snapshot, Status]] = {
    "full": (FULL, status()),
    "big": (
        snapshot(94, 512, first=0, pairs=0, strided=False),
        status(State.READING, size=987654321, seconds_left=73.0),
    ),
    "small": (snapshot(8, 8, first=0, pairs=0, strided=None), status()),
    "few": (snapshot(1, 64, first=5, scale=5, pairs=1, strided=None), status()),
    "bare": (snapshot(24, 160, pairs=0, sections=False), status(label="code")),
    "unlabelled": (replace(FULL, labels=Labels((), (), {})), status()),
    "unplanned": (
        replace(
            snapshot(24, 160, pairs=0, sections=False),
            unplanned={
                "cache": "how large the experts are is not known: give --model GGUF or --expert-bytes N",
                "offload": "how much memory the GPU has is not known: give --vram SIZE, as 20GiB",
                "placement": "how many devices there are is not known: give --devices G",
            },
        ),
        status(),
    ),
    "others": (replace(FULL, compared=replace(compared(FULL.model.layers), same_text=False)), status()),
    "several": (
        replace(
            snapshot(24, 160, pairs=0, sections=False),
            input=replace(FULL.input, paths=tuple(share.name for share in SOURCES), sources=SOURCES),
        ),
        replace(status(), sources=NOW),
    ),
    "gates": (snapshot(0, 0, pairs=2, strided=None), status()),
    "waiting": (nothing(), status(State.WAITING, position=0, size=None, detail="no such file: /var/log")),
    "silent": (nothing(), status(position=0, size=0)),
    "noise": (nothing(NOISE), status(position=4711, size=4711)),
}
SIZES = ((80, 24), (120, 40), (200, 60))
TITLES = [view.title for view in VIEWS]
CHOSEN = Selection(layer=12, expert=57)
ANALYSIS = ("Balance", "Hot set", "Locality", "Pairs", "Next layer", "Time", "Labels")
OTHERS: dict[str, list[tuple[str, int, int]]] = {
    **{title: [("big", 200, 60)] for title in TITLES if title not in ("Distances", "Input")},
    "Labels": [("big", 200, 60), ("unlabelled", 80, 24)],
    "Distances": [("gates", 80, 24), ("few", 80, 24)],
}
OTHERS["Overview"] += [(case, 80, 24) for case in ("waiting", "silent", "noise", "bare", "gates")]
OTHERS["Input"] = [("several", *size) for size in ((MIN_WIDTH, MIN_HEIGHT), *SIZES)]
OTHERS["Overview"] += [("full", MIN_WIDTH, MIN_HEIGHT)]
OTHERS["Heatmap"] += [("big", 80, 24), ("gates", 80, 24)]
OTHERS["Balance"] += [("gates", 80, 24)]
OTHERS["Pairs"] += [("bare", 80, 24)]
OTHERS["Prune"] += [("bare", 80, 24), ("few", 80, 24), ("gates", 80, 24)]
OTHERS["A and B"] += [("bare", 80, 24), ("few", 80, 24), ("others", 120, 40)]
for title in ("Cache", "Offload", "Placement"):
    OTHERS[title] += [(case, 80, 24) for case in ("bare", "unplanned", "few", "gates")]
for title in ("Overview", "Heatmap", "Experts", *ANALYSIS):
    OTHERS[title] += [("small", 80, 24)]
for title in ("Overview", "Layers", *ANALYSIS):
    OTHERS[title] += [("few", 80, 24)]

NONE, ASCII = Look(None), Look(None, ascii_only=True)
COLOURS = {
    "dark": Look(ColorSystem.TRUECOLOR),
    "light": Look(ColorSystem.TRUECOLOR, light=True),
    "dark, 256 colours": Look(ColorSystem.EIGHT_BIT),
    "light, 256 colours": Look(ColorSystem.EIGHT_BIT, light=True),
    "dark, 16 colours": Look(ColorSystem.STANDARD),
    "light, 16 colours": Look(ColorSystem.STANDARD, light=True),
}


def frames(title: str, look: Look, drawn: list[tuple[str, int, int]], shown: Callable[..., str]) -> str:
    """What is shown of some frames of a view, one after the other."""
    parts = []
    for case, width, height in drawn:
        chosen = CHOSEN if case == "full" and width > MIN_WIDTH else Selection()
        state = ViewState(view=TITLES.index(title), selection=chosen, look=look, mouse=True)
        frame = compose(*CASES[case], state, width, height)
        parts.append(f"== {case} {width}x{height}\n{shown(frame)}")
    return "".join(parts)


def compare(found: str, name: str) -> None:
    golden = GOLDEN / f"{name.lower().replace(' ', '-')}.txt"
    if os.environ.get("MOE_LIVE_UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found.splitlines() == golden.read_text(encoding="utf-8").splitlines()


FULL_SIZES = [("full", *size) for size in SIZES]


@pytest.mark.parametrize("title", TITLES)
def test_text(title: str) -> None:
    drawn = [*FULL_SIZES, *OTHERS.get(title, [])]
    compare(frames(title, NONE, drawn, lambda frame: frame.plain), f"text/{title}")


@pytest.mark.parametrize("title", TITLES)
def test_ascii(title: str) -> None:
    found = frames(title, ASCII, FULL_SIZES, lambda frame: frame.plain)
    assert found.isascii()
    compare(found, f"ascii/{title}")


@pytest.mark.parametrize("title", TITLES)
def test_styles(title: str) -> None:
    """The same shades and styles stand in the same places, on dark and light, with 16 colours and more."""
    found = {name: frames(title, look, FULL_SIZES, styles) for name, look in COLOURS.items()}
    for name, shown in found.items():
        assert shown == found["dark"], name
    compare(found["dark"], f"styles/{title}")


def test_palettes() -> None:
    """How the styles and shades look on each kind of terminal."""
    parts = []
    for name, look in COLOURS.items():
        assert look.ramp is not None
        assert look.system is not None
        lines = [
            f"{style_name:<16} {_sequences(style, look)[0]!r}"
            for style, style_name in names(None).items()
            if style is not None and style_name and not style_name.startswith("reversed")
        ]
        for shade in range(SHADES):
            cell = HeatRow(bytes([shade * (SHADES + 1)]), look.ramp).ansi(look.system)
            lines.append(f"shade {shade:<10} {cell!r}")
        parts.append(f"== {name}\n" + "\n".join(lines) + "\n")
    compare("".join(parts), "palettes")
