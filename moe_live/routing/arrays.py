"""Arrays of chosen experts to steps: what engines return for a request, where nothing has to be found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind, StepBatch, repeats
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K, Phase

_ROWS = 1 << 16  # that are made into steps at a time


@dataclass(frozen=True, slots=True, eq=False)
class ExpertArrays:
    """The experts that the routers of all layers chose for some tokens, checked.

    Attributes:
        experts: (tokens, layers, k), integers, best first.
        layers: (layers,) uint16, ascending.
        is_prefill: (tokens,) bool.
    """

    experts: NDArray[np.integer]
    layers: NDArray[np.uint16]
    is_prefill: NDArray[np.bool_]

    @classmethod
    def checked(
        cls,
        experts: ArrayLike,
        weights: ArrayLike | None,
        layers: Sequence[int] | NDArray[np.integer] | None,
        phase: ArrayLike | None,
    ) -> ExpertArrays:
        """See `Analyzer.feed_rows`.

        Raises:
            ValueError: a shape or a value is not what it can be.
            TypeError: a dtype is not.
        """
        found = _integers("experts", experts)
        if found.ndim != 3:
            raise ValueError(f"experts has the shape {found.shape}; expected are (tokens, layers, k)")
        tokens, n_layers, k = found.shape
        if not (1 <= n_layers <= MAX_LAYERS and 1 <= k <= MAX_TOP_K):
            raise ValueError(
                f"experts has {n_layers} layers and k = {k}; expected are 1 to {MAX_LAYERS:,} layers, "
                f"and 1 to {MAX_TOP_K} experts a row"
            )
        wrong = np.argwhere((found < 0) | (found >= MAX_EXPERTS))
        if len(wrong):
            at = ", ".join(map(str, wrong[0]))
            raise ValueError(
                f"experts[{at}] is {found[tuple(wrong[0])]}; expected are 0 to {MAX_EXPERTS - 1:,}"
            )
        if weights is not None:
            _check_weights(np.asarray(weights), found.shape)
        return cls(found, _layers(layers, n_layers), _is_prefill(phase, tokens))

    def of_layers(
        self, layers: Collection[int], weights: ArrayLike | None
    ) -> tuple[ExpertArrays, NDArray[np.floating] | None]:
        """The same of these layers only, with the weights (tokens, layers, k) of these."""
        kept = np.isin(self.layers, list(layers))
        found = replace(self, experts=self.experts[:, kept], layers=self.layers[kept])
        return found, None if weights is None else np.asarray(weights, np.float64)[:, kept]

    def steps(self, label: str, highest: int) -> Iterator[StepBatch]:
        """All steps: each token of decode is one, and each run of tokens of prefill.

        Args:
            label: what the user calls the time in which they began.
            highest: highest layer with expert rows seen so far, these included.
        """
        tokens = len(self.is_prefill)
        portion = max(1, _ROWS // len(self.layers))
        changes = np.flatnonzero(self.is_prefill[1:] != self.is_prefill[:-1]) + 1
        bounds = [0, *changes.tolist(), tokens] if tokens else []
        for begin, end in pairwise(bounds):
            prefill = bool(self.is_prefill[begin])
            for start in range(begin, end, portion):
                experts = self.experts[start : min(start + portion, end)].astype(np.uint16)
                rows, n_steps = self._prompt(experts) if prefill else self._generated(experts)
                impossible = repeats(rows.experts.T)
                if impossible is not None:
                    rows = rows.select(~impossible)
                yield StepBatch(
                    kind=np.full(n_steps, Kind.PREFILL if prefill else Kind.DECODE, np.int8),
                    tokens=np.full(n_steps, len(experts) // n_steps),
                    begins=np.full(n_steps, not prefill or start == begin),
                    labels=(label,),
                    label=np.zeros(n_steps, np.int64),
                    sequence=np.full(n_steps, -1),
                    highest=highest,
                    single=(rows,) if len(rows) else (),  # no logger can have strided over them
                    written=(),
                    repeating=(),
                    impossible=Counter({experts.shape[2]: experts[..., 0].size - len(rows)}),
                    verified=(),
                    gates=(),
                )

    def _generated(self, experts: NDArray[np.uint16]) -> tuple[ExpertRows, int]:
        """Rows (tokens, layers, k) of decode, and how many steps that is."""
        tokens, n_layers, k = experts.shape
        size = tokens * n_layers
        return ExpertRows(
            step=np.repeat(np.arange(tokens), n_layers),
            layer=np.tile(self.layers, tokens),
            token=np.zeros(size, np.int64),
            whole=np.ones(size, np.bool_),
            experts=np.ascontiguousarray(experts.reshape(size, k).T).T,
        ), tokens

    def _prompt(self, experts: NDArray[np.uint16]) -> tuple[ExpertRows, int]:
        """Rows (tokens, layers, k) of one step of prefill, layer by layer."""
        tokens, n_layers, k = experts.shape
        size = tokens * n_layers
        return ExpertRows(
            step=np.zeros(size, np.int64),
            layer=np.repeat(self.layers, tokens),
            token=np.tile(np.arange(tokens), n_layers),
            whole=np.ones(size, np.bool_),
            experts=np.ascontiguousarray(experts.transpose(2, 1, 0).reshape(k, size)).T,
        ), 1


def _integers(name: str, values: ArrayLike) -> NDArray[np.integer]:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} is of {array.dtype}; expected are integers")
    return array


def _check_weights(weights: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if weights.shape != shape:
        raise ValueError(f"weights has the shape {weights.shape}; expected is that of experts, {shape}")
    if not np.issubdtype(weights.dtype, np.floating):
        raise TypeError(f"weights is of {weights.dtype}; expected are floating-point numbers")
    if not np.isfinite(weights).all():
        raise ValueError("weights holds NaN or inf; expected are finite numbers")


def _layers(layers: Sequence[int] | NDArray[np.integer] | None, n_layers: int) -> NDArray[np.uint16]:
    if layers is None:
        return np.arange(n_layers, dtype=np.uint16)
    numbers = _integers("layers", layers)
    if numbers.shape != (n_layers,):
        raise ValueError(f"layers has the shape {numbers.shape}; expected is ({n_layers},), as experts has")
    if numbers[0] < 0 or numbers[-1] >= MAX_LAYERS or (numbers[1:] <= numbers[:-1]).any():
        raise ValueError(f"layers is {numbers.tolist()}; expected are ascending numbers below {MAX_LAYERS:,}")
    return numbers.astype(np.uint16)


def _is_prefill(phase: ArrayLike | None, tokens: int) -> NDArray[np.bool_]:
    if phase is None:
        return np.zeros(tokens, np.bool_)
    phases = np.asarray(phase)
    expected = (Phase.PREFILL, Phase.DECODE)
    wrong = [name for name in np.unique(phases).tolist() if name not in expected]
    if wrong:
        raise ValueError(
            f"phase holds {wrong[0]!r}; expected are {' and '.join(map(repr, map(str, expected)))}"
        )
    if phases.shape not in ((), (tokens,)):
        raise ValueError(
            f"phase has the shape {phases.shape}; expected is one name, or ({tokens},), one a token"
        )
    return np.asarray(np.broadcast_to(phases == Phase.PREFILL, (tokens,)))
