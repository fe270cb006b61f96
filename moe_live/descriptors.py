"""File descriptors: the three a process begins with, how many more there may be, and waiting for them."""

from __future__ import annotations

import errno
import math
import os
import select
import sys
from collections.abc import Collection
from contextlib import ExitStack


def open_standard_descriptors() -> None:
    """Make those that were closed by who started us /dev/null, so that no file we open gets their numbers.

    That there is no standard input stays known: `sys.stdin` is None.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keyword
        if descriptor:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115 - for good


def can_open(number: int) -> bool:
    """Whether so many more files may be open at once."""
    with ExitStack() as opened:
        try:
            for _ in range(number):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


def wait_for(
    readable: Collection[int], writable: Collection[int], timeout: float
) -> tuple[list[int], list[int]]:
    """Sleep until a descriptor can be read or written to, or `timeout` seconds are over; tells which can be.

    One that has failed or was closed can be: the call that follows tells.
    """
    if sys.platform != "linux":  # where poll cannot watch a terminal, or there is none
        read, write, _ = select.select(readable, writable, [], timeout)
        return read, write
    poll = select.poll()  # for descriptors of any number
    for descriptor in {*readable, *writable}:
        wanted = select.POLLIN * (descriptor in readable) | select.POLLOUT * (descriptor in writable)
        poll.register(descriptor, wanted)
    events = dict(poll.poll(math.ceil(timeout * 1000)))
    return (
        [descriptor for descriptor in readable if events.get(descriptor, 0) & ~select.POLLOUT],
        [descriptor for descriptor in writable if events.get(descriptor, 0) & ~select.POLLIN],
    )
