"""Rows with weights: what the experts are multiplied with stands behind them."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.comments import has_weights
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.formats.records import LineTally
from tests.analysis import snapshot_of

TEXT = (
    b"layer_id,expert_ids,weights\n# step pos=3 4 seq=0 0\n3,1 2,0.75 0.25\ngate_input,4,0,0.5 1\n"
    b"3,4 5,1e-05 2\n3,7 8\n3,9 9 9,0.5 0.25 0.125\r\n# label: x\n3,1 2,0.5\n3,1 2,0.5 x\n3,1 2,\n"
    b"3,1 2,0.5 0.5,\n4,2047,1\n4,2048,1\n1024,1,1\n4,1 2 3,-0.5 nan inf\ngate_input,4,0,x\n3,1 2,0.5  1\n"
    b"layer_id,expert_ids\n3,1 2\n"
)
ROW = re.compile(rb"([0-9]{1,4}),([0-9 ]+)(?:,([-0-9.e+naif ]+))?\r?")


def expected() -> list[tuple[int, list[int], list[float] | None]]:
    """What a reader of single lines finds."""
    found: list[tuple[int, list[int], list[float] | None]] = []
    for line in TEXT.split(b"\n"):
        if (row := ROW.fullmatch(line)) is None or b"  " in line:
            continue
        ids = list(map(int, row[2].split(b" ")))
        weights = None if row[3] is None else list(map(float, row[3].split(b" ")))
        if int(row[1]) < 1024 and max(ids) < 2048 and (weights is None or len(weights) == len(ids)):
            found.append((int(row[1]), ids, weights))
    return found


def decoded(chunks: list[bytes]) -> tuple[list[tuple[int, list[int], list[float] | None]], LineTally]:
    decoder = LlamaServerDecoder(every_row=True)
    found: list[tuple[int, list[int], list[float] | None]] = []
    for chunk in chunks:
        for records in decoder.feed(chunk):
            weights = records.weights
            ends = weights.width.cumsum().tolist()
            by_row = {
                row: weights.values[end - width : end].tolist()
                for row, width, end in zip(weights.row.tolist(), weights.width.tolist(), ends, strict=True)
            }
            tables = {table.shape[1]: iter(table.tolist()) for table in records.experts.tables}
            widths = records.experts.widths().tolist()
            for row, (layer, k) in enumerate(zip(records.layer.tolist(), widths, strict=True)):
                found.append((layer, next(tables[k]), by_row.pop(row, None)))
            assert not by_row
    return found, decoder.tally


@given(st.lists(st.integers(0, len(TEXT)), max_size=10))
def test_weights_stay_with_their_rows_however_the_log_is_cut(cuts: list[int]) -> None:
    found, tally = decoded([TEXT[a:b] for a, b in pairwise([0, *sorted(cuts), len(TEXT)])])
    for ours, theirs in zip(found, expected(), strict=True):
        assert ours[:2] == theirs[:2]
        assert (ours[2] is None) == (theirs[2] is None)
        for a, b in zip(ours[2] or [], theirs[2] or [], strict=True):
            assert a == b or (math.isnan(a) and math.isnan(b))
    assert (tally.header_lines, tally.label_lines, tally.comment_lines) == (2, 1, 1)
    assert tally.malformed_lines == 8
    assert tally.lines == TEXT.count(b"\n") == 4 + 8 + 1 + len(found)


def test_a_log_with_weights_has_the_same_rows_without_them() -> None:
    rows = [b"%d,%d %d" % (3 + i % 3, i % 7, 7 + i % 5) for i in range(300)]
    plain, _ = decoded([b"".join(row + b"\n" for row in rows)])
    weighted, _ = decoded([b"".join(b"%s,%g %g\n" % (row, 0.5, i) for i, row in enumerate(rows))])
    assert [row[:2] for row in plain] == [row[:2] for row in weighted]
    assert [row[2] for row in weighted] == [[0.5, float(i)] for i in range(300)]


@pytest.mark.parametrize(
    "line", ["3|1E0 2", "3|1.0 2", "3|1:0.5 2", "3|1:0.5:7", "3|1:x 2:0.5", "3|:0.5", "3|1:"]
)
def test_a_line_that_is_none_stays_so_beside_weights_behind_ids(line: str) -> None:
    snapshot = snapshot_of(f"layer|experts\n{line}\n3|4:0.5 5:0.25\n4|6 7\n".encode())
    assert (snapshot.rows.logged, snapshot.input.tally.malformed_lines) == (2, 1)
    assert [layer.usage.counts.sum() for layer in snapshot.layers] == [2, 2]


@pytest.mark.parametrize("line", ["1000,2100,0", "1024,5,0.5", "3,5 2048,0.5 0.5", "3,5 6,0.5"])
def test_a_malformed_line_is_shown_with_its_weights(line: str) -> None:
    snapshot = snapshot_of(f"3,4 5,0.75 0.25\n{line}\n1023,2047 5,0.75 0.25\n".encode())
    assert snapshot.input.tally.samples == (line.encode(),)
    assert snapshot.input.tally.malformed_lines == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"3,1 2,0.75 0.25\n", True),
        (b"3,1,1\n", True),
        (b"64,3,70 139 0\n", False),  # a row whose beginning was lost, behind that of another
        (b"3,1 2,0.5\n", False),
        (b"3,1 2\n", False),
    ],
)
def test_weights_are_looked_for_once_a_row_has_one_for_each_expert(line: bytes, *, expected: bool) -> None:
    assert has_weights(line) is expected
