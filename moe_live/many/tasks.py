"""What a task does, wherever it runs: read some of the logs, or merge what others found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moe_live.analyzer import Analyzer, Progress
from moe_live.many.logs import LogPart
from moe_live.parallel.worker import PartReader, analyzer_of
from moe_live.settings import Settings
from moe_live.version import __version__


class Told(NamedTuple):
    """What is to be known of what was read before it is merged.

    Attributes:
        began: the label under which it was taken to begin.
        label: the one in force at its end.
        progress: what was read.
        problems: why not all could be, a line for each log.
        version: of moe-live, there.
    """

    began: str
    label: str
    progress: Progress
    problems: tuple[str, ...]
    version: str = __version__


class Found(NamedTuple):
    """What was found in logs that follow each other, or in parts of one.

    Attributes:
        told: of the first.
        goes_on: whether it begins within a log.
        state: all statistics, packed: no more than that is ever sent.
    """

    told: Told
    goes_on: bool
    state: bytes


def read(of: Sequence[LogPart], settings: Settings, label: str) -> Found:
    """Read logs to their end, one after the other, or a part of one.

    Args:
        of: one at least.
        settings: of the analysis.
        label: the one that is taken to be in force where the first begins.
    """
    first = of[0].part
    analyzer = analyzer_of(first, settings, label)
    problems = []
    for each in of:
        reader = PartReader(each.part, analyzer)
        if reader.is_open:
            analyzer.add_paths(each.names)
        analyzer.log = each.part.path
        while reader.read():
            pass
        problems.append(reader.finish())
    told = Told(label, analyzer.label, analyzer.progress(), tuple(filter(None, problems)))
    return Found(told, first.begin > 0, analyzer.packed())


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
