"""How decode went in the last minutes: what a cache served, what was used again, how even the load was."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.judgement import median
from moe_live.settings import Phase
from moe_live.snapshot import Snapshot
from moe_live.statistics.balance import effective_experts
from moe_live.verdicts import CACHED, FEW

PERIOD = 2.0
"""Seconds that a point stands for."""

POINTS = 60
"""How many there are at most: two minutes."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The latest points of each figure, NaN where there was nothing to tell; the last is the latest.

    Attributes:
        hits: share of the uses found in a cache of a fourth of each layer's experts, those used last.
        overlap: share of a step's experts that the step before used too.
        effective: experts used alike to which the median layer's load comes, over as much of the latest
            decode as tells something.
    """

    hits: tuple[float, ...] = ()
    overlap: tuple[float, ...] = ()
    effective: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Totals:
    """What has been counted in decode since the beginning; differences are what came in between.

    Attributes:
        uses: experts used, hits among them.
        pairs: steps with one before them, over all layers, and the overlaps with those added up.
        counts: (layers, n_experts) selections.
    """

    uses: int
    hits: float
    pairs: int
    overlap: float
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Totals | None:
        """Those of a snapshot, None if it does not have them."""
        if snapshot.locality is None:
            return cls._of_reuse(snapshot)
        layers = [layer for layer in snapshot.locality if layer.uses]
        if not layers:
            return None
        size = max(1, len(layers[0].lru_hit_rate) // CACHED)
        followed = [layer for layer in layers if layer.steps > 1]
        return cls(
            sum(layer.uses for layer in layers),
            sum(layer.uses * float(layer.lru_hit_rate[size - 1]) for layer in layers),
            sum(layer.steps - 1 for layer in followed),
            sum((layer.steps - 1) * layer.overlap[1] for layer in followed),
            snapshot.of(Phase.DECODE),
        )

    @classmethod
    def _of_reuse(cls, snapshot: Snapshot) -> _Totals | None:
        """The same where figures were made of all layers together."""
        reuse = snapshot.reuse
        if reuse is None or not reuse.uses:
            return None
        size = max(1, len(reuse.hits) // CACHED)
        hits = float(reuse.hits[size - 1])
        return cls(reuse.uses, hits, reuse.pairs, reuse.overlap, snapshot.of(Phase.DECODE))


class TrendRecorder:
    """Takes the figures of intervals from totals that grow."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float, float]] = deque(maxlen=POINTS)
        self._before: _Totals | None = None
        self._noted_at = -math.inf
        self._noted: object = None  # what the totals were taken from
        self._was_older = False
        self._counts: NDArray[np.int64] | None = None
        self._effective = math.nan

    def note(self, now: float, snapshot: Snapshot, *, older: bool) -> Trend:
        """Add what came since the last time.

        Args:
            now: seconds.
            snapshot: with its locality or reuse, others than the last time, or nothing is noted.
            older: whether what is read was there before: that tells nothing of when it happened.

        Returns:
            The trend as of now. Nothing of several sources: a picture of them lags by what it takes to make.
        """
        if snapshot.input.is_several:
            return Trend()
        source = snapshot.reuse if snapshot.locality is None else snapshot.locality
        is_due = now >= self._noted_at + PERIOD and source is not self._noted
        totals = _Totals.of(snapshot) if is_due else None
        if totals is not None:
            self._noted = source
            before, periods = self._before, (now - self._noted_at) / PERIOD
            self._before, self._noted_at = totals, now
            was_older, self._was_older = self._was_older, older  # what came since is the rest of that
            if older or was_older or before is None or before.counts.shape != totals.counts.shape:
                self._counts, self._effective = totals.counts, math.nan
            else:
                # What was not looked at in between has the mean of that time.
                self._points.extend([self._between(before, totals)] * min(POINTS, round(periods)))
        return Trend(*zip(*self._points, strict=True)) if self._points else Trend()

    def _between(self, before: _Totals, after: _Totals) -> tuple[float, float, float]:
        """Hits, overlap and effective experts; what was taken back, or counted anew, tells nothing."""
        uses, pairs = after.uses - before.uses, after.pairs - before.pairs
        hits = (after.hits - before.hits) / uses if uses > 0 else math.nan
        overlap = (after.overlap - before.overlap) / pairs if pairs > 0 else math.nan
        since = after.counts - (before.counts if self._counts is None else self._counts)
        if (since < 0).any():
            self._counts, self._effective = after.counts, math.nan
        elif median(since.sum(axis=1).tolist()) >= FEW * since.shape[1]:
            self._counts = after.counts
            self._effective = median(effective_experts(since).tolist())
        return (
            hits if -1e-9 < hits < 1 + 1e-9 else math.nan,
            overlap if -1e-9 < overlap < 1 + 1e-9 else math.nan,
            self._effective,
        )
