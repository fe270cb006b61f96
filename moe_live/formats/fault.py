"""What is wrong with a line of a llama-server log, in a few words: the grammar, read for people."""

from __future__ import annotations

import re

from moe_live.errors import printable
from moe_live.formats.spans import SAMPLE_BYTES
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_ROWS, MAX_TOP_K

_FLOAT = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf|nan)")
_GATE = b"gate_input"
_NOT_MOE = "neither an expert line nor a gate line"
_SHOWN = 12
"""Bytes of what is wrong that are shown."""


def fault(line: bytes) -> str:
    """What is wrong with a malformed line; "" if that is nothing, or cannot be told from what is kept of it.

    Args:
        line: without its newline, or its first `SAMPLE_BYTES` bytes.
    """
    whole = len(line) < SAMPLE_BYTES
    line = line.removesuffix(b"\r")
    if line.startswith(b"#"):
        return ""  # a comment
    if not line:
        return "an empty line"
    if line[:1] in b" \t" or (whole and line[-1:] in b" \t"):
        return "a blank at its beginning" if line[:1] in b" \t" else "a blank at its end"
    if b"\0" in line:
        return "a NUL byte in it"
    kind, comma, rest = line.partition(b",")
    if kind == _GATE:
        return _gate_fault(rest, whole=whole) if comma else "no layer"
    if not kind.isdigit():
        return _NOT_MOE
    if not comma:
        return "no experts" if whole else _NOT_MOE
    return _number_fault("layer", kind, 4, MAX_LAYERS) or _experts_fault(rest, whole=whole)


def _experts_fault(ids: bytes, *, whole: bool) -> str:
    tokens = _tokens(ids, whole=whole)
    if not ids:
        return "no experts"
    for token in tokens:
        if wrong := _number_fault("expert", token, 4, MAX_EXPERTS):
            return wrong
    return f"more than {MAX_TOP_K} experts" if len(tokens) > MAX_TOP_K else ""


def _gate_fault(rest: bytes, *, whole: bool) -> str:
    layer, comma, rest = rest.partition(b",")
    if not comma and not whole:
        return ""
    row, second_comma, floats = rest.partition(b",")
    if wrong := _number_fault("layer", layer, 4, MAX_LAYERS):
        return wrong
    if not comma or (not second_comma and whole and not row):
        return "no row"
    if wrong := _number_fault("row", row, 10, MAX_ROWS):
        return wrong
    if not floats:
        return "no numbers"
    for token in _tokens(floats, whole=whole):
        if not token:
            return "two blanks in a row"
        if not _FLOAT.fullmatch(token):
            return f"{_quoted(token)} is no number"
    return ""


def _tokens(text: bytes, *, whole: bool) -> list[bytes]:
    """What stands between blanks; the last of a line that was cut may be cut too."""
    tokens = text.split(b" ")
    return tokens if whole else tokens[:-1]


def _number_fault(what: str, token: bytes, digits: int, bound: int) -> str:
    if not token:
        return "two blanks in a row" if what == "expert" else f"no {what}"
    if not token.isdigit():
        return f"{_quoted(token)} is no number of {'an' if what == 'expert' else 'a'} {what}"
    if len(token) > digits or int(token) >= bound:
        return f"{what} {printable(token[:_SHOWN])} is beyond {bound - 1}"
    return ""


def _quoted(token: bytes) -> str:
    cut = "…" if len(token) > _SHOWN else ""
    return f"'{printable(token[:_SHOWN])}{cut}'"
