"""Small logs of a made-up server, drawn by hypothesis: every shape of step, sound or strided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

HEADER = b"layer_id,expert_ids\n"


@dataclass(frozen=True)
class SyntheticLog:
    """Bytes of a log, cut at the beginnings of its steps (the first piece has the header)."""

    pieces: tuple[bytes, ...]

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)


@st.composite
def logs(
    draw: st.DrawFn, *, junk: bool = True, max_steps: int = 12, heads: bool = False, min_layers: int = 1
) -> SyntheticLog:
    """Logs of a few steps: prompts in pieces, decode of one or several sequences, half steps, a head."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_experts = draw(st.sampled_from([4, 8, 12, 20]))
    top_k = draw(st.integers(1, min(4, n_experts)))
    layers = sorted(draw(st.sets(st.integers(0, 30), min_size=min_layers, max_size=5)))
    gate_layers = draw(st.sets(st.sampled_from(layers)))
    experts_logged = draw(st.booleans()) or not gate_layers
    strided = draw(st.booleans())
    has_head = heads and draw(st.booleans())
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["decode", "prompt", "end of prompt", "half"]),
                st.sampled_from([1, 1, 1, 2, 3, 17, 70]),
            ),
            min_size=1,
            max_size=max_steps,
        )
    )
    pieces = []
    for kind, tokens in steps:
        lines = []
        cut = int(rng.integers(1, len(layers) + 1)) if kind == "half" else len(layers)
        for layer in layers[:cut]:
            rows = tokens
            if layer == layers[-1] and len(layers) > 1:
                rows = {"prompt": 0, "end of prompt": 1}.get(kind, tokens)
            lines += _gate_lines(rng, layer, rows) if layer in gate_layers else []
            if experts_logged:
                lines += _expert_lines(rng, layer, rows, n_experts, top_k, strided=strided)
        if has_head and experts_logged and kind != "prompt" and rng.random() < 0.9:
            rows = tokens + int(rng.integers(0, 4))
            lines += _expert_lines(rng, layers[-1] + 1, rows, n_experts, top_k, strided=strided)
        if junk and rng.random() < 0.2:
            lines.insert(
                int(rng.integers(0, len(lines) + 1)),
                rng.choice([b"", b"junk", b"3,", b"9,1 2x", b"gate_input,1,0,"]),
            )
        pieces.append(b"".join(line + b"\n" for line in lines))
    pieces[0] = HEADER + pieces[0]
    if junk and draw(st.booleans()):
        pieces[-1] += draw(st.sampled_from([b"3", b"4,1 2 3", b"gate_input,20,0,1.5 2", b"\0\0"]))
    return SyntheticLog(tuple(pieces))


def _gate_lines(rng: np.random.Generator, layer: int, rows: int) -> list[bytes]:
    numbers = rng.standard_normal((rows, 3)) * rng.choice(
        [0.0, 1e-7, 1.0, 1e6, np.inf], p=[0.05, 0.1, 0.7, 0.1, 0.05]
    )
    return [
        b"gate_input,%d,%d,%b" % (layer, row, b" ".join(b"%g" % x for x in numbers[row]))
        for row in range(rows)
    ]


def _expert_lines(
    rng: np.random.Generator, layer: int, rows: int, n_experts: int, top_k: int, *, strided: bool
) -> list[bytes]:
    rankings = rng.permuted(np.tile(np.arange(n_experts), (rows, 1)), axis=1)
    chosen = rankings.reshape(-1)[: rows * top_k].reshape(rows, top_k) if strided else rankings[:, :top_k]
    return [b"%d,%b" % (layer, b" ".join(b"%d" % expert for expert in row)) for row in chosen.tolist()]
