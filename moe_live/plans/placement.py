"""`plan placement`: which expert on which device."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from moe_live.arguments import file_name, whole_number
from moe_live.errors import MoeLiveError, UsageError
from moe_live.plans.given import Given
from moe_live.plans.plan import Plan, Progress
from moe_live.plans.result import Result
from moe_live.settings import MAX_LAYERS

if TYPE_CHECKING:
    from moe_live.snapshot import Placements, Snapshot

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


def add_devices(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the options that tell the devices."""
    parser.add_argument(
        "--devices",
        type=whole_number(2, 4096),
        required=required,
        metavar="G",
        help="devices over which the experts of each layer are spread: which goes where",
    )
    parser.add_argument(
        "--replicas",
        type=whole_number(0, 1 << 16),
        default=0,
        metavar="R",
        help="places of a layer beyond one an expert, over all devices (default 0)",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    add_devices(parser, required=True)
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


def _figures(snapshot: Snapshot, given: Given, _progress: Progress) -> Placements:
    from moe_live.statistics.placement import Placements, balanced, on_unseen

    uses, devices = snapshot.latest, given.devices
    if not devices:
        raise UsageError("how many devices there are is not known: give --devices G")
    if uses is None or uses.steps < 2:
        raise MoeLiveError("there are no two whole decode steps to learn and to test a placement on")
    places = uses.n_experts + given.replicas
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
    return Placements(
        layers=uses.layers,
        n_experts=uses.n_experts,
        devices=devices,
        steps=uses.steps,
        rules=on_unseen(halves, devices, places),
        experts=balanced(halves[0] + halves[1], devices, places),
    )


def _make(options: argparse.Namespace, snapshot: Snapshot, progress: Progress) -> Result:
    from moe_live.plans.placement_files import WRITERS, Placement
    from moe_live.reports.files import write_text
    from moe_live.reports.sections.placement import placement_json, placement_lines

    found = _figures(snapshot, Given(devices=options.devices, replicas=options.replicas), progress)
    last = found.layers[-1]
    n_layers = options.model_layers or last + 1
    if n_layers <= last:
        raise UsageError(f"the log has a layer {last}: give --model-layers {last + 1}")
    placement = Placement(found.layers, n_layers, found.n_experts, found.devices, found.experts)
    for name, (as_text, what) in WRITERS.items():
        path = getattr(options, name)
        if path is not None:
            write_text(as_text(placement), path, what)
    shape, *lines = placement_lines(found)
    if options.n_experts is None:
        shown = f"placement: the log shows {found.n_experts} experts; if the model has more, give --n-experts"
        lines = [shown, *lines]
    return Result((shape, *lines), placement_json(found))


PLAN = Plan("placement", "which expert on which device", _DESCRIPTION, _add, _check, _make, _figures)
