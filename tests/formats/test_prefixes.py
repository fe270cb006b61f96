"""What is around the lines of a log changes nothing."""

from __future__ import annotations

import codecs
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.formats.prefixes import SHAPES, unwrapped
from moe_live.parallel.plan import plan
from moe_live.settings import Settings
from tests.analysis import snapshot_of
from tests.comparison import plain
from tests.formats.test_written import figures
from tests.formats.written import WRITERS, Row, llama_server, rows_of_a_model

PREFIXES = {
    "llama.cpp": "0.00.881.003 I ",
    "journald": "Sep 01 08:00:00 gpubox llama-server[4711]: ",
    "journald, ISO": "2026-09-01T08:00:00+0200 gpubox llama-server[4711]: ",
    "time": "2026-09-01T08:00:00.000000123Z ",
    "docker compose": "server-1  | ",
    "kubectl": "[pod/moe-0/server] ",
    "grep -Hn": "logs/moe.log:12:",
    "grep -n": "123:",
    "grep -H": "logs/moe.log:",
}

ALL = {**{name: write for name, (write, _) in WRITERS.items()}, "llama_server": llama_server}


def test_there_is_an_example_of_every_shape() -> None:
    assert list(PREFIXES) == list(SHAPES)
    for name, prefix in PREFIXES.items():
        shapes = {wrapping.prefix: line for wrapping, line in unwrapped(f"{prefix}3,1 2".encode())}
        assert shapes[name] == b"3,1 2"


def wrapped(text: str, prefix: str, *, colours: bool, end: str) -> str:
    colour, plain_again = ("\x1b[32m", "\x1b[0m") if colours else ("", "")
    return "".join(f"{prefix}{colour}{line}{plain_again}{end}\n" for line in text.splitlines())


@settings(max_examples=settings().max_examples // 2)
@given(
    st.sampled_from(sorted(ALL)),
    rows_of_a_model(),
    st.tuples(
        st.sampled_from(["", *PREFIXES.values()]),
        st.booleans(),
        st.sampled_from(["", " ", "\r", " \t\r"]),
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ),
    st.data(),
)
def test_they_are_taken_off(
    name: str, rows: list[Row], around_it: tuple[str, bool, str, str], data: st.DataObject
) -> None:
    prefix, colours, end, encoding = around_it
    text = ALL[name](rows)
    log = wrapped(text, prefix, colours=colours, end=end).encode(encoding)
    places = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=5)))
    cut = [log[begin:stop] for begin, stop in zip([0, *places], [*places, len(log)], strict=True)]
    bare, around = snapshot_of(text.encode()), snapshot_of(*cut)
    assert figures(around) == figures(bare)
    assert around.input.format == bare.input.format
    assert around.input.tally.bytes == len(log)
    assert around.input.tally.lines == bare.input.tally.lines
    assert around.input.tally.malformed_lines == 0
    assert plain(snapshot_of(*(log[at : at + 1] for at in range(60)), log[60:])) == plain(around)


def test_lines_without_the_prefix_stay_as_they_are() -> None:
    bare = b"layer_id,expert_ids\n3,1 2\n4,5 6\n# label: x\n3,1 7\n4,2 6\n"
    with_prefix = b"moe.log:layer_id,expert_ids\nmoe.log:3,1 2\n4,5 6\n# label: x\n3,1 7\nmoe.log:4,2 6\n"
    assert figures(snapshot_of(with_prefix)) == figures(snapshot_of(bare))


def test_a_mark_alone_is_an_empty_log() -> None:
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF8):
        snapshot = snapshot_of(mark)
        assert (snapshot.input.tally.bytes, snapshot.input.tally.lines) == (len(mark), 0)


def test_what_is_around_lines_is_not_cut_for_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for prefix, cut in (("", True), ("moe.log:", False)):
        path.write_text("".join(f"{prefix}{line}\n" for line in ["3,1 2", "7,1 4"] * 1000))
        assert bool(plan([str(path)], 2, Settings(), min_bytes=0, part_bytes=2000)) is cut


@pytest.mark.parametrize(
    ("line", "same", "empty_rows"),
    [
        (b"3,51:0.2770 1:0.2426", b"3,51 1,0.2770 0.2426", 0),
        (b"3,51 -1 12", b"3,51 12", 0),
        (b"3,51 -1 12,0.5 0 0.25", b"3,51 12,0.5 0.25", 0),
        (b"3,-1 -1", b"# nothing", 1),
    ],
)
def test_rows_may_be_spelled_otherwise(line: bytes, same: bytes, empty_rows: int) -> None:
    others = b"3,1 2 4\n4,5 6 7\n"
    spelled = snapshot_of(others + line + b"\n" + others)
    plainly = snapshot_of(others + same + b"\n" + others)
    assert figures(replace(spelled, warnings=())) == figures(replace(plainly, warnings=()))
    assert (spelled.input.tally.lines, spelled.input.tally.malformed_lines) == (5, 0)
    assert spelled.input.tally.empty_rows == empty_rows


def test_another_number_of_weights_than_slots_is_malformed() -> None:
    assert snapshot_of(b"3,1 2\n3,51 -1 12,0.5 0.25\n3,51:0.5 1:x\n").input.tally.malformed_lines == 2


@pytest.mark.parametrize("prefix", PREFIXES.values())
def test_lines_that_could_be_of_many_formats_are_looked_at_without_it(prefix: str) -> None:
    text = "0,2,4\n1,6,2\n0,3,2\n1,5,4\n"
    around = snapshot_of(wrapped(text, prefix, colours=True, end=" ").encode())
    assert around.input.format == "commas"
    assert figures(around) == figures(snapshot_of(text.encode()))
