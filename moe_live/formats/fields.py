"""Fields of lines to whole numbers, all fields of a column at once."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.passes import DECODE, PREFILL, UNTOLD

MAX_DIGITS = 18
"""Of a number; more do not fit 64 bits."""

PHASES = np.full(256, UNTOLD)
"""What a name of a phase means, by its first byte."""

PHASES[list(b"pP0")], PHASES[list(b"dDgGtT1")] = PREFILL, DECODE

_EXACT_DIGITS = 15  # of a number that doubles hold exactly, and the power of ten below it
_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BLANK, _COMMA, _MINUS, _ZERO, _DOT = b" ,-0."


def trimmed(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The fields (n,) without blanks at either end; a newline or another separator stands behind each."""
    while (blank := (text[start] == _BLANK) & (start < end)).any():
        start = start + blank
    while (blank := (text[end - 1] == _BLANK) & (start < end)).any():
        end = end - blank
    return start, end


def numbers(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One whole number a field, perhaps negative.

    Returns:
        (n,) the values, 0 where a field has anything else; (n,) whether it has a number.
    """
    width = end - start
    negative = (text[start] == _MINUS) & (width > 1)
    width = width - negative
    good = (width > 0) & (width <= MAX_DIGITS)
    value = np.zeros(len(start), np.int64)
    scale = 1
    for place in range(min(int(width.max(initial=0)), MAX_DIGITS)):
        digit = text[end - 1 - place] - np.uint8(_ZERO)
        here = width > place
        good &= ~here | (digit <= 9)
        value += np.where(here, digit, 0).astype(np.int64) * scale
        scale *= 10
    value[~good] = 0
    return np.where(negative, -value, value), good


def floats(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One number a field, with decimal places or without, as `float` reads it.

    Returns:
        (n,) the values, NaN where a field has anything else; (n,) whether it has a number.
    """
    width = end - start
    good = (width > 0) & (width <= _EXACT_DIGITS)
    whole = np.zeros(len(start), np.int64)
    scale, places = np.ones(len(start), np.int64), np.zeros(len(start), np.int64)
    for place in range(min(int(width.max(initial=0)), _EXACT_DIGITS)):
        byte = text[end - 1 - place]
        digit = byte - np.uint8(_ZERO)
        here, is_dot = width > place, byte == _DOT
        is_digit = digit <= 9
        good &= ~here | is_digit | (is_dot & (places == 0) & (place > 0))
        places = np.where(here & is_dot, place, places)
        used = here & is_digit
        whole += np.where(used, digit, 0).astype(np.int64) * scale
        scale = np.where(used, scale * 10, scale)
    value = whole / 10.0**places
    for at in np.flatnonzero(~good).tolist():
        value[at] = np.nan
        if _FLOAT.fullmatch(field := text[start[at] : end[at]].tobytes()):
            value[at], good[at] = float(field), True
    return value, good


def float_lists(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers between blanks or commas, in fields that follow each other in the text; see `lists`."""
    inside = np.zeros(len(text) + 1, np.int8)
    inside[start] += 1
    inside[end] -= 1
    used = (np.cumsum(inside[:-1], dtype=np.int8) > 0) & (text != _BLANK) & (text != _COMMA)
    first = np.flatnonzero(used & ~np.concatenate(([False], used[:-1])))
    last = np.flatnonzero(used & ~np.concatenate((used[1:], [False])))
    field = np.searchsorted(start, first, "right") - 1
    value, fits = floats(text, first, last + 1)
    good = np.ones(len(start), np.bool_)
    good[field[~fits]] = False
    count = np.bincount(field, minlength=len(start))
    count[~good] = 0
    return value[good[field]], count


def untold(experts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of experts that have none."""
    return np.full(len(experts), np.nan)


def lists(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole numbers between blanks or commas, in fields that follow each other in the text.

    Args:
        text: (b,) bytes; no number reaches up to its end.
        start: (n,) ascending.
        end: (n,)

    Returns:
        (v,) the numbers, those of one field after those of the one before; (n,) how many each field has, 0
        where it has anything else in it.
    """
    is_digit = text - np.uint8(_ZERO) <= 9
    inside = np.zeros(len(text) + 1, np.int8)
    inside[start] += 1
    inside[end] -= 1
    inside_field = np.cumsum(inside[:-1], dtype=np.int8) > 0
    is_minus = text == _MINUS
    is_minus[:-1] &= is_digit[1:]
    is_minus[1:] &= ~is_digit[:-1]
    odd = inside_field & ~(is_digit | is_minus | (text == _BLANK) | (text == _COMMA))
    good = np.ones(len(start), np.bool_)
    good[np.searchsorted(start, np.flatnonzero(odd), "right") - 1] = False
    is_digit &= inside_field
    first = np.flatnonzero(is_digit & ~np.concatenate(([False], is_digit[:-1])))
    last = np.flatnonzero(is_digit & ~np.concatenate((is_digit[1:], [False])))
    field = np.searchsorted(start, first, "right") - 1
    first = first - is_minus[first - 1] if len(first) else first
    value, fits = numbers(text, first, last + 1)
    good[field[~fits]] = False
    count = np.bincount(field, minlength=len(start))
    count[~good] = 0
    return value[good[field]], count
