"""What columns of tables, and keys of JSON lines, are called, and what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class Column(StrEnum):
    """What a column tells of a row of chosen experts."""

    LAYER = "layer"
    EXPERTS = "experts"
    """One expert of the row, or all of them, best first."""
    WEIGHTS = "weights"
    TOKEN = "token"  # noqa: S105 - of a text
    STEP = "step"
    SEQUENCE = "sequence"
    PHASE = "phase"
    RANK = "rank"
    """The place of this one expert in its row."""


NAMES: dict[Column, tuple[str, ...]] = {
    Column.LAYER: ("layer", "layer_id", "layer_idx", "il"),
    Column.EXPERTS: (
        "expert",
        "expert_id",
        "expert_ids",
        "experts",
        "topk_ids",
        "selected_experts",
        "selected_ids",
        "ids",
    ),
    Column.WEIGHTS: ("weight", "weights", "topk_weights", "gate_weights", "probs"),
    Column.TOKEN: ("token", "token_id", "token_idx", "pos", "position"),
    Column.STEP: ("step", "iter"),
    Column.SEQUENCE: ("turn", "request", "seq", "sequence"),
    Column.PHASE: ("phase", "kind", "stage"),
    Column.RANK: ("rank", "slot", "k"),
}
"""Case, and `-` for `_`, make no difference; `id0`, `id1` and so on are the experts too."""

_MEANING = {name: column for column, names in NAMES.items() for name in names}
_ONE_OF_MANY = re.compile(r"(?:id|expert_?)[0-9]+")
_NOT_ROUTING = frozenset({"count", "counts"})
"""Tables with such a column tell no rows."""


def json_object(line: bytes) -> dict[str, Any] | None:
    """The object that a line of JSON holds; None if it is anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def plain_name(name: str) -> str:
    """The name as it is compared.

    >>> plain_name(' "Layer-ID" ')
    'layer_id'
    """
    return name.strip().strip("\"'").lower().replace("-", "_")


def columns(header: Sequence[str], told: Mapping[str, str]) -> dict[Column, list[int]]:
    """Which columns of a table tell what; empty if it does not tell of rows of experts.

    Args:
        header: the names of the columns.
        told: what the user says the file calls a column, by our name of it.
    """
    names = [plain_name(name) for name in header]
    others = {plain_name(name): Column(column) for column, name in told.items()}
    found: dict[Column, list[int]] = {}
    for index, name in enumerate(names):
        column = others.get(name)
        if column is None and (known := _MEANING.get(name)) not in others.values():
            column = known
        if column is None and Column.EXPERTS not in others.values() and _ONE_OF_MANY.fullmatch(name):
            column = Column.EXPERTS
        if column is not None:
            found.setdefault(column, []).append(index)
    is_routing = Column.LAYER in found and Column.EXPERTS in found and not _NOT_ROUTING & set(names)
    one_each = all(len(found.get(column, ())) < 2 for column in Column if column is not Column.EXPERTS)
    return found if is_routing and one_each else {}
