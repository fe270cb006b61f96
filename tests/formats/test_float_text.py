"""Floats come out bit for bit as Python's float() makes them."""

import re
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats import float_text
from moe_live.formats.float_text import FloatTextParser
from tests.formats.reference import NUMBER

pytestmark = pytest.mark.usefixtures("each_way")

PARSER = FloatTextParser()


def check(lines: Sequence[bytes], parser: FloatTextParser = PARSER) -> None:
    """Compare with float(), line by line."""
    text = b"\n".join(lines) + b"\n"
    ends = np.cumsum([len(line) + 1 for line in lines]) - 1
    got = parser.parse(
        text, [(int(end) - len(line), int(end)) for end, line in zip(ends, lines, strict=True)]
    )
    tokens = [line.split(b" ") for line in lines]
    good = [all(re.fullmatch(NUMBER, token) for token in line) for line in tokens]
    assert got.good.tolist() == good
    assert got.width.tolist() == [len(line) * fine for line, fine in zip(tokens, good, strict=True)]
    expected = [token for line, fine in zip(tokens, good, strict=True) if fine for token in line]
    bits = np.array([float(token) for token in expected]).view(np.uint64)
    wrong = np.flatnonzero(bits != got.values.view(np.uint64))
    assert [expected[i] for i in wrong] == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("form", [b"%.6g", b"%.9g", b"%.3g", b"%.17g", b"%.6f", b"%d"])
def test_any_float32_as_printed(seed: int, form: bytes) -> None:
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):
        any_bits = rng.integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)
        usual = rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 12, 4000)
        values = np.concatenate([any_bits, usual]).astype(float)
    if form in (b"%d", b"%.6f"):
        values = values[np.abs(values) < 1e18]
    tokens = [form % value for value in values.tolist()]
    check([b" ".join(tokens)])
    check([b" ".join(tokens[i : i + n]) for n in (1, 2, 255) for i in range(0, 1000, n)])


def test_every_shape_of_a_decimal() -> None:
    """All numbers of integer and decimal places, dots and signs, around the eight-byte window."""
    for digits in (
        b"0",
        b"1",
        b"9",
        b"10",
        b"90000000000000000000000000000000",
        b"0123456789012345678901234567890",
    ):
        tokens = []
        for size in range(1, 31):
            text = (digits * size)[:size]
            for dot in range(1, size):
                tokens += [text[:dot] + b"." + text[dot:], b"-" + text[:dot] + b"." + text[dot:]]
            tokens += [text, b"-" + text]
        check([b" ".join(tokens), *tokens])


@given(
    st.lists(st.text("0123456789..  --e+infa_\r\0\t", min_size=1, max_size=24), min_size=1, max_size=4),
    st.sampled_from([1, 24, 1 << 17]),
)
def test_text_that_is_almost_floats(lines: list[str], blocks_of: int) -> None:
    with mock.patch.object(float_text, "_BLOCK_BYTES", blocks_of):
        check([line.encode() for line in lines])


@given(st.lists(st.from_regex(NUMBER, fullmatch=True), min_size=1, max_size=20))
def test_any_text_of_the_grammar(tokens: list[bytes]) -> None:
    check([b" ".join(tokens)])


def test_exponents_of_any_length() -> None:
    exponents = [
        *(b"0", b"5", b"22", b"23", b"44", b"63", b"308", b"309", b"324", b"00000000000000000000000005"),
        *(b"18446744073709551616", b"18446744073709551621", b"36893488147419103235", b"9" * 400),
    ]
    tokens = [
        number + sign + exponent
        for number in (b"1", b"-2.5", b"0", b"0.00000000000000000000012", b"9007199254740993")
        for sign in (b"e", b"e+", b"e-")
        for exponent in exponents
    ]
    check([b" ".join(tokens), *tokens])


@pytest.mark.parametrize("token", [b"9007199254740993E4", b"12345678901234567890E5", b"0x1p3", b"1E5", b"+1"])
def test_what_other_programs_take_for_a_number(token: bytes) -> None:
    check([b"0.5 " + token, token, token + b" 1.25", b"1.25"])


def test_usual_numbers_are_not_parsed_one_by_one() -> None:
    rng = np.random.default_rng(0)
    tokens = [b"%.6g" % value for value in rng.standard_normal(10_000).tolist()]
    usual = [token for token in tokens if b"e" not in token] + [b"0", b"-0", b"-17", b"840522", b"12345.6"]
    with mock.patch.object(FloatTextParser, "_parse_odd", side_effect=AssertionError):
        check([b" ".join(usual)] * 2)


def test_lines_longer_than_the_buffers() -> None:
    parser = FloatTextParser()
    check([b"1.5", b" ".join([b"-0.25"] * 40_000), b"2.5", b"1" * 300_000, b" " * 200_000, b"3.5"], parser)
    check([b"0.125 7"], parser)


def test_what_a_shorter_batch_leaves_behind_does_not_matter() -> None:
    parser = FloatTextParser()
    for first in (b"8888888888", b"--------", b"........", b"        ", b"123456.789"):
        for second in (b"1", b"12.5", b"1e5", b"-0.000123456", b"1.", b"."):
            check([first * 3, first], parser)
            check([second], parser)
