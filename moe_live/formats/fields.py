"""Fields of lines to whole numbers, all fields of a column at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.ranges import offsets
from moe_live.formats.told import DECODE, PREFILL, UNTOLD, same

_Text = NDArray[np.uint8]
_Places = NDArray[np.int64]
Value = TypeVar("Value", np.int64, np.float64)

MAX_SEQUENCE = (1 << 31) - 1
"""Numbers of sequences are at most as high."""

MAX_DIGITS = 18
"""Of a number; more do not fit 64 bits."""

_DTYPES = ((4, np.uint16), (9, np.uint32), (MAX_DIGITS, np.uint64))
"""What holds numbers of so many digits."""

_PHASES = {
    **dict.fromkeys((b"prefill", b"prompt", b"pp", b"p", b"0"), PREFILL),
    **dict.fromkeys((b"decode", b"decoding", b"d", b"generation", b"generate", b"gen", b"g"), DECODE),
    **dict.fromkeys((b"tg", b"t", b"1"), DECODE),
}
_LONGEST_PHASE = max(map(len, _PHASES))
_LOWER = ord("a") - ord("A")

_EXACT_DIGITS = 15
"""Of a number that doubles hold exactly, and the power of ten below it."""

_POWERS = 10 ** np.arange(_EXACT_DIGITS + 1)

_MOST_COMPARED = 64
"""Bytes of a field that are looked at to see that it is the same as the one before."""

_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BLANK, _COMMA, _MINUS, _ZERO, _POINT, _COLON = b" ,-0.:"


def each_once(
    read: Callable[[_Text, _Places, _Places], NDArray[np.int64]], text: _Text, start: _Places, end: _Places
) -> NDArray[np.int64]:
    """(n,) What `read` makes of each field, asked once of such as are the same as the one before."""
    width = end - start
    longest = int(width.max(initial=0))
    is_even = longest == width.min(initial=longest)
    differs = np.zeros(max(0, len(width) - 1), np.bool_) if is_even else width[1:] != width[:-1]
    for place in range(min(longest, _MOST_COMPARED)):
        byte = text.take(start + place, mode="clip")
        changes = byte[1:] != byte[:-1]
        differs |= changes if is_even else changes & (width[1:] > place)
    if longest > _MOST_COMPARED:
        differs |= width[1:] > _MOST_COMPARED
    if not differs.any():
        found = read(text, start[:1], end[:1])
        return same(found[0], len(start)) if len(found) else found
    first = np.concatenate(([0], np.flatnonzero(differs) + 1))
    return np.repeat(read(text, start[first], end[first]), np.diff(first, append=len(start)))


def phases(text: _Text, start: _Places, end: _Places) -> NDArray[np.int64]:
    """(n,) The phase that each field names, whatever its case."""
    width = end - start
    place = np.arange(min(int(width.max(initial=1)), _LONGEST_PHASE + 1))
    letters = text.take(start[:, None] + place, mode="clip") | _LOWER
    letters *= width[:, None] > place
    words = letters.view(f"S{len(place)}")[:, 0]
    different, which = np.unique(words, return_inverse=True)
    return np.array([_PHASES.get(word, UNTOLD) for word in different.tolist()], np.int64)[which]


def phase_named(name: str) -> int:
    """The phase of this name."""
    return _PHASES.get(name.lower().encode(), UNTOLD)


def trimmed(text: _Text, start: _Places, end: _Places) -> tuple[_Places, _Places]:
    """The fields (n,) without blanks at either end; a newline or another separator stands behind each."""
    start, end = start.copy(), end.copy()
    left = np.flatnonzero(text.take(start) == _BLANK)
    while len(left := left[start[left] < end[left]]):
        start[left] += 1
        left = left[text[start[left]] == _BLANK]
    left = np.flatnonzero(text.take(end - 1, mode="clip") == _BLANK)
    while len(left := left[start[left] < end[left]]):
        end[left] -= 1
        left = left[text[end[left] - 1] == _BLANK]
    return start, end


def numbers(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One whole number a field, perhaps negative.

    Args:
        text: (b,) bytes; the last is none of a field.
        start: (n,) where fields begin.
        end: (n,) where they end.

    Returns:
        (n,) the values, 0 where a field has anything else; (n,) whether it has a number.
    """
    value, good = _unsigned(text, start, end)
    if not good.all():
        value[~good] = 0
        negative = np.flatnonzero(~good & (text.take(start) == _MINUS))
        less, good[negative] = _unsigned(text, start[negative] + 1, end[negative])
        value[negative] = -less * good[negative]
    return value, good


