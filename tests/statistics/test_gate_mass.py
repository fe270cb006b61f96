"""Weights of rows: exact sums, whatever the order, the cuts and the merging."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.dashboard.frame import draw_static
from moe_live.reports.json_report import to_json
from moe_live.reports.sections.gate_mass import SECTION
from moe_live.snapshot import LayerGateMass
from moe_live.sources.source import Break
from tests.analysis import analyzed
from tests.dashboard.factory import status

Row = tuple[int, list[int], list[float] | None]


def text_of(rows: Sequence[Row]) -> bytes:
    lines = ["layer_id,expert_ids,weights\n"]  # without it 2,0,1 may be of another format
    for layer, ids, weights in rows:
        line = f"{layer},{' '.join(map(str, ids))}"
        if weights is not None:
            line += "," + " ".join(f"{weight:g}" for weight in weights)
        lines.append(line + "\n")
    return "".join(lines).encode()


def shown(found: Sequence[LayerGateMass]) -> list[tuple[object, ...]]:
    return [
        (
            one.layer,
            one.rows,
            one.undefined,
            one.mass.tolist(),
            one.by_rank.tolist(),
            one.top1_share,
            one.margin,
        )
        for one in found
    ]


weights = st.one_of(
    st.floats(0, 1).map(lambda x: float(f"{x:g}")), st.sampled_from([0.5, 2.5, math.inf, 1e9])
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    k = draw(st.integers(1, 3))
    ids = draw(st.lists(st.integers(0, 8), min_size=k, max_size=k, unique=True))
    row = draw(st.lists(weights, min_size=k, max_size=k)) if draw(st.booleans()) else None
    return draw(st.integers(2, 4)), ids, row


@given(st.lists(rows(), max_size=30), st.lists(st.integers(0, 500), max_size=6), st.integers(0, 30))
def test_it_is_the_same_however_rows_are_cut_or_merged(log: list[Row], cuts: list[int], place: int) -> None:
    text = text_of(log)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    found = analyzed([text[a:b] for a, b in pairwise(bounds)]).snapshot()
    merged = analyzed([text_of(log[:place])])
    merged.merge(analyzed([text_of(log[place:])]))
    expected = []
    for layer in (2, 3, 4):
        mine = [(ids, row) for one, ids, row in log if one == layer and row is not None]
        good = [(ids, row) for ids, row in mine if all(abs(weight) <= 64 for weight in row)]
        if not good:
            continue
        total = sum(round(weight * 2**30) for _, row in good for weight in row)
        mass = np.zeros(found.model.n_experts or 0)
        for ids, row in good:
            for expert, weight in zip(ids, row, strict=True):
                mass[expert] += round(weight * 2**30)
        first = sum(round(row[0] * 2**30) for _, row in good)
        ranks = [
            np.mean([round(row[i] * 2**30) for _, row in good if len(row) > i]) / 2**30
            for i in range(max(len(row) for _, row in good))
        ]
        share = first / total if total else math.nan
        margin = ranks[0] - ranks[1] if all(len(row) > 1 for _, row in good) else math.nan
        mass = mass / total if total else mass * math.nan
        expected.append((layer, len(good), len(mine) - len(good), mass.tolist(), ranks, share, margin))
    ours = shown(found.gate_mass)
    assert repr(ours) == repr(shown(merged.snapshot().gate_mass))
    for one, other in zip(ours, expected, strict=True):
        assert one[:3] == other[:3]
        for a, b in zip(one[3:], other[3:], strict=True):
            assert a == pytest.approx(b, nan_ok=True, abs=1e-12)


def test_start_up_is_left_out_and_a_log_without_weights_has_no_figures() -> None:
    row = b"2,1 2,0.75 0.25\n3,1 2,0.75 0.25\n"
    analyzer = analyzed(
        [b"# step pos=0 warmup=1\n", row, row, b"# step warmup=1\n" + row[:16], b"# step pos=4\n", row]
    )
    assert [one.rows for one in analyzer.snapshot().gate_mass] == [2, 2]
    analyzer.interrupt(Break.FILE_ENDED)
    analyzer.feed(row)
    analyzer.finish()
    assert [one.rows for one in analyzer.snapshot().gate_mass] == [3, 3]
    assert analyzed([b"2,1 2\n3,1 2\n"]).snapshot().gate_mass == ()


def test_how_it_is_shown() -> None:
    log: list[Row] = [(2, [1, 2], [0.75, 0.25]), (3, [1, 2], [0.5, 0.5]), (2, [3, 1], [0.65, 0.35])]
    log += [(3, [0, 2], [math.nan, 1.0])]
    snapshot = analyzed([text_of(log)]).snapshot()
    assert [line.strip() for line in SECTION.lines(snapshot, 10)][2:4] == [
        "gate mass layer 2: rows 2, heaviest     1=55.0%     3=32.5%     2=12.5%     0=0.0%",
        "gate mass layer 2: top-1 share 70.0%, margin 0.400, by rank 0.700 0.300",
    ]
    found = json.loads(json.dumps(to_json(snapshot), allow_nan=False))["layers"]
    assert found[0]["gate_mass"]["share"] == pytest.approx([0, 0.55, 0.125, 0.325])
    assert (found[1]["gate_mass"]["rows"], found[1]["gate_mass"]["undefined_rows"]) == (1, 1)
    frame = draw_static(snapshot, status(), width=120, height=30, view="Experts").plain
    assert "weights by rank 0.70 0.30" in frame
    assert "top-1 70.0%" in frame
    assert "margin 0.40" in frame
    assert [line for line in frame.splitlines() if "#1 " in line and "55.0%" in line]


def test_weights_of_arrays_count_too() -> None:
    analyzer = Analyzer()
    experts = np.array([[[1, 2], [0, 3]], [[3, 1], [0, 1]]])
    analyzer.feed_rows(experts, np.array([[[0.75, 0.25], [0.5, 0.5]], [[0.6, 0.4], [0.5, 0.5]]]))
    found = analyzer.snapshot().gate_mass
    assert [one.layer for one in found] == [0, 1]
    assert found[0].mass.tolist() == pytest.approx([0, 0.575, 0.125, 0.3])
