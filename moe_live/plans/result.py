"""What a plan or a comparison comes to, as text and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from moe_live.dataclass import dataclass
from moe_live.errors import printable


@dataclass(frozen=True, slots=True)
class Result:
    """What was found.

    Attributes:
        lines: for people, without line ends and control characters.
        json: values that `json.dumps` takes with `allow_nan=False`.
    """

    lines: tuple[str, ...]
    json: dict[str, Any]


def write_result(
    result: Result, head: dict[str, Any], logs: Sequence[str], warnings: Sequence[str], path: str | None
) -> None:
    """Print it, and write it as JSON if that is asked for.

    Args:
        result: what was found.
        head: first keys of the JSON.
        logs: paths of what was read.
        warnings: what a reader must know.
        path: where the JSON goes: "-" for standard output, and no text; None for nowhere.

    Raises:
        MoeLiveError: the file cannot be written.
    """
    from moe_live.reports.files import write_text

    if path != "-":
        lines = (*(f"warning: {printable(warning)}" for warning in warnings), *result.lines)
        encoding = sys.stdout.encoding or "utf-8"
        text = "".join(f"{line}\n" for line in lines)
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    if path is not None:
        content = head | {"paths": list(logs)} | result.json | {"warnings": list(warnings)}
        text = json.dumps(content, allow_nan=False) + "\n"
        if path == "-":
            sys.stdout.write(text)
        else:
            write_text(text, path, "the result")
