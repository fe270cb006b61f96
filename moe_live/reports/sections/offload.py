"""Which layers' experts go into the memory of the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from moe_live.formatting import chosen_size, memory
from moe_live.reports.numbers import decimals, number, numbers
from moe_live.reports.section import Gist, Json, Keys, ReportSection
from moe_live.snapshot import Offloading, Snapshot
from moe_live.statistics.offload import BATCHES

_SENTENCES = {
    True: "choosing layers by use reads less than by number on steps that were not seen",
    False: "choosing layers by use does not certainly read less than by number: the last ones are on the GPU",
}


def offload_lines(found: Offloading, bandwidth: int | None = None) -> Iterator[str]:
    """The plan for people.

    Args:
        found: the plan.
        bandwidth: bytes a second at which the CPU reads experts; None to leave times out.
    """
    choice = found.choice
    slow = choice.slow
    yield f"offload: the latest {found.steps} decode steps; {chosen_size(found.room)} of the GPU for experts"
    if not found.knows_others:
        yield "offload: what else of the model is on the GPU is not known without --model: leave room for it"
    yield "offload: different experts of so many successive decode steps, bytes that a token reads"
    yield f"offload              bytes{''.join(f'{batch:>8}' for batch in BATCHES)}    a token   where"
    for row, (layer, means) in enumerate(zip(found.layers, found.distinct.tolist(), strict=True)):
        yield (
            f"offload layer {layer:<3} {memory(int(found.layer_bytes[row])):>8}"
            + "".join(f"{decimals(mean, 1):>8}" for mean in means)
            + f" {memory(float(choice.read[row])):>10}   {'CPU' if slow[row] else 'GPU'}"
        )
    read, time = found.read_on_cpu, ""
    if bandwidth is not None:
        time = f", {decimals(1000 * read / bandwidth, 1)} ms at {chosen_size(bandwidth)}/s"
    yield (
        f"offload: experts of {int(slow.sum())} of {len(slow)} layers on the CPU: a token reads "
        f"{memory(read)} there{time}"
    )
    if (choice.by_use != choice.by_number).any():
        yield f"offload: {_SENTENCES[choice.gains]}"
    yield f"offload: {found.command}"


def offload_json(found: Offloading) -> Json:
    """The same as values."""
    choice = found.choice
    return {
        "steps": found.steps,
        "for_experts": found.room,
        "arguments": list(found.arguments),
        "gains": choice.gains,
        "batches": list(BATCHES),
        "layers": [
            {
                "layer": layer,
                "bytes": int(found.layer_bytes[row]),
                "distinct": numbers(found.distinct[row]),
                "read": number(float(choice.read[row])),
                "on_cpu": bool(choice.slow[row]),
                "by_number_on_cpu": bool(choice.by_number[row]),
                "by_use_on_cpu": bool(choice.by_use[row]),
            }
            for row, layer in enumerate(found.layers)
        ],
    }


def _lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if snapshot.offload is not None:
        yield ""
        yield from offload_lines(snapshot.offload)


def _keys(snapshot: Snapshot) -> Keys:
    found = snapshot.offload
    return Keys() if found is None else Keys({"offload": offload_json(found)})


def _gists(snapshot: Snapshot) -> Iterator[Gist]:
    found = snapshot.offload
    if found is not None:
        slow = found.choice.slow
        facts = [
            found.command,
            f"experts of {int(slow.sum())} of {len(slow)} layers on the CPU",
            f"a token reads {memory(found.read_on_cpu)} there",
        ]
        yield Gist("offload", facts, lines=2)


SECTION = ReportSection("offload", _lines, _keys, _gists)
