"""Text of floats as C's %g prints them, to float64: bit for bit what Python's float() makes of it.

A number printed with at most six significant digits has these, and its dot, in its last eight bytes. So one
64-bit word a number holds all that counts: its eight digits are folded into an integer by three
multiplications ("SIMD within a register"), and one division by a power of ten, both exactly representable,
gives the correctly rounded value (Clinger 1990, "How to read floating point numbers accurately"). Passes over
the single bytes prove beforehand that this is what the text looks like; the few numbers for which they do
not (exponents, inf, nan, more digits) go through float() itself.

The library of loops in C does likewise number by number, if it is there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.ranges import offsets
from moe_live.kernels import read_floats

_FLOAT = rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf|nan)"
_FLOATS = _FLOAT + rb"(?: " + _FLOAT + rb")*+"

_FRONT = 16  # blanks before the text; a multiple of 8, and more than the window of a number looks back
_BACK = 16

_BLOCK_BYTES = 1 << 17  # of text, and the rest of its last line, are parsed at a time

_MAX_PLACES = 22  # 10**22 is the largest power of ten that a double holds exactly
_ALL = 0xFFFFFFFFFFFFFFFF


def _last_bytes(count: int) -> int:
    """The mask of the last bytes of a little-endian word: those with the highest place values."""
    return _ALL << 8 * (8 - min(count, 8)) & _ALL


# By the length of a number: its bytes within the word.
_OWN_BYTES = np.array([_last_bytes(length) for length in range(9)], np.uint64)
# By the number of decimal places, 0 for a number without a dot: the bytes that no dot follows.
_DECIMALS = np.array([_ALL] + [_last_bytes(places) for places in range(1, 9)], np.uint64)
# By the number of decimal places, and after those the same for negative numbers.
_DIVISOR = np.concatenate([sign * 10.0 ** np.arange(_MAX_PLACES + 1) for sign in (1, -1)])


@dataclass(frozen=True, slots=True, eq=False)
class FloatLines:
    """The floats of some lines.

    Attributes:
        good: (m,) bool, False for lines with anything in them that is not a float.
        width: (m,) int64, how many floats each line has; 0 if it is not good.
        values: (sum of width,) float64, line after line.
    """

    good: NDArray[np.bool_]
    width: NDArray[np.int64]
    values: NDArray[np.float64]


_NO_LINES = FloatLines(np.ones(0, np.bool_), np.zeros(0, np.int64), np.empty(0))


class FloatTextParser:
    """Parses lines of floats separated by single blanks, reusing its buffers."""

    def __init__(self) -> None:
        self._allocate(1 << 16)

    def __reduce__(self) -> tuple[type[FloatTextParser], tuple[()]]:
        """Nothing is kept from one text to the next."""
        return FloatTextParser, ()

    def _allocate(self, capacity: int) -> None:
        """Make room for so many bytes of text. Memory that is never written to costs nothing."""
        self._capacity = capacity
        size = (_FRONT + capacity + _BACK + 7) // 8 * 8
        self._text = bytearray(b" " * size)
        self._bytes = np.frombuffer(self._text, np.uint8)
        self._digit, self._mask, self._mask_2 = np.zeros((3, size), np.uint8)
        self._nondigit, self._blank, self._mark, self._minus, self._odd, self._neighbours = np.ones(
            (6, size), np.bool_
        )
        # There may be as many numbers as bytes: empty ones between blanks.
        self._values = np.empty(capacity)
        self._words = np.empty((3, capacity), np.uint64)
        self._end, self._places, self._length, self._index = np.empty((4, capacity), np.int64)

    def parse(self, text: bytes | bytearray, bounds: Sequence[tuple[int, int]]) -> FloatLines:
        r"""Parse each line ``text[start:end]`` of `bounds`; ``text[end]`` is its ``\n``."""
        if not bounds:
            return _NO_LINES
        if (found := read_floats(text, bounds)) is not None:
            width, values = found
            return FloatLines(width > 0, width, values)
        parts = []
        first = size = 0
        for index, (start, end) in enumerate(bounds):
            size += end + 1 - start
            if size >= _BLOCK_BYTES or index + 1 == len(bounds):
                parts.append(self._parse_lines(text, bounds[first : index + 1]))
                first, size = index + 1, 0
        return FloatLines(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _parse_lines(
        self, text: bytes | bytearray, bounds: Sequence[tuple[int, int]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
        """What `FloatLines` holds, of a few lines."""
        lines_end = np.cumsum([end + 1 - start for start, end in bounds])
        size = int(lines_end[-1])
        if size > self._capacity:
            self._allocate(max(size, self._capacity * 5 // 4))
        source, target = memoryview(text), memoryview(self._text)[_FRONT:]
        for (start, end), line_end in zip(bounds, lines_end.tolist(), strict=True):
            target[line_end - (end + 1 - start) : line_end] = source[start : end + 1]
        self._bytes[_FRONT - 1 + lines_end] = 32  # in the place of the newlines

        blank, wrong = self._parse_numbers(size)
        numbers_end = np.searchsorted(blank, lines_end)
        width = np.diff(numbers_end, prepend=0)
        values = self._values[: len(blank)]
        good = np.ones(len(bounds), np.bool_)
        if len(wrong):
            good[np.searchsorted(numbers_end, wrong, "right")] = False
            values = values[np.repeat(good, width)]
            width[~good] = 0
        return good, width, values.copy()

    def _parse_numbers(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Parse the first `size` bytes of the text, numbers with a blank after each, to ``values``.

        Returns:
            The offset of each blank, (n,) int64, and which of the n numbers are not well formed, (m,) int64.
        """
        odd_bytes = self._find_odd_bytes(size)
        end, places, odd = self._find_numbers(size)
        count = len(end)
        word, other_word, shift = self._words[:, :count]
        length, index = self._length[:count], self._index[:count]

        # The eight bytes before each blank, as digits: from the two aligned words they lie in.
        words = self._digit.view(np.uint64)[_FRONT // 8 - 1 :]
        np.right_shift(end, 3, out=index)
        np.bitwise_and(end.view(np.uint64), 7, out=shift)
        shift <<= 3
        words.take(index, out=word, mode="wrap")
        words[1:].take(index, out=other_word, mode="wrap")
        word >>= shift
        np.subtract(64, shift, out=shift)
        other_word <<= shift  # by 64 gives 0
        word |= other_word
        # Without those of the number before.
        start = index
        start[0] = 0
        np.add(end[:-1], 1, out=start[1:])
        np.subtract(end, start, out=length)
        word &= _OWN_BYTES.take(length, out=other_word, mode="clip")
        # The dot, a digit 0 so far, goes: what is before it moves up by one byte.
        decimals = _DECIMALS.take(places, out=other_word, mode="clip")
        decimals &= word
        word ^= decimals
        word <<= 8
        word |= decimals
        # Eight digits, the first in the lowest byte, to four numbers of two digits, to two of four, to one.
        word *= 10 << 8 | 1
        word >>= 8
        word &= 0x00FF00FF00FF00FF
        word *= 100 << 16 | 1
        word >>= 16
        word &= 0x0000FFFF0000FFFF
        word *= 10000 << 32 | 1
        word >>= 32

        negative = self._minus[_FRONT : _FRONT + size].take(start).view(np.uint8)
        negative *= _MAX_PLACES + 1
        places += negative
        values = self._values[:count]
        divisor = _DIVISOR.take(places, out=shift.view(np.float64), mode="clip")
        np.divide(word.view(np.int64), divisor, out=values)
        if len(odd_bytes) or len(odd):
            is_odd = np.zeros(count, np.bool_)
            is_odd[odd] = is_odd[np.searchsorted(end, odd_bytes)] = True
            return end, self._parse_odd(np.flatnonzero(is_odd), start, end, values)
        return end, odd

    def _find_odd_bytes(self, size: int) -> NDArray[np.int64]:
        """Find where the text is other than digits, with at most a sign before and a dot among them.

        A digit other than 0 before the last eight bytes of its number is odd, too; a second dot is not found.
        Leaves behind the digits as numbers (0 for any other byte), the blanks, the minus signs that start a
        number, and the marks: blanks and dots.

        Returns:
            Offsets of bytes in, or right after, each odd number.
        """
        here, before = slice(_FRONT, _FRONT + size), slice(_FRONT - 1, _FRONT - 1 + size)
        text = self._bytes[here]
        digit = np.subtract(text, 48, out=self._digit[here])
        nondigit = np.greater(digit, 9, out=self._nondigit[here])
        blank = np.equal(text, 32, out=self._blank[here])
        mark = np.equal(text, 46, out=self._mark[here])
        np.logical_or(mark, blank, out=mark)
        minus = np.equal(text, 45, out=self._minus[here])
        np.logical_and(minus, self._blank[before], out=minus)
        # All that is no digit is a blank, a dot, or a minus sign after a blank ...
        odd = np.not_equal(nondigit, mark, out=self._odd[here])
        np.not_equal(odd, minus, out=odd)
        # ... and it follows a digit, unless it is a minus sign.
        neighbours = np.logical_and(nondigit, self._nondigit[before], out=self._neighbours[here])
        np.not_equal(neighbours, minus, out=neighbours)
        np.logical_or(odd, neighbours, out=odd)

        mask, mask_2 = self._mask[_FRONT:], self._mask_2[_FRONT:]
        np.subtract(nondigit.view(np.uint8), 1, out=mask[:size])
        np.bitwise_and(digit, mask[:size], out=digit)
        # Bytes that no blank follows within eight, by doubling. What lies beyond the last blank has no say.
        np.subtract(blank.view(np.uint8), 1, out=mask[:size])
        np.bitwise_and(mask[: size + 7], mask[1 : size + 8], out=mask_2[: size + 7])
        np.bitwise_and(mask_2[: size + 5], mask_2[2 : size + 7], out=mask[: size + 5])
        np.bitwise_and(mask[: size + 1], mask[4 : size + 5], out=mask_2[: size + 1])
        far = np.bitwise_and(digit, mask_2[1 : size + 1], out=mask[:size])
        if far.max():
            np.logical_or(odd, far, out=odd)

        self._odd[_FRONT + size : _FRONT + size + 8] = False
        eights = self._odd.reshape(-1, 8)[_FRONT // 8 : (_FRONT + size + 7) // 8]
        index = np.flatnonzero(eights.view(np.uint64) != 0)
        row, column = np.nonzero(eights[index])
        return index[row] * 8 + column

    def _find_numbers(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find where each number ends, its decimal places, and which have too many of these or two dots."""
        here = slice(_FRONT, _FRONT + size)
        blank = self._blank[here]
        mark = np.flatnonzero(self._mark[here])
        count = int(np.count_nonzero(blank))
        end, places = self._end[:count], self._places[:count]
        odd = np.empty(0, np.int64)
        if len(mark) == 2 * count:
            np.copyto(end, mark[1::2])
        if len(mark) == 2 * count and blank.take(end).all():  # dot, blank, dot, blank, ...
            np.subtract(end, mark[::2], out=places)
            places -= 1
        else:
            is_blank = blank.take(mark)
            last = np.flatnonzero(is_blank)
            mark.take(last, out=end)
            # The mark before that blank. Before the first it may be the last of all marks, also a blank.
            np.subtract(end, mark.take(last - 1), out=places)
            places -= 1
            places[is_blank.take(last - 1)] = 0
            marks = np.subtract(last[1:], last[:-1])
            if last[0] > 1 or marks.max(initial=0) > 2:
                odd = np.flatnonzero(np.diff(last, prepend=-1) > 2)
        if places.max() > _MAX_PLACES:
            odd = np.append(odd, np.flatnonzero(places > _MAX_PLACES))
        return end, places, odd

    def _parse_odd(
        self,
        numbers: NDArray[np.int64],
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Parse these numbers one by one; return those that are not well formed."""
        first, last = start[numbers], end[numbers]
        # With the blank after each.
        text = self._bytes.take(offsets(first + _FRONT, last - first + 1)).tobytes()[:-1]
        tokens = text.split(b" ")
        wrong = np.empty(0, np.int64)
        if not re.fullmatch(_FLOATS, text):
            is_float = re.compile(_FLOAT).fullmatch
            good = [is_float(token) is not None for token in tokens]
            wrong = numbers[np.logical_not(good)]
            numbers = numbers[good]
            tokens = list(itertools.compress(tokens, good))
        values[numbers] = list(map(float, tokens))
        return wrong
