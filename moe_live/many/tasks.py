"""What a task does, wherever it runs: read a part of the logs, or merge what others found."""

from __future__ import annotations

from typing import NamedTuple

from moe_live.analyzer import Analyzer, Progress
from moe_live.many.logs import LogPart
from moe_live.parallel.worker import PartReader
from moe_live.settings import Settings
from moe_live.version import __version__


class Told(NamedTuple):
    """What is to be known of a part before it is merged.

    Attributes:
        began: the label under which it was taken to begin.
        label: the one in force at its end.
        progress: what was read.
        problem: why not all could be, "" if all is well.
        version: of moe-live, there.
    """

    began: str
    label: str
    progress: Progress
    problem: str
    version: str = __version__


class Found(NamedTuple):
    """What was found in a part, or in several that follow each other.

    Attributes:
        told: of the first.
        goes_on: whether it begins within a log.
        state: all statistics, packed: no more than that is ever sent.
    """

    told: Told
    goes_on: bool
    state: bytes


def read(of: LogPart, settings: Settings, label: str) -> Found:
    """Read a part to its end.

    Args:
        of: the part.
        settings: of the analysis.
        label: the one that is taken to be in force where it begins.
    """
    reader = PartReader(of.part, settings, label)
    reader.analyzer.add_paths(of.names)
    while reader.read():
        pass
    problem = reader.finish()
    analyzer = reader.analyzer
    told = Told(label, analyzer.label, analyzer.progress(), problem)
    return Found(told, of.part.begin > 0, analyzer.packed())


def merge(*parts: Found) -> Found:
    """What was found in parts that follow each other, as one.

    Any tree of merges has the result of one run over all: counts are whole numbers, sums of floats are exact,
    and what depends on the order of steps is merged in that order.
    """
    first, *others = parts
    whole = unpacked(first)
    for other in others:
        whole.merge(unpacked(other))
    return first._replace(state=whole.packed())


def unpacked(found: Found) -> Analyzer:
    """The analyzer that found it, or was merged of those that did.

    Raises:
        DamagedError: another version of moe-live packed it.
    """
    return Analyzer.unpacked(found.state, goes_on=found.goes_on)
