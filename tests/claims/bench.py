"""What is claimed of many layers, counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.judgement import Subject, Word
from moe_live.settings import Settings
from moe_live.snapshot import Section
from moe_live.statistics.blocks import CERTAIN
from moe_live.statistics.dependence import bins, variance_of_stretches
from moe_live.statistics.divergence import ENOUGH
from moe_live.statistics.drift import BLOCKS, Parts, Window
from moe_live.statistics.drift import drift as judged
from moe_live.statistics.labels import PERIODS, divergences
from moe_live.statistics.pairs import ENOUGH_PAIRS, notable_pairs
from moe_live.statistics.prediction import PairedRows, gains
from moe_live.structure import FEW_TESTED, GAIN, VARYING
from moe_live.verdicts import verdict
from tests.claims.data import SHAPES, TEXTS, Text, chosen

SAMPLED = 300
"""Tokens of a sample."""

ENOUGH_OF_A_KIND = 300
"""Layers of a kind of data whose rate is looked at by itself."""


@dataclass
class Rates:
    """How many layers were called, how many undecided, of how many.

    Attributes:
        called: something was claimed of so many.
        undecided: it was said of so many that it cannot be told, or is too early to say.
        layers: of so many.
        cells: called and layers for each kind of data, for the report.
    """

    called: int = 0
    undecided: int = 0
    layers: int = 0
    cells: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, cell: str, answers: Iterable[bool | None]) -> None:
        """Count answers: True called, False not, None undecided."""
        answers = list(answers)
        called = sum(answer is True for answer in answers)
        self.called += called
        self.undecided += sum(answer is None for answer in answers)
        self.layers += len(answers)
        before = self.cells.get(cell, (0, 0))
        self.cells[cell] = before[0] + called, before[1] + len(answers)

    @property
    def bound(self) -> float:
        """The rate that more than so many called would exceed in 95 of 100 cases (Wilson's upper bound)."""
        n, rate, z = max(self.layers, 1), self.called / max(self.layers, 1), 1.645
        middle = rate + z * z / (2 * n)
        return (middle + z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))) / (1 + z * z / n)

    def __iadd__(self, other: Rates) -> Self:
        """Add the answers of other layers."""
        self.called += other.called
        self.undecided += other.undecided
        self.layers += other.layers
        for cell, counted in other.cells.items():
            before = self.cells.get(cell, (0, 0))
            self.cells[cell] = before[0] + counted[0], before[1] + counted[1]
        return self

    @property
    def worst(self) -> float:
        """The largest share that is called of a kind of data of which there is enough."""
        return max((called / n for called, n in self.cells.values() if n >= ENOUGH_OF_A_KIND), default=0.0)

    @property
    def holds(self) -> bool:
        """Whether so little is called as must be of what is not there, and enough of it was tried."""
        return (
            self.layers >= 10_000
            and self.called <= self.layers / 1000
            and self.bound <= 0.002
            and self.worst <= 0.01
        )

    def lines(self, claim: str) -> Iterator[str]:
        """The report, kind by kind."""
        for cell, (called, layers) in self.cells.items():
            yield f"    {claim}, {cell}: {called} of {layers}"


def table(without: Mapping[str, Rates], of_structure: Mapping[str, Rates]) -> Iterator[str]:
    """The report of all claims: what is said where there is nothing, and where there is."""
    yield "claim         layers  called  missed  undecided  at most, in 1,000  worst kind"
    for claim, rates in without.items():
        yield (
            f"{claim:<12} {rates.layers:>7} {rates.called:>7} {'':>7} {rates.undecided:>10}"
            f" {1000 * rates.bound:>18.2f} {rates.worst:>11.2%}"
        )
    yield "with structure"
    for claim, rates in of_structure.items():
        missed = rates.layers - rates.called - rates.undecided
        yield f"{claim:<12} {rates.layers:>7} {rates.called:>7} {missed:>7} {rates.undecided:>10}"


Judge = Callable[[NDArray[np.uint16], int], list[bool | None]]
"""What is said of each layer of rows (tokens, layers, k) of so many experts."""


def pairs(rows: NDArray[np.uint16], n_experts: int) -> list[bool | None]:
    """Whether experts are said to be chosen together."""
    found: list[bool | None] = []
    for experts in np.moveaxis(rows, 1, 0):
        has = np.zeros((len(experts), n_experts), np.float32)
        np.put_along_axis(has, experts.astype(np.int64), 1, axis=1)
        layer = notable_pairs(np.rint(has.T @ has).astype(np.int64), len(experts))
        told = layer.tested >= ENOUGH_PAIRS and layer.spread < VARYING
        found.append(bool(layer.strongest or layer.weakest) or (False if told else None))
    return found


