"""How often each expert is selected: of each layer, of all layers added up by expert id, of draft heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from moe_live.formatting import percents, ranges, times, whole
from moe_live.reports.numbers import phases
from moe_live.reports.section import WIDTH, Gist, Json, Keys, ReportSection
from moe_live.settings import Phase
from moe_live.snapshot import ExpertCount, PhaseCount, Snapshot, Usage

TOP = 10
"""Most used experts in JSON."""

BOTTOM = 5
"""Least used experts shown."""

HOTTEST = 8
"""Most used experts of all layers shown on one screen, as far as there is room."""


def _lines(snapshot: Snapshot, top: int) -> Iterator[str]:
    if not snapshot.layers:
        return
    yield ""
    yield "experts are listed as expert=selections share"
    by_phase = not snapshot.lacks_rows
    for layer, size in zip(snapshot.layers, snapshot.layer_sizes, strict=True):
        yield from _usage_lines(f"layer {layer.layer}", layer.usage, size, top, by_phase=by_phase)
    yield ""
    n_experts = len(snapshot.overall.counts)
    yield from _usage_lines("overall", snapshot.overall, n_experts, top, by_phase=by_phase)
    for head in snapshot.drafts:
        yield ""
        yield f"draft head layer {head.layer}: rows {head.rows}, in no figure of the model"
        yield from _usage_lines(
            f"draft head layer {head.layer}", head.usage, len(head.usage.counts), top, by_phase=by_phase
        )


def _usage_lines(name: str, usage: Usage, n_experts: int, top: int, *, by_phase: bool) -> Iterator[str]:
    selections = whole(usage.selections)
    if by_phase:
        selections = phases(PhaseCount(int(usage.prefill.sum()), int(usage.decode.sum())))
    if usage.phase is not Phase.ALL:
        selections = f"{usage.selections} of {selections}"
    yield f"{name}: selections {selections}, experts used {usage.experts_used} of {n_experts}"
    for end, experts in (("top", usage.top(top)), ("bottom", usage.bottom(BOTTOM))):
        entries = [f"{expert.expert}={expert.count} {expert.share:.2%}" for expert in experts]
        yield from _columns(f"{name} {end}:", entries)
    if unused := usage.unused:
        yield from _columns(f"{name} unused:", ranges(unused).split(", "))


def _columns(prefix: str, entries: Sequence[str]) -> Iterator[str]:
    """Lines that begin with the prefix and hold as many entries of equal width as fit."""
    width = max(map(len, entries), default=0) + 2
    fitting = max(1, (WIDTH - len(prefix)) // width)
    for start in range(0, len(entries), fitting):
        yield prefix + "".join(f"{entry:>{width}}" for entry in entries[start : start + fitting])


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    n_experts = len(snapshot.overall.counts)
    hottest = [
        f"layer {hot.layer} #{hot.expert} {percents(hot.share)} ({times(hot.share * n_experts)})"
        for hot in snapshot.hot_list(HOTTEST)
    ]
    if hottest:
        of = {Phase.DECODE: "of decode: ", Phase.PREFILL: "of prompts: ", Phase.ALL: "of all steps: "}
        hottest[0] = of[snapshot.resident_phase] + hottest[0]
        yield Gist("hottest", hottest, lines=2)


def _keys(snapshot: Snapshot) -> Keys:
    return Keys(
        {
            "drafts": [
                {"layer": head.layer, "rows": head.rows, "told": head.told} | _usage(head.usage)
                for head in snapshot.drafts
            ]
        },
        layers=[
            {"n_experts": size} | _usage(entry.usage)
            for entry, size in zip(snapshot.layers, snapshot.layer_sizes, strict=True)
        ],
        overall=_usage(snapshot.overall),
    )


def _usage(usage: Usage) -> Json:
    return {
        "selections": usage.selections,
        "experts_used": usage.experts_used,
        "unused": usage.unused,
        "counts": usage.counts.tolist(),
        "prefill_counts": usage.prefill.tolist(),
        "decode_counts": usage.decode.tolist(),
        "top": _experts(usage.top(TOP)),
        "bottom": _experts(usage.bottom(BOTTOM)),
    }


def _experts(experts: Iterable[ExpertCount]) -> list[Json]:
    return [{"expert": e.expert, "count": e.count, "share": e.share} for e in experts]


SECTION = ReportSection("usage", _lines, _keys, _gists)
