"""What is said in a line: how it is shown."""

from dataclasses import replace

import numpy as np
import pytest
from rich.segment import Segment
from rich.style import Style

from moe_live.dashboard.canvas import Line
from moe_live.dashboard.theme import CAUTION, GOOD, STRONG
from moe_live.dashboard.verdict import verdict_line
from moe_live.judgement import Subject
from moe_live.snapshot import LayerUsage, Snapshot, Usage
from tests.dashboard.factory import snapshot


def used_alike(experts: int) -> Snapshot:
    """So many of 160 experts used alike in each of four layers."""
    counts = np.where(np.arange(160) < experts, 1000, 0)
    layers = tuple(LayerUsage(layer, Usage(counts, counts // 2)) for layer in range(4))
    return replace(snapshot(4, 160, first=0), layers=layers, overall=Usage(4 * counts, 2 * counts))


def plain(line: Line) -> str:
    return "".join(piece.text for piece in line if isinstance(piece, Segment))


def style(line: Line, shown: str) -> Style | None:
    (found,) = (piece.style for piece in line if isinstance(piece, Segment) and piece.text == shown)
    return found


def test_what_does_not_fit_is_left_out_from_the_end() -> None:
    shown = {width: plain(verdict_line(Subject.HOT_SET, used_alike(40), width)) for width in range(30, 200)}
    assert all(len(said) <= width for width, said in shown.items())
    facts = (
        "  36 of 160 experts carry 90 %",
        " · 2,500 decode tokens",
        " · 36 to 36 by layer",
        " · 20 carry 50 %",
        " · of decode: prompts are 50.0% of the selections",
    )
    word = "hot set  concentrated so far"
    assert list(dict.fromkeys(shown.values())) == [word + "".join(facts[:n]) for n in range(len(facts) + 1)]


@pytest.mark.parametrize(
    ("experts", "word", "expected"),
    [(160, "even", GOOD), (100, "fair", STRONG), (40, "uneven so far", CAUTION)],
)
def test_the_word_is_in_colour(experts: int, word: str, expected: Style) -> None:
    assert style(verdict_line(Subject.BALANCE, used_alike(experts), 200), word) == expected


def test_a_section_that_is_still_being_made() -> None:
    bare = replace(used_alike(40), locality=None)
    assert plain(verdict_line(Subject.CACHE, bare, 200)) == "cache    one moment …"
    without = replace(bare, locality=())
    assert plain(verdict_line(Subject.CACHE, without, 200)) == (
        "cache    too early to say  surer with decode steps · no decode steps so far"
    )