def next_layer(rows: NDArray[np.uint16], n_experts: int) -> list[bool | None]:
    """Whether a layer is said to foretell the next."""
    step = max(1, len(rows) // SAMPLED)
    sample = np.ascontiguousarray(np.moveaxis(rows[::step], 1, 0))
    n_pairs, (_, tokens, k) = len(sample) - 1, sample.shape
    pair = np.repeat(np.arange(n_pairs, dtype=np.uint16), tokens)
    lower, upper = (layers.reshape(-1, k) for layers in (sample[:-1], sample[1:]))
    found: list[bool | None] = []
    for gained, error in gains(PairedRows(pair, lower, upper, pair.astype(np.int64)), n_pairs, n_experts).T:
        called = bool(gained >= GAIN and gained - CERTAIN * error > 0 and tokens >= FEW_TESTED)
        found.append(called or (False if gained + CERTAIN * error < GAIN else None))
    return found


def drift(rows: NDArray[np.uint16], n_experts: int) -> list[bool | None]:
    """Whether the latest twentieth of the run is said to differ from what came before."""
    window, k = len(rows) // 20, rows.shape[2]
    if not window:
        return [None] * rows.shape[1]
    blocks = _counts(rows[-window:], np.arange(window) * BLOCKS // window, BLOCKS, n_experts)
    parts = _sampled(rows, bins(len(rows), window), n_experts)
    run = _counts(rows, np.zeros(len(rows), np.int64), 1, n_experts)[0]
    latest = Window(window, window, blocks)
    found = judged(latest, run, Parts.of(latest, run, parts, k), k)
    if not found.told:
        return [None] * rows.shape[1]
    thin = run.sum(axis=1) < ENOUGH * np.count_nonzero(run, axis=1)
    return [
        bool(real) or (None if few else False) for real, few in zip(found.divergence.real, thin, strict=True)
    ]


def labels(rows: NDArray[np.uint16], n_experts: int) -> list[bool | None]:
    """Whether two labels that take turns, each for `PERIODS` periods, are said to differ."""
    period, k = max(1, len(rows) // (2 * PERIODS)), rows.shape[2]
    counts = _counts(rows, np.arange(len(rows)) // period % 2, 2, n_experts)
    apart = variance_of_stretches(_sampled(rows, bins(len(rows), period), n_experts), k, len(rows), period)
    periods = {"a": PERIODS, "b": PERIODS}
    (pair,) = divergences(dict(zip("ab", counts, strict=True)), k, periods, clustering=apart)
    both = counts.sum(axis=0)
    thin = both.sum(axis=1) < ENOUGH * np.count_nonzero(both, axis=1)
    return [bool(real) or (None if few else False) for real, few in zip(pair.layers.real, thin, strict=True)]


def _counts(
    rows: NDArray[np.uint16], part: NDArray[np.int64], parts: int, n_experts: int
) -> NDArray[np.int64]:
    """Selections (parts, layers, n_experts) of rows (tokens, layers, k) that belong to parts (tokens,)."""
    layers = rows.shape[1]
    place = (part[:, None] * layers + np.arange(layers))[:, :, None] * n_experts + rows
    return np.bincount(place.reshape(-1), minlength=parts * layers * n_experts).reshape(
        parts, layers, n_experts
    )


def _sampled(rows: NDArray[np.uint16], parts: int, n_experts: int) -> NDArray[np.int64]:
    """The selections of a sample of tokens in parts of the time; what repeats a token is in it as that is."""
    token = np.cumsum(np.append(True, (rows[1:] != rows[:-1]).any(axis=(1, 2)))) - 1
    share = SAMPLED / len(rows)
    chosen = np.flatnonzero((np.random.default_rng(0).random(token[-1] + 1) < share)[token])
    return _counts(rows[chosen], chosen * parts // len(rows), parts, n_experts)


def cache(rows: NDArray[np.uint16], n_experts: int) -> list[bool | None]:
    """Whether a cache is said to pay, or to help, of each layer as of a model of one."""
    return [_cache(rows[:, [layer]], n_experts) for layer in range(rows.shape[1])]


def _cache(rows: NDArray[np.uint16], n_experts: int) -> bool | None:
    analyzer = Analyzer(Settings(n_experts=n_experts))
    analyzer.feed_rows(rows)
    said = verdict(Subject.CACHE, analyzer.snapshot([Section.LOCALITY]))
    assert said is not None
    return {Word.TOO_EARLY: None, Word.HARDLY_PAYS: False}.get(said.word, True)


def without_structure(
    judge: Judge,
    layers: int,
    tokens: Sequence[int],
    *,
    seed: int,
    texts: Sequence[Text] = TEXTS,
    shapes: Sequence[tuple[int, int]] = SHAPES,
) -> Rates:
    """What is said of so many layers of each text, shape and length."""
    rng, rates = np.random.default_rng(seed), Rates()
    for text in texts:
        for shape in shapes:
            for length in tokens:
                rates.add(text.name, judge(chosen(rng, text, shape, length, layers), shape[0]))
    return rates
