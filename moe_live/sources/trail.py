"""Samples of what was read of a file, by which a copy of it, or what is left of it, is recognized."""

from __future__ import annotations

from moe_live.sources.place import ReadAt

SAMPLES_MAX = 1 << 18
"""Bytes that are kept. Files up to this size are known byte by byte, others by every 2nd, 4th, … byte."""

COMPARED_BYTES = 1 << 23
"""How much is compared at the beginning, and how much at the end: some milliseconds of work."""


class Trail:
    """Evenly spaced bytes of what was read. Does not depend on how that was cut into pieces.

    Args:
        begin: the offset at which reading began; of what comes before nothing is known.
    """

    def __init__(self, begin: int = 0) -> None:
        self._spacing = 1
        self._samples = bytearray()  # those at the offsets that are multiples of the spacing
        self._begin = self._end = begin

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read."""
        return self._begin == self._end

    def extend(self, begin: int, data: bytes) -> None:
        """Take in what was read from `begin` on. Of what had been read beyond, nothing remains."""
        del self._samples[self._count(self._begin, begin) :]
        self._samples += data[-begin % self._spacing :: self._spacing]
        self._end = begin + len(data)
        while len(self._samples) > SAMPLES_MAX:
            first_stays = self._count(0, self._begin) % 2 == 0
            self._samples = self._samples[0 if first_stays else 1 :: 2]
            self._spacing *= 2

    def holds(self, size: int, read_at: ReadAt) -> bool:
        """Whether the first bytes of a file, `size` of them, are what was read, as far as the samples tell.

        Raises:
            OSError: the file cannot be read.
        """
        if not self._begin < size <= self._end:
            return False
        early_end = min(size, self._begin + COMPARED_BYTES)
        late_begin = max(early_end, size - COMPARED_BYTES)
        return all(
            self.common(begin, read_at(end - begin, begin)) == end - begin
            for begin, end in ((self._begin, early_end), (late_begin, size))
        )

    def common(self, begin: int, data: bytes) -> int:
        """How many of the bytes from `begin` on may be what was read from there on: at most so many."""
        begin_known = max(begin, self._begin)
        skipped = begin_known - begin + -begin_known % self._spacing
        now = data[skipped :: self._spacing]
        first = self._count(self._begin, begin_known)
        then = self._samples[first : first + len(now)]
        if not now.startswith(then):
            same = next(i for i, byte in enumerate(then) if byte != now[i])
            return skipped + same * self._spacing
        return max(0, min(len(data), self._end - begin))

    def _count(self, begin: int, end: int) -> int:
        """How many multiples of the spacing there are from `begin` to before `end`."""
        return -(-end // self._spacing) - -(-begin // self._spacing)
