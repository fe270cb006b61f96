"""Whether the latest steps use the experts otherwise than the run so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind
from moe_live.settings import DEFAULT_WINDOW
from moe_live.statistics.dependence import bins, clustering, variance_of_stretches
from moe_live.statistics.divergence import Divergence, compare, jensen_shannon
from moe_live.statistics.history import history
from moe_live.statistics.members import Member
from moe_live.statistics.statistic import Counted, OnDemand
from moe_live.statistics.tables import count_experts, places_of

MAX_SELECTIONS = 1 << 21
"""Expert ids (4 MB) of the window at most: the window is shorter where its steps have more."""

WINDOWS = 16
"""How many windows, and how many topics, a run must be long for what windows of it have apart to be known."""

TOPIC = 500
"""Tokens that a topic of a text lasts at most, as far as is taken for granted."""

BLOCKS = 8
"""Parts of the window that are held against each other to see how much tokens cluster."""

_LONGER = 1 / 64
"""By how much a run is longer when it is found out anew how its parts differ, where that may wait."""

_PIECE = 1 << 14  # rows counted at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows of some steps: step numbers (n,), ascending, layers (n,), experts by rank (k, n)."""

    step: NDArray[np.int64]
    layer: NDArray[np.uint16]
    by_rank: NDArray[np.uint16]

    def after(self, step: int) -> _Part:
        """The rows of later steps, in memory of their own."""
        first = np.searchsorted(self.step, step, side="right")
        return _Part(self.step[first:].copy(), self.layer[first:].copy(), self.by_rank[:, first:].copy())


class _Latest:
    """The latest steps of one kind.

    Attributes:
        number: (s,) int64, the numbers of the steps, ascending; those up to `dropped` do not count.
        selections: (s,) int64, their expert ids.
        dropped: number of the latest step that was dropped, -1 for none.
        parts: their rows, in order.
    """

    def __init__(self) -> None:
        self.number = np.zeros(0, np.int64)
        self.selections = np.zeros(0, np.int64)
        self.dropped = -1
        self.parts: deque[_Part] = deque()

    def append(self, number: NDArray[np.int64], selections: NDArray[np.int64], window: int) -> None:
        """Add steps (s,) that come after these; drop what the window no longer holds."""
        number = np.concatenate((self.number, number))
        selections = np.concatenate((self.selections, selections))
        fits = np.cumsum(selections[::-1]) <= MAX_SELECTIONS
        first = len(number) - min(window, int(np.count_nonzero(fits)))
        if first:
            self.dropped = max(self.dropped, int(number[first - 1]))
        self.number, self.selections = number[first:], selections[first:]
        while self.parts and self.parts[0].step[-1] <= self.dropped:
            self.parts.popleft()
        if self.parts and self.parts[0].step[0] <= self.dropped:
            self.parts[0] = self.parts[0].after(self.dropped)

    def hold(self, step: NDArray[np.int64], layer: NDArray[np.uint16], by_rank: NDArray[np.uint16]) -> None:
        """Add rows of steps that were appended."""
        alive = step > self.dropped
        if alive.all() and len(step):
            self.parts.append(_Part(step, layer, by_rank))
        elif alive.any():
            self.parts.append(_Part(step[alive], layer[alive], np.compress(alive, by_rank, axis=1)))


