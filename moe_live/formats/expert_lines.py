"""Expert lines `LAYER,ID( ID)*` to arrays, by passes over all bytes of a text at once.

A byte that is no digit is a separator, and before each separator stands a number. Its value follows from the
same array of digits seen with shifts of one to four bytes, so every pass is about as fast as memory. What is
left to do for each number is to pick it up at its separator.

Where all lines have the same k, the numbers are a table as they stand. Otherwise malformed lines are taken
out (their separators no longer count as such), and the rows of each k are picked up together. So an odd line
costs little more than any other, and there is no loop over lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.ranges import offsets
from moe_live.formats.records import Experts
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K

_BLOCK_BYTES = (1 << 19) + (1 << 12)  # the longest text taken in one go
_FRONT = 8  # bytes before the text in each scratch array, so that shifted views exist; even
_NEWLINE, _COMMA, _SPACE = b"\n, "
_NO_BOUNDS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ExpertLines:
    """The lines of a text.

    Attributes:
        layer: (n,) uint16, of each well-formed line.
        experts: of these n lines.
        half_end: (n,) int64, ascending: half the offset of each one's newline, or one less.
        others: (m, 2) int64, where each other line starts and ends (at its newline).
    """

    layer: NDArray[np.uint16]
    experts: Experts
    half_end: NDArray[np.int64]
    others: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.layer)

    def before(self, offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many well-formed lines end before each offset (m,), all of them starts or ends of lines."""
        return np.searchsorted(self.half_end, (offset + 1) >> 1)


