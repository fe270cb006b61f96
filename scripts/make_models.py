#!/usr/bin/env python3
"""Writes small mixture-of-experts models with random weights: something to capture routing logs from.

    scripts/make_models.py DIRECTORY [NAME...]

glm4moe.gguf: 2 dense and 5 MoE layers, 160 experts, top-8, sigmoid router with a bias of each expert.
qwen3moe.gguf: 5 MoE layers, 64 experts, top-6, softmax router.
large.gguf, only if named: as glm4moe with 3 dense and 24 MoE layers, 200 MB.
mtp.gguf: as glm4moe with 1 dense and 3 MoE layers and 64 experts, top-6, and a draft head (MTP) as layer 4.

What they say makes no sense, but llama.cpp runs them as it runs the real ones. Every character is a token.
The routers are uneven on purpose: some experts are louder than others, and all inputs have a direction in
common.
Needs numpy and gguf.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import ExpertGatingFuncType, GGUFWriter, TokenType
from numpy.typing import NDArray

CONTEXT = 4096
EXPERT_WIDTH = 32  # of the hidden layer of an expert
ROUTER_GAIN = 2.5  # standard deviation of the logits, roughly
LOUDNESS = 0.35  # spread of the routers' rows, as the deviation of a logarithm
SPECIAL = 3  # tokens that are no text: the first ones
COMMON = 0.35  # how much all embeddings have in common


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    architecture: str
    layers: int
    dense_layers: int
    n_embd: int
    heads: int
    experts: int
    top_k: int
    seed: int
    draft_heads: int = 0

    @property
    def is_glm(self) -> bool:
        return self.architecture == "glm4moe"

    @property
    def head_width(self) -> int:
        return self.n_embd // self.heads


SHAPES = {
    "glm4moe": Shape("glm4moe", layers=7, dense_layers=2, n_embd=128, heads=4, experts=160, top_k=8, seed=1),
    "qwen3moe": Shape("qwen3moe", layers=5, dense_layers=0, n_embd=96, heads=3, experts=64, top_k=6, seed=2),
    "large": Shape("glm4moe", layers=27, dense_layers=3, n_embd=256, heads=4, experts=160, top_k=8, seed=1),
    "mtp": Shape(
        "glm4moe", layers=4, dense_layers=1, n_embd=96, heads=3, experts=64, top_k=6, seed=3, draft_heads=1
    ),
}


def vocabulary() -> list[tuple[str, TokenType]]:
    """Special tokens, all bytes, and all printable characters of ASCII with the mark of a blank."""
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    byte_tokens = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    characters = ["\N{LOWER ONE EIGHTH BLOCK}", *map(chr, range(0x21, 0x7F))]
    return special + byte_tokens + [(character, TokenType.NORMAL) for character in characters]


class ModelWriter:
    """Writes one model."""

    def __init__(self, directory: Path, name: str, shape: Shape) -> None:
        self.path = directory / f"{name}.gguf"
        self.shape = shape
        self.random = np.random.default_rng(shape.seed)
        self.file = GGUFWriter(self.path, shape.architecture)

    def write(self) -> None:
        self._describe()
        self._add_tokenizer()
        vocab = len(vocabulary())
        common = COMMON * self.random.standard_normal(self.shape.n_embd)
        self._add("token_embd.weight", self._normal(vocab, self.shape.n_embd) + common, half=True)
        self._add("output_norm.weight", self._norm())
        output = self._matrix(vocab, self.shape.n_embd, gain=3.0)
        output[:SPECIAL] = 0  # never among the likely tokens: an answer does not end by itself
        self._add("output.weight", output, half=True)
        for layer in range(self.shape.layers + self.shape.draft_heads):
            self._add_attention(layer)
            if layer < self.shape.dense_layers:
                self._add_feed_forward(layer, "", 2 * self.shape.n_embd)
            else:
                self._add_experts(layer)
            if layer >= self.shape.layers:
                self._add_draft_head(layer)
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()

    def _describe(self) -> None:
        shape, file = self.shape, self.file
        file.add_name(f"{shape.architecture} with random weights")
        file.add_context_length(CONTEXT)
        file.add_embedding_length(shape.n_embd)
        file.add_block_count(shape.layers + shape.draft_heads)
        if shape.draft_heads:
            file.add_nextn_predict_layers(shape.draft_heads)
        file.add_feed_forward_length(2 * shape.n_embd)
        file.add_head_count(shape.heads)
        file.add_head_count_kv(1)
        file.add_key_length(shape.head_width)
        file.add_value_length(shape.head_width)
        file.add_rope_dimension_count(shape.head_width)
        file.add_layer_norm_rms_eps(1e-5)
        file.add_expert_count(shape.experts)
        file.add_expert_used_count(shape.top_k)
        file.add_expert_feed_forward_length(EXPERT_WIDTH)
        if shape.is_glm:
            file.add_leading_dense_block_count(shape.dense_layers)
            file.add_expert_shared_count(1)
            file.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)
            file.add_expert_weights_norm(value=True)
            file.add_expert_weights_scale(2.5)

    def _add_tokenizer(self) -> None:
        file, tokens = self.file, vocabulary()
        file.add_vocab_size(len(tokens))
        file.add_tokenizer_model("llama")
        file.add_tokenizer_pre("default")
        file.add_token_list([text for text, _ in tokens])
        file.add_token_scores([-float(i) for i in range(len(tokens))])
        file.add_token_types([kind for _, kind in tokens])
        file.add_bos_token_id(1)
        file.add_eos_token_id(2)
        file.add_unk_token_id(0)
        file.add_add_bos_token(value=True)
        file.add_add_eos_token(value=False)

    def _add_attention(self, layer: int) -> None:
        shape = self.shape
        queries = shape.heads * shape.head_width
        self._add_in(layer, "attn_norm.weight", self._norm())
        for part, rows in (("q", queries), ("k", shape.head_width), ("v", shape.head_width)):
            self._add_in(layer, f"attn_{part}.weight", self._matrix(rows, shape.n_embd, gain=1.5), half=True)
            if shape.is_glm:
                self._add_in(layer, f"attn_{part}.bias", 0.1 * self._normal(rows))
        self._add_in(layer, "attn_output.weight", self._matrix(shape.n_embd, queries, gain=0.7), half=True)
        if shape.is_glm:
            self._add_in(layer, "post_attention_norm.weight", self._norm())
        else:
            self._add_in(layer, "attn_q_norm.weight", np.ones(shape.head_width))
            self._add_in(layer, "attn_k_norm.weight", np.ones(shape.head_width))
            self._add_in(layer, "ffn_norm.weight", self._norm())

    def _add_experts(self, layer: int) -> None:
        shape = self.shape
        router = self._matrix(shape.experts, shape.n_embd, gain=ROUTER_GAIN)
        router *= self.random.lognormal(0, LOUDNESS, (shape.experts, 1))
        self._add_in(layer, "ffn_gate_inp.weight", router)
        for part, rows, columns in (
            ("gate", EXPERT_WIDTH, shape.n_embd),
            ("up", EXPERT_WIDTH, shape.n_embd),
            ("down", shape.n_embd, EXPERT_WIDTH),
        ):
            weights = self._matrix(shape.experts, rows, columns)
            self._add_in(layer, f"ffn_{part}_exps.weight", weights, half=True)
        if shape.is_glm:
            self._add_in(layer, "exp_probs_b.bias", 0.08 * self._normal(shape.experts))
            self._add_feed_forward(layer, "_shexp", EXPERT_WIDTH)

    def _add_draft_head(self, layer: int) -> None:
        n_embd = self.shape.n_embd
        self._add_in(layer, "nextn.eh_proj.weight", self._matrix(n_embd, 2 * n_embd), half=True)
        for part in ("enorm", "hnorm", "shared_head_norm"):
            self._add_in(layer, f"nextn.{part}.weight", self._norm())

    def _add_feed_forward(self, layer: int, suffix: str, width: int) -> None:
        n_embd = self.shape.n_embd
        for part, rows, columns in (("gate", width, n_embd), ("up", width, n_embd), ("down", n_embd, width)):
            self._add_in(layer, f"ffn_{part}{suffix}.weight", self._matrix(rows, columns), half=True)

    def _add_in(self, layer: int, name: str, values: NDArray[np.float64], *, half: bool = False) -> None:
        self._add(f"blk.{layer}.{name}", values, half=half)

    def _add(self, name: str, values: NDArray[np.float64], *, half: bool = False) -> None:
        self.file.add_tensor(name, values.astype(np.float16 if half else np.float32))

    def _normal(self, *shape: int) -> NDArray[np.float64]:
        return self.random.standard_normal(shape)

    def _norm(self) -> NDArray[np.float64]:
        return 1 + 0.2 * self._normal(self.shape.n_embd)

    def _matrix(self, *shape: int, gain: float = 1.0) -> NDArray[np.float64]:
        """Random weights that keep the size of what they are multiplied with, times `gain`."""
        return self._normal(*shape) * (gain / np.sqrt(shape[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where the models go; made if need be")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to write (default: the small ones)")
    options = parser.parse_args()
    for name in options.names:
        if name not in SHAPES:
            parser.error(f"there is no model {name}: choose from {', '.join(SHAPES)}")
    options.directory.mkdir(parents=True, exist_ok=True)
    for name in options.names or [name for name in SHAPES if name != "large"]:
        writer = ModelWriter(options.directory, name, SHAPES[name])
        writer.write()
        print(writer.path)


if __name__ == "__main__":
    main()
