"""Lists of experts that may go: written, and read back without believing what they say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moe_live.errors import UsageError, printable
from moe_live.reports.files import write_text
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

SCHEMA = "moe-live.prune/1"
PRUNE_LIST = "the list of experts"
_COLUMNS = ["layer", "expert", "count", "share"]
_MAX_BYTES = 1 << 28  # far above a list of all experts there can be


def write_prune_list(path: str, entries: Iterable[tuple[int, int, int, float]]) -> None:
    """Write experts: layer, expert, selections and their share of the layer. CSV if the path ends in .csv.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    rows = [dict(zip(_COLUMNS, entry, strict=True)) for entry in entries]
    if path.endswith(".csv"):
        out = io.StringIO()
        writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = out.getvalue()
    else:
        text = json.dumps({"schema": SCHEMA, "experts": rows}) + "\n"
    write_text(text, path, PRUNE_LIST)


def read_prune_list(path: str) -> dict[int, list[int]]:
    """The experts of each layer, ascending, of a list that `write_prune_list` wrote.

    Raises:
        UsageError: it cannot be read, is damaged, or is something else.
    """
    name = printable(path)
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            text = file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise _damaged(path, "it is no text") from None
    rows = _csv_rows(path, text) if text.startswith(",".join(_COLUMNS)) else _json_rows(path, text)
    found: dict[int, list[int]] = {}
    for row in rows:
        layer, expert = (
            _number(row.get(column) if isinstance(row, dict) else None, below)
            for column, below in (("layer", MAX_LAYERS), ("expert", MAX_EXPERTS))
        )
        if layer is None or expert is None:
            raise _damaged(path, "an entry has no layer or no expert")
        of_layer = found.setdefault(layer, [])
        if expert in of_layer:
            raise _damaged(path, f"expert {expert} of layer {layer} is in it twice")
        of_layer.append(expert)
    return {layer: sorted(experts) for layer, experts in sorted(found.items())}


def _json_rows(path: str, text: str) -> list[Any]:
    try:
        content = json.loads(text)
    except ValueError:
        raise _damaged(path, "it is neither JSON nor CSV") from None
    rows = content.get("experts") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not isinstance(rows, list):
        raise _damaged(path, f"it has not the schema {SCHEMA}")
    return rows


def _csv_rows(path: str, text: str) -> list[Any]:
    if not text.endswith("\n"):
        raise _damaged(path, "its last line is not whole")
    try:
        return [
            {"layer": int(row["layer"]), "expert": int(row["expert"]), "share": float(row["share"])}
            for row in csv.DictReader(io.StringIO(text), strict=True)
        ]
    except (ValueError, TypeError, csv.Error):
        raise _damaged(path, "a line has no numbers") from None


def _number(value: object, below: int) -> int | None:
    """A number from 0 to below the bound; None for anything else."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if isinstance(value, int) and is_number and 0 <= value < below else None


def _damaged(path: str, reason: str) -> UsageError:
    return UsageError(f"{printable(path)} is not a list that plan prune wrote ({reason})")
