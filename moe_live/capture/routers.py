"""The routers of a model, read from its GGUF file: which experts they choose for a given input.

llama.cpp takes the k experts with the highest selection score. With z = W x, the score is a function of z
that rises with it (softmax or sigmoid, which makes no difference to the order), plus, where the model has
one, a bias of each expert: sigmoid(z) + b, not z + b. Equal scores may come in any order.

The input is known only as far as it was printed, and the engine computes in single precision: so each score
is an interval, and a choice that differs from ours only among overlapping intervals proves nothing.
"""

from __future__ import annotations

import re
from contextlib import suppress
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.model_file import Tensor, model_parts, read_model_file
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

PRINTED_DIGITS = 6

_ROUTER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.ffn_gate_inp\.weight")

# How much the engine may round a factor of the dot product, as a share of it: it converts the input to the
# type of the weights. Single precision has 2^-24; what sums of thousands of products lose comes on top.
_ROUNDING = {"F32": 2.0**-20, "F16": 2.0**-11 + 2.0**-20, "BF16": 2.0**-8 + 2.0**-20}
_SCORE_ROUNDING = 2.0**-22  # what the engine may lose of a score, as a share of its larger term
_LOWEST_EXPONENT = -87.0  # exp() of less is not a normal number in single precision


class Gating(Enum):
    """What a router makes of its logits; the values are those of `expert_gating_func` in a GGUF file."""

    SOFTMAX = 1
    SIGMOID = 2


# What llama.cpp takes for models with a bias whose file does not say.
_DEFAULT_GATING = {
    "glm4moe": Gating.SIGMOID,
    "deepseek2": Gating.SIGMOID,
    "ernie4_5-moe": Gating.SOFTMAX,
}


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Selection scores of n tokens, and the intervals in which they are known to lie.

    Attributes:
        value: (n, E) float64, NaN where the input was not finite.
        low: (n, E) float64.
        high: (n, E) float64.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """The router of one layer.

    Attributes:
        weight: (E, n_embd) float64.
        logit_bias: (E,) float64, added to the logits, or None.
        selection_bias: (E,) float64, added to the selection score, or None.
        gating: makes scores of logits; matters only with a `selection_bias`.
        rounding: how much the engine may round a factor of the dot product, as a share of it.
    """

    weight: NDArray[np.float64]
    logit_bias: NDArray[np.float64] | None = None
    selection_bias: NDArray[np.float64] | None = None
    gating: Gating = Gating.SOFTMAX
    rounding: float = _ROUNDING["F32"]

    @property
    def n_experts(self) -> int:
        """Experts it chooses from."""
        return len(self.weight)

    def scores(self, inputs: NDArray[np.float64]) -> Scores:
        """Selection scores for inputs as they were printed.

        Args:
            inputs: (n, n_embd) float64, each number with `PRINTED_DIGITS` significant digits.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.abs(inputs)
            logits = inputs @ self.weight.T
            error = (_half_unit(size) + self.rounding * size) @ np.abs(self.weight).T
            if self.logit_bias is not None:
                logits += self.logit_bias
                error += self.rounding * np.abs(logits)
            if self.gating is Gating.SIGMOID:
                value, low, high = (1 / (1 + np.exp(-z)) for z in (logits, logits - error, logits + error))
            else:
                value = np.maximum(logits - logits.max(axis=1, keepdims=True), _LOWEST_EXPONENT)
                low, high = value - error, value + error
                if self.selection_bias is not None:  # else their exponents will do, and lose no digits
                    share = np.exp(value) / np.exp(value).sum(axis=1, keepdims=True)
                    factor = np.exp(2 * error.max(axis=1, keepdims=True))  # its own error, and all in the sum
                    value, low, high = share, share / factor, share * factor
            rounded = np.abs(value)
            if self.gating is Gating.SOFTMAX and self.selection_bias is None:
                rounded = np.maximum(rounded, 1)  # a share of exp(value)
            if self.selection_bias is not None:
                rounded = np.maximum(rounded, np.abs(self.selection_bias))
                value, low, high = (score + self.selection_bias for score in (value, low, high))
            slack = _SCORE_ROUNDING * rounded
        value[~np.isfinite(inputs).all(axis=1)] = np.nan
        return Scores(value, low - slack, high + slack)


def _half_unit(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a unit of the last printed digit of numbers of this size; 0 is printed for nothing else."""
    exponent = np.floor(np.log10(np.where(size > 0, size, 1)))
    return np.where(size > 0, 0.5 * 10 ** (exponent - (PRINTED_DIGITS - 1)), 0)


