"""Expert lines are read as the line-by-line reference reads them, whichever way is taken for them."""

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats import expert_lines
from moe_live.formats.expert_lines import ExpertLineParser, ExpertLines
from tests.formats.reference import Event, parse_line

pytestmark = [
    pytest.mark.usefixtures("each_way"),
    pytest.mark.parametrize("each_way", ["numpy", "C", "narrow C"], indirect=True, scope="module"),
]

PARSER = ExpertLineParser()

LARGEST = st.sampled_from([9, 99, 199, 255, 256, 999, 1199, 2047])


@st.composite
def uniform_texts(draw: st.DrawFn) -> bytes:
    k, largest = draw(st.integers(1, 12)), draw(LARGEST)
    line = st.tuples(
        st.integers(0, min(largest, 1023)), st.lists(st.integers(0, largest), min_size=k, max_size=k)
    )
    rows = draw(st.lists(line, min_size=1, max_size=30))
    return b"".join(b"%d,%s\n" % (layer, b" ".join(b"%d" % one for one in ids)) for layer, ids in rows)


texts = st.lists(uniform_texts(), min_size=1, max_size=5).map(b"".join)


def check(text: bytes, lines: ExpertLines) -> None:
    """Compare with the reference, line by line."""
    starts = [0, *(i + 1 for i, byte in enumerate(text) if byte == 10)]
    bounds = [(start, stop - 1) for start, stop in pairwise(starts)]
    events: list[Event] = []
    others = []
    before = [0]
    for start, end in bounds:
        event = parse_line(text[start:end], None, every_row=False) if b"\r" not in text[start:end] else None
        # Lines with weights have three fields: they are for another parser.
        if event is None or event[0] != "expert" or text.count(b",", start, end) > 1:
            others.append([start, end])
        else:
            events.append(event)
        before.append(len(events))
    assert lines.others.tolist() == others
    assert lines.before(np.array(starts)).tolist() == before
    rows = {table.shape[1]: iter(table.tolist()) for table in lines.experts.tables}
    got = [
        ("expert", layer, *next(rows[k]))
        for layer, k in zip(lines.layer.tolist(), lines.experts.widths().tolist(), strict=True)
    ]
    assert got == events
    assert not any(list(rest) for rest in rows.values())
    assert all(table.T.flags.c_contiguous for table in lines.experts.tables)


@given(uniform_texts())
def test_rows_of_one_k_are_a_table_as_they_stand(text: bytes) -> None:
    with mock.patch.object(ExpertLineParser, "_sorted_by_k", side_effect=AssertionError):
        check(text, PARSER.parse(text, 0, len(text)))


@pytest.mark.parametrize("largest", [199, 200, 255, 256, 299, 999, 1000, 2047])
def test_every_number_up_to_one(largest: int) -> None:
    text = b"".join(b"%d,%d %d\n" % (i % 1024, i, largest - i) for i in range(largest + 1))
    check(text, PARSER.parse(text, 0, len(text)))


@given(texts)
def test_rows_of_several_k(text: bytes) -> None:
    check(text, PARSER.parse(b"7,7\n" + text, 4, 4 + len(text)))
    with mock.patch.object(ExpertLineParser, "_as_table", return_value=None):
        check(text, PARSER.parse(text, 0, len(text)))


@given(texts, st.data())
def test_damaged_lines_cost_nothing_but_themselves(text: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        damage = data.draw(
            st.one_of(st.binary(max_size=3), st.text("0123456789 ,\n", max_size=6).map(str.encode))
        )
        text = text[:at] + damage + text[at + data.draw(st.integers(0, 2)) :] + b"\n"
    check(text, PARSER.parse(text, 0, len(text)))
    size = max(map(len, text.split(b"\n"))) + data.draw(st.integers(1, 20))
    with mock.patch.object(expert_lines, "_BLOCK_BYTES", size):
        check(text, PARSER.parse(text, 0, len(text)))


@pytest.mark.parametrize(
    "odd",
    [
        *(b"odd", b"3,1", b"3,1000 2 3", b"3,1 2  3", b"", b"3,1,2 3", b"1024,2 3 4", b"3,2048 3 4"),
        *(b"3,1x2 3", b"3,00001 2 3", b"3"),
    ],
)
def test_one_odd_line_among_many(odd: bytes) -> None:
    half = b"".join(b"%d,%d %d 7\n" % (i % 90, i % 160, i % 7) for i in range(10_000))
    text = half + odd + b"\n" + half
    check(text, PARSER.parse(text, 0, len(text)))


@pytest.mark.parametrize("k", [2, 255, 256, 257, 300])
def test_lines_of_many_experts(k: int) -> None:
    long = b"3,%b\n" % b" ".join([b"2047"] * k)
    text = long + b"3,1 2\n" * 2000 + long * 2
    check(text, PARSER.parse(text, 0, len(text)))


@pytest.mark.parametrize("size", [4000, 4079, 4080, 4081, 4096, 8160, 8192, 20_000])
@pytest.mark.parametrize("filling", [b"1", b"1 ", b",", b"12 34 "])
def test_lines_that_are_too_long(size: int, filling: bytes) -> None:
    text = b"3,1 2\n" + (b"4," + filling * size)[:size] + b"\n5,6\n"
    check(text, PARSER.parse(text, 0, len(text)))


@pytest.mark.parametrize("line", [b"", b"1", b" ", b"7,8", b"12,34 56 78 901", b"12,345"])
def test_a_line_again_and_again(line: bytes) -> None:
    """As many as a part of the text can have, and with the same byte at the same place of each."""
    text = b"3,1 2\n" + (line + b"\n") * 60_000 + b"4,5 6\n"
    check(text, PARSER.parse(text, 0, len(text)))


def test_more_text_than_fits_the_scratch_arrays() -> None:
    text = b"3,1 2\n" * 100_000 + b"9" * 600_000 + b"\n" + b"4,5\n"
    lines = PARSER.parse(text, 0, len(text))
    assert len(lines) == 100_001
    assert lines.experts.part(99_999, 100_001).widths().tolist() == [2, 1]
    assert lines.others.tolist() == [[600_000, 1_200_000]]


def test_what_a_longer_text_leaves_behind_does_not_matter() -> None:
    for first in (b"3,199\n", b"3,999 999\n", b"1023,2047\n", b"\n\n,,  \n", b"9999,9999\n"):
        for second in (b"1,2\n", b"12,34\n", b"\n", b"1,2\n1\n", b"12,3\n,\n1,2 3\n"):
            PARSER.parse(first * 3, 0, 3 * len(first))
            check(second, PARSER.parse(second, 0, len(second)))
