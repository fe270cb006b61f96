"""The decoder agrees with the line-by-line reference on every input, however it is cut."""

import gzip
import random
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.formats import expert_lines, spans
from moe_live.formats.llama_server import LlamaServerDecoder
from tests.formats.reference import Event, decode, events_of, reference

HEADER = b"layer_id,expert_ids\n"
REAL_LOGS = (
    "glm4moe-160e-top8",
    "glm4moe-160e-top8-gates",
    "glm4moe-160e-top8-2slots-ub64",
    "glm4moe-160e-top8-truncated-from-outside",
    "qwen3moe-64e-top6-gates-unstrided",
    "qwen3moe-64e-top6-nan-inf",
)


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[i : i + size] for i in range(0, len(text), size)]


# Texts: well-formed logs, and what can happen to them.

floats = st.one_of(
    st.floats(width=32).map(lambda x: b"%.6g" % x),
    st.floats().map(lambda x: b"%.17g" % x),
    st.sampled_from([b"0", b"-0", b"3", b"840522", b"7.61678e-08", b"3.04196e+06", b"inf", b"-inf", b"-nan"]),
)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """One layer's lines: gate rows, then expert rows of one k."""
    rows, layer = draw(st.integers(1, 5)), draw(st.integers(0, 1023))
    largest = draw(st.sampled_from([7, 159, 255, 383, 999, 2047]))
    ids = st.lists(st.integers(0, largest), min_size=(k := draw(st.integers(1, 10))), max_size=k)
    text = b""
    if draw(st.booleans()):
        n_embd = draw(st.integers(1, 6))
        for row in range(rows):
            values = draw(st.lists(floats, min_size=n_embd, max_size=n_embd))
            text += b"gate_input,%d,%d,%s\n" % (layer, row, b" ".join(values))
    for _ in range(draw(st.integers(0, rows))):
        text += b"%d,%s\n" % (layer, b" ".join(b"%d" % one for one in draw(ids)))
    return text


logs = st.lists(st.one_of(blocks(), st.just(HEADER)), max_size=8).map(b"".join)
junk = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [
            b"\0",
            b"\0" * 40,
            b"\r",
            b"\n",
            b"\r\n",
            b"\n\0",
            b" ",
            b",",
            b".",
            b"-",
            b"g",
            b"gate_input,",
            b"9" * 30,
        ]
    ),
    st.sampled_from(
        [
            b"x" * 300,
            b"1 " * 300,
            b"3," + b" ".join([b"1"] * 257) + b"\n",
            b"\xff\xfe",
            b"# a\n",
            b"#\0\r\n",
            b"#",
        ]
    ),
)


@st.composite
def damaged_logs(draw: st.DrawFn) -> bytes:
    text = draw(logs)
    if draw(st.booleans()):
        text = text.replace(b"\n", b"\r\n")
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(junk) + text[at + draw(st.integers(0, 3)) :]
    return text


@st.composite
def chunkings(draw: st.DrawFn, text: bytes) -> list[bytes]:
    if draw(st.booleans()):
        return cut(text, draw(st.sampled_from([1, 2, 7, 100, 1 << 20])))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(logs)
def test_reads_a_well_formed_log_completely(text: bytes) -> None:
    events, tally = decode([text])
    assert (events, tally) == reference(text)
    assert tally.malformed_lines == tally.incomplete_bytes == 0


