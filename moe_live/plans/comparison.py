"""Two logs, or two labels of one, held against each other."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.plans.reading import finished_state
from moe_live.reports.unusable import require_usable
from moe_live.routing.evidence import Verdict
from moe_live.session import Session
from moe_live.settings import DEFAULT_LATEST_USES, RowMode, Settings
from moe_live.snapshot import Snapshot
from moe_live.sources.archive import ArchiveSource
from moe_live.state.file import is_state
from moe_live.statistics.agreement import Pairing
from moe_live.statistics.balance import balance
from moe_live.statistics.comparison import Compared
from moe_live.statistics.hot_set import COVERED_PERCENT, coverage
from moe_live.statistics.likeness import likeness

_SLICE = 0.05  # seconds of reading one log before the other has its turn
_MATCHED = 0.9  # of the rows of both logs, for them to be taken for one text

_STRIDED = (Verdict.STRIDED, Verdict.MIXED)


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Compared):
    """What two sides have in common, with what is known of each.

    Attributes:
        snapshots: of each log; of two labels the one log twice.
    """

    snapshots: tuple[Snapshot, Snapshot]


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    same_text: bool | None = None,
) -> Comparison:
    """Hold two finished logs against each other: is it still the same model?

    Of states it is told how alike the use of the experts is, and no more: they have no rows.

    Args:
        a: a log, packed by gzip or not, or a state.
        b: the other.
        settings: what to count; by default what the command does.
        same_text: whether they are of one text; None to find out.

    Raises:
        MoeLiveError: a log cannot be read, has no usable line, or both have no layer in common.
    """
    return compare_logs((os.fspath(a), os.fspath(b)), settings, same_text=same_text)


def compare_logs(
    paths: Sequence[str],
    settings: Settings | None = None,
    *,
    same_text: bool | None = None,
    progress: Callable[[float], object] = lambda _: None,
) -> Comparison:
    """Hold two finished logs against each other, row by row and as a whole; states as a whole only.

    Args:
        paths: of the two.
        settings: what to count.
        same_text: whether they are of one text; None to find out.
        progress: is told the share that is read.

    Raises:
        MoeLiveError: a log cannot be read, has no usable line, or both have no layer in common; or it is
            told to be one text of what has no rows.
    """
    settings = replace(settings or Settings(), latest_uses=DEFAULT_LATEST_USES)
    if any(map(is_state, paths)):
        if same_text:
            raise UsageError("a state has no rows that could be those of one text: give two logs")
        sides = [_alone(path, settings, progress) for path in paths]
        return replace(_as_a_whole(paths, (sides[0], sides[1])), without_rows="states have no rows")
    pairing = Pairing()
    with ExitStack() as stack:
        runs = []
        for log, path in enumerate(paths):
            analyzer = Analyzer(settings, paths=(path,), watch=partial(pairing.add, log))
            runs.append(Session(ArchiveSource((path,)), analyzer))
            stack.callback(runs[-1].source.close)
        while not all(run.ended for run in runs):
            behind = pairing.behind()
            run = runs[1 - behind if runs[behind].ended else behind]
            run.ingest(_SLICE)
            statuses = [run.source.status() for run in runs]
            sizes = sum(status.total or 0 for status in statuses)
            progress(sum(status.position for status in statuses) / max(1, sizes))
        first, second = (run.finish() for run in runs)
    pairing.finish()
    for snapshot in (first, second):
        require_usable(snapshot)
    strided = any(snapshot.rows.soundness in _STRIDED for snapshot in (first, second))
    as_written = settings.rows is RowMode.LOGGED or (settings.rows is RowMode.AUTO and not strided)
    rows = pairing.agreement(as_written=as_written)
    # In a strided log rows without a counterpart are those that are not real.
    matched = 2 * float(pairing.agreement(as_written=True).rows.sum()) / max(1, sum(pairing.rows))
    if same_text is None:
        same_text = matched >= _MATCHED and rows.spans.belong_together()
    whole = _as_a_whole(paths, (first, second))
    return replace(whole, rows=rows, matched=matched, same_text=same_text)


def _alone(path: str, settings: Settings, progress: Callable[[float], object]) -> Snapshot:
    """What a state knows, or a log that is read to its end.

    Raises:
        MoeLiveError: it cannot be read, or has no usable line.
    """
    if is_state(path):
        snapshot = finished_state(path, settings).snapshot()
    else:
        session = Session(ArchiveSource((path,)), Analyzer(settings, paths=(path,)))
        with closing(session.source):
            while not session.ended:
                session.ingest(_SLICE)
                status = session.source.status()
                progress(status.position / max(1, status.total or 0))
            snapshot = session.finish()
    require_usable(snapshot)
    return snapshot


def _as_a_whole(paths: Sequence[str], snapshots: tuple[Snapshot, Snapshot]) -> Comparison:
    """How alike the use of the experts is, and some figures side by side.

    Raises:
        MoeLiveError: they have no layer in common.
    """
    first, second = snapshots
    layers = sorted(set(first.model.layers) & set(second.model.layers))
    if not layers:
        raise MoeLiveError("the logs have no layer in common: they are of different models")
    counts = [_counts(snapshot, layers) for snapshot in snapshots]
    width = max(each.shape[1] for each in counts)
    return Comparison(
        names=(paths[0], paths[1]),
        layers=tuple(layers),
        snapshots=snapshots,
        figures=(_of_log(first), _of_log(second)),
        usage=likeness(
            _wide(counts[0], width),
            _wide(counts[1], width),
            (_halves(first, layers, width), _halves(second, layers, width)),
        ),
    )


def compare_labels(snapshot: Snapshot, names: tuple[str, str]) -> Comparison:
    """Hold two labels of one log against each other.

    Raises:
        UsageError: the log has no such label.
    """
    usages = {usage.label: usage for usage in snapshot.labels.usages} if snapshot.labels else {}
    for name in names:
        if name not in usages:
            known = f"its labels are {', '.join(map(printable, usages))}" if usages else "it has no labels"
            raise UsageError(f"there is no label {printable(name)} in the log: {known}")
    counts = [usages[name].counts for name in names]
    first, second = (_of_counts(of_label, snapshot.model.top_k) for of_label in counts)
    return Comparison(
        names=names,
        layers=snapshot.model.layers,
        snapshots=(snapshot, snapshot),
        figures=(first, second),
        usage=likeness(counts[0], counts[1]),
        without_rows="two labels",
    )


def _of_log(snapshot: Snapshot) -> dict[str, float]:
    locality = snapshot.locality or ()
    return _of_counts(snapshot.counts, snapshot.model.top_k) | {
        "overlap": _mean([layer.overlap[1] for layer in locality]),
        "lru": _mean([layer.lru_hit_rate[max(len(layer.lru_hit_rate) // 4, 1) - 1] for layer in locality]),
    }


def _of_counts(counts: NDArray[np.int64], top_k: int | None) -> dict[str, float]:
    """Figures of selections (layers, n_experts)."""
    return {
        "entropy_normalized": _mean([layer.entropy_normalized for layer in balance(counts, top_k)]),
        "experts_90": _mean(coverage(counts)[:, COVERED_PERCENT.index(90)].tolist()),
        "unused": float((counts == 0).sum()),
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _counts(snapshot: Snapshot, layers: Sequence[int]) -> NDArray[np.int64]:
    """Selections (layers, n_experts) in decode steps, if there are some, else in all."""
    of_layer = {entry.layer: entry.usage for entry in snapshot.layers}
    usages = [of_layer[layer] for layer in layers]
    decode = np.stack([usage.decode for usage in usages])
    return decode if decode.sum() else np.stack([usage.counts for usage in usages])


def _halves(
    snapshot: Snapshot, layers: Sequence[int], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Selections (layers, width) of the two halves of the latest decode steps."""
    empty = np.zeros((len(layers), width), np.int64)
    if snapshot.latest is None or not snapshot.latest.steps:
        return empty, empty
    there = {layer: row for row, layer in enumerate(snapshot.latest.layers)}
    first, second = (_wide(half, width) for half in snapshot.latest.halves())
    return (
        np.stack([first[there[layer]] if layer in there else empty[0] for layer in layers]),
        np.stack([second[there[layer]] if layer in there else empty[0] for layer in layers]),
    )


def _wide(counts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(counts, ((0, 0), (0, width - counts.shape[1])))
