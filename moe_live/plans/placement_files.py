"""Placements as engines read them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Which expert is where.

    Attributes:
        layers: numbers of the layers with experts, ascending.
        n_layers: all layers of the model, with those without experts.
        n_experts: experts a layer.
        devices: how many.
        experts: (len(layers), places) the expert of each place; those of a device come one after the other.
    """

    layers: tuple[int, ...]
    n_layers: int
    n_experts: int
    devices: int
    experts: NDArray[np.int64]

    @property
    def places(self) -> int:
        """Of a layer, over all devices."""
        return int(self.experts.shape[1])


def sglang(placement: Placement) -> str:
    """JSON for `--init-expert-location`: `physical_to_logical_map`, a row for every layer of the model.

    Layers without experts have a row too, which is not used: there, experts come by number.
    """
    rows = np.tile(np.arange(placement.places) % placement.n_experts, (placement.n_layers, 1))
    rows[list(placement.layers)] = placement.experts
    return json.dumps({"physical_to_logical_map": rows.tolist()}) + "\n"


def vllm_ascend(placement: Placement) -> str:
    """JSON for `expert_map_path` of vLLM-Ascend: layers with experts counted from 0, experts by device."""
    layers = [
        {
            "layer_id": number,
            "device_count": placement.devices,
            "device_list": [
                {"device_id": device, "device_expert": experts}
                for device, experts in enumerate(of_layer.reshape(placement.devices, -1).tolist())
            ],
        }
        for number, of_layer in enumerate(placement.experts)
    ]
    return json.dumps({"moe_layer_count": len(layers), "layer_list": layers}) + "\n"


def tensorrt_llm(placement: Placement) -> str:
    """YAML for `moe_config.load_balancer` of TensorRT-LLM; nothing moves while it runs."""
    lines = [f"num_slots: {placement.places}", "initial_global_assignments:"]
    lines += [
        f"  {layer}: {experts}"
        for layer, experts in zip(placement.layers, placement.experts.tolist(), strict=True)
    ]
    return "\n".join([*lines, "layer_updates_per_iter: 0", ""])


def as_csv(placement: Placement) -> str:
    """A line for each place: layer, device, place on the device, expert."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["layer", "device", "place", "expert"])
    each = placement.places // placement.devices
    for layer, experts in zip(placement.layers, placement.experts.tolist(), strict=True):
        writer.writerows((layer, *divmod(place, each), expert) for place, expert in enumerate(experts))
    return out.getvalue()


WRITERS: dict[str, tuple[Callable[[Placement], str], str]] = {
    "sglang": (sglang, "JSON for --init-expert-location of SGLang"),
    "vllm_ascend": (vllm_ascend, "JSON for expert_map_path of vLLM-Ascend"),
    "tensorrt_llm": (tensorrt_llm, "YAML for the load balancer of TensorRT-LLM"),
    "csv": (as_csv, "CSV: layer, device, place, expert"),
}
"""Formats by the name of their option, each with what it is."""
