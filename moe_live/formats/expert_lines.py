"""Expert lines `LAYER,ID( ID)*` to arrays, by passes over all bytes of a text at once.

A byte that is no digit is a separator, and before each separator stands a number. Its value follows from the
same array of digits seen with shifts of one to four bytes, so every pass is about as fast as memory. What is
left to do for each number is to pick it up at its separator, and that with it.

Where all lines have the same k, the numbers are a table as they stand. Otherwise the rows of each k are
picked up together. Lines with empty or overlong numbers are taken out before: their separators no longer
count as such. So an odd line costs little more than any other, and there is no loop over lines.

The library of loops in C, if it is there, does likewise with a few thousand bytes at a time; only where these
are no table it looks at one line after the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.ranges import offsets
from moe_live.formats.records import Experts
from moe_live.kernels import read_lines
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K

_BLOCK_BYTES = (1 << 17) + (1 << 12)
"""The longest text taken in one go: the scratch arrays should stay in the second cache of a processor."""

_AT_ONCE = 1 << 14  # numbers that are put in tables

_FRONT = 64  # bytes before the text in each scratch array, so that shifted views exist: a cache line
_ZERO = ord("0")
_NEWLINE, _COMMA, _SPACE = ((byte - _ZERO) % 256 for byte in b"\n, ")
_LONGEST_LINE = len("1234,") * (MAX_TOP_K + 1)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """The lines of a block, well-formed or not.

    Attributes:
        start: (l,) int64.
        end: (l,) int64, where their newlines are.
        is_good: (l,) bool, whether nothing wrong was found so far.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    is_good: NDArray[np.bool_]

    @classmethod
    def of(cls, text: NDArray[np.uint8]) -> _Lines:
        """All lines of a text."""
        end = np.flatnonzero(text == ord(b"\n"))
        return cls(np.concatenate(([0], end[:-1] + 1)), end, np.ones(len(end), np.bool_))

    def others(self) -> NDArray[np.int64]:
        """(m, 2) Where those start and end with which something is wrong."""
        return np.stack((self.start[~self.is_good], self.end[~self.is_good]), axis=1)


