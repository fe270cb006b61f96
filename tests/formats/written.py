"""One list of rows, written in every dialect that can carry it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

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

    @property
    def weights(self) -> list[float]:
        """Of the experts, best first, with as many decimal places as are printed."""
        return [round(0.5 / (rank + 1) + self.layer / 128, 4) for rank in range(len(self.experts))]


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
    brackets: "bracketed",
    quoted: "bracketed",
}

WRITERS = {name: (writer, "table") for name, writer in TABLES.items()}
WRITERS |= {writer.__name__: (writer, dialect) for writer, dialect in OTHERS.items()}
"""How to write rows in each dialect, and what it is called."""

TELL_WEIGHTS = ("route_trace", "ids_in_brackets", "vllm", "choice_by_choice", "layer_by_layer")
"""Logs whose lines tell weights."""

TELL_STEPS = ("choice_by_choice", "rank_by_rank", "ids_in_columns", "ids_in_brackets", "ids_at_the_end")
"""Logs whose lines tell which step they are of, so that their order is free within it."""

TELL_TOKENS = ("route_trace", "phase_token_layer", *TELL_STEPS)
"""Logs that may be written token by token."""
