"""Lines that are the same but for their numbers, all of them read at once by where numbers stand in one.

A number here is a run of digits and `-`; what stands before, between and behind the numbers of a line is its
frame. Where numbers that are used stand in a frame, and what they tell, is found out once, from one line. Of
lines with the same frame nothing is looked for any more. Whatever is unusual about a line, a word instead of
a number, an exponent, a number of experts that others do not have, leaves it to those who read any line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.columns import Column
from moe_live.formats.fields import MAX_SEQUENCE, floats, numbers
from moe_live.formats.told import DECODE, PREFILL, UNTOLD, Told, picked, same
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

NUMBER = re.compile(rb"[-0-9]+")

_IN_NUMBERS = b"-0123456789"
_MINUS, _ZERO = b"-0"
_BLOCK = 512  # lines whose frames are looked at together
_FEW = 0.5  # share of lines in one frame below which it is of no use
_PLACES = (Column.LAYER, Column.STEP, Column.TOKEN, Column.RANK)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the numbers of lines in one frame tell.

    Attributes:
        frame: a line without its numbers, the newline included.
        count: how many numbers it has.
        where: which number tells what; of one each.
        known: what words in the frame tell of phase and sequence.
        experts: which numbers are the experts, best first.
        weights: which are their weights, each with the one behind the decimal point; nothing without weights.
    """

    frame: bytes
    count: int
    where: Mapping[Column, int]
    known: Mapping[Column, int]
    experts: Sequence[int]
    weights: Sequence[tuple[int, int]]

    @classmethod
    def of(
        cls,
        line: bytes,
        where: Mapping[Column, int],
        known: Mapping[Column, int],
        experts: Sequence[int],
        weights: Sequence[tuple[int, int]],
    ) -> Shape:
        """That of lines like this one, which has no newline."""
        frame = line.translate(None, _IN_NUMBERS) + b"\n"
        return cls(frame, len(NUMBER.findall(line)), where, known, experts, weights)

    def read(self, text: bytes, end: NDArray[np.int64]) -> tuple[Told, NDArray[np.bool_]] | None:
        """What lines of this shape tell.

        Args:
            text: complete lines.
            end: (l,) where their newlines are.

        Returns:
            That, and (l,) which lines these are; None if they are few.
        """
        text, end, is_alike = self._alike(text, end)
        if len(end) < _FEW * len(is_alike):
            return None
        lines = np.frombuffer(text, np.uint8)
        found = self._numbers(lines, end)
        if found is None:
            return None
        start, stop = found
        good = np.ones(len(start), np.bool_)

        def whole(index: int) -> NDArray[np.int64]:
            value, has = numbers(lines, start[:, index], stop[:, index])
            good[:] &= has
            return value

        nothing = same(np.int64(0), len(start))
        layer, step, token, rank = (
            whole(self.where[place]) if place in self.where else nothing for place in _PLACES
        )
        good &= (layer >= 0) & (layer < MAX_LAYERS)
        if Column.SEQUENCE in self.where:
            sequence = whole(self.where[Column.SEQUENCE]) & MAX_SEQUENCE
        else:
            sequence = same(np.int64(self.known.get(Column.SEQUENCE, 0)), len(start))
        phase = same(np.int64(self.known.get(Column.PHASE, UNTOLD)), len(start))
        if (at := self.where.get(Column.PHASE)) is not None:
            is_one_digit = stop[:, at] - start[:, at] == 1
            digit = np.where(is_one_digit, lines[start[:, at]], 0)
            phase = np.where(digit == _ZERO, PREFILL, np.where(digit == _ZERO + 1, DECODE, UNTOLD))
        if Column.TOKEN in self.where:
            phase = np.where(token < 0, PREFILL, phase)
        k = len(self.experts)
        chosen = list(self.experts)
        experts, has = numbers(lines, start[:, chosen].reshape(-1), stop[:, chosen].reshape(-1))
        good &= (has & (experts >= -1) & (experts < MAX_EXPERTS)).reshape(-1, k).all(axis=1)
        weights = same(np.float64(np.nan), len(experts))
        if self.weights:
            before, behind = (list(each) for each in zip(*self.weights, strict=True))
            weights, has = floats(lines, start[:, before].reshape(-1), stop[:, behind].reshape(-1))
            good &= has.reshape(-1, k).all(axis=1)
        table = [layer, phase, sequence, step, token, rank, same(np.int64(k), len(start))]
        if not good.all():
            is_alike[np.flatnonzero(is_alike)[~good]] = False
            entries = np.repeat(good, k)
            table = [picked(column, good) for column in table]
            experts, weights = experts[entries], picked(weights, entries)
        return Told.of([*table, experts], weights), is_alike

    def _alike(
        self, text: bytes, end: NDArray[np.int64]
    ) -> tuple[bytes, NDArray[np.int64], NDArray[np.bool_]]:
        """Lines in the frame (g of l): their text, (g,) where their newlines are, (l,) which they are."""
        is_alike = np.ones(len(end), np.bool_)
        start = 0
        for first in range(0, len(end), _BLOCK):
            stop = int(end[min(first + _BLOCK, len(end)) - 1]) + 1
            frames = text[start:stop].translate(None, _IN_NUMBERS)
            if frames != self.frame * min(_BLOCK, len(end) - first):
                each = frames.split(b"\n")[:-1]
                is_alike[first : first + _BLOCK] = [frame == self.frame[:-1] for frame in each]
            start = stop
        if is_alike.all():
            return text, end, is_alike
        length = np.diff(end, prepend=-1)
        changes = np.flatnonzero(is_alike[1:] != is_alike[:-1])
        bounds = [0, *(end[changes] + 1).tolist(), len(text)]
        pieces = [text[begin:stop] for begin, stop in pairwise(bounds)][not is_alike[0] :: 2]
        return b"".join(pieces), np.cumsum(length[is_alike]) - 1, is_alike

    def _numbers(
        self, lines: NDArray[np.uint8], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """(g, count) Where the numbers of lines in the frame begin and end; None if one is missing."""
        is_frame = (lines - np.uint8(_ZERO) > 9) & (lines != _MINUS)
        if len(self.frame) == self.count:  # one byte behind each number, and none before the first
            if is_frame[0] or (is_frame[1:] & is_frame[:-1]).any():
                return None
            stop = np.flatnonzero(is_frame)
            start = np.concatenate(([0], stop[:-1] + 1))
            return start.reshape(-1, self.count), stop.reshape(-1, self.count)
        edge = np.flatnonzero(is_frame[1:] != is_frame[:-1]) + 1
        if not is_frame[0]:
            edge = np.concatenate(([0], edge))
        if len(edge) != 2 * self.count * len(end):
            return None
        pairs = edge.reshape(len(end), self.count, 2)
        within = (pairs[:, -1, 1] <= end).all() and (pairs[1:, 0, 0] > end[:-1]).all()
        return (pairs[..., 0], pairs[..., 1]) if within else None


class Shapes:
    """Reads lines in the shape of one of them, as far as they have it, and leaves the others to others.

    What is found does not depend on which line that is.

    Args:
        shape_of: the shape of lines such as this one, which has no newline; None if it has none.
    """

    def __init__(self, shape_of: Callable[[bytes], Shape | None]) -> None:
        self._shape_of = shape_of
        self._shape: Shape | None = None

    def read(
        self,
        text: bytes,
        end: NDArray[np.int64],
        others: Callable[[bytes, NDArray[np.int64]], tuple[Told, NDArray[np.bool_]]],
    ) -> tuple[Told, NDArray[np.bool_]]:
        """What complete lines tell, and (l,) which tell anything, a row each.

        Args:
            text: of the lines.
            end: (l,) where their newlines are.
            others: reads any lines likewise.
        """
        found = None
        if self._shape is not None:
            found = self._shape.read(text, end)
        if found is None and (shape := self._shape_of(text[: end[0]])) is not None:
            self._shape = shape
            found = shape.read(text, end)
        if found is None:
            return others(text, end)
        told, good = found
        if good.all():
            return found
        length = np.diff(end, prepend=-1)[~good]
        rest = np.frombuffer(text, np.uint8)[np.repeat(~good, np.diff(end, prepend=-1))]
        more, is_good = others(rest.tobytes(), np.cumsum(length) - 1)
        line = np.concatenate((np.flatnonzero(good), np.flatnonzero(~good)[is_good]))
        good[line] = True
        return Told.joined([told, more]).ordered(np.argsort(line, kind="stable")), good
