"""What the view Time says of the latest steps, in words before figures."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.dashboard.frame import draw_static
from moe_live.reports.summary import summary_lines
from moe_live.snapshot import Snapshot
from tests.dashboard.factory import status

LAYERS, EXPERTS, TOP_K = 3, 16, 2


def drawn(rng: np.random.Generator, scores: NDArray[np.float64], tokens: int) -> NDArray[np.int64]:
    """(tokens, LAYERS, TOP_K) experts: the best of scores (LAYERS, EXPERTS) with noise."""
    noise = rng.gumbel(size=(tokens, LAYERS, EXPERTS))
    return np.argsort(-(scores + noise), axis=-1)[..., :TOP_K]


@cache
def run_of(tokens: int, changed: int = 0) -> Snapshot:
    """Decode steps, in the last of which layer 1 uses expert 5 much more."""
    rng = np.random.default_rng(7)
    before = rng.normal(size=(LAYERS, EXPERTS))
    after = before.copy()
    after[1, 5] += 4
    analyzer = Analyzer()
    analyzer.feed_rows(np.concatenate((drawn(rng, before, tokens - changed), drawn(rng, after, changed))))
    analyzer.finish()
    return analyzer.snapshot()


def lines(snapshot: Snapshot, width: int = 80) -> list[str]:
    shown = draw_static(snapshot, status(), width=width, height=24, view="Time").plain.splitlines()
    return shown[next(i for i, line in enumerate(shown) if line.startswith("drift ")) :]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_window_that_is_the_whole_run_has_no_figures(width: int) -> None:
    run = run_of(100)
    told = lines(run, width)
    said = " ".join(" ".join(told[:3]).split())
    assert said.startswith(
        "drift too early to say the window is the whole run: nothing to compare yet "
        "surer with decode steps beyond the latest 256"
    )
    assert "0.000" not in "".join(told)
    assert any("Layer 0 over time" in line for line in told)
    (summed_up,) = [line for line in summary_lines(run) if line.startswith("drift")]
    assert summed_up == "drift: the last 100 decode steps are the whole run: nothing to compare"


def test_nothing_beyond_chance_is_said_first() -> None:
    first, second, *_ = (" ".join(line.split()) for line in lines(run_of(9000)))
    assert first == "drift none found none of 3 layers beyond chance"
    assert second == "the latest 256 of 9,000 decode steps"


def test_what_changed_is_named_layer_and_experts() -> None:
    run = run_of(9000, changed=250)
    told = lines(run)
    assert told[0].startswith("drift    found   in 1 of 3 layers   most in layer 1: ")
    (changed,) = [line for line in told if line.startswith("layer 1 #")]
    experts = changed.removeprefix("layer 1 ").rstrip().split(", ")
    before = run.layers[1].usage.decode - run.drift.counts[1] if run.drift is not None else None
    assert before is not None
    share = f"{before[5] / before.sum():.1%}"
    assert experts[0].startswith(f"#5 {share}→")
    assert len(experts) == 3


def test_what_cannot_be_told_yet_says_what_would_tell() -> None:
    said = " ".join(" ".join(lines(run_of(1000))[:3]).split())
    assert said.startswith("drift too early to say the latest 256 of 1,000 decode steps most in layer ")
    assert "surer with 7,000 more tokens of decode" in said