class ExpertLineParser:
    """Parses text of expert lines, with scratch arrays of its own. The results own their memory."""

    def __init__(self) -> None:
        separator, of_two, *others = _scratch(7)
        # The bytes before the text must look like separators and no digits.
        separator.fill(1)
        of_two.fill(2)
        self._is_separator, self._of_two = separator.view(np.bool_), of_two
        self._of_four, self._byte, self._digit, self._low, self._high = others
        self._of_four.fill(4)
        self._found = np.zeros(_BLOCK_BYTES, np.bool_)

    def __reduce__(self) -> tuple[type[ExpertLineParser], tuple[()]]:
        """Nothing is kept from one text to the next."""
        return ExpertLineParser, ()

    def parse(self, text: bytes | bytearray, start: int, end: int) -> ExpertLines:
        """Parse ``text[start:end]``, which is complete lines or empty; offsets count from `start`."""
        parts = []
        begin = start
        while begin < end:
            part, stop = self._parse_first(text, begin, end)
            parts.append((begin - start, part))
            begin = stop
        return _joined(parts) if parts else _without_rows(_NO_BOUNDS)

    def _parse_first(self, text: bytes | bytearray, begin: int, end: int) -> tuple[ExpertLines, int]:
        """Parse some of the lines ``text[begin:end]``, the first ones. Also returns where the rest begins."""
        found = read_lines(text, begin, end, layers=MAX_LAYERS, experts=MAX_EXPERTS, k=MAX_TOP_K)
        if found is not None:
            stop, number, k, line_end = found
            return _of_lines(number, k, line_end), stop
        stop = end
        if end - begin > _BLOCK_BYTES:
            stop = text.rfind(b"\n", begin, begin + _BLOCK_BYTES) + 1
        if stop:
            return self._parse_block(np.frombuffer(text, np.uint8, stop - begin, begin)), stop
        stop = text.find(b"\n", begin) + 1  # of a line longer than any that is well-formed
        return _without_rows(np.array([[0, stop - 1 - begin]])), stop

    def _parse_block(self, text: NDArray[np.uint8]) -> ExpertLines:
        """Parse complete lines."""
        size = len(text)
        has_odd = self._find_numbers(text)
        lines = _Lines.of(text) if has_odd else None
        if lines is not None:
            self._take_out_odd_lines(lines)
        # Of a pair of bytes one at most is a separator, so there is half as much to search.
        found = np.not_equal(_pairs(self._is_separator, size), 0, out=self._found[: (size + 1) // 2])
        (half,) = found.nonzero()
        number = self._pick_numbers(size, half)
        table = None if has_odd else self._as_table(size, number, half)
        return table or self._sorted_by_k(number, half, lines or _Lines.of(text))

    def _find_numbers(self, text: NDArray[np.uint8]) -> bool:
        """Find what number ends before each byte, were that a separator: 100 `_high` + `_low`.

        Returns:
            Whether there is an empty number or one of more than four digits.
        """
        size = len(text)
        here, one, two, three, four = (slice(_FRONT - n, _FRONT - n + size) for n in range(5))
        byte = np.subtract(text, _ZERO, out=self._byte[here])
        np.greater(byte, 9, out=self._is_separator[here])
        separators = self._is_separator.view(np.uint8)
        of_two = np.add(separators[here], separators[one], out=self._of_two[here])
        of_four = np.add(of_two, self._of_two[two], out=self._of_four[here])

        mask = np.subtract(separators[here], 1, out=self._low[here])
        np.bitwise_and(byte, mask, out=self._digit[here])
        after_two = np.subtract(self._of_two[one], 1, out=mask)  # 255 or 0, but for empty numbers
        high = np.bitwise_and(self._digit[three], after_two, out=self._high[here])
        low = np.multiply(self._digit[two], 10, out=self._low[here])
        np.add(low, self._digit[one], out=low)
        if not np.minimum.reduce(of_four):
            after_four = np.equal(self._of_four[one], 0, out=self._found[:size])
            thousands = np.multiply(self._digit[four], after_four.view(np.uint8))
            thousands *= 10
            high += thousands
            # Overlong numbers are noted where empty ones are.
            after_five = (self._of_four[two] == 0) & after_four
            of_two |= after_five.view(np.uint8) * 2
        return bool(np.maximum.reduce(of_two) >= 2)

    def _take_out_odd_lines(self, lines: _Lines) -> None:
        """Take away the separators of lines with empty or overlong numbers."""
        here = slice(_FRONT, _FRONT + int(lines.end[-1]) + 1)
        odd = np.flatnonzero(self._of_two[here] >= 2)
        lines.is_good[np.searchsorted(lines.end, odd)] = False
        start, end = lines.start[~lines.is_good], lines.end[~lines.is_good]
        taken = offsets(start, end - start + 1)
        self._is_separator[here][taken] = False
        self._byte[here][taken] = 0

    def _pick_numbers(self, size: int, half: NDArray[np.int64]) -> NDArray[np.uint16]:
        """The numbers before the separators, which are at `half` (n,)."""
        here = slice(_FRONT, _FRONT + size)
        low, high = self._low[here], self._high[here]
        highest = np.maximum.reduce(high)
        if highest <= 2:
            value = np.multiply(high, 100, out=self._digit[here])
            np.add(value, low, out=value)
            if highest < 2 or not np.less(value, low, out=self._found[:size]).any():  # none is above 255
                return self._pick(self._digit, size, half)
        number = self._pick(self._high, size, half)
        number *= 100
        number += self._pick(self._low, size, half)
        return number

    def _pick(self, values: NDArray[np.uint8], size: int, half: NDArray[np.int64]) -> NDArray[np.uint16]:
        """What a scratch array has at the separators."""
        here = slice(_FRONT, _FRONT + size)
        np.multiply(values[here], self._is_separator[here].view(np.uint8), out=values[here])
        pair = _pairs(values, size).take(half, mode="wrap")
        pair *= 257  # the byte that is not 0 gets into the upper half, whichever it is
        pair >>= 8
        return pair

    def _behind(self, size: int, half: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The separators at `half` (n,), less "0"."""
        pair = _pairs(self._byte, size).take(half, mode="wrap").view(np.uint8)
        return np.maximum(pair[::2], pair[1::2])  # the other one is a digit

    def _as_table(self, size: int, number: NDArray[np.uint16], half: NDArray[np.int64]) -> ExpertLines | None:
        """The lines, if all are well-formed and have the same k.

        Args:
            size: of the text.
            number: (n,)
            half: (n,) half the offsets of the separators behind these.
        """
        byte = self._byte[_FRONT : _FRONT + size]
        first_end = int((byte[:_LONGEST_LINE] == _NEWLINE).argmax())
        width = int(half.searchsorted(first_end // 2, "right"))  # numbers in the first line
        if not 2 <= width <= MAX_TOP_K + 1 or len(number) % width:
            return None
        # The first separator of each line is a comma, the last a newline, and all others are blanks.
        half_end = np.ascontiguousarray(half[width - 1 :: width])
        is_blank = np.equal(byte, _SPACE, out=self._found[:size])
        if not (
            np.count_nonzero(is_blank) == len(number) - 2 * len(half_end)
            and (self._behind(size, half[::width]) == _COMMA).all()
            and (self._behind(size, half_end) == _NEWLINE).all()
            and np.maximum.reduce(number) < MAX_EXPERTS
            and np.maximum.reduce(number[::width]) < MAX_LAYERS
        ):
            return None
        return _of_one_k(number, half_end, _NO_BOUNDS)

    def _sorted_by_k(self, number: NDArray[np.uint16], half: NDArray[np.int64], lines: _Lines) -> ExpertLines:
        """The lines, whatever they are.

        Args:
            number: (n,) of the good ones.
            half: (n,) half the offsets of the separators behind these.
            lines: all; what is wrong with good ones is noted there.
        """
        separator = self._behind(int(lines.end[-1]) + 1, half)
        last = np.flatnonzero(separator == _NEWLINE)
        first = np.concatenate(([0], last[:-1] + 1))[: len(last)]
        k = last - first
        expected = np.full(len(number), _SPACE, np.uint8)
        expected[last] = _NEWLINE
        expected[first] = _COMMA
        fits = (k <= MAX_TOP_K) & (number[first] < MAX_LAYERS)
        wrong = np.flatnonzero((separator != expected) | (number >= MAX_EXPERTS))
        fits[np.searchsorted(last, wrong)] = False
        lines.is_good[np.flatnonzero(lines.is_good)[~fits]] = False
        return _by_k(number, first[fits], k[fits], half[last[fits]], lines.others())


def _of_lines(number: NDArray[np.uint16], k: NDArray[np.uint16], end: NDArray[np.int64]) -> ExpertLines:
    """Lines (l,) that the loop in C has read.

    Args:
        number: (n,) layer and experts of each that is well-formed.
        k: (l,) how many experts each has, 0 if it is not well-formed.
        end: (l,) where their newlines are.
    """
    others, half = _NO_BOUNDS, end >> 1
    if not k.all():
        lines = _Lines(np.concatenate(([0], end[:-1] + 1)), end, k > 0)
        others, half, k = lines.others(), half[lines.is_good], k[lines.is_good]
    if len(k) and (k == k[0]).all():
        return _of_one_k(number, half, others)
    size = k.astype(np.int64) + 1
    return _by_k(number, np.cumsum(size) - size, size - 1, half, others)


def _of_one_k(
    number: NDArray[np.uint16], half_end: NDArray[np.int64], others: NDArray[np.int64]
) -> ExpertLines:
    """Well-formed lines, all with as many of the numbers: see `_by_k`."""
    # What counts them goes through all rows of a rank.
    by_rank = np.ascontiguousarray(number.reshape(len(half_end), -1).T)
    return ExpertLines(by_rank[0], Experts((by_rank[1:].T,)), half_end, others)


def _by_k(
    number: NDArray[np.uint16],
    first: NDArray[np.int64],
    k: NDArray[np.int64],
    half_end: NDArray[np.int64],
    others: NDArray[np.int64],
) -> ExpertLines:
    """Well-formed lines.

    Args:
        number: all numbers.
        first: (n,) where those of each line begin.
        k: (n,) how many experts each has.
        half_end: (n,) see `ExpertLines`.
        others: (m, 2) where lines start and end that are not well-formed.
    """
    tables = tuple(
        _table(number, first[k == one] + 1, one).T for one in np.flatnonzero(np.bincount(k)).tolist()
    )
    width = k.astype(np.uint16) if len(tables) > 1 else None
    return ExpertLines(number.take(first), Experts(tables, width), half_end, others)


def _table(number: NDArray[np.uint16], first: NDArray[np.int64], k: int) -> NDArray[np.uint16]:
    """The experts (k, n) of lines, the first ones of which are there (n,)."""
    by_rank = np.empty((k, len(first)), np.uint16)
    step = max(1, _AT_ONCE // len(first))  # all indices would be four times as large
    for begin in range(0, k, step):
        some = by_rank[begin : begin + step]
        number.take(first + np.arange(begin, begin + len(some))[:, None], out=some, mode="clip")
    return by_rank


def _scratch(count: int) -> NDArray[np.uint8]:
    """So many scratch arrays, in which text begins where a cache line does: that is a tenth of all."""
    size = -(-(_FRONT + _BLOCK_BYTES + 2) // _FRONT) * _FRONT
    memory = np.zeros(count * size + _FRONT, np.uint8)
    begin = -memory.__array_interface__["data"][0] % _FRONT
    return memory[begin:][: count * size].reshape(count, size)


def _pairs(array: NDArray[np.uint8] | NDArray[np.bool_], size: int) -> NDArray[np.uint16]:
    """The first `size` bytes of text in a scratch array, two by two; if that is odd, one more, which is 0."""
    if size % 2:
        array[_FRONT + size] = 0
        size += 1
    return array[_FRONT : _FRONT + size].view(np.uint16)


def _without_rows(others: NDArray[np.int64]) -> ExpertLines:
    """No well-formed lines."""
    return ExpertLines(np.empty(0, np.uint16), Experts(()), np.empty(0, np.int64), others)


def _joined(parts: list[tuple[int, ExpertLines]]) -> ExpertLines:
    """All parts, one after the other, each with where it begins."""
    if len(parts) == 1:
        return parts[0][1]
    return ExpertLines(
        np.concatenate([part.layer for _, part in parts]),
        Experts.joined([part.experts for _, part in parts]),
        np.concatenate([part.half_end + begin // 2 for begin, part in parts]),
        np.concatenate([part.others + begin for begin, part in parts]),
    )