@settings(max_examples=4 * settings().max_examples)
@given(st.data(), st.one_of(logs, damaged_logs()))
def test_agrees_with_the_reference_however_the_input_is_cut(data: st.DataObject, text: bytes) -> None:
    limit = data.draw(st.sampled_from([1, 20, 300, 1 << 20]), "limit")
    gate_layers = data.draw(st.sampled_from([None, frozenset[int](), frozenset(range(0, 1024, 2))]), "layers")
    every_row = data.draw(st.booleans(), "every row")
    chunks = data.draw(chunkings(text), "chunks")
    blocks_of = data.draw(st.sampled_from([1300, 1 << 19]), "block")
    with mock.patch.object(expert_lines, "_BLOCK_BYTES", blocks_of):
        got = decode(chunks, gate_layers=gate_layers, every_row=every_row, limit=limit)
    expected = reference(text, gate_layers=gate_layers, every_row=every_row, limit=limit)
    assert got == expected
    assert got[1].incomplete_head == expected[1].incomplete_head


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_are_an_error_and_every_line_is_accounted_for(chunks: list[bytes]) -> None:
    _, tally = decode(chunks)
    assert tally.bytes == sum(map(len, chunks))
    assert tally.lines == sum(chunk.count(b"\n") for chunk in chunks)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [4099, 1 << 18])
def test_agrees_on_long_logs_with_odd_lines(seed: int, size: int) -> None:
    rng = random.Random(seed)
    odd = [b"", b"3,1 2", b"1 2 3", b"5,1500 2 3 4", b"gate_input,5,0,1 x", b"\0\0\0007,1 2 3 4", HEADER[:-1]]
    text = [HEADER]
    for _ in range(12000):
        layer, ids = rng.randrange(3, 40), rng.sample(range(500 if seed % 2 else 160), 4)
        text.append(b"%d,%d %d %d %d\n" % (layer, *ids))
        if rng.random() < 0.02:
            values = b" ".join(b"%.6g" % rng.gauss(0, 1) for _ in range(32 + (seed == 3) * rng.randrange(3)))
            text.append(b"gate_input,%d,%d,%s\n" % (layer, rng.randrange(2), values))
        if rng.random() < 0.001 * seed:
            text.append(rng.choice(odd) + b"\n")
    whole = b"".join(text)
    assert decode(cut(whole, size)) == reference(whole)


@pytest.mark.parametrize("name", REAL_LOGS)
@pytest.mark.parametrize("size", [8192, 1 << 20])
def test_reads_real_logs_completely(real_logs: Path, name: str, size: int) -> None:
    text = gzip.decompress((real_logs / f"{name}.log.gz").read_bytes())
    got = decode(cut(text, size))
    assert got == reference(text)
    assert got[1].malformed_lines == 0


# Golden answers.

GOOD_LINES: dict[bytes, Event] = {
    b"3,52 7 0": ("expert", 3, 52, 7, 0),
    b"3,52": ("expert", 3, 52),
    b"1023,2047": ("expert", 1023, 2047),
    b"0,0 0": ("expert", 0, 0, 0),
    b"0003,0007 010": ("expert", 3, 7, 10),
    b"3," + b" ".join([b"1"] * 256): ("expert", 3, *[1] * 256),
    b"3,52 7\r": ("expert", 3, 52, 7),
    b"gate_input,20,1,0.5 x": ("gate", 20, 1, None),
    b"gate_input,20,2147483647,0.5": ("gate", 20, 2147483647, None),
    b"gate_input,20,0,0.5 -0": ("gate", 20, 0, np.array([0.5, -0.0]).tobytes()),
    b"gate_input,20,0,1e5 7.61678e-08 3.04196e+06 -5": (
        ("gate", 20, 0, np.array([1e5, 7.61678e-08, 3.04196e06, -5]).tobytes())
    ),
    b"gate_input,20,0,inf -inf 0.033221\r": (
        ("gate", 20, 0, np.array([np.inf, -np.inf, 0.033221]).tobytes())
    ),
}


@pytest.mark.parametrize("line", GOOD_LINES)
def test_well_formed_lines(line: bytes) -> None:
    assert decode([b"4,1 2 3\n" + line + b"\n"])[0][1:] == [GOOD_LINES[line]]
    assert decode([line + b"\n"])[0] == [GOOD_LINES[line]]


