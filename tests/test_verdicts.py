"""What is said of each subject, at the thresholds of every word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.judgement import WORDS, Judgement, Subject, Word, median
from moe_live.routing.evidence import Verdict
from moe_live.settings import RowMode, Settings
from moe_live.snapshot import (
    Drift,
    ExpertPair,
    LabelDivergence,
    Labels,
    LabelUsage,
    LayerLocality,
    LayerPairs,
    LayerTransition,
    LayerUsage,
    Model,
    PhaseCount,
    Rows,
    Snapshot,
    Usage,
)
from moe_live.statistics.divergence import Divergence
from moe_live.verdicts import few, verdict, verdicts
from tests.reports.snapshots import EMPTY, analyzed_with_labels, snapshots

EXPERTS = 100


@dataclass(frozen=True)
class Case:
    """What is to be said of a snapshot."""

    snapshot: Snapshot
    word: Word
    text: str

    @property
    def sure(self) -> bool:
        return "surer with" not in self.text


def used(counts: Sequence[Sequence[int]] | NDArray[np.int64], top_k: int = 4) -> Snapshot:
    """Layers 0, 1, … with these selections, all in decode."""
    table = np.array(counts, np.int64)
    layers = tuple(LayerUsage(layer, Usage(row, row)) for layer, row in enumerate(table))
    return replace(
        EMPTY,
        model=Model(tuple(range(len(table))), table.shape[1], top_k, (), None),
        steps=PhaseCount(0, 1000),
        layers=layers,
        overall=Usage(table.sum(axis=0), table.sum(axis=0)),
    )


def alike(n: int, each: int = 100, layers: int = 2) -> Snapshot:
    """So many of the experts used alike, the others not at all."""
    return used(np.tile(np.where(np.arange(EXPERTS) < n, each, 0), (layers, 1)))


# -- rows -------------------------------------------------------------------------------------------------


def rows(
    soundness: Verdict,
    *,
    counted: int = 100,
    recovered: int = 0,
    lost: int = 0,
    mode: RowMode = RowMode.AUTO,
    layers: int = 2,
) -> Snapshot:
    known = Rows(mode, 100 if counted else 0, counted, recovered, lost, soundness, "")
    return replace(EMPTY, rows=known, model=Model(tuple(range(layers)), 8, 2, (), None))


UNDECIDED = "not enough seen to tell whether prompt rows are real selections"
ROWS = [
    Case(rows(Verdict.UNKNOWN, counted=0), Word.UNDECIDED, "no expert rows so far; surer with expert rows"),
    Case(rows(Verdict.SOUND), Word.SOUND, "100 of 100 rows counted"),
    Case(
        rows(Verdict.UNKNOWN),
        Word.EITHER_WAY,
        "every row stands alone in its block, 100 of 100 rows counted",
    ),
    Case(
        rows(Verdict.UNKNOWN, lost=1),
        Word.UNDECIDED,
        f"{UNDECIDED}, 100 of 100 rows counted; surer with more or longer prompts",
    ),
    Case(
        rows(Verdict.UNKNOWN, recovered=1),
        Word.UNDECIDED,
        f"{UNDECIDED}, 100 of 100 rows counted; surer with more or longer prompts",
    ),
    Case(
        rows(Verdict.UNKNOWN, recovered=1, lost=39, counted=61, mode=RowMode.VERIFIED),
        Word.UNDECIDED,
        f"{UNDECIDED}, 61 of 100 rows counted; surer with more or longer prompts",
    ),
    Case(
        rows(Verdict.UNKNOWN, lost=99, layers=1),
        Word.UNDECIDED,
        f"{UNDECIDED}, 100 of 100 rows counted; surer with rows of a second layer",
    ),
    Case(
        rows(Verdict.STRIDED, recovered=4, lost=40, counted=60),
        Word.STRIDED,
        "most prompt rows are not real selections, 40 of 100 rows left out, 4 recovered",
    ),
    Case(
        rows(Verdict.STRIDED, recovered=4, lost=40, mode=RowMode.LOGGED),
        Word.STRIDED,
        "most prompt rows are not real selections, 100 of 100 rows counted as asked, 40 wrong",
    ),
    Case(
        rows(Verdict.MIXED, recovered=4, lost=40, counted=60),
        Word.MIXED,
        "some prompt rows are not real selections, 40 of 100 rows left out, 4 recovered",
    ),
]


# -- phase ------------------------------------------------------------------------------------------------


def phases(prefill: int, decode: int, *, known: bool, expert_rows: bool = True) -> Snapshot:
    """Prefill steps of ten tokens and decode steps of two."""
    return replace(
        alike(8) if expert_rows else EMPTY,
        steps=PhaseCount(prefill, decode),
        tokens=PhaseCount(10 * prefill, 2 * decode),
        last_layer_known=known,
    )


GUESS = "steps of several tokens are taken for prefill"
PHASES = [
    Case(phases(0, 0, known=False), Word.GUESSED, "no steps so far; surer with steps"),
    Case(
        phases(1, 1, known=True),
        Word.KNOWN,
        "1 prefill step of 10 tokens, 1 decode step of 2 tokens",
    ),
    Case(phases(0, 3, known=False), Word.KNOWN, "3 decode steps of 6 tokens"),
    Case(phases(3, 0, known=True), Word.KNOWN, "3 prefill steps of 30 tokens; surer with decode steps"),
    Case(
        phases(3, 3, known=False),
        Word.GUESSED,
        f"{GUESS}, 3 prefill steps of 30 tokens, 3 decode steps of 6 tokens; surer with a step of one token",
    ),
    Case(
        phases(3, 0, known=False, expert_rows=False),
        Word.GUESSED,
        f"{GUESS}, 3 prefill steps of 30 tokens; surer with expert lines",
    ),
    Case(phases(0, 3, known=False, expert_rows=False), Word.KNOWN, "3 decode steps of 6 tokens"),
]


# -- balance and hot set ----------------------------------------------------------------------------------


def nearly_alike(n: int, each: int) -> Snapshot:
    """So many of the experts used alike, but for the first, which is used a little more."""
    counts = np.where(np.arange(EXPERTS) < n, each, 0)
    counts[0] += max(1, each // 10)
    return used(np.tile(counts, (2, 1)))


def balance_of(n: int, entropy: str, worst: str, by_chance: str = "<0.1") -> str:
    return (
        f"like {n}.0 of 100 experts used alike, entropy {entropy} of 1, "
        f"worst MaxVio {worst} of at most 24 in layer 0, "
        f"{2 * (EXPERTS - n)} of 200 unused ({by_chance} by chance)"
    )


MORE_TEXTS = "; surer with tokens of other texts"


NO_ROWS = "no expert rows so far; surer with expert rows"
BALANCE = [
    Case(EMPTY, Word.TOO_EARLY, NO_ROWS),
    Case(nearly_alike(76, 1000), Word.EVEN, balance_of(76, "0.94", "0.45", "0")),
    Case(nearly_alike(74, 1000), Word.FAIR, balance_of(74, "0.93", "0.48", "0")),
    Case(nearly_alike(41, 1000), Word.FAIR, balance_of(41, "0.81", "1.68")),
    Case(nearly_alike(39, 1000), Word.UNEVEN, balance_of(39, "0.80", "1.81")),
    Case(nearly_alike(50, 10), Word.FAIR, balance_of(50, "0.85", "1.20", "1.2") + MORE_TEXTS),
    Case(alike(76), Word.EVEN, balance_of(76, "0.94", "0.32")),
    Case(
        nearly_alike(50, 9),
        Word.TOO_EARLY,
        balance_of(50, "0.85", "1.22", "2.0") + "; surer with 13 more tokens",
    ),
    Case(
        used(np.zeros((2, EXPERTS), np.int64)),
        Word.TOO_EARLY,
        "like – of 100 experts used alike, entropy – of 1, 200 of 200 unused (200 by chance); "
        "surer with 125 more tokens",
    ),
    Case(
        used([[2475] + [75] * 99, [100] * 100]),
        Word.FAIR,
        "worst MaxVio 24 of at most 24 in layer 0, like 77.5 of 100 experts used alike, entropy 0.94 of 1, "
        f"0 of 200 unused (<0.1 by chance){MORE_TEXTS}",
    ),
    Case(
        used([[100] * 100, ([1000] + [0] * 4) * 20, [100] * 100]),
        Word.FAIR,
        "1 of 3 layers uneven, like 100 of 100 experts used alike, entropy 1.00 of 1, "
        f"worst MaxVio 4 of at most 24 in layer 1, 80 of 300 unused (<0.1 by chance){MORE_TEXTS}",
    ),
]


def hot_set_of(needed: int, half: int, tokens: str) -> str:
    by_layer = f"{needed} to {needed} by layer, {half} carry 50 %"
    return f"{needed} of 100 experts carry 90 %, {tokens} decode tokens, {by_layer}"


HOT_SET = [
    Case(EMPTY, Word.TOO_EARLY, NO_ROWS),
    Case(alike(44), Word.CONCENTRATED, hot_set_of(40, 22, "1,100") + MORE_TEXTS),
    Case(alike(44, 727), Word.CONCENTRATED, hot_set_of(40, 22, "7,997") + MORE_TEXTS),
    Case(alike(44, 728), Word.CONCENTRATED, hot_set_of(40, 22, "8,008")),
    Case(alike(45), Word.MODERATE, hot_set_of(41, 23, "1,125") + MORE_TEXTS),
    Case(alike(76), Word.MODERATE, hot_set_of(69, 38, "1,900") + MORE_TEXTS),
    Case(alike(77), Word.SPREAD_OUT, hot_set_of(70, 39, "1,925") + MORE_TEXTS),
    Case(alike(100, 4), Word.TOO_EARLY, f"{hot_set_of(90, 50, '100')}; surer with 25 more tokens"),
    Case(
        replace(alike(44, 728), model=Model((0, 1), EXPERTS, None, (), None)),
        Word.CONCENTRATED,
        "40 of 100 experts carry 90 %, 40 to 40 by layer, 22 carry 50 %",
    ),
    Case(
        used([[600] * 10 + [0] * 90, [600] * 20 + [0] * 80, [600] * 30 + [0] * 70]),
        Word.CONCENTRATED,
        f"18 of 100 experts carry 90 %, 3,000 decode tokens, 9 to 27 by layer, 10 carry 50 %{MORE_TEXTS}",
    ),
]


# -- cache ------------------------------------------------------------------------------------------------


def cached(
    recent: float, steps: int = 3000, per_step: int = 4, first: float = 0.0, error: float = 0.01
) -> Snapshot:
    """A second layer without any use, whose rates are undefined."""

    def layer(number: int, uses: int) -> LayerLocality:
        rates = [np.full(EXPERTS, rate if uses else math.nan) for rate in (recent, 0.9)]
        return LayerLocality(
            layer=number,
            steps=steps,
            uses=uses,
            overlap={},
            overlap_chance=0.04,
            reuse_median=1.0,
            reuse_p90=2.0,
            never_again=first,
            working_set={},
            lru_hit_rate=rates[0],
            static_hit_rate=rates[1],
            idle_steps=rates[0],
            union={},
            lru_error=np.full(EXPERTS, error),
        )

    return replace(alike(50), locality=(layer(0, steps * per_step), layer(1, 0)))


def cache_of(recent: str, size: int = 25, error: str = "1.0", steps: str = "3,000") -> str:
    gain = f"{float(recent.rstrip('%')) - size:+.1f} ± {error} points"
    chance = f"chance {size}.0%, LRU gains {gain}, {steps} decode steps, the most used 90.0% with hindsight"
    return f"decode: {size} of 100 a layer hit {recent}, {chance}"


EARLY = "; surer with more decode steps"
CACHE = [
    Case(replace(alike(50), locality=()), Word.TOO_EARLY, "no decode steps so far; surer with decode steps"),
    Case(cached(0.9, per_step=0), Word.TOO_EARLY, "no decode steps so far; surer with decode steps"),
    Case(
        cached(0.9, steps=29),
        Word.TOO_EARLY,
        f"{cache_of('90.0%', steps='29')}; surer with 1 more decode step",
    ),
    Case(cached(0.625), Word.PAYS, cache_of("62.5%") + MORE_TEXTS),
    Case(cached(0.625, steps=7999), Word.PAYS, cache_of("62.5%", steps="7,999") + MORE_TEXTS),
    Case(cached(0.625, steps=8000), Word.PAYS, cache_of("62.5%", steps="8,000")),
    Case(cached(0.62), Word.HELPS, cache_of("62.0%") + MORE_TEXTS),
    Case(cached(0.41), Word.HELPS, cache_of("41.0%") + MORE_TEXTS),
    Case(cached(0.39), Word.HARDLY_PAYS, cache_of("39.0%") + MORE_TEXTS),
    Case(cached(0.62, per_step=40), Word.HELPS, cache_of("62.0%", 40) + MORE_TEXTS),
    Case(cached(0.41, first=0.3), Word.HELPS, cache_of("41.0%") + MORE_TEXTS),
    Case(
        cached(0.41, first=0.4),
        Word.TOO_EARLY,
        cache_of("41.0%") + ", 40.0% of the uses are the first of an expert; surer with more decode steps",
    ),
    *(  # a gain that is not told apart from none, that helps or may yet help; and one that certainly does not
        Case(
            cached(recent, error=error),
            word,
            cache_of(f"{recent:.1%}", error=f"{100 * error:.1f}")
            + (EARLY if word is Word.TOO_EARLY else MORE_TEXTS),
        )
        for recent, error, word in (
            (0.45, 0.051, Word.TOO_EARLY),
            (0.45, 0.049, Word.HELPS),
            (0.25, 0.038, Word.TOO_EARLY),
            (0.25, 0.037, Word.HARDLY_PAYS),
            (0.39, 0.034, Word.HARDLY_PAYS),
        )
    ),
    Case(cached(0.9, error=math.nan), Word.TOO_EARLY, cache_of("90.0%", error="–") + EARLY),
    Case(
        replace(alike(50), counts_only=True),
        Word.TOO_EARLY,
        "nothing but counts was kept; surer with all of the analysis",
    ),
]


# -- pairs ------------------------------------------------------------------------------------------------


def pair(a: int, b: int, count: int, expected: float, z: float) -> ExpertPair:
    return ExpertPair(a, b, count, expected, count / expected, 0.0, 0.0, 0.0, z)


def paired(*layers: LayerPairs, top_k: int = 4, experts: int = 5) -> Snapshot:
    return replace(
        used(np.full((len(layers), experts), 100), top_k=top_k), pairs=dict(enumerate(layers, start=3))
    )


NOTHING = LayerPairs(0, math.nan, 0, math.nan, math.nan, (), ())
RARE = LayerPairs(9, 0.9, 0, math.nan, math.nan, (), ())
TESTED = LayerPairs(100, 0.9, 10, 1.1, 3.3, (), ())
TOGETHER = LayerPairs(100, 0.9, 9, 1.1, 3.3, (pair(1, 2, 40, 20.0, 4.0), pair(0, 2, 30, 20.0, 3.5)), ())
APART = LayerPairs(100, 0.9, 9, 1.1, 3.3, (), (pair(0, 4, 1, 20.5, -6.0),))
OTHER_TEXTS = "surer with the same pairs in other texts"
PAIRS = [
    Case(paired(TESTED, top_k=1), Word.CANNOT_BE_TOLD, "rows of one expert have no pairs"),
    Case(
        paired(NOTHING),
        Word.CANNOT_BE_TOLD,
        "no row was counted: the model is too large, or its rows name experts twice",
    ),
    Case(
        paired(RARE, NOTHING),
        Word.TOO_EARLY,
        "no two experts are expected together in five rows; surer with more tokens",
    ),
    Case(
        paired(RARE, experts=20),
        Word.TOO_EARLY,
        "no two experts are expected together in five rows; surer with 150 more tokens",
    ),
    Case(
        paired(TESTED, experts=20),
        Word.TOO_EARLY,
        "only 10 pairs expected together in five rows; surer with 59 more tokens",
    ),
    Case(
        paired(TESTED, replace(TESTED, spread=3.5)),
        Word.CANNOT_BE_TOLD,
        "all pairs vary, 2.30 times as much as in independent rows, as in a text; "
        "surer with rows of more texts",
    ),
    Case(paired(TESTED, TESTED), Word.NONE_FOUND, "none of 20 pairs tested stands out from chance"),
    Case(
        paired(TESTED, replace(TESTED, tested=9)),
        Word.NONE_FOUND,
        "none of 19 pairs tested stands out from chance; surer with more tokens: 1 pair too rare to test",
    ),
    Case(
        paired(TESTED, RARE),
        Word.NONE_FOUND,
        "none of 10 pairs tested stands out from chance; surer with more tokens: 10 pairs too rare to test",
    ),
    Case(
        paired(TESTED, TOGETHER),
        Word.FOUND,
        f"in 1 of 2 layers, layer 4 experts 1 and 2 in 40 rows, 20 expected, 19 pairs tested; {OTHER_TEXTS}",
    ),
    Case(
        paired(APART, TOGETHER),
        Word.FOUND,
        f"in 2 of 2 layers, layer 3 experts 0 and 4 in 1 row, 20.5 expected, 18 pairs tested; {OTHER_TEXTS}",
    ),
]


# -- next layer -------------------------------------------------------------------------------------------


def foretold(*layers: tuple[float, float, int], of_layers: int = 2, error: float = 0.01) -> Snapshot:
    """Hit rate, static hit rate, tokens tested of layers 0, 1, …, and the error of the gain."""
    transitions = tuple(
        LayerTransition(
            i, i + 1, 1000, tested, rate, static, 0.04 if tested else math.nan, rate - static, error
        )
        for i, (rate, static, tested) in enumerate(layers)
    )
    return replace(alike(50, layers=of_layers), transitions=transitions)


def rates(found: str, static: str) -> str:
    of_next = f"{found} of the next layer's experts foretold"
    return f"{of_next}, {static} by always naming the most used, 4.0% by chance"


HALVES = "gains learned on one half and tested on the other"
NEXT_LAYER = [
    Case(
        foretold((0.5, 0.4, 256), of_layers=1),
        Word.CANNOT_BE_TOLD,
        "rows of one layer only; surer with rows of a second layer",
    ),
    Case(
        foretold(),
        Word.TOO_EARLY,
        "no token with rows in two consecutive layers, or a model too large; surer with more tokens",
    ),
    Case(
        foretold((math.nan, math.nan, 0)),
        Word.TOO_EARLY,
        "no token with rows in two consecutive layers, or a model too large; surer with more tokens",
    ),
    Case(
        foretold((0.5, 0.4, 49), (0.5, 0.4, 40)),
        Word.TOO_EARLY,
        f"{rates('50.0%', '40.0%')}; surer with 1 more token",
    ),
    Case(
        foretold((0.5, 0.4375, 50)),
        Word.FOUND,
        f"in 1 of 1 pair of layers, median gain +6.2 ± 1.0 points, {rates('50.0%', '43.8%')}, {HALVES}",
    ),
    Case(
        foretold((0.5, 0.4375, 50), error=0.02),
        Word.TOO_EARLY,
        f"median gain +6.2 ± 2.0 points, {rates('50.0%', '43.8%')}, {HALVES}; surer with more tokens",
    ),
    Case(
        foretold((0.5, 0.4375, 50), error=math.nan),
        Word.TOO_EARLY,
        f"median gain +6.2 ± – points, {rates('50.0%', '43.8%')}, {HALVES}; surer with more tokens",
    ),
    Case(
        foretold((0.5, 0.46875, 50), (0.5, 0.46875, 256), (math.nan, math.nan, 0), error=0.004),
        Word.NONE_FOUND,
        f"median gain +3.1 ± 0.4 points, {rates('50.0%', '46.9%')}, {HALVES}, a gain counts from 5% on",
    ),
]


# -- drift ------------------------------------------------------------------------------------------------


def drifted(
    js: Sequence[float],
    real: Sequence[bool],
    window: Sequence[int],
    run: Sequence[int],
    *,
    steps: int = 256,
    told: bool = True,
) -> Snapshot:
    """Selections of each of ten experts in the window and in the run, by layer."""
    counts = np.tile(np.array(window, np.int64)[:, None], 10)
    of_run = np.tile(np.array(run)[:, None], 10)
    size = len(js)
    divergence = Divergence(np.array(js), np.full(size, 0.01), np.full(size, 0.02), np.array(real, np.bool_))
    return replace(
        used(of_run),
        drift=Drift(256, steps, counts, of_run - counts, divergence, np.ones(size), told),
    )


LATEST = "the latest 256 of 1,000 decode steps"
THIN = "fewer than 30 selections for each expert that is used"
DRIFT = [
    Case(
        drifted([math.nan], [False], [0], [0], steps=0),
        Word.TOO_EARLY,
        "no decode steps so far; surer with decode steps beyond the latest 256",
    ),
    Case(
        drifted([0.0], [False], [50], [50]),
        Word.TOO_EARLY,
        "the window is the whole run: nothing to compare yet; surer with decode steps beyond the latest 256",
    ),
    Case(
        drifted([0.1], [False], [10], [29]), Word.TOO_EARLY, f"{THIN}, {LATEST}; surer with more decode steps"
    ),
    Case(drifted([0.1], [False], [10], [30]), Word.NONE_FOUND, f"none of 1 layer beyond chance, {LATEST}"),
    Case(
        drifted([0.1, 0.1, math.nan], [False] * 3, [10, 10, 0], [30, 29, 30]),
        Word.NONE_FOUND,
        f"none of 1 layer beyond chance, {LATEST}; surer with more decode steps in 2 layers",
    ),
    Case(
        drifted([0.1, 0.1235, 0.2], [True, True, False], [10, 10, 10], [99, 99, 99]),
        Word.FOUND,
        f"in 2 of 3 layers, most in layer 1: 0.123 bits, 0.010 by chance, {LATEST}",
    ),
    Case(
        drifted([0.1, 0.1235], [False, False], [10, 10], [99, 99], told=False),
        Word.TOO_EARLY,
        f"{LATEST}, most in layer 1: 0.123 bits, 0.010 by chance, a change of topic would look alike; "
        "surer with 7,753 more tokens of decode",
    ),
]


# -- labels -----------------------------------------------------------------------------------------------


def labelled(each: Sequence[int], *, periods: Sequence[int] = (), real: Sequence[int] = ()) -> Snapshot:
    """Labels a, b, … with so many selections of each of ten experts in two layers.

    Args:
        each: selections of an expert, of each label.
        periods: of each label; enough if left out.
        real: layers beyond chance, of every two labels; 0 if left out.
    """
    names = [chr(ord("a") + i) for i in range(len(each))]
    usages = tuple(
        LabelUsage(name, 10, np.full((2, 10), count), np.full((2, 10), 0.1), ())
        for name, count in zip(names, each, strict=True)
    )
    number = dict(zip(names, periods or [4] * len(each), strict=True))
    couples = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    nothing = Divergence(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2, np.bool_))
    divergences = tuple(
        LabelDivergence(
            a, b, nothing, 0.1 * (i + 1), 0.01, layers if min(number[a], number[b]) >= 4 else None
        )
        for i, ((a, b), layers) in enumerate(zip(couples, real or [0] * len(couples), strict=True))
    )
    return replace(used(np.full((2, 10), 99)), labels=Labels(usages, divergences, number))


PERIODS = "surer with 4 periods of each label"
OTHERS = "surer with labels to hold against each other"
LABELS = [
    Case(labelled([]), Word.CANNOT_BE_TOLD, f"no labels; {OTHERS}"),
    Case(labelled([99]), Word.CANNOT_BE_TOLD, f"1 label; {OTHERS}"),
    Case(labelled([14, 15]), Word.TOO_EARLY, f"{THIN}, 2 labels; surer with more tokens under each label"),
    Case(labelled([15, 15]), Word.NONE_FOUND, "no two of 2 labels differ beyond chance"),
    Case(
        labelled([15, 15, 14]),
        Word.NONE_FOUND,
        "no two of 3 labels differ beyond chance; surer with more tokens under each label",
    ),
    # One label without any selections: nothing to compare, however many the other has.
    Case(labelled([99, 0]), Word.TOO_EARLY, f"{THIN}, 2 labels; surer with more tokens under each label"),
    Case(labelled([0, 99]), Word.TOO_EARLY, f"{THIN}, 2 labels; surer with more tokens under each label"),
    Case(
        labelled([15, 15], real=[1]),
        Word.FOUND,
        "in 1 of 2 layers, most apart a and b: 0.100 bits, 0.010 by chance",
    ),
    Case(
        labelled([15, 15, 15], real=[1, 2, 2]),
        Word.FOUND,
        "in 2 of 2 layers, most apart b and c: 0.300 bits, 0.010 by chance",
    ),
    Case(
        labelled([15, 15, 15], real=[1, 2, 2], periods=[4, 4, 3]),
        Word.FOUND,
        f"in 1 of 2 layers, most apart a and b: 0.100 bits, 0.010 by chance; {PERIODS}",
    ),
    Case(
        labelled([15, 15], real=[2], periods=[1, 3]),
        Word.CANNOT_BE_TOLD,
        "periods of a label 1 to 3: what differs may be the time, most apart a and b: 0.100 bits, "
        f"0.010 by chance; {PERIODS}",
    ),
]

CASES: dict[Subject, list[Case]] = {
    Subject.ROWS: ROWS,
    Subject.PHASE: PHASES,
    Subject.BALANCE: BALANCE,
    Subject.HOT_SET: HOT_SET,
    Subject.CACHE: CACHE,
    Subject.PAIRS: PAIRS,
    Subject.NEXT_LAYER: NEXT_LAYER,
    Subject.DRIFT: DRIFT,
    Subject.LABELS: LABELS,
}


@pytest.mark.parametrize(
    ("subject", "case"),
    [
        pytest.param(subject, case, id=f"{subject}-{case.word}-{i}")
        for subject, cases in CASES.items()
        for i, case in enumerate(cases)
    ],
)
def test_what_is_said(subject: Subject, case: Case) -> None:
    found = verdict(subject, case.snapshot)
    assert found is not None
    assert (found.subject, found.word, found.text) == (subject, case.word, case.text)
    assert found.sure == case.sure


NEVER_SAID = {Subject.DRIFT: {Word.CANNOT_BE_TOLD}}


@pytest.mark.parametrize("subject", Subject)
def test_every_word_is_said_of_its_subject_and_no_other(subject: Subject) -> None:
    assert {case.word for case in CASES[subject]} == set(WORDS[subject]) - NEVER_SAID.get(subject, set())


def test_every_word_belongs_to_a_subject() -> None:
    assert set(WORDS) == set(Subject)
    assert {word for words in WORDS.values() for word in words} == set(Word)


def is_well_formed(found: Judgement) -> bool:
    return (
        found.word in WORDS[found.subject]
        and found.text.isprintable()
        and all(found.facts)
        and found.sure == (found.surer == "")
    )


@given(snapshots())
def test_anything_has_its_words(snapshot: Snapshot) -> None:
    found = verdicts(snapshot)
    assert all(map(is_well_formed, found))
    subjects = [each.subject for each in found]
    assert subjects == [subject for subject in Subject if subject in subjects]


SECTIONED = {Subject.CACHE, Subject.PAIRS, Subject.NEXT_LAYER, Subject.DRIFT, Subject.LABELS}


def test_what_was_not_asked_for_is_not_judged() -> None:
    bare = alike(50)
    assert [each.subject for each in verdicts(bare)] == [each for each in Subject if each not in SECTIONED]
    for subject in SECTIONED:
        assert verdict(subject, bare) is None


STEPS = b"3,0 1\n4,0 1\n" * 9


@pytest.mark.parametrize(
    "log",
    [
        b"",
        STEPS,
        b"3,0 1\n" * 9,
        b"".join(b"gate_input,3,0,1 2\ngate_input,4,0,2 1\n" for _ in range(9)),
        b"".join(b"gate_input,3,0,1 2\ngate_input,3,1,2 1\n" for _ in range(9)),
        b"# label: a\n" + STEPS + b"# label: b\n" + STEPS,
        b"3,0 1\n3,2 3\n4,1 2\n4,0 3\n" + STEPS,
        b"3,0\n4,0\n" * 9,
        b"3,1 1\n4,0 0\n" * 9,
    ],
    ids=["empty", "steps", "one layer", "gates", "prompts of gates", "labels", "prompt", "top-1", "twice"],
)
@pytest.mark.parametrize("counts_only", [False, True])
def test_a_final_snapshot_has_every_verdict(log: bytes, counts_only: bool) -> None:
    analyzer = Analyzer(Settings(counts_only=counts_only))
    analyzer.feed(log)
    analyzer.finish()
    found = verdicts(analyzer.snapshot())
    assert [each.subject for each in found] == list(Subject)
    assert all(map(is_well_formed, found))


def test_a_run_with_labels() -> None:
    found = {each.subject: each for each in verdicts(analyzed_with_labels())}
    assert found[Subject.ROWS].word in (Word.SOUND, Word.STRIDED)
    assert found[Subject.PHASE].word is Word.KNOWN
    assert found[Subject.LABELS].word is Word.CANNOT_BE_TOLD  # one period of each
    assert not found[Subject.LABELS].sure


def test_what_fills_up_is_enough() -> None:
    """So many more tokens as are asked for, and no fewer, end the wait."""
    for each in (0, 1, 3, 4):
        early = alike(EXPERTS, each, layers=3)
        said = verdict(Subject.BALANCE, early)
        assert said is not None
        tokens = int(said.surer.removesuffix("s").removesuffix(" more token"))
        for more, still in ((tokens, False), (tokens - 1, True)):
            counts = early.counts.copy()
            counts[:, : more * 4 % EXPERTS] += 1
            counts += more * 4 // EXPERTS
            assert few(used(counts)) == still


def test_the_median_is_that_of_what_is_known() -> None:
    assert median([math.nan, 3.0, 1.0]) == 2.0
    assert math.isnan(median([math.nan]))
    assert math.isnan(median([]))
