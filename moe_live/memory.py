"""What the C library and the system are told about memory."""

from __future__ import annotations

import functools
from mmap import mmap

import numpy as np


@functools.cache
def keep_freed_memory() -> None:
    """Make the C library keep memory that is freed, up to some megabytes, for what is allocated next.

    Every span of a log takes and frees arrays of about a megabyte. Returned to the system each time, their
    pages would have to be cleared and mapped anew: that can take longer than all work on them. The GNU C
    library returns blocks as large as the largest that was ever freed, and what is free in one piece if it
    is twice as much; other libraries are not affected.
    """
    np.empty(1 << 24, np.uint8)


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
