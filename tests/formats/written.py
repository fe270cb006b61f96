"""One list of rows, written in every dialect that can carry it."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from hypothesis import strategies as st


@dataclass(frozen=True)
class Row:
    """The choice of one token in one layer."""

    step: int
    is_decode: bool
    token: int
    """Among those of its step."""
    position: int
    layer: int
    experts: tuple[int, ...]
    told_weights: tuple[float, ...] = ()

    @property
    def weights(self) -> list[float]:
        """Of the experts, best first, with as many decimal places as are printed."""
        return list(self.told_weights) or [
            round(0.5 / (rank + 1) + self.layer / 128, 4) for rank in range(len(self.experts))
        ]


def rows_of_a_real_model() -> list[Row]:
    """Four layers of a published trace: a prompt of 28 tokens and 16 generated ones, with their weights.

    Written in rows by BigMoeOnEdge (Apache-2.0) of Qwen3-30B-A3B on a phone.
    """
    path = Path(__file__).parents[1] / "data" / "qwen3-30b-a3b.piece.route.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    lines = csv.reader(line for line in text.splitlines() if line[0].isdigit())
    rows = []
    for (phase, token, layer), of_row in groupby(lines, lambda line: (line[1], int(line[2]), int(line[3]))):
        chosen = list(of_row)
        experts, weights = tuple(int(line[5]) for line in chosen), tuple(float(line[6]) for line in chosen)
        is_decode = phase == "1"
        step, within = (token - 27, 0) if is_decode else (0, token)
        rows.append(Row(step, is_decode, within, token, layer, experts, weights))
    return sorted(rows, key=lambda row: (row.step, row.layer, row.token))


@st.composite
def rows_of_a_model(draw: st.DrawFn, *, apart: bool = False) -> list[Row]:
    """Prompts (of whose tokens the last layer has the last alone) and tokens that are generated, one by one.

    Args:
        draw: of hypothesis.
        apart: no prompt comes right after another.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_experts = draw(st.sampled_from([8, 12, 20]))
    top_k = draw(st.integers(2, 4))
    layers = sorted(draw(st.sets(st.integers(0, 30), min_size=2, max_size=4)))
    lengths = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5, 40]), min_size=1, max_size=6))
    if apart:
        lengths = [length for prompt in lengths for length in (prompt, 1)]
    rows, position = [], 0
    for step, length in enumerate([*lengths, 1]):
        for layer in layers:
            for token in range(length if layer != layers[-1] else 1):
                experts = tuple(rng.permutation(n_experts)[:top_k].tolist())
                at = token if layer != layers[-1] else length - 1
                rows.append(Row(step, length == 1, at, position + at, layer, experts))
        position += length
    return rows


def _steps(rows: Iterable[Row]) -> Iterable[list[Row]]:
    return (list(step) for _, step in groupby(rows, lambda row: row.step))


def token_by_token(rows: Iterable[Row]) -> list[Row]:
    return [row for step in _steps(rows) for row in sorted(step, key=lambda row: (row.token, row.layer))]


def in_any_order(rows: Iterable[Row]) -> list[Row]:
    chance = random.Random(7)
    return [row for step in _steps(rows) for row in chance.sample(step, len(step))]


def llama_server(rows: Sequence[Row], *, weights: bool = False) -> str:
    lines = [
        f"{row.layer},{' '.join(map(str, row.experts))}"
        + (f",{' '.join(map(str, row.weights))}" if weights else "")
        for row in rows
    ]
    return "".join(f"{line}\n" for line in ("layer_id,expert_ids", *lines))


PHASES = ("pp", "tg")


def _table(header: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in (header, *lines))


def weights_behind_ids(rows: Sequence[Row]) -> str:
    return _table(
        "LayerIdx|Experts",
        (
            f"{row.layer}|" + " ".join(f"{e}:{w}" for e, w in zip(row.experts, row.weights, strict=True))
            for row in rows
        ),
    )


def ids_and_weights_in_columns(rows: Sequence[Row]) -> str:
    """With the numbers of tokens in a vocabulary too, all of which are the same one."""
    k = len(rows[0].experts)
    return _table(
        "token_id,pos,step,phase,layer," + ",".join(f"expert_id_{i},expert_weight_{i}" for i in range(k)),
        (
            f"7,{row.position},{row.step},{PHASES[row.is_decode]},{row.layer},"
            + ",".join(f"{e},{w}" for e, w in zip(row.experts, row.weights, strict=True))
            for row in rows
        ),
    )


