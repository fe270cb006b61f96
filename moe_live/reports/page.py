"""The page: the summary in one HTML file that asks nothing of anybody, for files and for the server.

Its script draws whatever the summary as JSON holds. In a file the summary lies in the page itself, deflated
and in base64: short, and nothing that a log, a path or a label holds can be taken for markup there. Without
one the page asks the server that it came from, again and again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from functools import cache
from importlib import resources
from typing import Any

MAX_SIZE = 1_500_000
"""Bytes of a file. What is left out above that, counts by label, is said on the page."""

_SCRIPTS = (
    "figures.js",
    "table.js",
    "chart.js",
    "heatmap.js",
    "layer.js",
    "sections.js",
    "load.js",
    "structure.js",
    "compare.js",
    "more.js",
    "main.js",
)
"""Parts of the script, each of which uses those before it."""

_DIGITS = 6
"""Significant digits of fractions in a file: more than anybody can see there."""


def page_with(summary: dict[str, Any]) -> str:
    """The page that holds this summary, without the counts by label if it were larger than `MAX_SIZE`.

    Args:
        summary: as JSON, schema 1.
    """
    whole = _page(_packed(summary), connects=False)
    if len(whole) <= MAX_SIZE:
        return whole
    labels = [
        {key: value for key, value in label.items() if key != "layers"} for label in summary.get("labels", ())
    ]
    return _page(_packed(summary | {"labels": labels, "left_out": ["labels[].layers"]}), connects=False)


@cache
def live_page() -> str:
    """The page that asks the server it came from for the summary, and draws it anew when it changes."""
    return _page("", connects=True)


def _packed(summary: dict[str, Any]) -> str:
    text = json.dumps(_rounded(summary), allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _rounded(value: Any) -> Any:
    """The same with fractions of a few significant digits, which take a third of the room."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def _page(packed: str, *, connects: bool) -> str:
    """The template with all its parts.

    Args:
        packed: the summary; empty if the server has it.
        connects: whether the page may ask its server for anything.
    """
    style = _part("page.css")
    script = "\n".join(map(_part, _SCRIPTS))
    server = "'self'" if connects else "'none'"
    policy = (
        "default-src 'none'",
        f"script-src {_digest(script)}",
        f"style-src {_digest(style)}",
        "img-src data:",
        f"connect-src {server}",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    parts = {"policy": "; ".join(policy), "style": style, "script": script, "summary": packed}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def _digest(text: str) -> str:
    """By what a policy knows a script or style: the browser runs and applies nothing else."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    return (resources.files("moe_live.reports") / "web" / name).read_text("utf-8")
