"""The final summary as plain text: stable line prefixes for grep, at most about 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TextIO

from moe_live.caveats import ranges
from moe_live.errors import printable
from moe_live.reports.summary_sections import section_lines
from moe_live.snapshot import Distances, Input, Model, PairDistance, PhaseCount, Rows, Snapshot, Usage

BOTTOM = 5
"""Least used experts shown."""

_WIDTH = 79
_METRIC_WIDTH = len("cosine_similarity")
_FIGURES = ("mean", "std", "min", "max", "last")


def write_summary(snapshot: Snapshot, out: TextIO, *, top: int = 10) -> None:
    """Write `summary_lines`; what the encoding of `out` lacks is written as an escape."""
    encoding = out.encoding or "utf-8"
    for line in summary_lines(snapshot, top=top):
        out.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def summary_lines(snapshot: Snapshot, *, top: int = 10) -> Iterator[str]:
    """The lines of the summary, without line ends and control characters.

    Args:
        snapshot: the final statistics.
        top: most used experts shown of each layer.
    """
    yield from _input(snapshot.input)
    yield from _model(snapshot.model)
    yield from _rows(snapshot.rows)
    yield _phases("steps:", snapshot.steps)
    yield _phases("tokens:", snapshot.tokens)
    for warning in snapshot.warnings:
        yield f"warning: {printable(warning)}"
    if snapshot.layers:
        yield ""
        yield "experts are listed as expert=selections share"
        for layer in snapshot.layers:
            yield from _usage(f"layer {layer.layer}", layer.usage, top)
        yield ""
        yield from _usage("overall", snapshot.overall, top)
    if snapshot.distances.pairs:
        yield ""
        yield from _distances(snapshot.distances)
    yield from section_lines(snapshot)


def _input(source: Input) -> Iterator[str]:
    tally = source.tally
    for path in source.paths:
        yield f"source: {printable(path)}"
    yield f"bytes: {tally.bytes}"
    yield f"lines: {tally.lines}"
    yield f"malformed lines: {tally.malformed_lines}"
    for sample in tally.samples:
        yield f"malformed line: {_clipped(printable(sample), _WIDTH - len('malformed line: '))}"
    yield f"incomplete lines: {tally.incomplete_lines} ({tally.incomplete_bytes} bytes)"
    yield f"NUL bytes: {tally.nul_bytes}"
    yield f"restarts: {source.restarts}"
    yield f"rotations: {source.rotations}"


def _model(model: Model) -> Iterator[str]:
    yield f"MoE layers: {_layers(model.layers)}"
    yield f"experts: {_known(model.n_experts)}"
    yield f"top-k: {_known(model.top_k)}"
    yield f"gate layers: {_layers(model.gate_layers)}"
    yield f"n_embd: {_known(model.n_embd)}"


def _rows(rows: Rows) -> Iterator[str]:
    yield f"row mode: {rows.mode.value}"
    yield f"row check: {printable(rows.verdict)}"
    yield f"rows logged: {rows.logged}"
    yield f"rows counted: {rows.counted}"
    yield f"rows recovered: {rows.recovered}"
    yield f"rows unrecoverable: {rows.unrecoverable}"


def _phases(name: str, count: PhaseCount) -> str:
    return f"{name} {count.total} (prefill {count.prefill}, decode {count.decode})"


def _usage(name: str, usage: Usage, top: int) -> Iterator[str]:
    phases = _phases("selections", PhaseCount(int(usage.prefill.sum()), int(usage.decode.sum())))
    yield f"{name}: {phases}, experts used {usage.experts_used} of {len(usage.counts)}"
    for end, experts in (("top", usage.top(top)), ("bottom", usage.bottom(BOTTOM))):
        entries = [f"{expert.expert}={expert.count} {expert.share:.2%}" for expert in experts]
        yield from _columns(f"{name} {end}:", entries)


def _columns(prefix: str, entries: Sequence[str]) -> Iterator[str]:
    """Lines that begin with the prefix and hold as many entries of equal width as fit."""
    width = max(map(len, entries), default=0) + 2
    fitting = max(1, (_WIDTH - len(prefix)) // width)
    for start in range(0, len(entries), fitting):
        yield prefix + "".join(f"{entry:>{width}}" for entry in entries[start : start + fitting])


def _distances(distances: Distances) -> Iterator[str]:
    kind = "prefill and decode" if distances.include_prompt else "decode"
    yield f"distances: {distances.steps} steps ({kind})"
    for pair in distances.pairs:
        yield from _pair(pair)


def _pair(pair: PairDistance) -> Iterator[str]:
    name = f"distance {pair.from_layer}-{pair.to_layer}"
    undefined = [f"{metric} {m.undefined}" for metric, m in pair.metrics.items() if m.undefined]
    yield f"{name}: steps {pair.steps}, undefined {', '.join(undefined) or 0}"
    yield f"{name} {'':{_METRIC_WIDTH}}" + "".join(f" {figure:>8}" for figure in _FIGURES)
    for metric, moments in pair.metrics.items():
        figures = (moments.mean, moments.std, moments.min, moments.max, moments.last)
        yield f"{name} {metric:{_METRIC_WIDTH}}" + "".join(f" {_figure(figure):>8}" for figure in figures)


def _figure(value: float) -> str:
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _known(number: int | None) -> str:
    return "n/a" if number is None else str(number)


def _layers(layers: Sequence[int]) -> str:
    """How many, and which: runs of successive numbers are joined."""
    return f"{len(layers)} ({ranges(layers)})" if layers else "0"


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
