"""Memory that is used again instead of given back, and memory that is given back at once."""

from __future__ import annotations

import ctypes
import functools
import math
import sys
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@functools.cache
def keep_freed_memory() -> None:
    """Make the C library keep memory that is freed, up to some megabytes, for what is allocated next.

    Every span of a log takes and frees arrays of about a megabyte. Returned to the system each time, their
    pages would have to be cleared and mapped anew: that can take longer than all work on them. The GNU C
    library returns blocks as large as the largest that was ever freed, and what is free in one piece if it
    is twice as much; other libraries are not affected.
    """
    np.empty(1 << 24, np.uint8)


def give_back_freed_memory() -> None:
    """Let the system have all pages of the heap on which nothing is, where the C library can do that (GNU).

    Worth while when nothing is to be done for now: what `keep_freed_memory` keeps, and gaps between small
    things that live long, are some 30 MB after a gigabyte of a log.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))


def own_pages(size: int) -> mmap:
    """So many bytes in pages of their own, which the system gets back as soon as nobody needs them.

    In the heap large pieces that come and go would lie between small things that outlive them: the gaps they
    leave suit little else, so the heap would be larger by all that was ever there at once.

    Raises:
        MemoryError: there are none.
    """
    try:
        return mmap(-1, size)
    except OSError as error:
        raise MemoryError(f"no {size:,} bytes of memory: {error.strerror}") from None


def unique(values: NDArray[Any]) -> NDArray[Any]:
    """What is among (n,) integers or truth values, (u,) in order, as `np.unique` has it.

    That of NumPy loads its masked arrays to ask whether it was given one: a megabyte, and 7 ms of each start.
    """
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


class Scratch:
    """Arrays that are needed for a moment, again and again.

    Large ones that are freed go back to the system, and clearing them anew costs more than what they hold.
    """

    def __init__(self) -> None:
        self._memory: dict[str, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        """In another process there is nothing: what is held is of no use to anybody."""
        return Scratch, ()

    def __deepcopy__(self, memo: dict[int, object]) -> Scratch:
        """Copies in one process take turns with the same memory."""
        return self

    def empty(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of that name; it holds until the next one of the same name is asked for."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = np.empty(size, np.uint8)
        return memory[:size].view(dtype).reshape(shape)

    def zeros(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The same, filled with zeros."""
        array = self.empty(name, shape, dtype)
        array.fill(0)
        return array
