"""File descriptors: the three that each process begins with, and how many more there may be."""

from __future__ import annotations

import os
import sys
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
        except OSError:
            return False
    return True
