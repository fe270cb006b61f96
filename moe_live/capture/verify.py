"""`moe-live verify`: what comparing a log with its model's routers came to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.agreement import Agreement, AgreementCounter, Outcome, Place
from moe_live.capture.lookahead import LayerLookahead
from moe_live.capture.routers import RouterFile
from moe_live.errors import MoeLiveError, printable
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.evidence import Verdict
from moe_live.sources.archive import ArchiveSource
from moe_live.sources.source import Break, State

_READ_SIZE = 1 << 20

_COLUMNS = {
    Place.SINGLE: "one-row blocks",
    Place.FIRST: "row 0",
    Place.LATER: "later rows",
    Place.RECOVERED: "recovered",
}


def compare_logs(model: str, logs: Sequence[str]) -> Agreement:
    """Compare the selections in finished logs with those that the routers of a model make.

    Args:
        model: path of its GGUF file.
        logs: paths of the logs, .gz too.

    Raises:
        UsageError: a file cannot be read, or is not what it should be.
        MoeLiveError: there is nothing to compare.
    """
    routers = RouterFile(model)
    counter = AgreementCounter(routers)
    decoder = LlamaServerDecoder(gate_layers=frozenset(routers.layers), every_row=True)
    source = ArchiveSource(logs)
    try:
        while source.status().state is not State.ENDED:
            for item in source.read(_READ_SIZE):
                if isinstance(item, Break):
                    decoder.restart()
                    counter.interrupt()
                else:
                    for records in decoder.feed(item):
                        counter.feed(records)
    finally:
        source.close()
    counter.interrupt()
    agreement = counter.agreement()
    if not agreement.compared and agreement.foreign_width is not None:
        raise MoeLiveError(
            f"the gate inputs in {', '.join(map(printable, logs))} have {agreement.foreign_width} numbers, "
            f"the routers in {printable(model)} take {routers.n_embd}: give the model that wrote the log"
        )
    if not agreement.compared:
        raise MoeLiveError(
            f"nothing to compare in {', '.join(map(printable, logs))}: no block has expert rows and the gate "
            "inputs of a layer whose router the model has; capture with --gate-layers"
        )
    return agreement


def report_lines(agreement: Agreement, ahead: Sequence[LayerLookahead] | None = None) -> Iterator[str]:
    """The result for people, with what routers foretell if that was asked for."""
    yield "rows that are what the model's router chooses, of those compared"
    yield "layer   share " + "".join(f"{name:>18}" for name in _COLUMNS.values())
    for layer, counts in zip(agreement.layers, agreement.counts, strict=True):
        yield _line(str(layer), counts)
    yield _line("all", agreement.counts.sum(axis=0))
    ties, undefined = (
        int(agreement.counts[:, : Place.RECOVERED, outcome].sum())
        for outcome in (Outcome.TIE, Outcome.UNDEFINED)
    )
    yield f"ties, which the printed digits cannot decide: {ties} (not compared)"
    yield f"inputs that are not finite: {undefined} (not compared)"
    yield f"rows without logged inputs: {agreement.without_inputs} (not compared)"
    if agreement.incomplete:
        yield f"rows of blocks that are not whole: {agreement.incomplete} (not compared)"
    yield f"what the expert rows show by themselves: {agreement.verdict.value}"
    yield f"result: {conclusion(agreement)}"
    if ahead is not None:
        yield from _lookahead_lines(ahead)


def _lookahead_lines(ahead: Sequence[LayerLookahead]) -> Iterator[str]:
    if not ahead:
        yield "lookahead: no decode step has the input of a layer and the experts of the next with a router"
        return
    yield "lookahead: share of a layer's experts that its router names from the input of the layer before,"
    yield "lookahead: that the token before used, and that are used most in one half of the steps, tested on"
    yield "lookahead: the other; control: of the layer before, what its own router names"
    yield "lookahead layers   tokens   router   token before   most used   control"
    for pair in ahead:
        shares = (pair.stale, pair.previous, pair.static, pair.control)
        cells = ["-" if math.isnan(share) else f"{share:.1%}" for share in shares]
        yield (
            f"lookahead {f'{pair.from_layer}-{pair.to_layer}':>6} {pair.tokens:>8} {cells[0]:>8} "
            f"{cells[1]:>14} {cells[2]:>11} {cells[3]:>9}"
        )


def conclusion(agreement: Agreement) -> str:
    """The result in a sentence."""
    if not agreement.wrong:
        return f"all {agreement.compared:,} rows compared are right"
    sentence = f"{agreement.wrong:,} of {agreement.compared:,} rows compared are WRONG"
    right_rows = [agreement.rows(place)[Outcome.WRONG] == 0 for place in (Place.SINGLE, Place.FIRST)]
    if all(right_rows) and agreement.verdict in (Verdict.STRIDED, Verdict.MIXED):
        sentence += "; the logger ignores the row stride, the first row of each block holds"
        if not agreement.rows(Place.RECOVERED)[Outcome.WRONG]:
            sentence += ", and so does what moe-live recovers"
    return sentence


def as_json(agreement: Agreement, ahead: Sequence[LayerLookahead] | None = None) -> str:
    """The result as JSON, schema `moe-live.verify/1`."""
    result: dict[str, Any] = {
        "schema": "moe-live.verify/1",
        "layers": [
            {"layer": layer, **_places(counts)}
            for layer, counts in zip(agreement.layers, agreement.counts, strict=True)
        ],
        "overall": _places(agreement.counts.sum(axis=0)),
        "rows": {
            "compared": agreement.compared,
            "wrong": agreement.wrong,
            "without_inputs": agreement.without_inputs,
            "incomplete": agreement.incomplete,
        },
        "strided": {Verdict.STRIDED: True, Verdict.SOUND: False}.get(agreement.verdict),
        "conclusion": conclusion(agreement),
    }
    if ahead is not None:
        result["lookahead"] = [
            {
                name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in asdict(pair).items()
            }
            for pair in ahead
        ]
    return json.dumps(result, indent=2)


def _line(name: str, counts: NDArray[np.int64]) -> str:
    logged = counts[: Place.RECOVERED].sum(axis=0)
    share = f"{logged[Outcome.RIGHT] / _decided(logged):.2%}" if _decided(logged) else "-"
    cells = (f"{counts[place, Outcome.RIGHT]}/{_decided(counts[place])}" for place in _COLUMNS)
    return f"{name:<5} {share:>7} " + "".join(f"{cell:>18}" for cell in cells)


def _decided(outcomes: NDArray[np.int64]) -> int:
    return int(outcomes[Outcome.RIGHT] + outcomes[Outcome.WRONG])


def _places(counts: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    return {
        place.name.lower(): {outcome.name.lower(): int(counts[place, outcome]) for outcome in Outcome}
        for place in Place
    }
