"""Of lines that no dialect takes: which one they come nearest to, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moe_live.errors import printable
from moe_live.formats.columns import NAMES, Column, json_object, plain_name

_NAME = re.compile(rb"[\"']?[A-Za-z_][A-Za-z0-9_ .-]{0,40}[\"']?")
_LIKE = {
    Column.LAYER: ("layer", "lyr", "blk", "block"),
    Column.EXPERTS: ("expert", "sel", "topk", "route", "ids"),
}
_MOST = 32
"""Columns that are looked at."""


def nearest(lines: Sequence[bytes]) -> str:
    """What is missing to read lines such as these, as a clause; "" if they are like nothing that is read.

    >>> nearest([b"tok,layer_no,expert_id"])
    'the header has no layer column: layer_no? use --columns layer=layer_no'
    """
    return next(filter(None, map(_nearest, lines)), "")


def _nearest(line: bytes) -> str:
    names, what = list(json_object(line) or ()), "line has no {} key"
    if not names:
        parts = next((line.split(mark) for mark in (b"\t", b",", b";", b"|", b" ") if mark in line), [])
        if len(parts) < 2 or not all(_NAME.fullmatch(part.strip()) for part in parts):
            return ""
        names, what = [part.decode("utf-8", "replace").strip() for part in parts], "header has no {} column"
    known = [plain_name(name) for name in names[:_MOST]]
    missing = [column for column in _LIKE if not set(NAMES[column]) & set(known)]
    if len(missing) == len(_LIKE) and not any(_guess(column, names) for column in missing):
        return ""
    if not missing:
        return ""
    guesses = {column: _guess(column, names) for column in missing}
    guessed = [printable(name.encode()) for name in guesses.values() if name]
    clause = f"the {what.format(' and no '.join(missing))}"
    if len(guessed) < len(missing):
        return f"{clause}; --columns {missing[0]}=NAME tells which it is"
    told = ",".join(f"{column}={name}" for column, name in zip(missing, guessed, strict=True))
    return f"{clause}: {', '.join(guessed)}? use --columns {told}"


def _guess(column: Column, names: list[str]) -> str:
    """Which of these may be what a column is called."""
    others = {known for kind, of in NAMES.items() if kind is not column for known in of}
    return next(
        (
            name.strip("\"'")
            for like in _LIKE[column]
            for name in names[:_MOST]
            if like in plain_name(name) and plain_name(name) not in others
        ),
        "",
    )
