"""`plan placement`: which expert on which device."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from moe_live.arguments import file_name, whole_number
from moe_live.errors import MoeLiveError, UsageError
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result
from moe_live.settings import MAX_LAYERS

if TYPE_CHECKING:
    from moe_live.snapshot import Snapshot
    from moe_live.statistics.placement import UnseenLoad

_DESCRIPTION = """\
Place the experts of each layer on devices so that their load is even: by number, as engines do; each expert
where the load is least; and with replicas of those that are used most. How even each makes the load is tested
on decode steps that it has not seen.
"""

_FORMATS = {
    "sglang": "JSON for --init-expert-location of SGLang",
    "vllm-ascend": "JSON for expert_map_path of vLLM-Ascend",
    "tensorrt-llm": "YAML for the load balancer of TensorRT-LLM",
    "csv": "CSV: layer, device, place, expert",
}


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--devices", type=whole_number(2, 4096), required=True, metavar="G", help="devices of the layer"
    )
    parser.add_argument(
        "--replicas",
        type=whole_number(0, 1 << 16),
        default=0,
        metavar="R",
        help="places of a layer beyond one an expert, over all devices (default 0)",
    )
    parser.add_argument(
        "--model-layers",
        type=whole_number(1, MAX_LAYERS),
        metavar="N",
        help="layers of the model with those without experts, for SGLang (default: to the last of the log)",
    )
    for name, what in _FORMATS.items():
        parser.add_argument(f"--{name}", type=file_name, metavar="FILE", help=f"write it as {what}")


def _check(options: argparse.Namespace) -> None:
    from moe_live.reports.files import check_destination

    taken = [(log, "the log itself") for log in options.logs]
    for name, what in _FORMATS.items():
        path = getattr(options, name.replace("-", "_"))
        if path is not None:
            check_destination(path, what, taken)
            taken.append((path, f"where {what} goes"))


def _make(options: argparse.Namespace, snapshot: Snapshot, _: Progress) -> Result:
    from moe_live.plans.placement_files import WRITERS, Placement
    from moe_live.reports.files import write_text
    from moe_live.reports.numbers import number, numbers
    from moe_live.statistics.placement import balanced, on_unseen

    uses = snapshot.latest
    if uses is None or uses.steps < 2:
        raise MoeLiveError("there are no two whole decode steps to learn and to test a placement on")
    devices, places = options.devices, uses.n_experts + options.replicas
    if places % devices:
        fitting = -uses.n_experts % devices
        raise UsageError(
            f"{places} places do not divide by {devices} devices: give --replicas {fitting}, or "
            f"{fitting + devices}, or another number of devices"
        )
    if places > uses.n_experts * devices:
        most = uses.n_experts * (devices - 1)
        raise UsageError(f"with {most} replicas every expert is on every device: give no more")
    halves = uses.halves()
    found = on_unseen(halves, devices, places)
    n_layers = options.model_layers or uses.layers[-1] + 1
    if n_layers <= uses.layers[-1]:
        raise UsageError(f"the log has a layer {uses.layers[-1]}: give --model-layers {uses.layers[-1] + 1}")
    placement = Placement(
        uses.layers, n_layers, uses.n_experts, devices, balanced(halves[0] + halves[1], devices, places)
    )
    for name, (as_text, what) in WRITERS.items():
        path = getattr(options, name)
        if path is not None:
            write_text(as_text(placement), path, what)
    return Result(
        tuple(_lines(found, uses.layers, uses.n_experts, options, uses.steps)),
        {
            "steps": uses.steps,
            "devices": devices,
            "places": places,
            "layers": list(uses.layers),
            "rules": [
                {
                    "rule": name,
                    "beside": rule.beside or None,
                    "balancedness": number(rule.mean),
                    "by_layer": numbers(rule.by_layer),
                    "gain": None if rule.gain is None else number(rule.gain.mean),
                    "gain_error": None if rule.gain is None else number(rule.gain.error),
                    "gains": rule.gains,
                }
                for name, rule in found.items()
            ],
            "placement": placement.experts.tolist(),
        },
    )


def _lines(
    found: Mapping[str, UnseenLoad],
    layers: tuple[int, ...],
    n_experts: int,
    options: argparse.Namespace,
    steps: int,
) -> Iterator[str]:
    """The plan for people."""
    import numpy as np

    from moe_live.reports.numbers import decimals

    each = (n_experts + options.replicas) // options.devices
    yield (
        f"placement: {n_experts} experts a layer and {options.replicas} replicas on {options.devices} "
        f"devices, {each} on each"
    )
    if options.n_experts is None:
        yield f"placement: the log shows {n_experts} experts; if the model has more, give --n-experts"
    yield f"placement: learned on one half of the latest {steps} decode steps, tested on the other, both ways"
    yield "placement            mean load / largest, mean of layers   worst layer"
    for name, rule in found.items():
        known = np.flatnonzero(np.isfinite(rule.by_layer))
        worst = ""
        if len(known):
            at = int(known[np.argmin(rule.by_layer[known])])
            worst = f"{decimals(float(rule.by_layer[at]), 3)} (layer {layers[at]})"
        yield f"placement {name:<12} {decimals(rule.mean, 3):>32}   {worst}"
    for name, rule in found.items():
        if rule.gain is not None:
            gain = f"{decimals(rule.gain.mean, 3)} ± {decimals(rule.gain.error, 3)}"
            yield f"placement: {_SENTENCES[rule.gains].format(name, rule.beside)} ({gain})"


_SENTENCES = {
    True: "{} is more even than {} on steps that it has not seen",
    False: "{} is not certainly more even than {} on steps that it has not seen",
    None: "whether {} is more even than {} cannot be told from so few layers",
}

PLAN = Plan("placement", "which expert on which device", _DESCRIPTION, _add, _check, _make)