class RecentSteps:
    """The rows of the last `window` decode steps that have expert rows.

    The window is exact, whatever batches the steps came in. Steps of kind `Kind.UNDECIDED` are kept beside
    those of kind `Kind.DECODE`; prefill is left out, so that like is compared with like.

    Memory: 2 + 10/k bytes a selection: 0.6 MB for 256 steps of 89 layers and 8 experts, twice
    `MAX_SELECTIONS` at most for each of the two kinds.

    Args:
        window: steps, 1 or more.

    Attributes:
        known: how parts of the run were found to differ when that was asked for last.
    """

    def __init__(self, window: int = DEFAULT_WINDOW) -> None:
        self.window = window
        self.known: Parts | None = None
        self._steps = 0
        self._latest = {kind: _Latest() for kind in (Kind.DECODE, Kind.UNDECIDED)}

    def update(self, tables: Sequence[ExpertRows], kind: NDArray[np.int8]) -> None:
        """Add steps.

        Args:
            tables: expert rows; their `step` indexes `kind`.
            kind: (s,) the kind of each step.
        """
        selections = np.zeros(len(kind), np.int64)
        for rows in tables:
            selections += np.bincount(rows.step, minlength=len(kind)) * rows.experts.shape[1]
        for plane, latest in self._latest.items():
            steps = np.flatnonzero((kind == plane) & (selections > 0))
            if not len(steps):
                continue
            latest.append(steps + self._steps, selections[steps], self.window)
            for rows in tables:
                alive = (kind == plane) & (np.arange(len(kind)) + self._steps > latest.dropped)
                mine = np.flatnonzero(alive.take(rows.step))
                step, layer = rows.step.take(mine) + self._steps, rows.layer.take(mine)
                latest.hold(step, layer, rows.experts.T.take(mine, axis=1))
        self._steps += len(kind)

    def settle(self) -> None:
        """Leave out what was undecided so far: it is prefill."""
        self._latest[Kind.UNDECIDED] = _Latest()

    def __iadd__(self, other: RecentSteps) -> Self:
        """Add the steps of another log, which come after these."""
        for plane, latest in self._latest.items():
            theirs = other._latest[plane]
            if theirs.dropped >= 0:
                latest.dropped = theirs.dropped + self._steps  # and so is all we have
            latest.append(theirs.number + self._steps, theirs.selections, self.window)
            for part in theirs.parts:
                latest.hold(part.step + self._steps, part.layer, part.by_rank)
        self._steps += other._steps
        return self

    def counts(
        self, kinds: Iterable[Kind], layers: Sequence[int], n_experts: int
    ) -> tuple[int, NDArray[np.int32]]:
        """The steps in the window, and its selections in `BLOCKS` parts of as many steps each.

        Args:
            kinds: kinds of the steps; PREFILL has none.
            layers: layers to count.
            n_experts: experts a layer.

        Returns:
            steps, (BLOCKS, len(layers), n_experts) int32, oldest first.
        """
        chosen = [self._latest[kind] for kind in kinds if kind in self._latest]
        number = np.sort(np.concatenate([np.zeros(0, np.int64), *(latest.number for latest in chosen)]))
        complete_from = max((latest.dropped for latest in chosen), default=-1)
        number = number[number > complete_from][-self.window :]
        counts = np.zeros(BLOCKS * len(layers) * n_experts, np.int32)
        if not len(number) or not len(counts):
            return len(number), counts.reshape(BLOCKS, len(layers), n_experts)
        slot = places_of(layers)
        for latest in chosen:
            for part in _pieces(latest.parts):
                layer = slot.take(part.layer)
                block = np.searchsorted(number, part.step) * BLOCKS // len(number)
                place = (block * len(layers) + layer) * n_experts
                inside = (part.step >= number[0]) & (layer >= 0)
                by_rank = part.by_rank
                if not inside.all():
                    place, by_rank = place[inside], by_rank[:, inside]
                count_experts(counts, place, by_rank, n_experts)
        return len(number), counts.reshape(BLOCKS, len(layers), n_experts)


def _pieces(parts: Iterable[_Part]) -> Iterator[_Part]:
    """All rows, in few pieces of some `_PIECE` rows at most; order is lost."""
    by_k: dict[int, list[_Part]] = {}
    for part in parts:
        same = by_k.setdefault(len(part.by_rank), [])
        for begin in range(0, len(part.step), _PIECE):
            rows = slice(begin, begin + _PIECE)
            same.append(_Part(part.step[rows], part.layer[rows], part.by_rank[:, rows]))
            if sum(len(piece.step) for piece in same) >= _PIECE:
                yield _joined(same)
                same.clear()
    yield from (_joined(same) for same in by_k.values() if same)


def _joined(parts: Sequence[_Part]) -> _Part:
    return _Part(
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.layer for part in parts]),
        np.concatenate([part.by_rank for part in parts], axis=1),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """The latest steps beside the run so far.

    Attributes:
        window: steps the window has room for.
        steps: steps in it.
        counts: (layers, E) int64, their selections.
        before: (layers, E) int64, those of all steps before, which they are held against.
        divergence: of the window from the run, the window included; for each layer.
        clustering: (layers,) float64, how many times more windows of this run differ from each other than
            those of independent tokens would, 1 or more. Noise is taken to be larger by as much.
        told: whether the run is long enough, see `tokens_needed`, for that to be known: before, nothing is
            called a drift, as it may be a change of topic like others.
    """

    window: int
    steps: int
    counts: NDArray[np.int64]
    before: NDArray[np.int64]
    divergence: Divergence
    clustering: NDArray[np.float64]
    told: bool

    @property
    def is_whole_run(self) -> bool:
        """Whether there is nothing before the window."""
        return not self.before.any()