class RouterFile:
    """The routers in a GGUF file, or in all parts of a split one; read from it when they are asked for.

    Args:
        path: the file; of a split model the first part (`-00001-of-…`), the others beside it.

    Attributes:
        layers: numbers of the layers with a router, ascending.
        n_embd: numbers of an input.

    Raises:
        UsageError: the file cannot be read, or has no routers.
        MoeLiveError: the choice of experts depends on more than is known here.
    """

    def __init__(self, path: str) -> None:
        self._name = printable(path)
        self._tensors: dict[str, Tensor] = {}
        parts = [read_model_file(part) for part in model_parts(path)]
        for part in parts:
            self._tensors |= part.tensors
        self._values = parts[0].values
        self._routers: dict[int, Router] = {}
        routers = {int(m[1]): self._tensors[m[0]] for m in map(_ROUTER.fullmatch, self._tensors) if m}
        if not routers:
            raise UsageError(f"no routers in {self._name}: give the GGUF file of a mixture-of-experts model")
        for layer, router in routers.items():
            if layer >= MAX_LAYERS or len(router.shape) != 2 or not 0 < router.shape[1] <= MAX_EXPERTS:
                raise self._damaged(f"the router of layer {layer} has the shape {list(router.shape)}")
        widths = {router.shape[0] for router in routers.values()}
        if len(widths) > 1 or 0 in widths:
            raise self._damaged(f"its routers take inputs of {sorted(widths)[:5]} numbers")
        self.layers = tuple(sorted(routers))
        self.n_embd = widths.pop()
        architecture = self._values.get("general.architecture")
        if not isinstance(architecture, str):
            raise self._damaged("general.architecture is missing")
        self._architecture = architecture
        if (self._number("expert_group_count") or 1) > 1:
            raise MoeLiveError(
                f"{self._name} limits the choice to groups of experts (expert_group_count), which cannot be "
                "recomputed yet: give another model"
            )

    def __getitem__(self, layer: int) -> Router:
        """The router of one of `layers`.

        Raises:
            MoeLiveError: it is stored in a way, or works in one, that is not known here.
        """
        if layer not in self._routers:
            self._routers[layer] = self._read(layer)
        return self._routers[layer]

    def _read(self, layer: int) -> Router:
        selection_bias = self._bias(f"blk.{layer}.exp_probs_b.bias", layer)
        tensor = self._tensors[f"blk.{layer}.ffn_gate_inp.weight"]
        if tensor.stored is None:
            raise MoeLiveError(
                f"the router of layer {layer} in {self._name} is quantized (type {tensor.kind} of ggml): "
                "only F32, F16 and BF16 can be recomputed; give a file with unquantized routers"
            )
        return Router(
            tensor.numbers(),
            self._bias(f"blk.{layer}.ffn_gate_inp.bias", layer),
            selection_bias,
            self._gating(biased=selection_bias is not None),
            _ROUNDING[tensor.stored],
        )

    def _gating(self, *, biased: bool) -> Gating:
        """How logits become scores. Without a bias it may be unknown: the order is the same."""
        stored = self._number("expert_gating_func")
        with suppress(ValueError):
            if stored:
                return Gating(stored)
        if not biased:
            return Gating.SOFTMAX
        if not stored and self._architecture in _DEFAULT_GATING:
            return _DEFAULT_GATING[self._architecture]
        raise MoeLiveError(
            f"{self._name} does not tell how its routers score experts (expert_gating_func is "
            f"{stored or 'missing'}): only softmax (1) and sigmoid (2) can be recomputed"
        )

    def _number(self, key: str) -> int | None:
        """A number that the architecture has of its own."""
        value = self._values.get(f"{self._architecture}.{key}")
        if value is None or isinstance(value, int):
            return value
        raise self._damaged(f"{key} is no whole number")

    def _bias(self, name: str, layer: int) -> NDArray[np.float64] | None:
        """A number of each expert, if there is such a tensor."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        if (
            tensor.stored is None
            or tensor.shape != self._tensors[f"blk.{layer}.ffn_gate_inp.weight"].shape[1:]
        ):
            raise self._damaged(
                f"a bias of layer {layer} has the shape {list(tensor.shape)} and the type {tensor.kind}"
            )
        return tensor.numbers()

    def _damaged(self, reason: str) -> UsageError:
        return UsageError(f"{self._name} is damaged, or no model: {reason}")
