"""What was read: source, model, rows, steps and tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from moe_live.errors import printable
from moe_live.formats.sniff import USUAL
from moe_live.formatting import ranges, size, whole
from moe_live.judgement import Word
from moe_live.reports.numbers import phases
from moe_live.reports.section import WIDTH, Gist, Json, Keys, ReportSection
from moe_live.settings import Phase
from moe_live.snapshot import Input, Model, PhaseCount, Rows, Snapshot
from moe_live.statistics.runs import Run
from moe_live.verdicts import ROW_WORDS, row_word
from moe_live.wrapping import shorten

_NAME = 44
"""Columns of the name of what was read, where there is one line for all of it."""


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    yield from _source_lines(snapshot.input)
    yield from _model_lines(snapshot.model)
    yield from _row_lines(snapshot.rows)
    yield f"steps: {phases(snapshot.steps)}"
    yield f"tokens: {phases(snapshot.tokens)}"
    if snapshot.phase is not None:
        yield f"phase: {snapshot.phase}; selections of other steps are in no figure of use or balance"


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    source, model = snapshot.input, snapshot.model
    tally = source.tally
    names = [printable(path) for path in source.paths]
    read = [shorten(names[0], _NAME) if len(names) == 1 else f"{len(names)} files"] if names else []
    if source.format not in {"", USUAL}:
        read.append(f"format {shorten(printable(source.format), _NAME)}")
    read += [size(tally.bytes), f"{whole(tally.lines)} lines"]
    if tally.malformed_lines:
        read.append(f"{whole(tally.malformed_lines)} malformed")
    for number, what in ((source.restarts, "restart"), (source.rotations, "rotation")):
        if number:
            read.append(f"{whole(number)} {what}{'s'[: number != 1]}")
    yield Gist("read", read)
    shape = [
        f"MoE layers {_layers(model.layers)}",
        f"{_known(model.n_experts)} experts, top-{_known(model.top_k)}",
    ]
    if model.gate_layers:
        shape.append(f"gate inputs of layers {ranges(model.gate_layers)}")
    yield Gist("model", shape)


def _source_lines(source: Input) -> Iterator[str]:
    tally = source.tally
    for path in source.paths:
        yield f"source: {printable(path)}"
    if source.format not in {"", USUAL}:
        yield f"format: {printable(source.format)}"
    yield f"bytes: {tally.bytes}"
    yield f"lines: {tally.lines}"
    yield f"malformed lines: {tally.malformed_lines}"
    for sample in tally.samples:
        yield f"malformed line: {_clipped(printable(sample), WIDTH - len('malformed line: '))}"
    if tally.empty_rows:
        yield f"rows without experts: {tally.empty_rows}"
    if tally.dropped_steps:
        yield f"steps that were not written: {tally.dropped_steps}"
    yield f"incomplete lines: {tally.incomplete_lines} ({tally.incomplete_bytes} bytes)"
    yield f"NUL bytes: {tally.nul_bytes}"
    yield f"restarts: {source.restarts}"
    yield f"rotations: {source.rotations}"


def _model_lines(model: Model) -> Iterator[str]:
    yield f"MoE layers: {_layers(model.layers)}"
    yield f"experts: {_known(model.n_experts)}"
    yield f"top-k: {_known(model.top_k)}"
    yield f"gate layers: {_layers(model.gate_layers)}"
    yield f"n_embd: {_known(model.n_embd)}"


def _row_lines(rows: Rows) -> Iterator[str]:
    yield f"row mode: {rows.mode.value}"
    yield f"row check: {printable(rows.verdict)}"
    yield f"rows logged: {rows.logged}"
    yield f"rows counted: {rows.counted}"
    yield f"rows recovered: {rows.recovered}"
    yield f"rows unrecoverable: {rows.unrecoverable}"
    if rows.impossible:
        yield f"rows impossible: {rows.impossible}"
    if rows.odd:
        yield f"rows odd: {rows.odd}"
    if rows.drafts:
        yield f"rows of drafts: {rows.drafts}"
    if sum(rows.runs.values()) > 1:
        found = ", ".join(f"{number} {word}" for word, number in _words(rows) if number)
        yield f"runs of the server: {sum(rows.runs.values())} ({found})"
        if left_out := sum(rows.runs.values()) - len(rows.latest_runs):
            yield f"runs: the latest {len(rows.latest_runs)}; {left_out} earlier ones are left out"
        of = "  log" if rows.of_several_logs else ""
        yield f"{'runs':<12}{'rows are':<17}{'logged':>12}{'counted':>12}{'recovered':>12}{'lost':>12}{of}"
        for run in rows.latest_runs:
            yield (
                f"{f'run {run.number}':<12}{row_word(run):<17}{run.logged:>12}{run.counted:>12}"
                f"{run.recovered:>12}{run.unrecoverable:>12}{of and f'  {printable(run.log)}'}"
            )


def _known(number: int | None) -> str:
    return "n/a" if number is None else str(number)


def _layers(layers: Sequence[int]) -> str:
    """How many, and which: runs of successive numbers are joined."""
    return f"{len(layers)} ({ranges(layers)})" if layers else "0"


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _keys(snapshot: Snapshot) -> Keys:
    model, rows = snapshot.model, snapshot.rows
    return Keys(
        {
            "source": _source(snapshot.input),
            "model": {
                "layers": list(model.layers),
                "n_experts": model.n_experts,
                "top_k": model.top_k,
                "gate_layers": list(model.gate_layers),
                "n_embd": model.n_embd,
            },
            "rows": {
                "mode": rows.mode.value,
                "logged": rows.logged,
                "counted": rows.counted,
                "recovered": rows.recovered,
                "unrecoverable": rows.unrecoverable,
                "impossible": rows.impossible,
                "odd": rows.odd,
                "drafts": rows.drafts,
                "strided": rows.strided,
                "verdict": rows.verdict,
                "runs": {str(word): number for word, number in _words(rows)},
            },
            "runs": [_run(run, named=rows.of_several_logs) for run in rows.latest_runs],
            "runs_left_out": sum(rows.runs.values()) - len(rows.latest_runs),
            "steps": {"total": snapshot.steps.total, **_phases(snapshot.steps)},
            "tokens": _phases(snapshot.tokens),
            "phase": (snapshot.phase or Phase.ALL).value,
        }
    )


def _words(rows: Rows) -> Iterator[tuple[Word, int]]:
    """How many runs of the server got which verdict."""
    for soundness, word in ROW_WORDS.items():
        yield word, rows.runs.get(soundness, 0)


def _run(run: Run, *, named: bool) -> Json:
    return {
        "run": run.number,
        "log": _encoded(run.log) if named else None,
        "word": str(row_word(run)),
        "logged": run.logged,
        "counted": run.counted,
        "recovered": run.recovered,
        "unrecoverable": run.unrecoverable,
    }


def _encoded(path: str) -> str:
    """A path as it stands in JSON, where bytes that are not UTF-8 have no place."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _source(source: Input) -> Json:
    tally = source.tally
    return {
        "paths": list(map(_encoded, source.paths)),
        "format": source.format,
        "bytes": tally.bytes,
        "lines": tally.lines,
        "malformed_lines": tally.malformed_lines,
        "comments": tally.comment_lines,
        "dropped_steps": tally.dropped_steps,
        "empty_rows": tally.empty_rows,
        "incomplete_bytes": tally.incomplete_bytes,
        "incomplete_lines": tally.incomplete_lines,
        "nul_bytes": tally.nul_bytes,
        "restarts": source.restarts,
        "rotations": source.rotations,
    }


def _phases(count: PhaseCount) -> Json:
    return {"prefill": count.prefill, "decode": count.decode}


SECTION = ReportSection("input", _lines, _keys, _gists)
