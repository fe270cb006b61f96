"""The summary as a JSON file: at the end, and now and then while a log is followed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name
from moe_live.outputs.output import Destination, Output, OutputOptions

if TYPE_CHECKING:
    from moe_live.running import Status
    from moe_live.snapshot import Section, Snapshot

JSON_SUMMARY = "the JSON summary"

PERIOD = 30.0
"""Seconds between two writes."""


class JsonFile(Output):
    """A file with the summary as JSON.

    Args:
        path: of the file.
        live: whether it is written while the run goes on, if that replaces it: what is read by somebody who
            waits for the end, such as a pipe, gets it once.
        clock: seconds, monotonic.
    """

    def __init__(self, path: str, *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.destination = Destination(path, JSON_SUMMARY)
        self._path = path
        self._live = live
        self._clock = clock
        self._due = clock() + PERIOD
        self._written: Snapshot | None = None

    def start(self) -> None:
        """See whether it is a file that can be replaced."""
        from moe_live.reports.files import is_replaced

        self._live = self._live and is_replaced(self._path)

    def sections(self) -> Collection[Section]:
        """All of them."""
        from moe_live.snapshot import Section

        return frozenset(Section)

    def wants_update(self) -> bool:
        """Every half minute."""
        return self._live and self._clock() >= self._due

    def update(self, snapshot: Snapshot, status: Status) -> None:  # noqa: ARG002 - the summary has none
        """Write it, unless there is nothing, or nothing new.

        Raises:
            MoeLiveError: it cannot be written.
        """
        from moe_live.reports.unusable import has_usable_lines

        self._due = self._clock() + PERIOD
        if snapshot is not self._written and has_usable_lines(snapshot.input.tally):
            self.finish(snapshot)
            self._written = snapshot

    def finish(self, snapshot: Snapshot) -> None:
        """Write it.

        Raises:
            MoeLiveError: it cannot be written.
        """
        from moe_live.reports.files import write_text
        from moe_live.reports.json_report import json_text

        write_text(json_text(snapshot), self._path, JSON_SUMMARY)


def _add(group: Any) -> None:
    group.add_argument(
        "--json",
        type=file_name,
        metavar="FILE",
        help="write the summary as JSON too, and every 30 seconds while following; "
        "- for JSON alone on standard output",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.json not in (None, "-"):
        yield JsonFile(options.json, live=not options.paths)


OPTIONS = OutputOptions(_add, _make)
