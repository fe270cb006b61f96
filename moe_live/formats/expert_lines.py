"""Expert lines `LAYER,ID( ID)*` to arrays.

Text whose lines all have the same k and numbers of at most three digits is parsed by passes over its bytes,
each about as fast as memory. Any other text is parsed number by number: slower, but still without a loop over
lines. Which of the two read a line cannot be told from the result.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.records import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K

_MAX_DIGITS = 4  # of a layer or an id: as many as the bounds have
_FAST_BYTES = (1 << 19) + (1 << 12)  # the longest text taken in one go by the fast way
_BLOCK_BYTES = 1 << 15  # how much around an odd line is parsed the slow way
_FRONT = 4  # bytes before the text in each scratch array, so that shifted views exist; even
_NEWLINE, _COMMA, _SPACE = b"\n, "
_NO_BOUNDS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ExpertRun:
    """Well-formed expert lines with the same k.

    Attributes:
        layer: (n,) uint16.
        experts: (n, k) uint16.
        line_end: (n,) int64, ascending: offset of each line's newline, or of the byte before it.
    """

    layer: NDArray[np.uint16]
    experts: NDArray[np.uint16]
    line_end: NDArray[np.int64]

    @classmethod
    def none(cls) -> ExpertRun:
        """No lines; k is 0."""
        table = np.empty((0, 1), np.uint16)
        return cls(table[:, 0], table[:, 1:], np.empty(0, np.int64))


class ExpertLineParser:
    """Parses text of expert lines, with scratch arrays of its own. The results own their memory."""

    def __init__(self) -> None:
        size = _FRONT + _FAST_BYTES + 2
        # The bytes before the text must look like a separator and no digits.
        self._separator = np.ones(size, np.bool_)
        self._newline, self._flag, self._pair_flag = np.zeros((3, size), np.bool_)
        self._digit, self._digit_mask, self._two_digits, self._hundreds, self._value = np.zeros(
            (5, size), np.uint8
        )
        (
            self._separator_pairs,
            self._newline_pairs,
            self._flag_pairs,
            self._hundreds_pairs,
            self._value_pairs,
        ) = (
            array.view(np.uint16)
            for array in (self._separator, self._newline, self._flag, self._hundreds, self._value)
        )

    def parse(
        self, text: bytes | bytearray, start: int, end: int
    ) -> tuple[list[ExpertRun], NDArray[np.int64]]:
        """Parse ``text[start:end]``, which is complete lines or empty.

        Returns:
            The well-formed lines, as runs of equal k; and where the m others start and end (at the newline),
            (m, 2) int64. Both are in their order, and all offsets count from `start`.
        """
        size = end - start
        if not size:
            return [], _NO_BOUNDS
        content = np.frombuffer(text, np.uint8, size, start)
        run = self._parse_uniform(content, 0)
        if run is not None:
            return [run], _NO_BOUNDS
        if size <= _BLOCK_BYTES:
            return parse_ragged(content, 0)
        runs: list[ExpertRun] = []
        others: list[NDArray[np.int64]] = []
        block = 0
        while block < size:
            block_end = size
            if size - block > _BLOCK_BYTES:
                limit = start + block + _BLOCK_BYTES
                newline = text.rfind(b"\n", start + block, limit)
                block_end = (newline if newline >= 0 else text.find(b"\n", limit)) + 1 - start
            run = self._parse_uniform(content[block:block_end], block)
            if run is not None:
                runs.append(run)
            else:
                more_runs, more_others = parse_ragged(content[block:block_end], block)
                runs += more_runs
                others.append(more_others)
            block = block_end
        return runs, np.concatenate([_NO_BOUNDS, *others])

    def _parse_uniform(self, text: NDArray[np.uint8], offset: int) -> ExpertRun | None:
        """Parse lines that all have the first one's k and numbers of at most three digits.

        Args:
            text: (n,) uint8, complete lines.
            offset: what to add to the offsets in the result.

        Returns:
            None if the text has any other line.
        """
        size = len(text)
        if size > _FAST_BYTES:
            return None
        here, one_back = slice(_FRONT, _FRONT + size), slice(_FRONT - 1, _FRONT - 1 + size)
        two_back, three_back = slice(_FRONT - 2, _FRONT - 2 + size), slice(_FRONT - 3, _FRONT - 3 + size)
        digit = np.subtract(text, 48, out=self._digit[here])
        separator = np.greater(digit, 9, out=self._separator[here])
        newline = np.equal(text, _NEWLINE, out=self._newline[here])
        numbers = int(np.count_nonzero(separator))
        width = int(np.count_nonzero(separator[: int(newline.argmax()) + 1]))  # numbers in the first line
        lines, rest = divmod(numbers, width)
        if rest or not 2 <= width <= MAX_TOP_K + 1:
            return None

        # No empty numbers: no separator follows another.
        flag = self._flag[here]
        if np.logical_or.reduce(np.logical_and(separator, self._separator[one_back], out=flag)):
            return None
        # No number of four digits: no two digits follow two digits. All others are within their bounds.
        digit_mask = np.subtract(separator.view(np.uint8), 1, out=self._digit_mask[here])
        two_digits = np.bitwise_and(
            self._digit_mask[one_back], self._digit_mask[two_back], out=self._two_digits[here]
        )
        value = self._value[here]
        if np.maximum.reduce(np.bitwise_and(two_digits[2:], two_digits[:-2], out=value[2:])):
            return None

        # The value of the number before each separator, modulo 256; 0 elsewhere. Its hundreds are 0 elsewhere
        # because numbers have at most three digits.
        np.bitwise_and(digit, digit_mask, out=digit)
        hundreds = np.bitwise_and(self._digit[three_back], two_digits, out=self._hundreds[here])
        np.multiply(hundreds, 10, out=value)
        np.add(value, self._digit[two_back], out=value)
        np.multiply(value, 10, out=value)
        np.add(value, self._digit[one_back], out=value)
        np.multiply(value, separator.view(np.uint8), out=value)

        # Separators are at least two bytes apart, so a pair of bytes has at most one: half as much to search.
        pairs = slice(_FRONT // 2, (_FRONT + size + 1) // 2)
        # Of odd text the last newline shares its pair with the byte after it.
        self._value[_FRONT + size] = self._hundreds[_FRONT + size] = 0
        separated = np.not_equal(self._separator_pairs[pairs], 0, out=self._pair_flag[pairs])
        (position,) = separated.nonzero()

        # The first separator of each line is a comma, the last a newline, and all others are blanks.
        by_line = position.reshape(lines, width)
        if not self._newline_pairs[pairs].take(by_line[:, -1]).all():
            return None
        np.equal(text, _COMMA, out=flag)
        if not self._flag_pairs[pairs].take(by_line[:, 0]).all():
            return None
        if np.count_nonzero(np.equal(text, _SPACE, out=flag)) != numbers - 2 * lines:
            return None

        number = _either_byte(self._value_pairs[pairs].take(position))
        if np.maximum.reduce(hundreds) > 1:
            hundred = _either_byte(self._hundreds_pairs[pairs].take(position))
            hundred *= 100
            number -= hundred
            number &= 255
            number += hundred
        table = np.ascontiguousarray(number.reshape(lines, width).T)  # for the long axis to be the inner one
        return ExpertRun(table[0], table[1:].T, 2 * by_line[:, -1] + offset)


def _either_byte(pair: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The byte of each pair that is not 0, in place."""
    pair *= 257
    pair >>= 8
    return pair


