"""Snapshots as plain nested values, so that they can be compared to the last bit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from moe_live.snapshot import History, Snapshot


def together(snapshot: Snapshot) -> Any:
    """A snapshot as plain values, without what each source has in it, nor what changes over time in one."""
    source, rows = replace(snapshot.input, sources=()), replace(snapshot.rows, run_verdict="")
    warnings = tuple(re.sub(r" \(in [^()]*\)$", "", warning) for warning in snapshot.warnings)
    return plain(replace(snapshot, input=source, rows=rows, drift=None, history=None, warnings=warnings))


def plain(value: object) -> Any:
    """The same as tuples, numbers and strings; equal if and only if the values are identical."""
    if isinstance(value, History):  # rows of its sample may be in any order
        return plain((value.steps, value.layers, value.counts))
    if is_dataclass(value) and not isinstance(value, type):
        return tuple((field.name, plain(getattr(value, field.name))) for field in fields(value))
    if isinstance(value, Mapping):
        return tuple((key, plain(item)) for key, item in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, tuple(map(plain, value.reshape(-1).tolist()))
    if isinstance(value, float):
        return "nan" if value != value else value.hex()  # noqa: PLR0124 - that is how NaN is known
    return value