@dataclass(frozen=True, eq=False)
class Window:
    """The latest steps.

    Attributes:
        room: steps the window has room for.
        steps: steps in it.
        blocks: (BLOCKS, layers, E) selections of the window, as `RecentSteps.counts` gives them.
    """

    room: int
    steps: int
    blocks: NDArray[np.integer]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(layers, E) those of all blocks."""
        counts: NDArray[np.int64] = self.blocks.sum(axis=0)
        return counts


class Parts(NamedTuple):
    """How parts of a run differ.

    Attributes:
        tokens: of the run.
        stretch: tokens of a part.
        variance: (layers,) float64, see `variance_of_stretches`.
    """

    tokens: float
    stretch: float
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, window: Window, run: NDArray[np.int64], parts: NDArray[np.integer], top_k: float) -> Parts:
        """See `drift`; parts: (parts, layers, E) selections of a sample, in parts as long as the window."""
        total, stretch = _lengths(window, run, top_k)
        # The window is to be held against what came before it, not against itself: without the last part.
        earlier = total * (len(parts) - 1) / len(parts)
        return cls(total, stretch, variance_of_stretches(parts[:-1], top_k, earlier, stretch))

    def hold(self, tokens: float, stretch: float, n_layers: int) -> bool:
        """Whether a run of so many tokens, of which parts are as long, is hardly longer."""
        alike = self.stretch == stretch and len(self.variance) == n_layers
        return alike and self.tokens <= tokens <= self.tokens * (1 + _LONGER)


def tokens_needed(stretch: float) -> float:
    """Tokens that a run must have for what windows of so many tokens have apart to be known; 0 for none."""
    return WINDOWS * max(stretch, TOPIC) if stretch else 0.0


def drift(window: Window, run: NDArray[np.int64], parts: Parts, top_k: float) -> Drift:
    """Hold the window against the run so far.

    A layer has drifted (`divergence.real`) where the window differs from what came before it by more than
    parts of the run of this length do from each other, at a chance of `divergence.FALSE_ALARMS` a layer.

    Args:
        window: the latest steps.
        run: (layers, E) selections of all steps of the same kinds.
        parts: how parts of the run of about this length differ, or of a run that was hardly shorter.
        top_k: experts a row.
    """
    total, stretch = _lengths(window, run, top_k)
    counts = window.counts
    before = run - counts
    apart = np.maximum(clustering(window.blocks, top_k), parts.variance)
    told = total >= tokens_needed(stretch) > 0
    found = compare(counts, before, top_k, clustering=apart)
    with np.errstate(all="ignore"):
        share = before.sum(axis=-1) / run.sum(axis=-1)
    # Window and run differ by as much less than window and what came before, squared to second order.
    divergence = Divergence(
        jensen_shannon(counts, run),
        np.where(share == 0, 0.0, share**2 * found.expected),
        np.where(share == 0, 0.0, share**2 * found.limit),
        found.real & told,
    )
    return Drift(window.room, window.steps, counts, before, divergence, apart, told)


def _lengths(window: Window, run: NDArray[np.int64], top_k: float) -> tuple[float, float]:
    """Tokens of the run, and of the window."""
    lengths = (part.sum(axis=-1).max(initial=0) for part in (run, window.counts))
    total, stretch = (float(selections) / top_k for selections in lengths)
    return total, stretch


def _make(counted: Counted) -> Drift:
    """How parts of the run differ is found out anew, or only once it is longer than it was then."""
    recent, run = counted.steps[RecentSteps], counted.usage
    window = Window(recent.window, *recent.counts(counted.decode, counted.layers, counted.n_experts))
    total, stretch = _lengths(window, run, counted.top_k)
    if counted.anew or recent.known is None or not recent.known.hold(total, stretch, len(run)):
        n_parts = bins(total, stretch, run.size)
        parts = history(counted.sampled, counted.decode, counted.layers, counted.n_experts, n_parts)
        recent.known = Parts.of(window, run, parts.counts, counted.top_k)
    return drift(window, run, recent.known, counted.top_k)


DRIFT = OnDemand(
    name="drift",
    steps_put_off=(
        Member(
            RecentSteps,
            lambda it, portion: it.update(portion.tables, portion.kind),
            new=lambda settings: RecentSteps(settings.window),
        ),
    ),
    make=_make,
    sampled=True,
)
