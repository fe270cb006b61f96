"""Of lines that no dialect takes: which one they come nearest to, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moe_live.errors import printable
from moe_live.formats.columns import Column, json_object, meaning, plain_name

_NAME = re.compile(rb"[\"']?[A-Za-z_][A-Za-z0-9_ .-]{0,40}[\"']?")
_LIKE = {
    Column.LAYER: ("layer", "lyr", "blk", "block"),
    Column.EXPERTS: ("expert", "sel", "topk", "route", "ids"),
}
_SEPARATORS = (b"\t", b",", b";", b"|")
_MOST = 32
"""Columns that are looked at."""


def nearest(lines: Sequence[bytes]) -> str:
    """What is missing to read lines such as these, as a clause; "" if they are like nothing that is read.

    >>> nearest([b"tok,layer_no,expert_id"])
    'the header has no layer column: layer_no? use --columns layer=layer_no'
    """
    return next(filter(None, map(_nearest, lines)), "")


def is_foreign_table(lines: Sequence[bytes]) -> bool:
    """Whether the first line names columns and the next one has as many fields: no rows without a header."""
    told = [line for line in lines if not line.startswith(b"#")][:2]
    parts = [next((line.split(mark) for mark in _SEPARATORS if mark in line), []) for line in told]
    return len(parts) == 2 and len(parts[0]) == len(parts[1]) > 1 and _are_names(parts[0])


def _are_names(parts: Sequence[bytes]) -> bool:
    return all(_NAME.fullmatch(part.strip()) for part in parts)


def _nearest(line: bytes) -> str:
    names, what = list(json_object(line) or ()), "line has no {} key"
    if not names:
        parts = next((line.split(mark) for mark in (*_SEPARATORS, b" ") if mark in line), [])
        if len(parts) < 2 or not _are_names(parts):
            return ""
        names, what = [part.decode("utf-8", "replace").strip() for part in parts], "header has no {} column"
    told_of = {meaning(name) for name in names[:_MOST]}
    missing = [column for column in _LIKE if column not in told_of]
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
    return next(
        (
            name.strip("\"'")
            for like in _LIKE[column]
            for name in names[:_MOST]
            if like in plain_name(name) and meaning(name) in {None, column}
        ),
        "",
    )
