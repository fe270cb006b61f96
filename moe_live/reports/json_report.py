"""The summary as JSON, schema 1: strict JSON, undefined numbers are null."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

import moe_live
from moe_live.reports import json_sections
from moe_live.reports.files import write_text
from moe_live.reports.json_sections import Json, number
from moe_live.snapshot import (
    Distances,
    ExpertCount,
    Input,
    Moments,
    PairDistance,
    PhaseCount,
    Snapshot,
    Usage,
)

SCHEMA = "moe-live.summary/1"
JSON_SUMMARY = "the JSON summary"

TOP = 10
BOTTOM = 5


def write_json(snapshot: Snapshot, path: str) -> None:
    """Write the summary to a file, or to stdout if the path is "-".

    Raises:
        MoeLiveError: the file cannot be written.
    """
    text = json.dumps(to_json(snapshot), allow_nan=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(text, path, JSON_SUMMARY)


def to_json(snapshot: Snapshot) -> Json:
    """The summary as objects that `json.dumps` takes with `allow_nan=False`."""
    model, rows = snapshot.model, snapshot.rows
    return {
        "schema": SCHEMA,
        "tool": {"name": "moe-live", "version": moe_live.__version__},
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
            "strided": rows.strided,
            "verdict": rows.verdict,
        },
        "steps": {"total": snapshot.steps.total, **_phases(snapshot.steps)},
        "tokens": _phases(snapshot.tokens),
        "layers": _layers(snapshot),
        "overall": {
            **_usage(snapshot.overall),
            "balance": json_sections.balance(snapshot.overall_balance),
            "coverage": json_sections.coverage(snapshot.overall_coverage),
        },
        **({} if snapshot.counts_only else {"distances": _distances(snapshot.distances)}),
        **json_sections.sections(snapshot),
        "warnings": list(snapshot.warnings),
    }


def _layers(snapshot: Snapshot) -> list[Json]:
    localities = {entry.layer: entry for entry in snapshot.locality or ()}
    layers = []
    for i, entry in enumerate(snapshot.layers):
        layer: Json = {
            "layer": entry.layer,
            **_usage(entry.usage),
            "balance": json_sections.balance(snapshot.balance[i]),
            "coverage": json_sections.coverage(snapshot.coverage[i]),
        }
        if entry.layer in localities:
            layer["locality"] = json_sections.locality(localities[entry.layer])
        layers.append(layer)
    return layers


def _source(source: Input) -> Json:
    tally = source.tally
    return {
        # Bytes of a path that are not UTF-8 have no place in JSON: they are written as \xff.
        "paths": [os.fsencode(path).decode("utf-8", "backslashreplace") for path in source.paths],
        "format": "llama-server",
        "bytes": tally.bytes,
        "lines": tally.lines,
        "malformed_lines": tally.malformed_lines,
        "incomplete_bytes": tally.incomplete_bytes,
        "incomplete_lines": tally.incomplete_lines,
        "nul_bytes": tally.nul_bytes,
        "restarts": source.restarts,
        "rotations": source.rotations,
    }


def _phases(count: PhaseCount) -> Json:
    return {"prefill": count.prefill, "decode": count.decode}


def _usage(usage: Usage) -> Json:
    return {
        "selections": usage.selections,
        "experts_used": usage.experts_used,
        "counts": usage.counts.tolist(),
        "prefill_counts": usage.prefill.tolist(),
        "decode_counts": usage.decode.tolist(),
        "top": _experts(usage.top(TOP)),
        "bottom": _experts(usage.bottom(BOTTOM)),
    }


def _experts(experts: Iterable[ExpertCount]) -> list[Json]:
    return [{"expert": e.expert, "count": e.count, "share": e.share} for e in experts]


def _distances(distances: Distances) -> Json:
    return {
        "steps": distances.steps,
        "include_prompt": distances.include_prompt,
        "pairs": [_pair(pair) for pair in distances.pairs],
    }


def _pair(pair: PairDistance) -> Json:
    metrics: Json = {metric: _moments(moments) for metric, moments in pair.metrics.items()}
    return {"from": pair.from_layer, "to": pair.to_layer, "steps": pair.steps, **metrics}


def _moments(moments: Moments) -> Json:
    return {
        "mean": number(moments.mean),
        "std": number(moments.std),
        "min": number(moments.min),
        "max": number(moments.max),
        "last": number(moments.last),
        "count": moments.count,
        "undefined": moments.undefined,
    }
