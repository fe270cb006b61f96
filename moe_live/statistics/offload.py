"""Which layers keep their experts in fast memory, where the experts of a layer lie in one piece."""

from __future__ import annotations

import shlex

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.memory import unique
from moe_live.statistics.latest import Uses

FALSE_ALARMS = 1e-3
"""Chance that layers alike are said to differ."""

_ORDERS = 5000  # of layers that are tried

BATCHES = (1, 4, 16, 64)
"""Successive decode steps whose experts are put together."""


def distinct(uses: Uses) -> NDArray[np.float64]:
    """Different experts of so many successive decode steps: what a batch, or a draft, of that size reads.

    Returns:
        (layers, len(BATCHES)), means over the windows that follow one another; NaN without a whole one.
    """
    number = np.cumsum(uses.decode) - 1
    decode = uses.decode[uses.step]
    step, item = number[uses.step[decode]], (uses.slot * uses.n_experts + uses.expert)[decode]
    n_items = len(uses.layers) * uses.n_experts
    means = []
    for batch in BATCHES:
        windows = uses.steps // batch
        whole = step < windows * batch
        there = unique(step[whole] // batch * n_items + item[whole]) % max(1, n_items)
        many = np.bincount(there // max(1, uses.n_experts), minlength=len(uses.layers))
        means.append(many / windows if windows else np.full(len(uses.layers), np.nan))
    return np.stack(means, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Offload:
    """Which layers' experts are in slow memory.

    Attributes:
        by_number: (layers,) bool, those that are if the last layers that fit are in fast memory.
        by_use: (layers,) bool, those that are if the layers that read the largest share of their experts are.
        read: (layers,) bytes of its experts that a decode token reads.
        gains: whether the layers that read much in one half of the steps certainly do so in the other, so
            that choosing by use reads less there.
    """

    by_number: NDArray[np.bool_]
    by_use: NDArray[np.bool_]
    read: NDArray[np.float64]
    gains: bool

    @property
    def slow(self) -> NDArray[np.bool_]:
        """(layers,) those that are: by use if that gains."""
        return self.by_use if self.gains else self.by_number


@dataclass(frozen=True, slots=True, eq=False)
class Offloading:
    """Which layers' experts go where, and what that rests on.

    Attributes:
        layers: numbers of the layers, ascending.
        steps: decode steps.
        room: bytes of fast memory for experts.
        layer_bytes: (layers,) bytes of all experts of each layer.
        distinct: (layers, len(BATCHES)) different experts of so many successive decode steps.
        choice: of layers.
        arguments: what llama.cpp is given for it.
        knows_others: whether what of the model is no expert was taken off the room.
    """

    layers: tuple[int, ...]
    steps: int
    room: int
    layer_bytes: NDArray[np.int64]
    distinct: NDArray[np.float64]
    choice: Offload
    arguments: tuple[str, ...]
    knows_others: bool

    @property
    def command(self) -> str:
        """The arguments behind the name of the server, for a shell."""
        return f"llama-server {shlex.join(self.arguments)}"

    @property
    def read_on_cpu(self) -> float:
        """Bytes that a decode token reads of the experts in slow memory."""
        return float(self.choice.read[self.choice.slow].sum())


def offload(
    uses: Uses, expert_bytes: NDArray[np.int64], layer_bytes: NDArray[np.int64], capacity: int
) -> Offload:
    """Choose layers whose experts fit into fast memory.

    Args:
        uses: of some steps.
        expert_bytes: (layers,) bytes of an expert of each layer.
        layer_bytes: (layers,) bytes of all experts of each layer.
        capacity: bytes of fast memory for experts.
    """
    halves = np.zeros((2, len(uses.layers)))
    decode = uses.decode[uses.step]
    np.add.at(halves, (uses.in_second[decode].astype(np.int64), uses.slot[decode]), 1)
    density = halves * expert_bytes / layer_bytes
    share = density.sum(axis=0)
    number = np.arange(len(uses.layers), dtype=np.float64)
    return Offload(
        by_number=_slow(number, layer_bytes, capacity),
        by_use=_slow(np.round(share / max(share.max(), 1e-300), 12), layer_bytes, capacity),
        read=halves.sum(axis=0) * expert_bytes / max(1, uses.decode_tokens),
        gains=_holds(density),
    )


def _holds(density: NDArray[np.float64]) -> bool:
    """Whether the layers that read much in one half (2, layers) do so in the other, more than by chance.

    That is held against the same layers in any other order: chance, however alike the tokens of a text are,
    does not single out the same layers twice.
    """
    beyond = density - density.mean(axis=1, keepdims=True)
    if (np.abs(beyond).max(axis=1) <= 1e-9 * np.abs(density).max(axis=1)).any():  # each layer reads alike
        return False
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(np.arange(density.shape[1]), (_ORDERS, 1)), axis=1)
    by_chance = (beyond[0] * beyond[1][orders]).sum(axis=1)
    as_much = np.count_nonzero(by_chance >= (beyond[0] * beyond[1]).sum() * (1 - 1e-12))
    return bool((as_much + 1) / (_ORDERS + 1) < FALSE_ALARMS)


def _slow(worth: NDArray[np.float64], layer_bytes: NDArray[np.int64], capacity: int) -> NDArray[np.bool_]:
    """The layers (layers,) that are left over when those of most worth, of equals the last, are taken."""
    order = np.lexsort((np.arange(len(worth)), worth))[::-1]
    slow = np.ones(len(worth), np.bool_)
    slow[order[np.cumsum(layer_bytes[order]) <= capacity]] = False
    return slow
