"""What a section of the reports is: one subject, as text, in short, and as keys of the JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from typing import Any, TypeVar

from moe_live.dataclass import dataclass
from moe_live.isolation import Failures
from moe_live.snapshot import Snapshot

Json = dict[str, Any]

WIDTH = 79
"""Columns of the text, as far as lines can be broken."""

NAME_WIDTH = 10
"""Columns of the longest name of a gist."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a section adds to the JSON summary: values that `json.dumps` takes with `allow_nan=False`.

    Attributes:
        summary: keys of the summary itself.
        layers: keys of each of its `layers`, which are those of the snapshot; nothing for none.
        overall: keys of its `overall`.
    """

    summary: Json = field(default_factory=dict)
    layers: Sequence[Json] = ()
    overall: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gist:
    """A subject in a line: its name, and what is to be said of it.

    Attributes:
        name: at most `NAME_WIDTH` columns.
        facts: phrases without control characters, the most important first: those for which
            there is no room are left out.
        lines: it may take at most.
        alert: whether nothing else should be believed before it is read.
    """

    name: str
    facts: Sequence[str]
    lines: int = 1
    alert: bool = False


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One subject of the reports.

    Attributes:
        name: what it is called in a warning, should it fail.
        lines: (snapshot, most used experts to show of a layer) to its lines of the text summary, without line
            ends and control characters; they begin with an empty line where one is to set them off.
        keys: snapshot to its keys of the JSON summary.
        gists: snapshot to what there is to say of it on one screen.
    """

    name: str
    lines: Callable[[Snapshot, int], Iterable[str]]
    keys: Callable[[Snapshot], Keys]
    gists: Callable[[Snapshot], Iterable[Gist]] = lambda _: ()


def isolated(
    sections: Iterable[ReportSection], make: Callable[[ReportSection], Made], instead: Made
) -> tuple[list[Made], list[str]]:
    """What each section makes, and a warning for each that fails: the others are not lost with it.

    Args:
        sections: of a report.
        make: takes what is wanted from a section.
        instead: stands for what a section that fails would have made.

    Raises:
        MoeLiveError: it is not the section that fails, but the run that is to end.
    """
    failures = Failures()
    made = [
        failures.attempt(f"the section {section.name}", partial(make, section), instead)
        for section in sections
    ]
    return made, list(failures.sentences())
