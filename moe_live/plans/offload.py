"""`plan offload`: which layers' experts stay in the memory of the CPU, for llama.cpp."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moe_live.arguments import byte_count
from moe_live.errors import MoeLiveError, UsageError
from moe_live.plans.cache import UNKNOWN_SIZES, add_sizes
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moe_live.snapshot import Snapshot
    from moe_live.statistics.latest import Uses
    from moe_live.statistics.offload import Offload

_DESCRIPTION = """\
llama.cpp keeps all experts of a layer in one place. Tell how many different experts each layer needs in a
step and in a batch, how many bytes a token reads of them, which layers' experts fit into the memory of the
GPU, and the arguments for it: --n-cpu-moe, or -ot where choosing by use reads less on steps not seen.
"""

_ALL_LAYERS = 999  # what -ngl takes for every layer


def _add(parser: argparse.ArgumentParser) -> None:
    add_sizes(parser)
    parser.add_argument(
        "--vram", type=byte_count, required=True, metavar="SIZE", help="memory of the GPU, as 20GiB"
    )
    parser.add_argument(
        "--reserve",
        type=byte_count,
        default=2 << 30,
        metavar="SIZE",
        help="what context and buffers take of it (default 2GiB)",
    )
    parser.add_argument(
        "--bandwidth",
        type=byte_count,
        metavar="RATE",
        help="of the memory of the CPU, as 60GB/s: shows milliseconds a token",
    )


def _check(options: argparse.Namespace) -> None:
    from moe_live.plans.expert_bytes import ModelBytes, model_bytes

    options.known = ModelBytes({}, {}, 0) if options.model is None else model_bytes(options.model)


def _make(options: argparse.Namespace, snapshot: Snapshot, _: Progress) -> Result:
    import numpy as np

    from moe_live.plans.expert_bytes import of_layers
    from moe_live.reports.numbers import number, numbers
    from moe_live.statistics.offload import BATCHES, distinct, offload

    uses = snapshot.latest
    if uses is None or not uses.steps:
        raise MoeLiveError("there is no whole decode step to go by")
    known = options.known
    told = known.expert or options.expert_bytes or dict(snapshot.model.expert_bytes)
    if not told:
        raise UsageError(UNKNOWN_SIZES)
    expert_bytes = of_layers(told, uses.layers)
    n_experts = np.array([known.n_experts.get(layer, uses.n_experts) for layer in uses.layers])
    layer_bytes = expert_bytes * n_experts
    taken = known.others + options.reserve
    if options.vram <= taken:
        raise UsageError(
            f"{options.vram:,} bytes do not hold what is no expert ({known.others:,}) and the reserve "
            f"({options.reserve:,}): give more --vram or less --reserve"
        )
    found = offload(uses, expert_bytes, layer_bytes, options.vram - taken)
    chosen = found.by_use if found.gains else found.by_number
    arguments = llama_arguments(chosen, uses.layers)
    return Result(
        tuple(_lines(uses, found, layer_bytes, options, arguments)),
        {
            "steps": uses.steps,
            "for_experts": options.vram - taken,
            "arguments": arguments,
            "gains": found.gains,
            "batches": list(BATCHES),
            "layers": [
                {
                    "layer": layer,
                    "bytes": int(layer_bytes[row]),
                    "distinct": numbers(means),
                    "read": number(float(found.read[row])),
                    "on_cpu": bool(chosen[row]),
                    "by_number_on_cpu": bool(found.by_number[row]),
                    "by_use_on_cpu": bool(found.by_use[row]),
                }
                for row, (layer, means) in enumerate(zip(uses.layers, distinct(uses), strict=True))
            ],
        },
    )


def llama_arguments(slow: NDArray[np.bool_], layers: tuple[int, ...]) -> list[str]:
    """What llama.cpp is given so that these layers' experts stay in the memory of the CPU."""
    arguments = ["-ngl", str(_ALL_LAYERS)]
    on_cpu = [layer for layer, is_slow in zip(layers, slow, strict=True) if is_slow]
    if not on_cpu:
        return arguments
    if on_cpu == list(layers[: len(on_cpu)]):  # the first N of all layers, also of those without experts
        return [*arguments, "--n-cpu-moe", str(on_cpu[-1] + 1)]
    return [*arguments, "-ot", rf"blk\.({'|'.join(map(str, on_cpu))})\.ffn_.*_exps\.=CPU"]


def _lines(
    uses: Uses,
    found: Offload,
    layer_bytes: NDArray[np.int64],
    options: argparse.Namespace,
    arguments: list[str],
) -> Iterator[str]:
    """The plan for people."""
    import shlex

    from moe_live.formatting import size
    from moe_live.reports.numbers import decimals
    from moe_live.statistics.offload import BATCHES, distinct

    slow = found.by_use if found.gains else found.by_number
    room = options.vram - options.known.others - options.reserve
    yield f"offload: the latest {uses.steps} decode steps; {size(room)} of the GPU for experts"
    if options.model is None:
        yield "offload: what else of the model is on the GPU is not known without --model: leave room for it"
    yield "offload: different experts of so many successive decode steps, bytes that a token reads"
    yield f"offload              bytes{''.join(f'{batch:>8}' for batch in BATCHES)}    a token   where"
    for row, (layer, means) in enumerate(zip(uses.layers, distinct(uses).tolist(), strict=True)):
        yield (
            f"offload layer {layer:<3} {size(int(layer_bytes[row])):>8}"
            + "".join(f"{decimals(mean, 1):>8}" for mean in means)
            + f" {size(float(found.read[row])):>10}   {'CPU' if slow[row] else 'GPU'}"
        )
    read = float(found.read[slow].sum())
    time = ""
    if options.bandwidth is not None:
        time = f", {decimals(1000 * read / options.bandwidth, 1)} ms at {size(options.bandwidth)}/s"
    yield (
        f"offload: experts of {int(slow.sum())} of {len(slow)} layers on the CPU: a token reads {size(read)} "
        f"there{time}"
    )
    if (found.by_use != found.by_number).any():
        yield f"offload: {_SENTENCES[found.gains]}"
    yield f"offload: llama-server {' '.join(map(shlex.quote, arguments))}"


_SENTENCES = {
    True: "choosing layers by use reads less than by number on steps that were not seen",
    False: "choosing layers by use does not certainly read less than by number: the last ones are on the GPU",
}

PLAN = Plan("offload", "which layers' experts stay on the CPU", _DESCRIPTION, _add, _check, _make)
