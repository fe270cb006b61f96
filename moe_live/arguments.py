"""The command line: a parser whose errors are ours, and values, checked: for `type=` of argparse."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, NoReturn

from moe_live.errors import UsageError
from moe_live.settings import MAX_LAYERS


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` for what is wrong, also for an option with a value that is given twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", None, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where to find what is right."""
        raise UsageError(f"{message}; see {self.prog} --help")


def subcommand_options(argv: Sequence[str], add_parsers: Callable[[Any], object]) -> argparse.Namespace:
    """The options of a subcommand.

    Args:
        argv: the arguments, from its name on.
        add_parsers: adds its parser to what `ArgumentParser.add_subparsers` returned.

    Raises:
        UsageError: they are wrong.
    """
    parser = Parser(prog="moe-live")
    add_parsers(parser.add_subparsers(required=True, parser_class=Parser))
    return parser.parse_args(argv)


class _StoreOnce(argparse.Action):
    """Keeps the one value of an option: of two nobody can tell which is meant."""

    _given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - what argparse passes
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if self._given:
            raise argparse.ArgumentError(self, "it is given twice")
        self._given = option_string is not None
        setattr(namespace, self.dest, values)


def file_name(text: str) -> str:
    """A path, of whatever kind."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path names no file")
    return text


def label_of(path: str) -> str:
    """What a log is called as a label.

    >>> label_of("/logs/math.log.gz"), label_of("code.1.log"), label_of(".log")
    ('math', 'code.1', '.log')
    """
    name = PurePath(path).name.removesuffix(".gz")
    return PurePath(name).stem


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
        if low > high or high >= MAX_LAYERS:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a range of layers between 0 and {MAX_LAYERS - 1}"
            )
        layers.update(range(low, high + 1))
    return frozenset(layers)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Parses whole numbers within bounds."""

    def parse_number(text: str) -> int:
        if not text.isdecimal() or len(text) > 12 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low:,} to {high:,}")
        return int(text)

    return parse_number


_UNITS = {"": 1} | {
    f"{prefix}{unit}": base ** (power + 1)
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate("KMGT")
}


def byte_count(text: str) -> int:
    """A number of bytes, or of bytes a second.

    >>> byte_count("8GiB"), byte_count("2.5 GB/s"), byte_count("3059712")
    (8589934592, 2500000000, 3059712)
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([KkMGT]?i?B?)(?:/s)?", text)
    unit = found[2].replace("k", "K") if found else "?"
    unit = "" if unit == "B" else unit if unit.endswith("B") or not unit else f"{unit}B"
    count = round(float(found[1]) * _UNITS[unit]) if found and unit in _UNITS else 0
    if not 0 < count <= 1 << 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 8GiB, 500MB or 3059712")
    return count


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def frame_rate(text: str) -> float:
    """Frames a second."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0.1 <= rate <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate from 0.1 to 30 Hz")
    return rate
