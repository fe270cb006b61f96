"""What each of several logs, or states, has in the figures of all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from moe_live.errors import printable
from moe_live.formatting import size, whole
from moe_live.reports.numbers import decimals, number, percent
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.share import SourceShare
from moe_live.snapshot import Snapshot
from moe_live.wrapping import shorten

_NAME = 30
"""Columns of the name of a source, on the one screen."""

_MOST_GISTS = 3


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    sources = snapshot.input.sources
    if not sources:
        return
    yield ""
    yield f"{'sources':<11}{'rows are':<17}{'rows':>12}{'steps':>11}{'decode':>11}{'apart':>8}  hottest"
    for i, share in enumerate(sources, 1):
        named = f"{f'source {i}':<11}"
        if share.left_out:
            yield f"{named}left out: {printable(share.left_out)}"
        else:
            yield (
                f"{named}{share.row_word:<17}{share.rows:>12}{share.steps:>11}{share.decode_steps:>11}"
                f"{decimals(share.apart):>8}  {_hottest(share)}"
            )
        yield f"{named}{printable(share.name)}"


def _hottest(share: SourceShare) -> str:
    hot = share.hottest
    return "n/a" if hot is None else f"layer {hot.layer} #{hot.expert} ({percent(hot.share)})"


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    sources = snapshot.input.sources
    for i, share in enumerate(sources[:_MOST_GISTS]):
        facts = [shorten(printable(share.name), _NAME)]
        if share.left_out:
            facts.append("left out, see the warnings")
        else:
            rows = [f"rows {share.row_word}"] if share.row_word else []
            facts += [f"{whole(share.steps)} steps", *rows, size(share.bytes)]
        yield Gist("sources" if i == 0 else "", facts)
    if len(sources) > _MOST_GISTS:
        yield Gist("", (f"and {len(sources) - _MOST_GISTS} more: --full",))


def _keys(snapshot: Snapshot) -> Keys:
    return Keys({"sources": [_source(share) for share in snapshot.input.sources]})


def _source(share: SourceShare) -> Json:
    now = share.now
    return {
        "name": os.fsencode(share.name).decode("utf-8", "backslashreplace"),
        "state": None if now is None else now.state or None,
        "age_seconds": None if now is None else now.age,
        "left_out": share.left_out or None,
        "bytes": share.bytes,
        "lines": share.lines,
        "malformed_lines": share.malformed_lines,
        "rows": {
            "logged": share.rows,
            "counted": share.counted,
            "word": share.row_word,
            "verdict": share.row_verdict,
        },
        "steps": {
            "total": share.steps,
            "prefill": share.steps - share.decode_steps,
            "decode": share.decode_steps,
        },
        "tokens": {"prefill": share.tokens - share.decode_tokens, "decode": share.decode_tokens},
        "hottest": [
            {"layer": each.layer, "expert": each.expert, "count": each.count, "share": number(each.share)}
            for each in ([] if share.hottest is None else [share.hottest])
        ],
        "js": number(share.apart),
        "js_by_chance": number(share.by_chance),
    }


SECTION = ReportSection("sources", _lines, _keys, _gists)