class ExpertLineParser:
    """Parses text of expert lines, with scratch arrays of its own. The results own their memory."""

    def __init__(self) -> None:
        size = _FRONT + _BLOCK_BYTES + 2
        # The bytes before the text must look like a separator and no digits.
        self._separator = np.ones(size, np.bool_)
        self._newline, self._comma, self._space, self._odd, self._found = np.zeros((5, size), np.bool_)
        self._digit, self._mask, self._after_two, self._low, self._high, self._value = np.zeros(
            (6, size), np.uint8
        )

    def __reduce__(self) -> tuple[type[ExpertLineParser], tuple[()]]:
        """Nothing is kept from one text to the next."""
        return ExpertLineParser, ()

    def parse(self, text: bytes | bytearray, start: int, end: int) -> ExpertLines:
        """Parse ``text[start:end]``, which is complete lines or empty; offsets count from `start`."""
        parts = []
        begin = start
        while begin < end:
            stop = end
            if end - begin > _BLOCK_BYTES:
                stop = text.rfind(b"\n", begin, begin + _BLOCK_BYTES) + 1
            if stop:
                block = np.frombuffer(text, np.uint8, stop - begin, begin)
                parts.append(self._parse_block(block, begin - start))
            else:  # a line longer than any that is well-formed
                stop = text.find(b"\n", begin) + 1
                parts.append(_without_rows(np.array([[begin, stop - 1]]) - start))
            begin = stop
        return _joined(parts)

    def _parse_block(self, text: NDArray[np.uint8], offset: int) -> ExpertLines:
        """Parse complete lines; `offset` is added to the offsets in the result."""
        size = len(text)
        has_odd = self._find_numbers(text)
        lines = None if has_odd else self._as_table(size, offset)
        return lines or self._sorted_by_k(size, offset)

    def _find_numbers(self, text: NDArray[np.uint8]) -> bool:
        """Find what number ends before each byte, were that a separator: 100 `_high` + `_low`.

        Returns:
            Whether there is an empty number or one of more than four digits; `_odd` tells where one ends.
        """
        size = len(text)
        here, one, two, three, four, five = (slice(_FRONT - n, _FRONT - n + size) for n in range(6))
        digit = np.subtract(text, 48, out=self._digit[here])
        separator = np.greater(digit, 9, out=self._separator[here])
        np.equal(text, _NEWLINE, out=self._newline[here])
        np.equal(text, _COMMA, out=self._comma[here])
        np.equal(text, _SPACE, out=self._space[here])
        odd = np.logical_and(separator, self._separator[one], out=self._odd[here])

        mask = np.subtract(separator.view(np.uint8), 1, out=self._mask[here])
        np.bitwise_and(digit, mask, out=digit)
        low = np.multiply(self._digit[two], 10, out=self._low[here])
        np.add(low, self._digit[one], out=low)
        after_two = np.bitwise_and(self._mask[one], self._mask[two], out=self._after_two[here])
        high = np.bitwise_and(self._digit[three], after_two, out=self._high[here])
        after_four = np.bitwise_and(after_two, self._after_two[two], out=self._value[here])
        if np.maximum.reduce(after_four):
            after_five = np.bitwise_and(after_four, self._mask[five], out=after_two)
            np.logical_or(odd, after_five, out=odd)
            np.bitwise_and(after_four, self._digit[four], out=after_four)
            np.multiply(after_four, 10, out=after_four)
            np.add(high, after_four, out=high)
        # Of odd text the last newline shares its pair with the byte after it.
        for array in (self._separator, self._newline, self._comma, self._value):
            array[_FRONT + size] = 0
        return bool(np.logical_or.reduce(odd))

    def _pick_numbers(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Find the separators, no two of which are neighbours, and the numbers before them.

        Returns:
            (n,) int64, which pair of bytes of the text each separator is in; (n,) uint16, the numbers.
        """
        # Of a pair of bytes one at most is a separator, so there is half as much to search.
        found = np.not_equal(_pairs(self._separator, size), 0, out=self._found[: (size + 1) // 2])
        (position,) = found.nonzero()
        here = slice(_FRONT, _FRONT + size)
        low, high = self._low[here], self._high[here]
        if np.maximum.reduce(high) > 1:
            number = self._pick(high, position)
            number *= 100
            number += self._pick(low, position)
        else:
            value = np.multiply(high, 100, out=self._value[here])
            number = self._pick(np.add(value, low, out=value), position)
        return position, number

    def _pick(self, values: NDArray[np.uint8], position: NDArray[np.int64]) -> NDArray[np.uint16]:
        """The values (size,) at the separators."""
        size = len(values)
        here = slice(_FRONT, _FRONT + size)
        np.multiply(values, self._separator[here].view(np.uint8), out=self._value[here])
        pair = _pairs(self._value, size).take(position, mode="wrap")
        pair *= 257  # the byte that is not 0 gets into the upper half, whichever it is
        pair >>= 8
        return pair

    def _as_table(self, size: int, offset: int) -> ExpertLines | None:
        """The lines, if all are well-formed and have the same k."""
        here = slice(_FRONT, _FRONT + size)
        first_end = int(self._newline[here].argmax())
        width = int(np.count_nonzero(self._separator[here][: first_end + 1]))  # numbers in the first line
        position, number = self._pick_numbers(size)
        lines, rest = divmod(len(position), width)
        if rest or not 2 <= width <= MAX_TOP_K + 1:
            return None
        # The first separator of each line is a comma, the last a newline, and all others are blanks.
        by_line = position.reshape(lines, width)
        if not (
            np.minimum.reduce(_pairs(self._newline, size).take(by_line[:, -1], mode="wrap"))
            and np.minimum.reduce(_pairs(self._comma, size).take(by_line[:, 0], mode="wrap"))
            and np.count_nonzero(self._space[here]) == len(position) - 2 * lines
        ):
            return None
        table = np.ascontiguousarray(number.reshape(lines, width).T)  # for the long axis to be the inner one
        layer, experts = table[0], table[1:]
        if np.maximum.reduce(layer) >= MAX_LAYERS or experts.max() >= MAX_EXPERTS:
            return None
        half_end = by_line[:, -1] + offset // 2 if offset else by_line[:, -1]
        return ExpertLines(layer, Experts((experts.T,)), half_end, _NO_BOUNDS)

    def _sorted_by_k(self, size: int, offset: int) -> ExpertLines:
        """The lines, whatever they are."""
        here = slice(_FRONT, _FRONT + size)
        line_end = np.flatnonzero(self._newline[here])
        line_start = np.concatenate(([0], line_end[:-1] + 1))
        is_good = self._take_out_odd_lines(line_start, line_end)
        kept = np.flatnonzero(is_good)

        position, number = self._pick_numbers(size)
        last = np.flatnonzero(_pairs(self._newline, size).take(position))
        first = np.concatenate(([0], last[:-1] + 1))[: len(last)]
        k = last - first
        is_comma = _pairs(self._comma, size).take(position) != 0
        fits = is_comma[first] & (k >= 1) & (k <= MAX_TOP_K) & (number[first] < MAX_LAYERS)
        is_comma[first] = False
        wrong = np.flatnonzero(is_comma | (number >= MAX_EXPERTS))
        fits[np.searchsorted(last, wrong)] = False
        is_good[kept[~fits]] = False

        first, last, k = first[fits], last[fits], k[fits]
        tables = [
            number.take(first[k == one] + np.arange(1, one + 1)[:, None]).T
            for one in np.flatnonzero(np.bincount(k)).tolist()
        ]
        others = np.stack((line_start[~is_good], line_end[~is_good]), axis=1)
        return ExpertLines(
            number.take(first),
            Experts(tuple(tables), k.astype(np.uint16) if len(tables) > 1 else None),
            position[last] + offset // 2,
            others + offset,
        )

    def _take_out_odd_lines(
        self, line_start: NDArray[np.int64], line_end: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Take away the separators of lines that have other bytes, or empty or too long numbers.

        Args:
            line_start: (l,) where lines start.
            line_end: (l,) where their newlines are.

        Returns:
            (l,) bool, which lines are left.
        """
        here = slice(_FRONT, _FRONT + int(line_end[-1]) + 1)
        separator, newline, comma = self._separator[here], self._newline[here], self._comma[here]
        known = np.logical_or(newline, comma, out=self._mask[here].view(np.bool_))
        np.logical_or(known, self._space[here], out=known)
        odd = np.logical_or(np.not_equal(separator, known, out=known), self._odd[here], out=known)
        left = np.ones(len(line_end), np.bool_)
        left[np.searchsorted(line_end, np.flatnonzero(odd))] = False
        taken = offsets(line_start[~left], (line_end - line_start)[~left] + 1)
        for array in (separator, newline, comma):
            array[taken] = False
        return left


def _pairs(array: NDArray[Any], size: int) -> NDArray[np.uint16]:
    """The first `size` bytes of text in a scratch array, two by two; one byte more if that is odd."""
    return array[_FRONT : _FRONT + size + size % 2].view(np.uint16)


def _without_rows(others: NDArray[np.int64]) -> ExpertLines:
    """No well-formed lines."""
    return ExpertLines(np.empty(0, np.uint16), Experts(()), np.empty(0, np.int64), others)


def _joined(parts: list[ExpertLines]) -> ExpertLines:
    """All parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    parts = parts or [_without_rows(_NO_BOUNDS)]
    return ExpertLines(
        np.concatenate([part.layer for part in parts]),
        Experts.joined([part.experts for part in parts]),
        np.concatenate([part.half_end for part in parts]),
        np.concatenate([part.others for part in parts]),
    )