MALFORMED_LINES = [
    *b"|3|3,|,3|3,1,|3,1,2 3|3,1 2,3|3,1,2,3|3,1,x|3 1 2|3 1,2|-3,1|3,-2|3,+1|3,1.0|3,1_0|a,b".split(b"|"),
    *b" 3,1|3,1 |3, 1|3,1  2|3 ,1|3,1\t2|3,1\r\r|3,1 2\r3,4 5|3,1\x0b2".split(b"|"),
    *b"1024,1|3,2048|3,00001|00003,1|4294967296,1|3,99999999999999999999".split(b"|"),
    *(b"3," + b" ".join([b"1"] * 257), b"3,1\0", b"3\0,1", b"3,1\xc3\x28", b"\xff", b" # step"),
    *b"layer_id,expert_ids |Layer_id,expert_ids|layer_id,expert_id|gate|gate_input".split(b"|"),
    *b"gate_input,3|gate_input,3,0|gate_input,3,0,|gate_input,3,1,|gate_input,3,1,\r".split(b"|"),
    *b"gate_input,1024,0,1|gate_input,3,2147483648,1|gate_input,3,99999999999,1|gate_input,,0,1".split(b"|"),
    *b"gate_input,-3,0,1|gate_input,3,-1,1|gate_input,3,+1,1|gate_input,3,x,1|xgate_input,3,1,1".split(b"|"),
    *b"gate_input,3,1,0.5 \0 0.5|gate_input,3,0,0.5\0|gate_input 3,0,1|gate_input,3,0 1,1".split(b"|"),
    *b"gate_input,3,0, 1|gate_input,3,0,1 |gate_input,3,0,1  2|gate_input,3,0,1,2".split(b"|"),
    *(b"gate_input,3,0," + bad for bad in b"+1|1_0|infinity|INF|NaN|1.|.5|-|--1|1e|1e+|e5|1E5".split(b"|")),
    *(b"gate_input,3,0," + bad for bad in b"1.2.3|0x1|1-2|-.5|1\t2|\xb2|1,5".split(b"|")),
]


@pytest.mark.parametrize("line", MALFORMED_LINES)
def test_malformed_lines(line: bytes) -> None:
    for text in (line + b"\n", b"3,1 2\n" + line + b"\ngate_input,3,0,1.5 2.5\n5,1 2\n"):
        events, tally = decode([text])
        assert (tally.malformed_lines, tally.header_lines) == (1, 0)
        assert tally.samples == (line.removesuffix(b"\r")[:120],)
        assert len(events) == tally.lines - 1


def test_a_line_is_not_parsed_before_its_newline() -> None:
    decoder = LlamaServerDecoder()
    assert list(decoder.feed(b"3,1 2 15")) == []
    assert events_of(*decoder.feed(b"4\n4,1")) == [("expert", 3, 1, 2, 154)]
    assert decoder.tally.lines == 1


def test_a_restart_drops_the_unfinished_line() -> None:
    decoder = LlamaServerDecoder()
    assert list(decoder.feed(HEADER + b"3,1 2 1")) == []
    decoder.restart()
    assert events_of(*decoder.feed(HEADER + b"4,5\n")) == [("expert", 4, 5)]
    decoder.restart()
    tally = decoder.tally
    assert (tally.incomplete_bytes, tally.incomplete_lines, tally.header_lines, tally.lines) == (7, 1, 2, 3)


