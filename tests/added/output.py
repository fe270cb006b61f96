"""The number of tokens in a file: what moe_live/outputs would hold."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe_live.outputs.output import Destination, Output, OutputOptions
from moe_live.running import Status
from moe_live.snapshot import Snapshot


class TokenFile(Output):
    def __init__(self, path: str) -> None:
        self.destination = Destination(path, "the number of tokens")
        self.path = Path(path)
        self.updates = 0

    def wants_update(self) -> bool:
        return True

    def update(self, snapshot: Snapshot, status: Status) -> None:
        self.updates += 1
        self.path.write_text(f"{snapshot.tokens.total} after {status.source.position} bytes")

    def finish(self, snapshot: Snapshot) -> None:
        self.path.write_text(json.dumps({"tokens": snapshot.tokens.total, "updates": self.updates}))


def _add(group: Any) -> None:
    group.add_argument("--tokens", metavar="FILE", help="write the number of tokens")


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.tokens is not None:
        yield TokenFile(options.tokens)


OPTIONS = OutputOptions(_add, _make)