def ids_and_so_on(rows: Sequence[Row]) -> str:
    return _table(
        "pos,layer,id0,id1,...",
        (f"{row.position},{row.layer},{','.join(map(str, row.experts))}" for row in rows),
    )


def moe_trace(rows: Sequence[Row]) -> str:
    return _table("layer,expert", (f"{row.layer},{expert}" for row in rows for expert in row.experts))


def route_trace(rows: Sequence[Row]) -> str:
    preamble = "# route_trace v1\n# layer=0 expert_bytes=3059712\n"
    return preamble + _table(
        "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes",
        (
            f"0,{int(row.is_decode)},{row.position},{row.layer},{rank},{expert},{weight},warm,3059712"
            for row in rows
            for rank, (expert, weight) in enumerate(zip(row.experts, row.weights, strict=True))
        ),
    )


def phase_token_layer(rows: Sequence[Row]) -> str:
    return _table(
        "phase,token,layer,rank,expert",
        (
            f"{'decode' if row.is_decode else 'prefill'},{row.position},{row.layer},{rank},{expert}"
            for row in rows
            for rank, expert in enumerate(row.experts)
        ),
    )


def rank_by_rank(rows: Sequence[Row]) -> str:
    """All first choices of a step, then all second ones."""
    return _table(
        "step\tphase\ttoken\tlayer\trank\texpert",
        (
            "\t".join(
                map(
                    str,
                    (
                        row.step,
                        "tg" if row.is_decode else "pp",
                        row.token,
                        row.layer,
                        rank,
                        row.experts[rank],
                    ),
                )
            )
            for step in _steps(rows)
            for rank in range(len(step[0].experts))
            for row in step
        ),
    )


def ids_in_columns(rows: Sequence[Row]) -> str:
    k = len(rows[0].experts)
    return _table(
        f"iter kind Token-Idx layer {' '.join(f'id{i}' for i in range(k))}",
        (
            f"{row.step}   {'gen' if row.is_decode else 'prompt'} {row.token} {row.layer} "
            + " ".join(map(str, row.experts))
            for row in rows
        ),
    )


def ids_in_brackets(rows: Sequence[Row]) -> str:
    return _table(
        '"layer_idx";"stage";"step";"pos";"note";"topk_ids";"topk_weights"',
        (
            f'{row.layer};{int(row.is_decode)};{row.step};{row.position};"a, b; c";'
            f'"{list(row.experts)}";"{list(row.weights)}"'
            for row in rows
        ),
    )


def ids_at_the_end(rows: Sequence[Row]) -> str:
    return _table(
        "step,phase,token,layer,expert_ids",
        (
            f"{row.step},{'d' if row.is_decode else 'p'},{row.token},{row.layer},"
            + ",".join(map(str, row.experts))
            for row in rows
        ),
    )


Writer = Callable[[Sequence[Row]], str]

TABLES: dict[str, Writer] = {
    writer.__name__: writer
    for writer in (
        weights_behind_ids,
        ids_and_weights_in_columns,
        ids_and_so_on,
        moe_trace,
        route_trace,
        phase_token_layer,
        rank_by_rank,
        ids_in_columns,
        ids_in_brackets,
        ids_at_the_end,
    )
}


def _objects(values: Iterable[object]) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


def vllm(rows: Sequence[Row]) -> str:
    return _objects(
        {"layer": row.layer, "token_idx": row.token, "topk_ids": row.experts, "topk_weights": row.weights}
        for row in rows
    )


def selected_experts(rows: Sequence[Row]) -> str:
    return _objects(
        {"layer": row.layer, "phase": PHASES[row.is_decode], "selected_experts": row.experts} for row in rows
    )


def choice_by_choice(rows: Sequence[Row]) -> str:
    """Objects that do not look alike."""
    return _objects(
        {
            **({"note": 'a "layer": 3'} if rank else {}),
            "turn": "req-ä",
            "phase": int(row.is_decode),
            "step": row.step,
            "token": row.token,
            "layer": row.layer,
            "slot": rank,
            "expert": expert,
            "probs": row.weights[rank],
        }
        for row in rows
        for rank, expert in enumerate(row.experts)
    )


