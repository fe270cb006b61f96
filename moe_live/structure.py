"""The judgements on what may be found in the use of experts, or not: a function for each subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from moe_live.errors import printable
from moe_live.formatting import fraction, number_of, percent, points, short, whole
from moe_live.judgement import Judgement, Subject, Word, median, not_made
from moe_live.settings import Phase
from moe_live.snapshot import PERIODS, LabelDivergence, LayerPairs, Snapshot, tokens_needed
from moe_live.statistics.blocks import CERTAIN
from moe_live.statistics.divergence import ENOUGH, comparable
from moe_live.statistics.pairs import ENOUGH_PAIRS, SUPPORT

FEW_TESTED = 50
"""Tested tokens below which rates of prediction may be off by some percent."""

GAIN = 0.05
"""Share of the next layer's experts that knowing this layer's must foretell beyond what always the same ones
do, to be worth a word; and it must be certain."""

VARYING = 2.0
"""How many times more than in independent rows pairs vary, from where on it cannot be told that none belong
together."""

_TOO_THIN = f"fewer than {ENOUGH} selections for each expert that is used"

_NO_COMMON_TIME = "several sources are shown as one"


def _pairs(snapshot: Snapshot) -> Judgement | None:
    """Whether experts are chosen together more, or less, often than chance would have it."""
    layers, subject = snapshot.pairs, Subject.PAIRS
    if layers is None:
        return not_made(subject, snapshot)
    if snapshot.model.top_k == 1:
        return Judgement(subject, Word.CANNOT_BE_TOLD, ("rows of one expert have no pairs",))
    if not any(pairs.rows for pairs in layers.values()):
        reason = "no row was counted: the model is too large, or its rows name experts twice"
        return Judgement(subject, Word.CANNOT_BE_TOLD, (reason,))
    tested = sum(pairs.tested for pairs in layers.values())
    if not tested:
        return Judgement(
            subject,
            Word.TOO_EARLY,
            ("no two experts are expected together in five rows",),
            _more_rows(snapshot, layers),
        )
    standing_out = {layer: pairs for layer, pairs in layers.items() if pairs.strongest or pairs.weakest}
    if not standing_out:
        n_experts = snapshot.counts.shape[1]
        if max(pairs.tested for pairs in layers.values()) < min(
            ENOUGH_PAIRS, n_experts * (n_experts - 1) // 2
        ):
            reason = f"only {number_of(tested, 'pair')} expected together in five rows"
            return Judgement(subject, Word.TOO_EARLY, (reason,), _more_rows(snapshot, layers))
        spread = median([pairs.spread for pairs in layers.values()])
        if spread >= VARYING:
            reason = f"all pairs vary, {short(spread)} times as much as in independent rows, as in a text"
            return Judgement(subject, Word.CANNOT_BE_TOLD, (reason,), "rows of more texts")
        possible = len(layers) * n_experts * (n_experts - 1) // 2
        none = f"none of {whole(tested)} pairs tested stands out from chance"
        rare = f"more tokens: {number_of(possible - tested, 'pair')} too rare to test"
        return Judgement(subject, Word.NONE_FOUND, (none,), rare if tested < possible else "")
    facts = (
        f"in {len(standing_out)} of {number_of(len(layers), 'layer')}",
        _farthest_pair(standing_out),
        f"{whole(tested)} pairs tested",
    )
    return Judgement(subject, Word.FOUND, facts, "the same pairs in other texts")


def _more_rows(snapshot: Snapshot, layers: Mapping[int, LayerPairs]) -> str:
    """The tokens until two experts, were all alike, are expected together in `SUPPORT` rows."""
    n_experts, k = snapshot.counts.shape[1], snapshot.model.top_k or 1
    if k < 2:
        return "more tokens"
    needed = SUPPORT * n_experts * (n_experts - 1) / (k * (k - 1)) - max(p.rows for p in layers.values())
    return number_of(math.ceil(needed), "more token") if needed > 0 else "more tokens"


def _farthest_pair(layers: Mapping[int, LayerPairs]) -> str:
    """The pair that is most deviations off, in words."""
    layer, pair = max(
        ((layer, pair) for layer, pairs in layers.items() for pair in (*pairs.strongest, *pairs.weakest)),
        key=lambda found: abs(found[1].z),
    )
    seen = f"{number_of(pair.count, 'row')}, {short(pair.expected)} expected"
    return f"layer {layer} experts {pair.a} and {pair.b} in {seen}"


def _next_layer(snapshot: Snapshot) -> Judgement | None:
    """Whether the experts of a layer foretell those of the next."""
    transitions, subject = snapshot.transitions, Subject.NEXT_LAYER
    if transitions is None:
        return not_made(subject, snapshot)
    if len(snapshot.layers) < 2:
        return Judgement(subject, Word.CANNOT_BE_TOLD, ("rows of one layer only",), "rows of a second layer")
    tested = max((transition.tested for transition in transitions), default=0)
    if not tested:
        reason = "no token with rows in two consecutive layers, or a model too large"
        return Judgement(subject, Word.TOO_EARLY, (reason,), "more tokens")
    found = median([transition.hit_rate for transition in transitions])
    static = median([transition.static_hit_rate for transition in transitions])
    rates = (
        f"{percent(found)} of the next layer's experts foretold",
        f"{percent(static)} by always naming the most used",
        f"{percent(median([transition.chance for transition in transitions]))} by chance",
    )
    if tested < FEW_TESTED:
        return Judgement(subject, Word.TOO_EARLY, rates, number_of(FEW_TESTED - tested, "more token"))
    gaining = [pair for pair in transitions if pair.gain >= GAIN and pair.certain > 0]
    gain, error = (
        median([pair.gain for pair in transitions]),
        median([pair.gain_error for pair in transitions]),
    )
    facts = (
        f"median gain {points(gain, '+')} ± {points(error)} points",
        *rates,
        "gains learned on one half and tested on the other",
    )
    if gaining:
        layers = f"in {len(gaining)} of {number_of(len(transitions), 'pair')} of layers"
        return Judgement(subject, Word.FOUND, (layers, *facts))
    # As much as the typical gain may be with what is uncertain of it.
    if gain + CERTAIN * error < GAIN:
        return Judgement(subject, Word.NONE_FOUND, (*facts, f"a gain counts from {GAIN:.0%} on"))
    return Judgement(subject, Word.TOO_EARLY, facts, "more tokens")


def _drift(snapshot: Snapshot) -> Judgement | None:
    """Whether the latest decode steps use the experts otherwise than those before."""
    drift, subject = snapshot.drift, Subject.DRIFT
    if snapshot.input.is_several:
        return Judgement(subject, Word.CANNOT_BE_TOLD, (_NO_COMMON_TIME,), "each source by itself")
    if drift is None:
        return not_made(subject, snapshot)
    if drift.is_whole_run:
        whole_run = "the window is the whole run: nothing to compare yet"
        fact = whole_run if drift.steps else "no decode steps so far"
        needed = f"decode steps beyond the latest {whole(drift.window)}"
        return Judgement(subject, Word.TOO_EARLY, (fact,), needed)
    steps = f"the latest {whole(drift.steps)} of {whole(snapshot.steps.decode)} decode steps"
    found, layers = drift.divergence, [entry.layer for entry in snapshot.layers]
    order = np.argsort(-np.nan_to_num(found.js), kind="stable").tolist()
    drifting = [index for index in order if found.real[index]]
    largest = (drifting or order)[0]
    most = f"most in layer {layers[largest]}: {fraction(found.js[largest], 3)} bits"
    if not math.isnan(found.expected[largest]):
        most += f", {fraction(found.expected[largest], 3)} by chance"
    if not drift.told:
        k = snapshot.model.top_k or 1
        run = snapshot.of(Phase.DECODE)
        seen, stretch = (float(part.sum(axis=1).max()) / k for part in (run, drift.counts))
        missing = max(1, math.ceil(tokens_needed(stretch) - seen))
        early = "a change of topic would look alike"
        return Judgement(
            subject, Word.TOO_EARLY, (steps, most, early), f"{number_of(missing, 'more token')} of decode"
        )
    if not drifting:
        tested = _comparable(drift.counts, drift.before)
        if not tested:
            return Judgement(subject, Word.TOO_EARLY, (_TOO_THIN, steps), "more decode steps")
        missing_layers = number_of(len(layers) - tested, "layer")
        none = f"none of {number_of(tested, 'layer')} beyond chance"
        surer = f"more decode steps in {missing_layers}" if tested < len(layers) else ""
        return Judgement(subject, Word.NONE_FOUND, (none, steps), surer)
    facts = (f"in {len(drifting)} of {number_of(len(layers), 'layer')}", most, steps)
    return Judgement(subject, Word.FOUND, facts)


def _labels(snapshot: Snapshot) -> Judgement | None:
    """Whether labels differ in the experts they use."""
    labels, subject = snapshot.labels, Subject.LABELS
    if labels is None:
        return not_made(subject, snapshot)
    names = number_of(len(labels.usages), "label")
    if len(labels.usages) < 2:
        number = names if labels.usages else "no labels"
        return Judgement(subject, Word.CANNOT_BE_TOLD, (number,), "labels to hold against each other")
    told = [
        pair
        for pair in labels.divergences
        if min(labels.periods.get(name, 0) for name in (pair.a, pair.b)) >= PERIODS
    ]
    periods = [labels.periods.get(usage.label, 0) for usage in labels.usages]
    surer = f"{PERIODS} periods of each label" if len(told) < len(labels.divergences) else ""
    if not told:
        most = max(labels.divergences, key=lambda pair: (not math.isnan(pair.js), pair.js))
        few_periods = f"periods of a label {min(periods)} to {max(periods)}: what differs may be the time"
        return Judgement(subject, Word.CANNOT_BE_TOLD, (few_periods, _apart(most)), surer)
    real = [pair for pair in told if pair.real_layers]
    if real:
        most = max(real, key=lambda pair: (pair.real_layers or 0, pair.js))
        layers = f"in {most.real_layers} of {number_of(len(snapshot.layers), 'layer')}"
        return Judgement(subject, Word.FOUND, (layers, _apart(most)), surer)
    counts = {usage.label: usage.counts for usage in labels.usages}
    tested = sum(_comparable(counts[pair.a], counts[pair.b]) for pair in told)
    if not tested:
        return Judgement(subject, Word.TOO_EARLY, (_TOO_THIN, names), "more tokens under each label")
    if tested < len(told) * len(snapshot.layers):
        surer = surer or "more tokens under each label"
    return Judgement(subject, Word.NONE_FOUND, (f"no two of {names} differ beyond chance",), surer)


def _apart(pair: LabelDivergence) -> str:
    """How far two labels lie apart, in words."""
    bits = f"{fraction(pair.js, 3)} bits, {fraction(pair.expected, 3)} by chance"
    return f"most apart {printable(pair.a)} and {printable(pair.b)}: {bits}"


def _comparable(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Layers in which selections (layers, E) are enough for a difference to be called real."""
    return int(np.count_nonzero(comparable(a, b)))


STRUCTURE: Mapping[Subject, Callable[[Snapshot], Judgement | None]] = {
    Subject.PAIRS: _pairs,
    Subject.NEXT_LAYER: _next_layer,
    Subject.DRIFT: _drift,
    Subject.LABELS: _labels,
}
"""What judges each subject: None if it needs a section of the snapshot that was not asked for."""
