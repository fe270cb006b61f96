"""Fields of lines to whole numbers, all fields of a column at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.passes import DECODE, PREFILL, UNTOLD

MAX_DIGITS = 18
"""Of a number; more do not fit 64 bits."""

PHASES = np.full(256, UNTOLD)
"""What a name of a phase means, by its first byte."""

PHASES[list(b"pP0")], PHASES[list(b"dDgGtT1")] = PREFILL, DECODE

_BLANK, _COMMA, _MINUS, _ZERO = b" ,-0"


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
