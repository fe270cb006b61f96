"""How engines read placements, written from their documentation and code; they are strict.

- SGLang, `--init-expert-location FILE.json` (python/sglang/srt/eplb/expert_location.py): the object has
  `physical_to_logical_map` (layers of the model, physical experts); physical experts are the experts plus
  `--ep-num-redundant-experts`, a multiple of the devices; each expert of a layer has one at least.
- vLLM-Ascend, `expert_map_path` (docs, "Expert Parallelism Load Balancer"; expert_load_balancer.py):
  `moe_layer_count`, and `layer_list` of `layer_id`, `device_count` and `device_list` of `device_id` and
  `device_expert`; a dense array (layers, devices, experts) of one shape, where a device finds an expert by
  its number.
- TensorRT-LLM, `moe_config.load_balancer` (examples/wide_ep/ep_load_balancer): YAML with `num_slots`,
  `initial_global_assignments` (layer: the expert of each slot) and `layer_updates_per_iter`.
"""

from __future__ import annotations

import json
import re

import numpy as np
from numpy.typing import NDArray


def read_sglang(text: str, n_layers: int, n_experts: int, redundant: int, devices: int) -> NDArray[np.int64]:
    """(layers of the model, places).

    Raises:
        ValueError: the engine would not start, or not reach an expert.
    """
    table = np.array(json.loads(text)["physical_to_logical_map"])
    if (
        table.shape != (n_layers, n_experts + redundant)
        or table.dtype != np.int64
        or table.shape[1] % devices
    ):
        raise ValueError(f"a map {table.shape} of {table.dtype}")
    for experts in table.tolist():
        _check_all_there(experts, n_experts)
    return table


def read_vllm_ascend(text: str, n_experts: int, devices: int) -> NDArray[np.int64]:
    """(layers with experts, devices, experts of a device).

    Raises:
        ValueError: the engine would not start, or not reach an expert.
    """
    content = json.loads(text)
    layers = content["layer_list"]
    if content["moe_layer_count"] != len(layers) or not layers:
        raise ValueError("layers are missing")
    table = []
    for number, layer in enumerate(layers):
        ids = [device["device_id"] for device in layer["device_list"]]
        if layer["layer_id"] != number or layer["device_count"] != devices or ids != list(range(devices)):
            raise ValueError("layers or devices are not in order")
        table.append([device["device_expert"] for device in layer["device_list"]])
        _check_all_there([expert for device in table[-1] for expert in device], n_experts)
        if any(len(set(device)) != len(device) for device in table[-1]):
            raise ValueError("a device has an expert twice")
    return np.array(table, np.int64)  # of one shape, or an error


def read_tensorrt_llm(text: str, n_experts: int, devices: int) -> dict[int, list[int]]:
    """The expert of each slot, by layer.

    Raises:
        ValueError: the engine would not start, or not reach an expert.
    """
    lines = text.split("\n")
    if lines.pop() or len(lines) < 3:
        raise ValueError("the last line is not whole")
    found = {}
    slots, head, *layers, updates = lines
    if not re.fullmatch(r"num_slots: [0-9]+", slots) or head != "initial_global_assignments:":
        raise ValueError("keys are missing")
    if not re.fullmatch(r"layer_updates_per_iter: [0-9]+", updates):
        raise ValueError("a key is missing")
    for line in layers:
        match = re.fullmatch(r"  ([0-9]+): \[([0-9]+(?:, [0-9]+)*)\]", line)
        if match is None or int(match[1]) in found:
            raise ValueError(f"not a layer: {line}")
        experts = [int(expert) for expert in match[2].split(", ")]
        if len(experts) != int(slots.split()[1]) or len(experts) % devices:
            raise ValueError("slots are missing")
        _check_all_there(experts, n_experts)
        found[int(match[1])] = experts
    if not found:
        raise ValueError("no layer")
    return found


def read_csv(text: str, devices: int) -> dict[int, list[list[int]]]:
    """The experts of each device, by layer.

    Raises:
        ValueError: it is not whole.
    """
    head, *lines = text.split("\n")
    if head != "layer,device,place,expert" or not lines or lines.pop():
        raise ValueError("the header is missing, or the end")
    found: dict[int, list[list[int]]] = {}
    for line in lines:
        layer, device, place, expert = map(int, line.split(","))
        of_layer = found.setdefault(layer, [[] for _ in range(devices)])
        if place != len(of_layer[device]):
            raise ValueError("a place is missing")
        of_layer[device].append(expert)
    if len({len(device) for of_layer in found.values() for device in of_layer}) != 1:
        raise ValueError("places are missing")
    return found


def _check_all_there(experts: list[int], n_experts: int) -> None:
    if set(experts) != set(range(n_experts)):
        raise ValueError("experts are missing, or there are others")
