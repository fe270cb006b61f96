"""`--html`: the summary as a page."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name
from moe_live.outputs.output import Destination, Output, OutputOptions

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot

PAGE = "the page"


class PageFile(Output):
    """A file with the page and the final figures."""

    def __init__(self, path: str) -> None:
        self.destination = Destination(path, PAGE)
        self._path = path

    def finish(self, snapshot: Snapshot) -> None:
        """Write it.

        Raises:
            MoeLiveError: it cannot be written.
        """
        from moe_live.reports.files import write_text
        from moe_live.reports.json_report import to_json
        from moe_live.reports.page import page_with

        write_text(page_with(to_json(snapshot)), self._path, PAGE)


def _add(group: Any) -> None:
    group.add_argument(
        "--html",
        type=file_name,
        metavar="FILE",
        help="write the summary as a page: one file that opens in any browser and loads nothing",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.html is not None:
        yield PageFile(options.html)


OPTIONS = OutputOptions(_add, _make)
