"""The metrics' options, and their file for the textfile collector of node_exporter (`--metrics-file`)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moe_live.arguments import file_name, whole_number
from moe_live.errors import UsageError
from moe_live.outputs.output import Destination, Output, OutputOptions

if TYPE_CHECKING:
    from moe_live.outputs.document import Document
    from moe_live.outputs.exposition import Exposition
    from moe_live.outputs.http import Answer, Request
    from moe_live.running import Status
    from moe_live.snapshot import Section, Snapshot

METRICS = "the metrics"

FILE_PERIOD = 10.0
"""Seconds between two versions of the file: it is scraped some four times a minute."""

MISSING = "prometheus-client is not installed: pip install 'moe-live[metrics]'"


class MetricsFile(Output):
    """A file with the metrics of now, in the text format of Prometheus.

    Args:
        path: of the file.
        exposition: makes its content.
        clock: seconds, monotonic.
    """

    def __init__(
        self, path: str, exposition: Exposition, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.destination = Destination(path, METRICS)
        self._path = path
        self._exposition = exposition
        self._clock = clock
        self._due = clock()
        self._status: Status | None = None

    def sections(self) -> Collection[Section]:
        """Those the metrics are made of."""
        return self._exposition.sections

    def wants_update(self) -> bool:
        """Whether the file is old."""
        return self._clock() >= self._due

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Write it.

        Raises:
            MoeLiveError: it cannot be written.
        """
        self._due = self._clock() + FILE_PERIOD
        self._status = status
        self._write(snapshot)

    def finish(self, snapshot: Snapshot) -> None:
        """Write it for the last time.

        Raises:
            MoeLiveError: it cannot be written.
        """
        from moe_live.sources.source import State

        if self._status is not None:  # how much was written since then is not known
            ended = replace(self._status.source, state=State.ENDED, size=None)
            self._status = replace(self._status, source=ended)
        self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        from moe_live.reports.files import write_text

        write_text(self._exposition.text(snapshot, self._status).decode(), self._path, METRICS)


def served(options: argparse.Namespace) -> tuple[list[Document], Callable[[Request], Any]]:
    """The documents with metrics that a server keeps, and what answers `/metrics` from them."""
    from http import HTTPStatus

    from moe_live.outputs.document import Document
    from moe_live.outputs.http import Answer

    try:
        exposition = _exposition(options)
    except UsageError as error:
        sentence = str(error)

        async def missing(_: Request) -> Answer:
            return Answer.sentence(HTTPStatus.NOT_IMPLEMENTED, sentence)

        return [], missing
    from moe_live.outputs.exposition import OPEN_TYPE, TEXT_TYPE

    text = Document(TEXT_TYPE, exposition.text, exposition.sections)
    open_metrics = Document(OPEN_TYPE, exposition.open_metrics, exposition.sections)

    async def answer(request: Request) -> Answer:
        is_open = "application/openmetrics-text" in request.headers.get("accept", "")
        return await (open_metrics if is_open else text).answer(request)

    return [text, open_metrics], answer


def _exposition(options: argparse.Namespace) -> Exposition:
    try:
        from moe_live.outputs.exposition import Exposition
    except ModuleNotFoundError:
        raise UsageError(MISSING) from None
    return Exposition(by_expert=options.metrics_experts, cache_sizes=options.metrics_cache)


def _sizes(text: str) -> tuple[int, ...]:
    """Sizes of caches: 8,16,32."""
    parse = whole_number(1, 2048)
    return tuple(sorted({parse(part) for part in text.split(",")}))


def _add(group: Any) -> None:
    group.add_argument(
        "--metrics-file",
        type=file_name,
        metavar="FILE",
        help="keep the metrics in a file for node_exporter's textfile collector; with --listen they are at "
        "/metrics (both need the extra: pip install 'moe-live[metrics]')",
    )
    group.add_argument(
        "--metrics-cache",
        type=_sizes,
        metavar="LIST",
        help="LRU hits in the metrics for caches of so many experts a layer: 8,16,32 (default: 1/16 to 1/2)",
    )
    group.add_argument(
        "--metrics-experts",
        action="store_true",
        help="metrics of each expert too: as many series as layers times experts, at most 50,000",
    )


def _make(options: argparse.Namespace) -> Iterator[Output]:
    if options.metrics_file is not None:
        yield MetricsFile(options.metrics_file, _exposition(options))
    elif options.listen is None and (options.metrics_experts or options.metrics_cache):
        raise UsageError("--metrics-experts and --metrics-cache go with --listen or --metrics-file")


OPTIONS = OutputOptions(_add, _make)
