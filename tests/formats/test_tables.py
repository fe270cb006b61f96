"""Tables are read a column at a time, and tell what they tell line by line."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.fields import MAX_SEQUENCE, floats, numbers, phase_named
from moe_live.formats.table import TableDecoder
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, Settings
from tests.analysis import analyzed, snapshot_of
from tests.comparison import plain

NUMBER = re.compile(r"-?[0-9]{1,18}")
FLOAT = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

whole = st.one_of(
    st.integers(0, 12).map(str),
    st.sampled_from(
        ["-1", "007", "-", "1-2", "--3", "", "x", "2047", "2048", "99999", "1.0", "1e1", "9" * 18, "9" * 19]
    ),
)
decimal = st.one_of(
    st.floats(0, 1).map(lambda value: f"{value:.6g}"),
    st.floats(0, 1).map(repr),
    st.floats(-200, 200).map(lambda value: f"{value:.8f}"),
    st.sampled_from(
        [
            "0.5",
            "-0.25",
            "-0.0",
            "1",
            "5e-05",
            "0.-5",
            "1.2.3",
            ".5",
            "-.5",
            "12.",
            ".",
            "nan",
            "0." + "1" * 19,
        ]
    ),
)
phases = st.sampled_from(["0", "1", "00", "-1", "decode", "Prefill", "pre_dispatch", "", "decoding_and_more"])
texts = st.sampled_from(["a", "req-1", "req-2", "7", "-3", "ä", "", "x" * 64 + "y", "x" * 64 + "z"])


@st.composite
def table_lines(draw: st.DrawFn) -> list[str]:
    """Of `turn,phase,step,layer,slot,expert,weight`, most of them as they should be."""
    lines = []
    for index in range(draw(st.integers(1, 40))):
        if draw(st.integers(0, 3)):
            lines.append(
                f"0,1,{index // 8},{index // 2 % 4},{index % 2},{draw(st.integers(0, 9))},0.{index + 1}"
            )
        else:
            fields = [draw(texts), draw(phases), draw(whole), draw(whole), draw(whole), draw(whole)]
            lines.append(draw(st.sampled_from([",", ", ", ",,"])).join([*fields, draw(decimal)]))
    return lines


@st.composite
def choices(draw: st.DrawFn) -> list[str]:
    """Of `layer,expert`, most of them as they should be."""
    odd = st.sampled_from(["", "3", "1,2 3", "1,2,3", " 1,2", "1, 2", "1,,2", ",1", "1,", "00001,2", "1;2"])
    others = st.one_of(odd, st.tuples(whole, whole).map(",".join))
    return [
        draw(others) if not draw(st.integers(0, 9)) else f"{index // 4 % 3},{draw(st.integers(0, 9))}"
        for index in range(draw(st.integers(1, 60)))
    ]


Told = tuple[int, int, int, int, int, int, tuple[int, ...], tuple[str, ...]]
"""Layer, phase, sequence, step, token, rank, experts, weights."""


def number(text: str) -> int | None:
    text = text.strip(" ")
    return int(text) if NUMBER.fullmatch(text) else None


def weight(text: str) -> float:
    text = text.strip(" ")
    return float(text) if FLOAT.fullmatch(text) else math.nan


def told(line: str, names: Sequence[str]) -> Told | None:
    """What one line tells, None if it is malformed."""
    fields = line.split(",")
    if names[-1].startswith("expert") and len(fields) > len(names):
        fields = [*fields[: len(names) - 1], " ".join(fields[len(names) - 1 :])]
    if len(fields) != len(names):
        return None
    of: Mapping[str, str] = dict(zip(names, fields, strict=True))
    layer, step, rank = (number(of.get(name, "0")) for name in ("layer", "step", "slot"))
    if layer is None or step is None or rank is None or not 0 <= layer < MAX_LAYERS:
        return None
    listed = re.split(" +", of["experts"].strip(" ")) if "experts" in of else [of["expert"]]
    experts = [number(text) for text in listed]
    if not all(expert is not None and -1 <= expert < MAX_EXPERTS for expert in experts):
        return None
    sequence = of.get("turn", "0").strip(" ")
    value = number(sequence)
    return (
        layer,
        phase_named(of.get("phase", "").strip(" ")),
        (zlib.crc32(sequence.encode()) if value is None else value) & MAX_SEQUENCE,
        step,
        0,
        rank,
        tuple(expert for expert in experts if expert is not None),
        tuple(repr(weight(of["weight"]) if "weight" in of else math.nan) for _ in experts),
    )


@pytest.mark.parametrize(
    ("header", "first", "drawn"),
    [
        ("turn,phase,step,layer,slot,expert,weight", "0,1,0,0,0,3,0.5", table_lines()),
        ("layer,expert", "0,1", choices()),
        ("layer,experts", "0,1 2", choices()),
    ],
)
@given(st.data())
def test_lines_tell_what_they_tell_one_by_one(
    header: str, first: str, drawn: st.SearchStrategy[list[str]], data: st.DataObject
) -> None:
    lines = data.draw(drawn)
    decoder = TableDecoder({})
    assert list(decoder.feed(f"{header}\n{first}\n".encode())) == []
    read = decoder.read("".join(f"{line}\n" for line in lines).encode())
    expected = [told(line, header.split(",")) for line in lines]
    assert read.good.tolist() == [one is not None for one in expected]
    assert read.line.tolist() == np.flatnonzero(read.good).tolist()
    of = read.told
    stop = np.cumsum(of.count).tolist()
    found = [
        (
            *(int(column[row]) for column in (of.layer, of.phase, of.sequence, of.step, of.token, of.rank)),
            tuple(of.experts[end - count : end].tolist()),
            tuple(map(repr, of.weights[end - count : end].tolist())),
        )
        for row, (end, count) in enumerate(zip(stop, of.count.tolist(), strict=True))
    ]
    assert found == [one for one in expected if one is not None]


@given(st.lists(st.one_of(whole, decimal, st.text("-.0123456789e x", max_size=24)), max_size=20))
def test_numbers_are_those_that_python_reads(fields: list[str]) -> None:
    fields = [field.strip(" ") for field in fields]
    text = np.frombuffer("".join(f"{field}," for field in fields).encode() + b"\n", np.uint8)
    end = np.cumsum([len(field) + 1 for field in fields], dtype=np.int64) - 1
    start = end - np.array(list(map(len, fields)), np.int64)
    values, good = numbers(text, start, end)
    expected = [number(field) for field in fields]
    assert good.tolist() == [value is not None for value in expected]
    assert values.tolist() == [value or 0 for value in expected]
    decimals, good = floats(text, start, end)
    assert list(map(repr, decimals.tolist())) == [repr(weight(field)) for field in fields]
    assert good.tolist() == [FLOAT.fullmatch(field) is not None for field in fields]


def test_columns_between_blanks_may_be_aligned() -> None:
    lines = [(layer, expert) for layer in (0, 1, 10) for expert in (3, 12, 205)] * 20
    aligned = "".join(f"{layer:>7} {expert:>8}\n" for layer, expert in lines)
    plainly = "".join(f"{layer} {expert}\n" for layer, expert in lines)
    of_aligned, of_plainly = (
        snapshot_of(f"  layer   expert\n{text}".encode()) for text in (aligned, plainly)
    )
    assert of_aligned.input.tally.malformed_lines == 0
    assert plain(of_aligned.layers) == plain(of_plainly.layers)


@pytest.mark.parametrize(
    "log",
    [
        "step,layer,expert,weight\n" + "0,3,1,0.5\n0,3,2,x\n0,3,-,0.5\n1,3,1,0.5\n1,3,2,0.25\n" * 9,
        '{"layer": 3, "topk_ids": [1, 2], "topk_weights": [0.5, 0.25]}\n{"layer": 3}\n' * 9,
        "3,[1, 2],[0.5, 0.25]\n3,[1, 2],[0.5]\n" * 9,
        "3,1 2,0.5 0.25\n3,1 2,0.5\n" * 9,
    ],
)
def test_if_nothing_but_counts_is_wanted_weights_tell_no_more_than_which_lines_are_malformed(
    log: str,
) -> None:
    everything = analyzed([log.encode()]).snapshot()
    counted = analyzed([log.encode()], Settings(counts_only=True)).snapshot()
    assert everything.gate_mass
    assert counted.gate_mass == ()
    assert plain(counted.input.tally) == plain(everything.input.tally)
    assert plain(counted.layers) == plain(everything.layers)
