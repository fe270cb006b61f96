"""What each of several sources has in the figures of all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from moe_live.reports.summary import summary_lines
from moe_live.share import SourceShare, distances
from moe_live.statistics.divergence import jensen_shannon
from moe_live.statistics.hot_set import HotExpert
from moe_live.whole import Whole
from tests.analysis import analyzed
from tests.reports.snapshots import FULL
from tests.state.test_merge import text


def test_it_is_held_against_all_others_together() -> None:
    a, b, c = (np.array(counts) for counts in ([5, 1, 0], [2, 2, 2], [0, 0, 9]))
    found = distances([{3: a, 4: b}, {3: b}, {3: c, 4: a}], 1)
    expected = [
        np.mean([jensen_shannon(a, b + c), jensen_shannon(b, a)]),
        jensen_shannon(b, a + c),
        np.mean([jensen_shannon(c, a + b), jensen_shannon(a, b)]),
    ]
    assert [js for js, _ in found] == pytest.approx([float(js) for js in expected])


def test_what_stands_alone_is_not_apart() -> None:
    alone = distances([{3: np.array([1, 2])}, {}, {4: np.array([1])}], 1)
    assert all(math.isnan(number) for pair in alone for number in pair)


def test_chance_alone_comes_to_what_is_said() -> None:
    rng = np.random.default_rng(5)
    share = np.linspace(1, 3, 32) / np.linspace(1, 3, 32).sum()
    found = np.array(
        [
            distances([{0: rng.multinomial(4000, share)}, {0: rng.multinomial(9000, share)}], 1)
            for _ in range(200)
        ]
    )
    js, by_chance = found[:, 0].T
    assert abs(js.mean() / by_chance.mean() - 1) < 0.1


def test_it_has_its_own_figures() -> None:
    whole = Whole()
    for name, data in (("a", text(0)), ("b", text(1)), ("none", b"")):
        whole.add(name, name, analyzed([data]))
    whole.leave_out("c", "it is damaged")
    for share, data in zip(whole.shares(), (text(0), text(1), b""), strict=False):
        own = analyzed([data]).snapshot()
        assert (share.rows, share.steps, share.bytes) == (own.rows.logged, own.steps.total, len(data))
        assert share.row_verdict == own.rows.verdict
        assert share.hottest == next(iter(own.hot_list(1)), None)
        assert math.isfinite(share.apart) == bool(data)
    assert whole.shares()[3] == SourceShare("c", left_out="it is damaged")
    assert whole.problems == ["it is damaged"]


def test_the_summary_has_a_row_for_each() -> None:
    shares = (
        SourceShare("a.log", row_word="sound", rows=9, steps=3, hottest=HotExpert(4, 7, 2, 0.25, 1)),
        SourceShare("b\x1b.log", left_out="it is damaged"),
    )
    lines = list(summary_lines(replace(FULL, input=replace(FULL.input, sources=shares))))
    told = [line.split() for line in lines if line.startswith("source ")]
    assert told == [
        ["source", "1", "sound", "9", "3", "0", "n/a", "layer", "4", "#7", "(25.0%)"],
        ["source", "1", "a.log"],
        ["source", "2", "left", "out:", "it", "is", "damaged"],
        ["source", "2", "b\\x1b.log"],
    ]
