"""Bytes from the terminal to names of keys, what the mouse did, and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.keys import Answer, Event, KeyDecoder, Mouse, Pointing

KNOWN: dict[bytes, Event] = {
    b"q": "q",
    b"R": "R",
    b" ": "space",
    b"\t": "tab",
    b"\r": "enter",
    b"\x7f": "backspace",
    b"\x0c": "ctrl-l",
    "é".encode(): "é",
    "漢".encode(): "漢",
    b"\x1b[A": "up",
    b"\x1bOB": "down",
    b"\x1b[1;5C": "right",
    b"\x1b[D": "left",
    b"\x1b[H": "home",
    b"\x1b[4~": "end",
    b"\x1b[5~": "pgup",
    b"\x1b[6;2~": "pgdn",
    b"\x1b[Z": "shift-tab",
    b"\x1bOP": "f1",
    b"\x1bx": "alt-x",
    b"\x1b[<0;12;7M": Mouse(Pointing.PRESS, 11, 6),
    b"\x1b[<4;1;1M": Mouse(Pointing.PRESS, 0, 0),  # with shift
    b"\x1b[<32;300;100M": Mouse(Pointing.DRAG, 299, 99),
    b"\x1b[<64;12;7M": Mouse(Pointing.WHEEL_UP, 11, 6),
    b"\x1b[<65;12;7M": Mouse(Pointing.WHEEL_DOWN, 11, 6),
    b"\x1b[<69;12;7M": Mouse(Pointing.WHEEL_RIGHT, 11, 6),  # with shift
    b"\x1b[<66;12;7M": Mouse(Pointing.WHEEL_LEFT, 11, 6),
    b"\x1b]11;rgb:0000/8080/ffff\x07": Answer("11", "rgb:0000/8080/ffff"),
    b"\x1b]11;rgb:00/80/ff\x1b\\": Answer("11", "rgb:00/80/ff"),
    b"\x1b[?1;2c": Answer("c", "?1;2"),
}
JUNK = [
    b"\x1b[M !!",  # mouse, oldest protocol
    b"\x1b[<0;12;7m",  # mouse, SGR protocol: a button let go, another one pressed, with ctrl, nonsense
    b"\x1b[<2;12;7M",
    b"\x1b[<16;12;7M",
    b"\x1b[<35;12;7M",
    b"\x1b[<128;12;7M",
    b"\x1b[<0;12M",
    b"\x1b[<0;999999;7M",
    b"\x1b[<;;M",
    b"\x1b[200~quit q R\x1b[A\x1b[201~",  # a paste
    b"\x1bP1$r0m\x1b\\",  # answers of the terminal to what was not asked
    b"\x1b]title\x07",
    b"\x1b[>1;2c",
    b"\x1b[99~",
    b"\x1b[[A",  # function key of the Linux console
    b"\xff",
    b"\xc3(",  # a broken character, then a key
]

pieces = st.sampled_from([*KNOWN.items(), *[(junk, "(" if junk == b"\xc3(" else "") for junk in JUNK]])


def decode(parts: list[bytes]) -> list[Event]:
    decoder = KeyDecoder()
    return [key for part in parts for key in decoder.feed(part)]


@pytest.mark.parametrize(("typed", "key"), KNOWN.items())
def test_a_key(typed: bytes, key: Event) -> None:
    assert decode([typed]) == [key]


@pytest.mark.parametrize("typed", JUNK[:-1])
def test_junk_is_swallowed_whole(typed: bytes) -> None:
    assert decode([typed, b"q"]) == ["q"]


@given(st.lists(pieces, max_size=12), st.data())
def test_cuts_between_reads_do_not_matter(typed: list[tuple[bytes, Event]], data: st.DataObject) -> None:
    whole = b"".join(piece for piece, _ in typed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert decode(parts) == [key for _, key in typed if key]


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_bytes_end_in_printable_names_and_a_clean_state(parts: list[bytes]) -> None:
    decoder = KeyDecoder()
    keys = [key for part in parts for key in decoder.feed(part)] + decoder.flush()
    assert all(key and key.isprintable() for key in keys if isinstance(key, str))
    assert not decoder.pending
    assert decoder.feed(b"q") == ["q"]


def test_a_lone_escape_is_the_key_once_nothing_follows() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.pending
    assert decoder.flush() == ["esc"]
    assert decode([b"\x1b\x1b[A"]) == ["esc", "up"]


def test_an_endless_sequence_is_dropped() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b]" + b"x" * 1000) == []
    assert not decoder.pending
