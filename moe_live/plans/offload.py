"""`plan offload`: which layers' experts stay in the memory of the CPU, for llama.cpp."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from moe_live.arguments import byte_count
from moe_live.errors import MoeLiveError, UsageError
from moe_live.plans.cache import LIVE_USES, add_sizes
from moe_live.plans.given import Given
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moe_live.snapshot import Offloading, Snapshot

_DESCRIPTION = """\
llama.cpp keeps all experts of a layer in one place. Tell how many different experts each layer needs in a
step and in a batch, how many bytes a token reads of them, which layers' experts fit into the memory of the
GPU, and the arguments for it: --n-cpu-moe, or -ot where choosing by use reads less on steps not seen.
"""

RESERVE = 2 << 30
"""Bytes of the memory of the GPU that context and buffers take, unless the user says otherwise."""

_ALL_LAYERS = 999  # what -ngl takes for every layer


def add_vram(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the options that tell the memory of the GPU."""
    parser.add_argument(
        "--vram",
        type=byte_count,
        required=required,
        metavar="SIZE",
        help="memory of the GPU, as 20GiB: which layers' experts it holds",
    )
    parser.add_argument(
        "--reserve",
        type=byte_count,
        default=RESERVE,
        metavar="SIZE",
        help="what context and buffers take of it (default 2GiB)",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    add_sizes(parser)
    add_vram(parser, required=True)
    parser.add_argument(
        "--bandwidth",
        type=byte_count,
        metavar="RATE",
        help="of the memory of the CPU, as 60GB/s: shows milliseconds a token",
    )


def _check(options: argparse.Namespace) -> None:
    from moe_live.plans.expert_bytes import model_bytes

    options.given = Given(
        model=None if options.model is None else model_bytes(options.model),
        expert_bytes=options.expert_bytes or 0,
        vram=options.vram,
        reserve=options.reserve,
    )


def _figures(snapshot: Snapshot, given: Given, _progress: Progress) -> Offloading:
    import numpy as np

    from moe_live.plans.expert_bytes import of_layers
    from moe_live.statistics.offload import Offloading, distinct, offload

    if not given.vram:
        raise UsageError("how much memory the GPU has is not known: give --vram SIZE, as 20GiB")
    uses, model = snapshot.latest, given.model
    if uses is None or not uses.steps:
        raise MoeLiveError("there is no whole decode step to go by")
    expert_bytes = of_layers(given.known_sizes(snapshot.model), uses.layers)
    by_model = {} if model is None else model.n_experts
    n_experts = np.array([by_model.get(layer, uses.n_experts) for layer in uses.layers])
    layer_bytes = expert_bytes * n_experts
    others = 0 if model is None else model.others
    room = given.vram - others - given.reserve
    if room <= 0:
        raise UsageError(
            f"{given.vram:,} bytes do not hold what is no expert ({others:,}) and the reserve "
            f"({given.reserve:,}): give more --vram or less --reserve"
        )
    choice = offload(uses, expert_bytes, layer_bytes, room)
    return Offloading(
        layers=uses.layers,
        steps=uses.steps,
        room=room,
        layer_bytes=layer_bytes,
        distinct=distinct(uses),
        choice=choice,
        arguments=tuple(llama_arguments(choice.slow, uses.layers)),
        knows_others=model is not None,
    )


def _make(options: argparse.Namespace, snapshot: Snapshot, progress: Progress) -> Result:
    from moe_live.reports.sections.offload import offload_json, offload_lines

    found = _figures(snapshot, options.given, progress)
    return Result(tuple(offload_lines(found, options.bandwidth)), offload_json(found))


def llama_arguments(slow: NDArray[np.bool_], layers: tuple[int, ...]) -> list[str]:
    """What llama.cpp is given so that these layers' experts stay in the memory of the CPU."""
    arguments = ["-ngl", str(_ALL_LAYERS)]
    on_cpu = [layer for layer, is_slow in zip(layers, slow, strict=True) if is_slow]
    if not on_cpu:
        return arguments
    if on_cpu == list(layers[: len(on_cpu)]):  # the first N of all layers, also of those without experts
        return [*arguments, "--n-cpu-moe", str(on_cpu[-1] + 1)]
    return [*arguments, "-ot", rf"blk\.({'|'.join(map(str, on_cpu))})\.ffn_.*_exps\.=CPU"]


PLAN = Plan(
    "offload",
    "which layers' experts stay on the CPU",
    _DESCRIPTION,
    _add,
    _check,
    _make,
    _figures,
    lambda _: LIVE_USES,
)