def _unsigned(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The same without a sign; what it makes of anything else is no number."""
    width = end - start
    longest = int(width.max(initial=0))
    good = width > 0
    if longest > MAX_DIGITS:
        good &= width <= MAX_DIGITS
        width = np.minimum(width, longest := MAX_DIGITS)
    width = width.astype(np.int8)
    # The narrowest is the fastest.
    dtype: type[np.unsignedinteger[Any]] = next(dtype for most, dtype in _DTYPES if longest <= most)
    last = end - 1
    digit = text.take(last, mode="clip")
    digit -= np.uint8(_ZERO)
    good &= digit <= 9
    value = digit.astype(dtype)
    for place in range(1, longest):
        last -= 1
        digit = text.take(last, mode="clip")
        digit -= np.uint8(_ZERO)
        digit *= (width > place).view(np.uint8)
        good &= digit <= 9
        value += np.multiply(digit, 10**place, dtype=dtype)
    return value.astype(np.int64), good


def floats(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One number a field, with decimal places or without, as `float` reads it.

    Returns:
        (n,) the values, NaN where a field has anything else; (n,) whether it has a number.
    """
    negative = text.take(start) == _MINUS
    point = start + negative + 1
    others = np.flatnonzero((text.take(point, mode="clip") != _POINT) | (point >= end))
    if len(others):
        points = np.append(np.flatnonzero(text == _POINT), len(text))
        point[others] = np.minimum(points[np.searchsorted(points, start[others])], end[others])
    places = np.maximum(end - point - 1, 0)
    whole, good = numbers(text, start, point)
    decimals, has_decimals = numbers(text, end - places, end)
    good &= (has_decimals & (text.take(end - places) != _MINUS)) | (places == 0)
    good &= point - start + places <= _EXACT_DIGITS
    power = _POWERS.take(places, mode="clip")
    value = (np.abs(whole) * power + decimals) / power
    np.negative(value, out=value, where=negative)
    for at in np.flatnonzero(~good).tolist():
        value[at] = np.nan
        if _FLOAT.fullmatch(field := text[start[at] : end[at]].tobytes()):
            value[at], good[at] = float(field), True
    return value, good


def float_lists(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers between blanks or commas, in fields that follow each other in the text; see `lists`."""
    return _apart(floats, text, start, end)


def untold(experts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of experts that have none."""
    return np.full(len(experts), np.nan)


def lists(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Whole numbers between blanks or commas, in fields that follow each other in the text.

    Args:
        text: (b,) bytes; the last is none of a field.
        start: (n,) ascending.
        end: (n,)

    Returns:
        (v,) the numbers, those of one field after those of the one before; (n,) how many each field has, 0
        where it has anything else in it.
    """
    return _apart(numbers, text, start, end)


def pairs(
    text: _Text, start: _Places, end: _Places
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Experts as in `lists`, in some fields each with a `:` and its weight behind it.

    Returns:
        (v,) the experts; (v,) their weights, NaN where they have none; (n,) how many experts each field has,
        0 where it has anything else in it, or weights of some of them only.
    """
    field, begin, stop = _parts(text, start, end)
    colons = np.flatnonzero(text == _COLON)
    colon = np.minimum(np.append(colons, len(text))[np.searchsorted(colons, begin)], stop)
    experts, fits = numbers(text, begin, colon)
    has_weight = colon < stop
    weights = untold(experts)
    weights[has_weight], fits_too = floats(text, colon[has_weight] + 1, stop[has_weight])
    fits[has_weight] &= fits_too
    count, n_weights = (np.bincount(each, minlength=len(start)) for each in (field, field[has_weight]))
    good = (n_weights == 0) | (n_weights == count)
    good[field[~fits]] = False
    kept = good[field]
    return experts[kept], weights[kept], count * good


def _apart(
    read: Callable[[_Text, _Places, _Places], tuple[NDArray[Value], NDArray[np.bool_]]],
    text: _Text,
    start: _Places,
    end: _Places,
) -> tuple[NDArray[Value], NDArray[np.int64]]:
    """Lists of what `read` reads, see `lists`."""
    field, begin, stop = _parts(text, start, end)
    value, fits = read(text, begin, stop)
    count = np.bincount(field, minlength=len(start))
    if not fits.all():
        good = np.ones(len(start), np.bool_)
        good[field[~fits]] = False
        value, count = value[good[field]], count * good
    return value, count


def _parts(text: _Text, start: _Places, end: _Places) -> tuple[NDArray[np.intp], _Places, _Places]:
    """What stands between blanks or commas in fields (n,) that follow each other.

    Returns:
        (p,) the field of each part; (p,) where it begins; (p,) where it ends.
    """
    between = np.flatnonzero((text == _BLANK) | (text == _COMMA))
    before = np.searchsorted(between, start)
    n_between = np.searchsorted(between, end) - before
    last = np.cumsum(n_between + 1) - 1  # part of each field
    is_last = np.zeros(len(start) + n_between.sum(), np.bool_)
    is_last[last] = True
    stop = np.empty(len(is_last), np.int64)
    stop[is_last] = end
    stop[~is_last] = between[offsets(before, n_between)]
    begin = np.concatenate(([0], stop + 1))[:-1]
    begin[last - n_between] = start
    field = np.repeat(np.arange(len(start)), n_between + 1)
    is_part = begin < stop
    return (field, begin, stop) if is_part.all() else (field[is_part], begin[is_part], stop[is_part])
