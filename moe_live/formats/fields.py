"""Fields of lines to whole numbers, all fields of a column at once."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.passes import DECODE, PREFILL, UNTOLD

MAX_DIGITS = 18
"""Of a number; more do not fit 64 bits."""

_PHASES = {
    **dict.fromkeys((b"prefill", b"prompt", b"pp", b"p", b"0"), PREFILL),
    **dict.fromkeys((b"decode", b"decoding", b"d", b"generation", b"generate", b"gen", b"g"), DECODE),
    **dict.fromkeys((b"tg", b"t", b"1"), DECODE),
}
_LONGEST_PHASE = max(map(len, _PHASES))
_LOWER = ord("a") - ord("A")

_DIGITS_OF_INT32 = 9

EXACT_DIGITS = 15
"""Of a number that doubles hold exactly, and the power of ten below it."""

_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BLANK, _COMMA, _MINUS, _ZERO, _DOT, _COLON, _NEWLINE = b" ,-0.:\n"


def phases(text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) The phase that each field names, whatever its case."""
    width = end - start
    found = np.full(len(start), UNTOLD)
    words = np.zeros((len(start), min(int(width.max(initial=0)), _LONGEST_PHASE)), np.uint8)
    for place in range(words.shape[1]):
        words[:, place] = np.where(width > place, text[np.minimum(start + place, len(text) - 1)] | _LOWER, 0)
    for name, phase in _PHASES.items():
        if len(name) <= words.shape[1]:
            is_it = width == len(name)
            for place, letter in enumerate(name):
                is_it &= words[:, place] == letter
            found[is_it] = phase
    return found


def phase_named(name: str) -> int:
    """The phase of this name."""
    return _PHASES.get(name.lower().encode(), UNTOLD)


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
    has_negative = negative.any()
    if has_negative:
        width = width - negative
    good = (width > 0) & (width <= MAX_DIGITS)
    places = min(int(width.max(initial=0)), MAX_DIGITS)
    dtype = np.int32 if places <= _DIGITS_OF_INT32 else np.int64
    value = np.zeros(width.shape, dtype)
    last = end - 1
    for place in range(places):
        digit = text[last - place] - np.uint8(_ZERO)
        if place:
            digit *= width > place
        good &= digit <= 9
        value += np.multiply(digit, 10**place, dtype=dtype)
    value *= good
    whole = value.astype(np.int64)
    return np.where(negative, -whole, whole) if has_negative else whole, good


def floats(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One number a field, with decimal places or without, as `float` reads it.

    Returns:
        (n,) the values, NaN where a field has anything else; (n,) whether it has a number.
    """
    width = end - start
    good = (width > 0) & (width <= EXACT_DIGITS)
    whole = np.zeros(len(start), np.int64)
    scale, places = np.ones(len(start), np.int64), np.zeros(len(start), np.int64)
    for place in range(min(int(width.max(initial=0)), EXACT_DIGITS)):
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


def pairs(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Experts as in `lists`, in some fields each with a `:` and its weight behind it.

    Returns:
        (v,) the experts; (v,) their weights, NaN where they have none; (n,) how many experts each field has,
        0 where it has anything else in it, or weights of some of them only.
    """
    place = np.arange(len(text))
    is_colon = text == _COLON
    is_between = (text == _BLANK) | (text == _COMMA) | (text == _NEWLINE)
    colon, between = (np.maximum.accumulate(np.where(each, place, -1)) for each in (is_colon, is_between))
    of_weight = colon > between
    experts, count = lists(np.where(of_weight, np.uint8(_BLANK), text), start, end)
    found, n_weights = float_lists(np.where(of_weight & ~is_colon, text, np.uint8(_BLANK)), start, end)
    n_colons = np.diff(np.concatenate(([0], np.cumsum(is_colon)))[np.stack((start, end))], axis=0)[0]
    weighted = n_weights == count
    fits = (weighted | (n_weights == 0)) & (n_colons == n_weights)
    experts, count = experts[np.repeat(fits, count)], np.where(fits, count, 0)
    weights = untold(experts)
    weights[np.repeat(weighted, count)] = found[np.repeat(fits & weighted, n_weights)]
    return experts, weights, count