def parse_ragged(text: NDArray[np.uint8], offset: int) -> tuple[list[ExpertRun], NDArray[np.int64]]:
    """Parse lines of any shape.

    Args:
        text: (n,) uint8, complete lines.
        offset: what to add to the offsets in the result.

    Returns:
        The well-formed lines, as runs of equal k; and where the m others start and end (at the newline),
        (m, 2) int64. Both are in their order.
    """
    digit = text - np.uint8(48)
    separator = np.flatnonzero(digit > 9)
    kind = text.take(separator)
    digits = np.diff(separator, prepend=-1) - 1
    # The number before each separator, and 0 for places it does not have (which may lie before the text).
    value = np.zeros(len(separator), np.int64)
    for place in range(_MAX_DIGITS):
        value += (
            np.where(digits > place, digit.take(separator - 1 - place, mode="wrap"), np.int64(0)) * 10**place
        )

    last = np.flatnonzero(kind == _NEWLINE)
    first = np.concatenate(([0], last[:-1] + 1))
    wanted = np.full(len(separator), _SPACE, np.uint8)
    wanted[first] = _COMMA
    wanted[last] = _NEWLINE
    bound = np.full(len(separator), MAX_EXPERTS)
    bound[first] = MAX_LAYERS
    wrong = (kind != wanted) | (digits < 1) | (digits > _MAX_DIGITS) | (value >= bound)
    width = last - first + 1
    good = (width >= 2) & (width <= MAX_TOP_K + 1) & ~np.logical_or.reduceat(wrong, first)

    line_end = separator[last] + offset
    line_start = np.concatenate(([offset], line_end[:-1] + 1))
    others = np.stack((line_start[~good], line_end[~good]), axis=1)
    number = value[np.repeat(good, width)].astype(np.uint16)
    width = width[good]
    line_end = line_end[good]
    if not len(width):
        return [], others
    runs = []
    change = np.flatnonzero(np.diff(width)) + 1
    taken = 0
    for row, stop in itertools.pairwise([0, *change.tolist(), len(width)]):
        size = (stop - row) * int(width[row])
        table = number[taken : taken + size].reshape(stop - row, -1)
        runs.append(ExpertRun(table[:, 0], table[:, 1:], line_end[row:stop]))
        taken += size
    return runs, others
