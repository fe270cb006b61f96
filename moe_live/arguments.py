"""Values on the command line, checked: for `type=` of argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

_MAX_LAYERS = 1024  # as in `moe_live.formats.records`, which is not imported: it needs numpy


def file_name(text: str) -> str:
    """A path, of whatever kind."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path names no file")
    return text


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def address(text: str) -> Address:
    """A host and a port, or a port of this machine alone.

    >>> address("[::1]:8090"), address("8090")
    (Address(host='::1', port=8090), Address(host='127.0.0.1', port=8090))
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 127.0.0.1:8080, or a port")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def layer_set(text: str) -> frozenset[int]:
    """A list of layers such as 20-24,30."""
    layers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isascii() or not first.isdecimal() or not (last or first).isdecimal():
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 20-24,30")
        low, high = int(first), int(last or first)
        if low > high or high >= _MAX_LAYERS:
            raise argparse.ArgumentTypeError(f"{part!r} is not a range of layers between 0 and 1023")
        layers.update(range(low, high + 1))
    return frozenset(layers)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Parses whole numbers within bounds."""

    def parse_number(text: str) -> int:
        if not text.isdecimal() or len(text) > 12 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low:,} to {high:,}")
        return int(text)

    return parse_number


def frame_rate(text: str) -> float:
    """Frames a second."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0.1 <= rate <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0.1 to 30 Hz")
    return rate