def layer_by_layer(rows: Sequence[Row]) -> str:
    """All tokens of a block in one object."""
    return _objects(
        {
            "step": step,
            "phase": int(is_decode),
            "layer": layer,
            "rank": 0,
            "topk_ids": [row.experts for row in block],
            "gate_weights": [row.weights for row in block],
        }
        for (step, is_decode, layer), of_block in groupby(
            rows, lambda row: (row.step, row.is_decode, row.layer)
        )
        for block in [list(of_block)]
    )


def router_tracer(rows: Sequence[Row]) -> str:
    """What Megatron-LM's RouterTracer writes: `stage` is no phase, and `rank` that of a process."""
    return _objects(
        {
            "step": step,
            "stage": "pre_dispatch",
            "block": "decoder",
            "layer": layer,
            "rank": 3,
            "num_tokens": len(block),
            "topk": len(block[0].experts),
            "top_indices": [row.experts for row in block],
        }
        for (step, layer), of_block in groupby(rows, lambda row: (row.step, row.layer))
        for block in [list(of_block)]
    )


def ggml_moe_log(rows: Sequence[Row]) -> str:
    return "".join(
        f"blk.{row.layer}.ffn_{of}_exps.weight {' '.join(map(str, row.experts))}\n"
        for _, of_block in groupby(rows, lambda row: (row.step, row.layer))
        for block in [list(of_block)]
        for of in ("gate", "up", "down")
        for row in block
    )


def expert_trace(rows: Sequence[Row]) -> str:
    return "".join(f"[EXPERT-TRACE] Layer {row.layer}: Experts {list(row.experts)}\n" for row in rows)


def verbose(rows: Sequence[Row]) -> str:
    return "".join(
        f"Layer {layer} - Selected Expert IDs (top-2):\n"
        + "".join(f"  Token {row.token}: {list(row.experts)}\n" for row in block)
        for (_, layer), block in groupby(rows, lambda row: (row.step, row.layer))
    )


def brackets(rows: Sequence[Row]) -> str:
    return "".join(f"{row.layer},{list(row.experts)}\n" for row in rows)


def lists_of_weights(rows: Sequence[Row]) -> str:
    def listed(values: Sequence[float]) -> str:
        return f'"[{" ".join(map(str, values))}]"'

    return "".join(f"{row.layer},{row.token},{listed(row.experts)},{listed(row.weights)}\n" for row in rows)


def commas(rows: Sequence[Row]) -> str:
    return "".join(f"{row.layer},{','.join(map(str, row.experts))}\n" for row in rows)


def in_llama_servers_own(rows: Sequence[Row]) -> str:
    """Lists below its header, of which it writes none."""
    ways = ("{0},{1}", '{0},"{2}"', '{0},"{1}"', "{0},{2}")
    return _table(
        "layer_id,expert_ids",
        (
            ways[index % 4].format(row.layer, list(row.experts), " ".join(map(str, row.experts)))
            for index, row in enumerate(rows)
        ),
    )


def quoted(rows: Sequence[Row]) -> str:
    return "".join(f'{row.layer},"{" ".join(map(str, row.experts))}"\n' for row in rows)


OTHERS: dict[Writer, str] = {
    vllm: "json-lines",
    selected_experts: "json-lines",
    choice_by_choice: "json-lines",
    layer_by_layer: "json-lines",
    ggml_moe_log: "ggml-moe-log",
    expert_trace: "expert-trace",
    verbose: "selected-experts",
    router_tracer: "json-lines",
    brackets: "bracketed",
    lists_of_weights: "bracketed",
    commas: "commas",
    in_llama_servers_own: "llama-server",
    quoted: "bracketed",
}

WRITERS = {name: (writer, "table") for name, writer in TABLES.items()}
WRITERS |= {writer.__name__: (writer, dialect) for writer, dialect in OTHERS.items()}
"""How to write rows in each dialect, and what it is called."""

TELL_WEIGHTS = (
    "weights_behind_ids",
    "ids_and_weights_in_columns",
    "route_trace",
    "ids_in_brackets",
    "vllm",
    "choice_by_choice",
    "layer_by_layer",
    "lists_of_weights",
)
"""Logs whose lines tell weights."""

TELL_STEPS = (
    "choice_by_choice",
    "rank_by_rank",
    "ids_in_columns",
    "ids_and_weights_in_columns",
    "ids_in_brackets",
    "ids_at_the_end",
)
"""Logs whose lines tell which step they are of, so that their order is free within it."""

TELL_TOKENS = ("route_trace", "phase_token_layer", *TELL_STEPS)
"""Logs that may be written token by token."""
