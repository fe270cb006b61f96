"""What columns of tables, and keys of JSON lines, are called, and what they mean."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from moe_live.settings import FORMATS


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
    COUNT = "count"
    """How often the one expert was chosen: a file that has this tells no rows."""


NAMES: dict[Column, tuple[str, ...]] = {
    Column.LAYER: ("layer", "layer_id", "layer_idx", "layer_index", "il"),
    Column.EXPERTS: (
        "expert",
        "expert_id",
        "expert_ids",
        "experts",
        "topk_ids",
        "selected_experts",
        "selected_ids",
        "ids",
        "topk_experts",
        "topk_indices",
        "top_indices",
    ),
    Column.WEIGHTS: (
        "weight",
        "weights",
        "topk_weights",
        "gate_weights",
        "probs",
        "routing_weight",
        "routing_weights",
        "expert_weight",
        "expert_weights",
    ),
    Column.TOKEN: (
        "pos",
        "position",
        "token_pos",
        "token_position",
        "token_idx",
        "token_index",
        "token",
        "token_id",
    ),
    Column.STEP: ("step", "step_id", "iter"),
    Column.SEQUENCE: ("turn", "request", "request_id", "seq", "seq_id", "sequence"),
    Column.PHASE: ("phase", "kind", "stage"),
    Column.RANK: ("rank", "slot", "k"),
    Column.COUNT: ("count", "counts", "selections", "activations"),
}
"""Case, `-` and `_` make no difference; `id0`, `id1` and so on are the experts too, `weight0` and so on their
weights. Of several columns that tell the same, but for the layer, the one counts that stands here first."""


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
    'layerid'
    """
    return name.strip().strip("\"'").lower().replace("-", "").replace("_", "")


_MEANING = {plain_name(name): column for column, names in NAMES.items() for name in names}
_PLACE = {name: place for place, name in enumerate(_MEANING)}
_ONE_OF_MANY = {
    Column.EXPERTS: re.compile(r"(?:id|expert|expertid|topkid)[0-9]+"),
    Column.WEIGHTS: re.compile(r"(?:weight|expertweight|topkweight)[0-9]+"),
}


def meaning(name: str) -> Column | None:
    """What a column of this name tells."""
    plain = plain_name(name)
    one_of = (column for column, pattern in _ONE_OF_MANY.items() if pattern.fullmatch(plain))
    return _MEANING.get(plain) or next(one_of, None)


def columns(
    header: Sequence[str], told: Mapping[str, str], *, counts: bool = False
) -> dict[Column, list[int]]:
    """Which columns of a table tell what; empty if it does not tell of rows of experts.

    Args:
        header: the names of the columns.
        told: what the user says the file calls a column, by our name of it.
        counts: it is to tell how often experts were chosen, and of no rows.
    """
    names = [plain_name(name) for name in header]
    others = {plain_name(name): Column(column) for column, name in told.items()}
    found: dict[Column, list[int]] = {}
    for index, name in enumerate(names):
        column = others.get(name)
        if column is None and (known := meaning(name)) not in others.values():
            column = known
        if column is not None:
            found.setdefault(column, []).append(index)
    experts = found.get(Column.EXPERTS, ())
    # Beside lists of experts it is their number.
    has_counts = Column.COUNT in found and len(experts) == 1 and not names[experts[0]].endswith("s")
    is_routing = Column.LAYER in found and bool(experts) and has_counts is counts
    if not is_routing or len(found[Column.LAYER]) > 1:
        return {}
    return {
        column: indices
        if column in _ONE_OF_MANY
        else [min(indices, key=lambda index: _PLACE.get(names[index], -1))]
        for column, indices in found.items()
    }


def add_format(parser: argparse._ActionsContainer) -> None:
    """Add the options that tell what a log is written in."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="",
        metavar="NAME",
        help="what the log is written in, instead of what its first lines say: see moe-live formats",
    )
    parser.add_argument(
        "--columns",
        type=column_names,
        default=(),
        metavar="LIST",
        help="what a table or JSON lines call theirs: layer=layer_no,experts=sel",
    )


def column_names(text: str) -> tuple[tuple[str, str], ...]:
    """What a file calls its columns, such as layer=layer_no,experts=sel, as pairs."""
    pairs = []
    for part in text.split(","):
        column, equals, name = part.partition("=")
        if not equals or not name or column not in list(Column):
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a column such as layer=NAME; there are {', '.join(Column)}"
            )
        pairs.append((column, name))
    return tuple(pairs)
