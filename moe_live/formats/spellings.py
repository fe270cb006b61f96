"""Rows of experts that are spelled otherwise: weights behind each id, slots without an expert, lists.

Grammar::

    pairs := LAYER "," ID ":" WEIGHT (" " ID ":" WEIGHT)*
    slots := LAYER "," SLOT (" " SLOT)* ["," WEIGHT (" " WEIGHT)*]
    SLOT  := ID | "-1"
    list  := LAYER "," ("[" IDS "]" | '"' IDS '"' | '"[' IDS ']"'), blanks or commas in IDS
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

_PAIRS = rb"[0-9]{1,4}:[^ \n:,]+(?: [0-9]{1,4}:[^ \n:,]+)*"
_SLOTS = rb"(?:[0-9]{1,4} )*-1(?: (?:-1|[0-9]{1,4}))*"
_IDS = rb"ID(?:(?:, ?| )ID)*".replace(b"ID", rb"(?:-1|[0-9]{1,4})")
_LIST = rb"\[IDS\]|\"IDS\"|\"\[IDS\]\"".replace(b"IDS", _IDS)
_NOT_IN_SLOTS = bytes.maketrans(b'[],"', b"    ")
_OTHERWISE = (
    rb"^(?P<layer>[0-9]{1,4}),(?:(?P<pairs>"
    + _PAIRS
    + rb")|(?P<slots>"
    + _SLOTS
    + rb")(?P<weights>,[^\n,]+)?|(?P<list>"
    + _LIST
    + rb"))$"
)


class Plain(NamedTuple):
    """Lines with all rows as ids, and weights behind them.

    Attributes:
        text: the lines, without rows that have no expert.
        empty_rows: how many these were.
        empty_slots: how many -1 there were.
    """

    text: bytes
    empty_rows: int
    empty_slots: int


@cache
def _otherwise() -> re.Pattern[bytes]:
    """Compiled when a log has a row that is none as servers write them."""
    return re.compile(_OTHERWISE, re.MULTILINE)


def is_otherwise(line: bytes | memoryview) -> bool:
    """Whether a line, without its newline, is such a row."""
    return _otherwise().fullmatch(line) is not None


def in_plain(text: bytes) -> Plain:
    """Complete lines, with such rows as plain ones."""
    empty_rows = empty_slots = 0

    def plain(found: re.Match[bytes]) -> bytes:
        nonlocal empty_rows, empty_slots
        layer, pairs, slots, weights, listed = found.group("layer", "pairs", "slots", "weights", "list")
        if pairs is not None:
            ids, values = zip(*(pair.split(b":") for pair in pairs.split(b" ")), strict=True)
            return b"%b,%b,%b" % (layer, b" ".join(ids), b" ".join(values))
        of_slots = (slots or listed.translate(_NOT_IN_SLOTS)).split()
        used = [index for index, slot in enumerate(of_slots) if slot != b"-1"]
        empty_slots += len(of_slots) - len(used)
        if not used:
            empty_rows += 1
            return _EMPTY
        line = b"%b,%b" % (layer, b" ".join(of_slots[index] for index in used))
        if weights is not None and len(beside := weights[1:].split(b" ")) == len(of_slots):
            return b"%b,%b" % (line, b" ".join(beside[index] for index in used))
        return line if weights is None else found[0]

    text = _otherwise().sub(plain, text)
    return Plain(text.replace(_EMPTY + b"\n", b""), empty_rows, empty_slots)


_EMPTY = b"\0empty row\0"
