"""The fast and the thorough way of reading expert lines cannot be told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.expert_lines import ExpertLineParser, parse_ragged

PARSER = ExpertLineParser()


@st.composite
def uniform_texts(draw: st.DrawFn) -> bytes:
    k = draw(st.integers(1, 12))
    largest = draw(st.sampled_from([9, 99, 199, 255, 256, 999]))
    line = st.tuples(st.integers(0, 999), st.lists(st.integers(0, largest), min_size=k, max_size=k))
    rows = draw(st.lists(line, min_size=1, max_size=30))
    return b"".join(b"%d,%s\n" % (layer, b" ".join(b"%d" % one for one in ids)) for layer, ids in rows)


@given(uniform_texts())
def test_uniform_text_is_read_the_fast_way_to_the_same_result(text: bytes) -> None:
    array = np.frombuffer(text, np.uint8)
    fast = PARSER._parse_uniform(array, 7)
    (thorough,), others = parse_ragged(array, 7)
    assert fast is not None
    assert len(others) == 0
    assert np.array_equal(fast.layer, thorough.layer)
    assert np.array_equal(fast.experts, thorough.experts)
    assert fast.experts.T.flags.c_contiguous
    slack = thorough.line_end - fast.line_end
    assert ((slack == 0) | (slack == 1)).all()


@given(uniform_texts(), st.data())
def test_damaged_text_is_never_read_the_fast_way_to_another_result(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(
        st.one_of(st.binary(max_size=3), st.text("0123456789 ,\n", max_size=3).map(str.encode))
    )
    text = text[:at] + damage + text[at + data.draw(st.integers(0, 2)) :] + b"\n"
    array = np.frombuffer(text, np.uint8)
    fast = PARSER._parse_uniform(array, 0)
    runs, others = parse_ragged(array, 0)
    if fast is not None:
        assert len(others) == 0
        assert [run.experts.tolist() for run in runs] == [fast.experts.tolist()]
        assert runs[0].layer.tolist() == fast.layer.tolist()


@pytest.mark.parametrize("odd", [b"odd\n", b"3,1\n", b"3,1000 2 3\n", b"3,1 2  3\n", b"\n", b"3,1,2 3\n"])
def test_only_the_neighbourhood_of_an_odd_line_is_read_thoroughly(odd: bytes) -> None:
    half = b"".join(b"%d,%d %d 7\n" % (i % 90, i % 160, i % 7) for i in range(10_000))
    text = half + odd + half
    runs, others = PARSER.parse(b"1,2\n" + text, 4, 4 + len(text))
    layers = np.concatenate([run.layer for run in runs if run.experts.shape[1] == 3])
    good = odd == b"3,1000 2 3\n"
    assert len(layers) == 20_000 + good
    assert np.array_equal(np.delete(layers, 10_000) if good else layers, np.arange(20_000) % 10_000 % 90)
    assert len(others) + sum(len(run.layer) for run in runs) == 20_001
    assert all(text[start:end] + b"\n" == odd for start, end in others.tolist())
    fast_rows = sum(len(run.layer) for run in runs if run.experts.T.flags.c_contiguous)
    assert fast_rows > 16_000


def test_more_text_than_fits_the_scratch_arrays() -> None:
    text = b"3,1 2\n" * 100_000 + b"9" * 500_000 + b"\n" + b"4,5\n"
    runs, others = PARSER.parse(text, 0, len(text))
    assert sum(len(run.layer) for run in runs) == 100_001
    assert others.tolist() == [[600_000, 1_100_000]]