@pytest.mark.parametrize(
    ("cut_line", "first", "expected"),
    [
        (b"1", b"4,3 4", []),  # of 14,3 4, or a line of its own: nobody can tell
        (b"14,3 ", b"4,5 6", []),  # of 14,3 4,5 6, with weights, or a line of its own
        (b"14,3 ", b"4,5 6 7", [("expert", 4, 5, 6, 7)]),  # 14,3 4,5 6 7 is no line
        (b"14,3 4 1", b"5,6 7", [("expert", 5, 6, 7)]),
        (b"1", HEADER[:-1], []),
        (b"gate_input,2", b"0,1 2", [("expert", 0, 1, 2)]),  # a field short of a gate line
        (b"", b"4,3 4", [("expert", 4, 3, 4)]),
        (b"14,3", b" 4 5", []),  # malformed in any case
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_rest_of_a_line_that_was_cut_is_not_taken_for_a_line(
    cut_line: bytes, first: bytes, expected: list[Event], size: int
) -> None:
    decoder = LlamaServerDecoder()
    assert len([*decoder.feed(b"13,1 2\n" + cut_line)]) == 1
    decoder.restart(emptied=True)
    events: list[Event] = []
    for piece in cut(first + b"\n4,3 4\n", size):
        for records in decoder.feed(piece):
            events += events_of(records)
    assert events == [*expected, ("expert", 4, 3, 4)]
    tally = decoder.tally
    assert (tally.lines, tally.incomplete_bytes) == (3, len(cut_line))
    assert tally.malformed_lines == 1 - len(expected) - tally.header_lines


def test_a_hole_in_the_file_is_skipped() -> None:
    hole = b"\0" * 1_400_000
    events, tally = decode(cut(hole + b"3,1 2\n\0\0" + b"4,5 6\n" + hole, 100_001))
    assert events == [("expert", 3, 1, 2), ("expert", 4, 5, 6)]
    assert (tally.nul_bytes, tally.lines, tally.malformed_lines) == (2_800_002, 2, 0)
    assert (tally.incomplete_bytes, tally.incomplete_lines) == (0, 0)


@pytest.mark.parametrize("size", [1000, 1 << 18, 1 << 24])
def test_an_overlong_line_costs_only_itself(size: int) -> None:
    longest = spans.MAX_LINE_BYTES
    row = b"gate_input,3,1," + b"1" * (longest - 15)
    text = b"3,1 2\n" + b"5" * 3_000_000 + b"\n" + row + b"\n" + row + b"1\n4,5 6\n"
    events, tally = decode(cut(text, size))
    assert events == [("expert", 3, 1, 2), ("gate", 3, 1, None), ("expert", 4, 5, 6)]
    assert (tally.lines, tally.malformed_lines, tally.overlong_lines) == (5, 2, 2)
    assert tally.samples == (b"5" * 120, row[:120])


def test_only_the_first_malformed_lines_are_kept() -> None:
    text = b"".join(b"gate_input,3,0,bad%d\nbad%d\n3,1\n" % (i, i) for i in range(5000))
    tally = decode([text])[1]
    assert tally.malformed_lines == 10_000
    assert tally.samples == (
        b"gate_input,3,0,bad0",
        b"bad0",
        b"gate_input,3,0,bad1",
        b"bad1",
        b"gate_input,3,0,bad2",
    )


def test_records_end_where_n_embd_changes_but_not_where_k_does() -> None:
    text = (
        b"gate_input,3,0,1 2\n3,1 2\n3,3 4\ngate_input,4,1,x\n4,5\ngate_input,5,0,1 2\n"
        b"gate_input,6,0,1 2 3\n6,7\ngate_input,7,0,4 5 6\n"
    )
    got = [
        (
            [table.tolist() for table in r.experts.tables],
            r.experts.widths().tolist(),
            r.gates.position.tolist(),
            r.gates.vector.tolist(),
            r.gates.vectors.tolist(),
        )
        for r in LlamaServerDecoder().feed(text)
    ]
    assert got == [
        ([[[5]], [[1, 2], [3, 4]]], [2, 2, 1], [0, 2, 3], [0, -1, 1], [[1, 2], [1, 2]]),
        ([[[7]]], [1], [0, 1], [0, 1], [[1, 2, 3], [4, 5, 6]]),
    ]


def test_only_wanted_gate_layers_are_parsed() -> None:
    text = b"gate_input,3,0,1.5\ngate_input,4,0,2.5\n"
    (records,) = LlamaServerDecoder(gate_layers=frozenset({4})).feed(text)
    assert records.gates.vector.tolist() == [-1, 0]
    assert records.gates.vectors.tolist() == [[2.5]]


def test_takes_a_memoryview() -> None:
    assert decode([memoryview(b"x3,1 2\n")[1:]])[0] == [("expert", 3, 1, 2)]
