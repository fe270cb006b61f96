"""Steps as lines of a table, one for each expert of each row, with what the whole log says of the row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.routing.evidence import Verdict
from moe_live.settings import MAX_LAYERS
from moe_live.tables.columns import Column, Names, Piece, Ranks, Repeated, Type

PIECE = 1 << 18
"""Lines that are made at a time, at most; a row has far fewer."""

COLUMNS = (
    Column("step", Type.INT64, "number of the forward pass, from 1; prefill and decode are counted together"),
    Column("layer", Type.UINT16, "the layer, as the log numbers it"),
    Column("row", Type.INT32, "place of the row in its block (the rows of one layer in one pass), from 0"),
    Column("rank", Type.UINT16, "place of the expert in its row, from 0: the best comes first"),
    Column("expert", Type.UINT16, "the expert"),
    Column("weight", Type.FLOAT64, "what the expert is multiplied with; null where not told", nullable=True),
    Column("phase", Type.STRING, "`prefill` or `decode`"),
    Column("label", Type.STRING, "the label in force when the pass began; null for none", nullable=True),
    Column("believed", Type.BOOL, "whether the router chose so; null where nothing decides", nullable=True),
)
"""Of the table of rows."""

Scalar = TypeVar("Scalar", bound=np.generic)

_PHASES = ("prefill", "decode")


class RowLines:
    """Makes lines of steps.

    There are lines for each row that a sound or a strided logger may have written. In a strided run of the
    server a row that can be recovered stands with the experts that were recovered, without weights, and is
    believed; the others stand as they are written, and are not. So the lines that are believed, and those of
    which nothing decides, are what the summary counts.

    Args:
        layers: of the model; rows of others, which are of draft heads, are left out.
        decode: the kinds of steps that are decode.
    """

    def __init__(self, layers: Collection[int], decode: Collection[Kind]) -> None:
        self._of_model = np.zeros(MAX_LAYERS, np.bool_)
        self._of_model[list(layers)] = True
        self._is_decode = np.array([kind in decode for kind in Kind], np.int8)
        self._steps = 0

    def of(self, batch: StepBatch, verdict: Verdict) -> Iterator[Piece]:
        """The lines of the complete steps that come next, in their order.

        Args:
            batch: the steps, all of one run of the server.
            verdict: on the rows of that run; no matter what if all rows of these steps are `certain`.
        """
        number = self._steps + np.cumsum(batch.begins)
        self._steps = int(number[-1])
        parts = list(self._judged(batch, verdict))
        if not parts:
            return
        rows = _Rows.of(parts, number)
        phase = self._is_decode[batch.kind]
        label = np.where(np.array([name != "" for name in batch.labels])[batch.label], batch.label, -1)
        for begin, end in rows.portions():
            step, counts = rows.step[begin:end], rows.width[begin:end]
            some = slice(int(rows.bounds[begin]), int(rows.bounds[end]))
            yield {
                "step": Repeated.of(number[step], counts),
                "layer": Repeated.of(rows.layer[begin:end], counts),
                "row": Repeated.of(rows.row[begin:end], counts),
                "rank": Ranks(counts),
                "expert": rows.experts[some],
                "weight": None if rows.weights is None else rows.weights[some],
                "phase": Repeated.of(Names(phase[step], _PHASES), counts),
                "label": Repeated.of(Names(label[step], batch.labels), counts) if label.max() >= 0 else None,
                "believed": Repeated.of(rows.believed[begin:end], counts),
            }

    def _judged(self, batch: StepBatch, verdict: Verdict) -> Iterator[tuple[ExpertRows, NDArray[np.int8]]]:
        """The rows of the model, and of each (n,) whether it is believed: 1, 0, or -1 if nothing decides."""
        for rows, believed in _judged(batch, verdict):
            kept = self._of_model[rows.layer]
            if kept.any():
                yield rows.select(kept), believed[kept]


def _judged(batch: StepBatch, verdict: Verdict) -> Iterator[tuple[ExpertRows, NDArray[np.int8]]]:
    """The rows that may be in the table, and whether each is believed."""
    for rows in batch.certain:
        yield rows, np.ones(len(rows), np.int8)
    others = (*batch.written, *batch.repeating)
    if verdict is Verdict.SOUND:
        for tables, believed in ((batch.written, 1), (batch.repeating, 0)):
            for rows in tables:
                yield rows, np.full(len(rows), believed, np.int8)
    elif verdict is Verdict.UNKNOWN:
        for rows in others:
            yield rows, np.where(rows.token == 0, 1, -1).astype(np.int8)
    else:
        recovered = [rows.select(rows.token > 0) for rows in batch.verified]
        tokens = 1 + max((int(rows.token.max(initial=0)) for rows in (*others, *recovered)), default=0)
        known = np.concatenate([np.empty(0, np.int64), *(_places(rows, tokens) for rows in recovered)])
        for rows in others:
            kept = rows.select(~np.isin(_places(rows, tokens), known))
            yield kept, (kept.token == 0).astype(np.int8)
        for rows in recovered:
            yield rows, np.ones(len(rows), np.int8)


def _places(rows: ExpertRows, tokens: int) -> NDArray[np.int64]:
    """(n,) What tells each row of a batch from all others, if no block has more than so many."""
    return (rows.step * MAX_LAYERS + rows.layer) * tokens + rows.token


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows in the order of the log.

    Attributes:
        step: (n,) int64, index into the steps of the batch.
        layer: (n,) uint16.
        row: (n,) int32, index in the block.
        believed: (n,) int8.
        width: (n,) uint16, the k of each.
        bounds: (n + 1,) int64, where each begins in `experts`, and the last one ends.
        experts: (l,) uint16, those of one row after the other.
        weights: (l,) float64 likewise; None if there are none.
    """

    step: NDArray[np.int64]
    layer: NDArray[np.uint16]
    row: NDArray[np.int32]
    believed: NDArray[np.int8]
    width: NDArray[np.uint16]
    bounds: NDArray[np.int64]
    experts: NDArray[np.uint16]
    weights: NDArray[np.float64] | None

    @classmethod
    def of(cls, parts: Sequence[tuple[ExpertRows, NDArray[np.int8]]], number: NDArray[np.int64]) -> _Rows:
        """All rows of these parts.

        Args:
            parts: rows of one k each, and whether they are believed.
            number: (s,) the pass of each step of the batch.
        """
        tables = [rows for rows, _ in parts]
        step = _joined([rows.step for rows in tables])
        layer = _joined([rows.layer for rows in tables])
        token = _joined([rows.token for rows in tables])
        believed = _joined([each for _, each in parts])
        width = _joined([np.full(len(rows), rows.experts.shape[1], np.uint16) for rows in tables])
        experts = _joined([rows.experts.flatten() for rows in tables])
        weights = None
        if any(rows.weights is not None for rows in tables):
            weights = _joined([_weights(rows).flatten() for rows in tables])
        passes = number[step]
        if not _is_ordered(passes, layer, token):
            order = np.lexsort((token, layer, passes))
            start, width = (np.cumsum(width, dtype=np.int64) - width)[order], width[order]
            place = np.repeat(start, width) + Ranks(width).spread()
            experts, weights = experts[place], None if weights is None else weights[place]
            step, layer, token, believed = step[order], layer[order], token[order], believed[order]
        bounds = np.concatenate(([0], np.cumsum(width, dtype=np.int64)))
        return cls(step, layer, token.astype(np.int32), believed, width, bounds, experts, weights)

    def portions(self) -> Iterator[tuple[int, int]]:
        """The rows in portions of `PIECE` lines at most: the first one, and that after the last."""
        begin = 0
        while begin < len(self.width):
            end = int(np.searchsorted(self.bounds, self.bounds[begin] + PIECE, "right")) - 1
            yield begin, end
            begin = end


def _joined(parts: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """All of them, one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _weights(rows: ExpertRows) -> NDArray[np.float64]:
    return np.full(rows.experts.shape, np.nan) if rows.weights is None else rows.weights


def _is_ordered(passes: NDArray[np.int64], layer: NDArray[np.uint16], token: NDArray[np.int64]) -> bool:
    """Whether rows (n,) come as in the log: by pass, then by layer, then by their place in the block."""
    up = (layer[1:] > layer[:-1]) | ((layer[1:] == layer[:-1]) & (token[1:] > token[:-1]))
    return bool(((passes[1:] > passes[:-1]) | ((passes[1:] == passes[:-1]) & up)).all())
