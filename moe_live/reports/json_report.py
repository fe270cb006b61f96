"""The summary as JSON, schema 1: strict JSON, undefined numbers are null."""

from __future__ import annotations

import json

from moe_live.reports.section import Json, Keys, ReportSection, isolated
from moe_live.reports.sections import SECTIONS
from moe_live.snapshot import Snapshot
from moe_live.version import __version__

SCHEMA = "moe-live.summary/1"


def json_text(snapshot: Snapshot) -> str:
    """The summary as one line."""
    return json.dumps(to_json(snapshot), allow_nan=False) + "\n"


def to_json(snapshot: Snapshot) -> Json:
    """The summary as objects that `json.dumps` takes with `allow_nan=False`."""

    def keys(section: ReportSection) -> Keys:
        made = section.keys(snapshot)
        if made.layers and len(made.layers) != len(snapshot.layers):
            raise ValueError(f"{len(made.layers)} layers instead of {len(snapshot.layers)}")
        return made

    parts, failures = isolated(SECTIONS, keys, Keys())
    summary: Json = {"schema": SCHEMA, "tool": {"name": "moe-live", "version": __version__}}
    layers: list[Json] = [{"layer": entry.layer} for entry in snapshot.layers]
    overall: Json = {}
    for part in parts:
        summary |= part.summary
        overall |= part.overall
        for layer, more in zip(layers, part.layers, strict=False):  # a section may have none
            layer.update(more)
    return summary | {
        "layers": layers,
        "overall": overall,
        "warnings": [*snapshot.warnings, *failures],
    }
