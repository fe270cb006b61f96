"""Lines of a table to fields: where those of each column begin and end."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.fields import MAX_SEQUENCE, each_once, numbers, phases, trimmed

SEPARATORS = b"\t,;|"
"""Between fields, beside blanks."""

_PART_BYTES = 1 << 17

_NEWLINE, _BLANK, _QUOTE = b'\n "'
_MARKS = b'"[](){}'
_DEPTH = np.zeros(256, np.int8)
_DEPTH[list(b"[({")], _DEPTH[list(b"])}")] = 1, -1


class Cells:
    """The fields of complete lines.

    Args:
        text: of the lines.
        separator: between fields; a blank stands for any number of them.
        fields: how many a line has.
        last_is_list: fields that are too many belong to the last one.

    Attributes:
        text: (b,) uint8, of the lines; what separates numbers within a field is blanks.
        end: (l,) int64, where the newlines of the lines are.
        whole: (l,) whether a line has so many fields.
    """

    def __init__(self, text: bytes, separator: int, fields: int, *, last_is_list: bool) -> None:
        letters = np.frombuffer(text, np.uint8)
        is_end = letters == _NEWLINE
        self.whole = np.ones(np.count_nonzero(is_end), np.bool_)
        has_lists = any(map(text.__contains__, _MARKS))
        if has_lists:
            letters, self.whole = _opened(letters, is_end)
        ends = _ends_of_even(text, letters, separator, fields, len(self.whole))
        if ends is None:
            mark = np.flatnonzero(_is_mark(letters, separator))
            last = np.flatnonzero(is_end[mark])
            found = np.diff(last, prepend=-1)
            first = last - found + 1
            ends = mark.take(first + np.arange(fields)[:, None], mode="clip")
            ends[-1] = mark[last]
            if last_is_list:
                within = np.arange(len(mark)) - np.repeat(first, found)
                rest = within >= fields - 1
                rest[last] = False
                letters = letters.copy()
                letters[mark[rest]] = _BLANK
                has_lists |= bool(rest.any())
                found = np.minimum(found, fields)
            self.whole &= found == fields
        self.end = ends[-1]
        self._begin = np.concatenate(([0], self.end[:-1] + 1))
        self._are_whole = bool(self.whole.all())
        if not self._are_whole:
            self._begin[~self.whole] = ends[:, ~self.whole] = self.end[~self.whole]
        self._ends = ends  # (fields, l) of all fields
        self._may_have_blanks = has_lists or b" " in text
        self.text = letters

    def column(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(l,) Where the fields of a column begin and end; at the same byte where a line is not whole."""
        start, end = self._begin, self._ends[index]
        if index:
            start = self._ends[index - 1] + 1
            if not self._are_whole:
                start = np.minimum(start, end)
        return trimmed(self.text, start, end) if self._may_have_blanks else (start, end)

    def phases(self, index: int) -> NDArray[np.int64]:
        """(l,) The phases that a column names."""
        return each_once(phases, self.text, *self.column(index))

    def names(self, index: int) -> NDArray[np.int64]:
        """(l,) A number for each name in a column; the same one where they are numbers."""
        return each_once(_names, self.text, *self.column(index))


def _is_mark(text: NDArray[np.uint8], separator: int) -> NDArray[np.bool_]:
    """(b,) Which bytes of complete lines end a field."""
    is_end: NDArray[np.bool_] = text == _NEWLINE
    is_mark: NDArray[np.bool_] = text == separator
    if separator == _BLANK:  # the first of several, and none at the beginning of a line
        is_mark[1:] &= ~(is_mark | is_end)[:-1]
        is_mark[:1] = False
    is_mark |= is_end
    return is_mark


def _ends_of_even(
    text: bytes, letters: NDArray[np.uint8], separator: int, fields: int, lines: int
) -> NDArray[np.int64] | None:
    """(fields, lines) Where fields end, if all lines have as many; as `letters` the text may be altered."""
    ends = np.empty((fields, lines), np.int64)
    begin = line = 0
    while begin < len(text):  # parts that stay in the processor's caches
        stop = text.rfind(b"\n", begin, begin + _PART_BYTES) + 1 or text.find(b"\n", begin) + 1
        part = letters[begin:stop]
        mark = np.flatnonzero(_is_mark(part, separator))
        found, rest = divmod(len(mark), fields)
        if rest or line + found > lines or (part[mark[fields - 1 :: fields]] != _NEWLINE).any():
            return None
        np.add(mark.reshape(found, fields).T, begin, out=ends[:, line : line + found])
        begin, line = stop, line + found
    return ends if line == lines else None


def _opened(
    text: NDArray[np.uint8], is_end: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The text with blanks for quotes and brackets, and for all that separates what is between them.

    Returns:
        That, and (l,) whether each in a line has its counterpart.
    """
    end = np.flatnonzero(is_end)
    at = np.flatnonzero(_is_any_of(_MARKS, text))
    mark = text[at]
    before_end = np.searchsorted(at, end)
    count = np.diff(before_end, prepend=0)

    def counted(marks: NDArray[np.integer]) -> NDArray[np.int64]:
        """The sum of these in the line up to each mark."""
        found = np.concatenate(([0], np.cumsum(marks, dtype=np.int64)))
        found[1:] -= np.repeat(found[before_end - count], count)
        return found[1:]

    depth, quotes = counted(_DEPTH[mark]), counted(mark == _QUOTE)
    is_last = before_end[count > 0] - 1
    balanced = np.ones(len(end), np.bool_)
    balanced[count > 0] = (depth[is_last] == 0) & (quotes[is_last] & 1 == 0)
    is_inside = (depth > 0) | (quotes & 1 == 1)  # what follows the mark
    is_inside[is_last] = False
    begin = int(at[0]) if len(at) else len(text)
    inside = np.repeat(is_inside, np.diff(at, append=len(text)))
    opened = text.copy()
    opened[begin:][inside & _is_any_of(SEPARATORS, text[begin:])] = _BLANK
    opened[at] = _BLANK
    return opened, balanced


def _is_any_of(letters: bytes, text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(b,) Which bytes of a text are among these."""
    found = np.zeros(len(text), np.bool_)
    for letter in letters:
        found |= text == letter
    return found


def _names(text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) See `Cells.names`."""
    value, good = numbers(text, start, end)
    for at in np.flatnonzero(~good).tolist():
        value[at] = zlib.crc32(text[start[at] : end[at]].tobytes())
    return value & MAX_SEQUENCE
