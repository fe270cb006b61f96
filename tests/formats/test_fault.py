"""What is said of malformed lines: something of each, and nothing of any other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.fault import fault
from moe_live.formats.spans import SAMPLE_BYTES
from tests.formats.reference import parse_line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "an empty line"),
        (b" 3,1 2", "a blank at its beginning"),
        (b"3,1 2 ", "a blank at its end"),
        (b"3,1\0 2", "a NUL byte in it"),
        (b"llama_server: \x1b[31mhello", "neither an expert line nor a gate line"),
        (b"3", "no experts"),
        (b"3,", "no experts"),
        (b"3,1 2 3 x 4", "'x' is no number of an expert"),
        (b"3,1  2", "two blanks in a row"),
        (b"3,1 4711", "expert 4711 is beyond 2047"),
        (b"3,-1 -1", "'-1' is no number of an expert"),
        (b"1024,1 2", "layer 1024 is beyond 1023"),
        (b"00003,1 2", "layer 00003 is beyond 1023"),
        (b"gate_input", "no layer"),
        (b"gate_input,", "no layer"),
        (b"gate_input,20", "no row"),
        (b"gate_input,20,", "no row"),
        (b"gate_input,20,0", "no numbers"),
        (b"gate_input,20,0,", "no numbers"),
        (b"gate_input,x,0,1", "'x' is no number of a layer"),
        (b"gate_input,20,0,1.5 2,5", "'2,5' is no number"),
        (b"gate_input,20,0,1.5  2", "two blanks in a row"),
        (b"gate_input,20,0," + b"1.5 " * 20 + b"1.2.3 4 5 6", "'1.2.3' is no number"),
        (b"3,1 \x1b[31m\xff", "'\\x1b[31m\\udcff' is no number of an expert"),
    ],
)
def test_known(line: bytes, says: str) -> None:
    assert parse_line(line, None, every_row=True) is None
    assert fault(line[:SAMPLE_BYTES]) == says


numbers = st.one_of(
    st.integers(0, 3000).map(str), st.sampled_from(["", "x", "-1", "00012", "1e3", "inf", "²", " "])
)
expert_lines = st.builds(
    lambda layer, ids: f"{layer},{' '.join(ids)}", numbers, st.lists(numbers, max_size=9)
)
gate_lines = st.builds(
    lambda layer, row, floats: f"gate_input,{layer},{row},{' '.join(floats)}",
    numbers,
    numbers,
    st.lists(numbers | st.floats().map(repr), max_size=5),
)
others = st.text("0123456789, .-+einfax\r\t\0", max_size=20) | st.text(max_size=20)
ends = st.sampled_from(["", "", "", "\r", " ", "\t"])
lines = st.builds(
    lambda text, end: (text + end).encode()[: SAMPLE_BYTES - 1], expert_lines | gate_lines | others, ends
)


@given(lines)
def test_something_is_wrong_with_exactly_those_that_the_grammar_refuses(line: bytes) -> None:
    if b"\n" not in line:
        assert bool(fault(line)) is (parse_line(line, None, every_row=True) is None)
        assert fault(line).isprintable()


@given(st.integers(1, 400))
def test_a_line_that_was_cut_is_blamed_for_nothing_that_is_not_seen(experts: int) -> None:
    line = b"3," + b" ".join(b"%d" % (expert % 2048) for expert in range(experts))
    assert fault(line[:SAMPLE_BYTES]) == ""
