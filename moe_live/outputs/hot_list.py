"""The most used experts as a list for other programs: JSON or CSV."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name, whole_number
from moe_live.errors import UsageError
from moe_live.outputs.output import Destination, Output, OutputOptions
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot

HOT_LIST = "the list of hot experts"


class HotListFile(Output):
    """A file with the experts, over all layers, that serve most selections: the best to keep in fast memory.

    Layer, expert, count, share of the layer's selections and rank in the layer, by descending count.

    Args:
        path: CSV if it ends in .csv, else JSON.
        n: how many experts.
    """

    def __init__(self, path: str, n: int) -> None:
        self.destination = Destination(path, HOT_LIST)
        self._path = path
        self._n = n

    def finish(self, snapshot: Snapshot) -> None:
        """Write it.

        Raises:
            MoeLiveError: it cannot be written.
        """
        import csv

        from moe_live.reports.files import write_text
        from moe_live.snapshot import HotExpert

        entries = [dataclasses.asdict(expert) for expert in snapshot.hot_list(self._n)]
        if self._path.endswith(".csv"):
            out = io.StringIO()
            names = [field.name for field in dataclasses.fields(HotExpert)]
            writer = csv.DictWriter(out, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(entries)
            text = out.getvalue()
        else:
            text = json.dumps({"schema": "moe-live.hot-experts/1", "experts": entries}) + "\n"
        write_text(text, self._path, HOT_LIST)


def _add(group: Any) -> None:
    group.add_argument(
        "--hot-experts",
        type=whole_number(1, MAX_LAYERS * MAX_EXPERTS),
        metavar="N",
        help="with --hot-list: how many experts, over all layers",
    )
    group.add_argument(
        "--hot-list",
        type=file_name,
        metavar="FILE",
        help="write the most used experts: JSON, or CSV if FILE ends in .csv",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if (options.hot_experts is None) != (options.hot_list is None):
        raise UsageError("--hot-experts N and --hot-list FILE go together")
    if options.hot_list == "-":
        raise UsageError("--hot-list needs the name of a file; /dev/stdout is one")
    if options.hot_list is not None:
        yield HotListFile(options.hot_list, options.hot_experts)


OPTIONS = OutputOptions(_add, _make)
