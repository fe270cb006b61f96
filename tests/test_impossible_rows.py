"""Rows that no router writes are in no figure, and what a strided logger writes is not among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.settings import RowMode, Settings
from tests.analysis import analyzed
from tests.comparison import plain
from tests.reference import logged_counts, read_steps
from tests.synthetic import SyntheticLog, logs
from tests.test_analyzer import counts_of

Json = dict[str, Any]

WIDE = b" ".join(b"%d" % (expert % 8) for expert in range(200))


def summary(text: bytes, settings: Settings | None = None) -> Json:
    snapshot = analyzed([text], settings).snapshot()
    assert not snapshot.left_out
    assert list(summary_lines(snapshot))
    return to_json(snapshot)


def multi_row_steps(rng: np.random.Generator, n_experts: int, top_k: int, *, strided: bool) -> bytes:
    """Steps of four tokens in two layers."""
    lines = []
    for _ in range(40):
        for layer in (3, 4):
            ranked = rng.permuted(np.tile(np.arange(n_experts), (4, 1)), axis=1)
            rows = ranked.reshape(-1)[: 4 * top_k].reshape(4, top_k) if strided else ranked[:, :top_k]
            lines += [b"%d,%b\n" % (layer, b" ".join(b"%d" % e for e in row)) for row in rows.tolist()]
    return b"".join(lines)


def test_a_row_with_more_than_twice_as_many_ids_as_there_are_experts() -> None:
    found = summary(b"0,1 7\n1,1 2\n0," + b" ".join([b"7"] * 17) + b"\n1,1 2\n0,1 2\n1,1 2\n")
    assert (found["source"]["malformed_lines"], found["rows"]["impossible"]) == (1, 0)
    assert "1 of the malformed lines name more experts than a layer has (8)" in found["warnings"]
    assert found["layers"][0]["counts"] == [0, 2, 1, 0, 0, 0, 0, 1]
    assert found["steps"]["total"] == 3, "its line is a step's"


def test_most_rows_are_far_longer_than_a_layer_has_experts() -> None:
    found = summary(b"".join(b"%d,%b\n" % (i % 2, WIDE) for i in range(4000)) + b"0,1 7\n1,1 2\n")
    assert found["source"]["malformed_lines"] == 4000
    assert (found["model"]["top_k"], found["model"]["n_experts"]) == (2, 8)
    assert (found["rows"]["logged"], found["rows"]["counted"], found["rows"]["impossible"]) == (2, 2, 0)


@pytest.mark.parametrize("counts_only", [False, True])
def test_nothing_but_such_rows(counts_only: bool) -> None:
    found = summary(
        b"".join(b"%d,%b\n" % (i % 2, WIDE) for i in range(400)), Settings(counts_only=counts_only)
    )
    assert found["rows"]["counted"] == 0
    assert found["rows"]["impossible"] == 400
    assert found["layers"] == []


@settings(max_examples=20)
@given(logs(junk=False, min_layers=2), st.data())
def test_rows_that_stand_alone_and_name_an_expert_twice_are_in_no_figure(
    log: SyntheticLog, data: st.DataObject
) -> None:
    """However many steps of one token there are of which every row is impossible."""
    steps = read_steps(log.text)
    layers = sorted({layer for step in steps for layer in step.blocks})
    assume(len(layers) > 1)
    # A step that ends within the first layer, and one that begins with it, have one block there.
    pieces = [
        piece for piece in log.pieces if all(step.blocks.keys() != {layers[0]} for step in read_steps(piece))
    ]
    unchanged = b"".join(pieces)
    row = st.lists(st.integers(0, 11), min_size=1, max_size=5).map(lambda ids: [*ids, ids[0]])
    odd = 0
    for place in data.draw(st.lists(st.integers(0, len(pieces)), max_size=4)):
        rows = [(layer, data.draw(row)) for layer in layers]
        odd += len(rows)
        pieces.insert(
            place, b"".join(b"%d,%b\n" % (layer, b" ".join(b"%d" % e for e in ids)) for layer, ids in rows)
        )
    text = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    whole = summary(unchanged)
    analyzer = analyzed([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])
    found = to_json(analyzer.snapshot())
    assert plain(analyzer.snapshot()) == plain(analyzed([text]).snapshot())
    assert (
        found["rows"]["impossible"] + found["source"]["malformed_lines"] == odd + whole["rows"]["impossible"]
    )
    assert found["rows"]["counted"] == whole["rows"]["counted"]
    assert [layer["counts"] for layer in found["layers"]] == [layer["counts"] for layer in whole["layers"]]


def with_twice(text: bytes, places: Sequence[int]) -> bytes:
    """With the first expert named again at the end of some lines."""
    lines = text.splitlines()
    for place in places:
        layer, _, ids = lines[place].partition(b",")
        first, *others = ids.split()
        lines[place] = layer + b"," + b" ".join([first, *others[:-1], first])
    return b"".join(line + b"\n" for line in lines)


def test_in_sound_runs_they_are_in_no_figure() -> None:
    text = multi_row_steps(np.random.default_rng(1), 64, 6, strided=False)
    places = [5, 8, 10, 101]  # 8 is the first of its block
    found = summary(with_twice(text, places))
    assert found["rows"]["strided"] is False
    assert (found["rows"]["impossible"], found["rows"]["logged"], found["rows"]["counted"]) == (4, 320, 316)
    lines = text.splitlines()
    without = b"".join(line + b"\n" for i, line in enumerate(lines) if i not in places)
    expected = logged_counts(read_steps(without))
    assert counts_of(analyzed([with_twice(text, places)]).snapshot()) == expected
    assert any("4 of 320 rows name an expert twice" in warning for warning in found["warnings"])


@pytest.mark.parametrize("counts_only", [False, True])
def test_strided_rows_may_name_an_expert_twice(counts_only: bool) -> None:
    """Of 64 experts 6 are chosen: row 10 takes in the end of one ranking and the beginning of the next."""
    rng = np.random.default_rng(2)
    ranked = rng.permuted(np.tile(np.arange(64), (40, 1)), axis=1)
    for last, row in pairwise(ranked):  # what was last comes first
        row[:] = [*last[-2:], *(expert for expert in row if expert not in last[-2:])]
    lines = [
        b" ".join(b"%d" % e for e in row) for row in ranked.reshape(-1)[: 40 * 6].reshape(40, 6).tolist()
    ]
    text = b"".join(b"%d,%b\n" % (layer, line) for _ in range(20) for layer in (3, 4) for line in lines)
    repeated = sum(len(set(line.split())) < 6 for line in lines)
    assert repeated > 0
    found = summary(text, Settings(counts_only=counts_only))
    assert found["rows"]["strided"] is True
    assert (found["rows"]["impossible"], found["rows"]["logged"]) == (0, 1600)
    assert found["rows"]["unrecoverable"] == 1600 - 20 * 2 * 4
    as_logged = analyzed([text], Settings(rows=RowMode.LOGGED, counts_only=counts_only)).snapshot()
    assert counts_of(as_logged) == Counter(logged_counts(read_steps(text)))
    assert as_logged.rows.counted == 1600


def test_parts_that_are_merged_tell_the_same() -> None:
    texts = [
        with_twice(multi_row_steps(np.random.default_rng(seed), 64, 6, strided=seed == 2), [1, 4, 9, 30])
        for seed in range(3)
    ]
    merged = analyzed([texts[0]])
    for text in texts[1:]:
        merged.merge(analyzed([text]))
    whole = Analyzer()
    for text in texts:
        whole.feed(text)
        whole.finish()
    assert plain(merged.snapshot()) == plain(whole.snapshot())
