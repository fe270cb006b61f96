"""The judgements on what a snapshot shows: a function for each subject, which knows nothing of the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.errors import printable
from moe_live.formatting import expected, fraction, percent, short, whole
from moe_live.judgement import Judgement, Subject, Word, worth
from moe_live.routing.evidence import Verdict
from moe_live.settings import Phase, RowMode
from moe_live.snapshot import (
    COVERED_PERCENT,
    NO_ROWS,
    PERIODS,
    TOPIC,
    WINDOWS,
    LabelDivergence,
    LayerPairs,
    Snapshot,
    tokens_needed,
)
from moe_live.statistics.blocks import CERTAIN
from moe_live.statistics.divergence import ENOUGH, comparable
from moe_live.statistics.hot_set import coverage
from moe_live.statistics.layer_locality import cache_gain
from moe_live.statistics.pairs import ENOUGH_PAIRS, SUPPORT
from moe_live.statistics.runs import Run

FEW = 5
"""Selections an expert would have under uniform use; below that chance shows more than the model."""

EVEN, UNEVEN = 0.75, 0.4
"""Share of the experts that are effective: from the first on a layer is even, below the second uneven."""

NARROW, WIDE = 0.4, 0.7
"""Share of the experts that carry 90 % of the selections: up to the first the load is concentrated, from the
second on spread out (it is 0.9 if all experts are used alike)."""

CACHED = 4
"""Caches are judged by what a fourth of a layer's experts serve."""

SEVERAL_TOPICS = WINDOWS * TOPIC
"""Tokens from which on they are taken to be of several topics: with fewer, another text may use others."""

FEW_STEPS = 30
"""Decode steps below which nothing is said of caches: first uses are misses however well one pays."""

FEW_TESTED = 50
"""Tested tokens below which rates of prediction may be off by some percent."""

GAIN = 0.05
"""Share of the next layer's experts that knowing this layer's must foretell beyond what always the same ones
do, to be worth a word; and it must be certain."""

VARYING = 2.0
"""How many times more than in independent rows pairs vary, from where on it cannot be told that none belong
together."""

LOPSIDED = 0.5
"""Share of the highest possible MaxVio from which on a layer is not called even, whatever its entropy."""

ROW_WORDS = {
    Verdict.SOUND: Word.SOUND,
    Verdict.STRIDED: Word.STRIDED,
    Verdict.MIXED: Word.MIXED,
    None: Word.EITHER_WAY,
    Verdict.UNKNOWN: Word.UNDECIDED,
}
"""What a run of the server is called by what its blocks of several rows show; None if it has none."""

_OF_COUNTS = frozenset({Subject.BALANCE, Subject.HOT_SET})
"""Subjects of which counts tell enough."""

_WITHOUT_ROWS = {Subject.ROWS: Word.UNDECIDED, Subject.PHASE: Word.GUESSED, Subject.CACHE: Word.TOO_EARLY}

_TOO_THIN = f"fewer than {ENOUGH} selections for each expert that is used"


_NO_COMMON_TIME = "several sources are shown as one"


def verdicts(snapshot: Snapshot) -> tuple[Judgement, ...]:
    """The judgements on all subjects, in their order.

    One whose section was not asked for is not made and left out; a final snapshot has them all.
    """
    found = (verdict(subject, snapshot) for subject in Subject)
    return tuple(judgement for judgement in found if judgement is not None)


def verdict(subject: Subject, snapshot: Snapshot) -> Judgement | None:
    """The judgement on one subject, None if it needs a section of the snapshot that was not asked for."""
    if snapshot.lacks_rows and subject not in _OF_COUNTS:
        return Judgement(
            subject, _WITHOUT_ROWS.get(subject, Word.CANNOT_BE_TOLD), (NO_ROWS,), "a log of rows"
        )
    return _JUDGES[subject](snapshot)


def row_word(run: Run) -> Word:
    """What a run of the server is called by its rows."""
    return ROW_WORDS[None if run.either_way else run.soundness]


def few(snapshot: Snapshot) -> bool:
    """Whether layers have so few selections that chance shows more than the model."""
    return _missing_selections(snapshot) > 0


def median(values: Sequence[float]) -> float:
    """The median of those that are defined, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def _rows(snapshot: Snapshot) -> Judgement:
    """Whether the rows that are logged are the routers' choices."""
    rows, subject = snapshot.rows, Subject.ROWS
    run = (rows.run_verdict,) if rows.run_verdict else ()
    counted = f"{whole(rows.counted)} of {_number(rows.logged, 'row')} counted"
    if not rows.logged:
        return Judgement(subject, Word.UNDECIDED, ("no expert rows so far",), "expert rows")
    if rows.soundness is Verdict.SOUND:
        return Judgement(subject, Word.SOUND, (counted,))
    if rows.soundness is Verdict.UNKNOWN:
        if not rows.unrecoverable and not rows.recovered:
            return Judgement(subject, Word.EITHER_WAY, ("every row stands alone in its block", counted))
        unknown = "not enough seen to tell whether prompt rows are real selections"
        more = "rows of a second layer" if len(snapshot.model.layers) == 1 else "more or longer prompts"
        return Judgement(subject, Word.UNDECIDED, (unknown, counted, *run), more)
    strided = rows.soundness is Verdict.STRIDED
    extent = "most" if strided else "some"
    fault = f"{extent} prompt rows are not real selections"
    if rows.wrong_logs:
        fault = f"{extent} prompt rows of {rows.wrong_logs} are not real"
    word = Word.STRIDED if strided else Word.MIXED
    if rows.mode is RowMode.LOGGED:
        wrong = f"{whole(rows.unrecoverable)} wrong"
        return Judgement(subject, word, (fault, f"{counted} as asked", wrong, *run))
    left_out = f"{whole(rows.unrecoverable)} of {_number(rows.logged, 'row')} left out"
    recovered = f"{whole(rows.recovered)} recovered"
    return Judgement(subject, word, (fault, left_out, recovered, *run))


def _phase(snapshot: Snapshot) -> Judgement:
    """Whether it is known which steps are prefill and which decode."""
    steps, subject = snapshot.steps, Subject.PHASE
    if not steps.total:
        return Judgement(subject, Word.GUESSED, ("no steps so far",), "steps")
    counts = tuple(
        f"{_number(number, f'{phase} step')} of {_number(tokens, 'token')}"
        for phase, number, tokens in (
            ("prefill", steps.prefill, snapshot.tokens.prefill),
            ("decode", steps.decode, snapshot.tokens.decode),
        )
        if number
    )
    if steps.prefill and not snapshot.last_layer_known:
        guess = "steps of several tokens are taken for prefill"
        more = "a step of one token" if snapshot.layers else "expert lines"
        return Judgement(subject, Word.GUESSED, (guess, *counts), more)
    if not all(head.told for head in snapshot.drafts):
        guess = "with a draft head a prompt of a few tokens looks like drafts that are verified"
        return Judgement(subject, Word.GUESSED, (guess, *counts), "a log that tells what its tokens are")
    return Judgement(subject, Word.KNOWN, counts, "" if steps.decode else "decode steps")


def _balance(snapshot: Snapshot) -> Judgement:
    """How evenly the experts are used."""
    subject = Subject.BALANCE
    if not snapshot.counts.size:
        return _without_rows(subject)
    figures = snapshot.balance
    n_experts = snapshot.counts.shape[1]
    effective = median([figure.effective_experts for figure in figures])
    dead = sum(figure.dead_experts for figure in figures)
    by_chance = expected(sum(figure.dead_expected for figure in figures))
    known = [(figure, entry.layer) for figure, entry in zip(figures, snapshot.layers, strict=True)]
    known = [(figure, layer) for figure, layer in known if not math.isnan(figure.max_violation)]
    uneven = sum(figure.effective_experts < UNEVEN * n_experts for figure, _ in known)
    facts = [
        f"like {short(effective)} of {n_experts} experts used alike",
        f"entropy {fraction(median([figure.entropy_normalized for figure in figures]))} of 1",
    ]
    lopsided, farthest = False, ""
    if known:
        worst, layer = max(known, key=lambda each: each[0].max_violation)
        lopsided = worst.max_violation >= LOPSIDED * worst.max_violation_bound > 0
        at_most = f" of at most {short(worst.max_violation_bound)}"
        farthest = f"worst MaxVio {short(worst.max_violation)}{at_most} in layer {layer}"
        facts.append(farthest)
    facts.append(f"{whole(dead)} of {whole(sum(snapshot.layer_sizes))} unused ({by_chance} by chance)")
    if snapshot.phase is not None:
        facts.append(f"of {snapshot.phase} steps")
    if few(snapshot):
        return Judgement(subject, Word.TOO_EARLY, tuple(facts), _more_tokens(snapshot))
    share = effective / n_experts
    word = Word.EVEN if share >= EVEN else Word.UNEVEN if share < UNEVEN else Word.FAIR
    if word is Word.EVEN and (lopsided or uneven):
        word = Word.FAIR
        if lopsided:  # what keeps it from being called even, before the rest
            facts.remove(farthest)
            facts.insert(0, farthest)
    if uneven and word is not Word.UNEVEN:
        facts.insert(0, f"{uneven} of {_number(len(known), 'layer')} uneven")
    return Judgement(
        subject,
        word,
        tuple(facts),
        "" if word is Word.EVEN else _other_texts(_tokens(snapshot.counts, snapshot)),
    )


def _hot_set(snapshot: Snapshot) -> Judgement:
    """How many experts carry most of the load."""
    subject = Subject.HOT_SET
    if not snapshot.counts.size:
        return _without_rows(subject)
    n_experts = snapshot.counts.shape[1]
    covered = coverage(snapshot.resident_counts)
    needed = covered[:, COVERED_PERCENT.index(90)]
    needed = needed[needed > 0]
    fewest, most = (int(needed.min()), int(needed.max())) if len(needed) else (0, 0)
    middle = median(needed.tolist())
    half = median(covered[:, COVERED_PERCENT.index(50)].tolist())
    tokens = _tokens(snapshot.resident_counts, snapshot)
    kind = {Phase.DECODE: "decode token", Phase.PREFILL: "prompt token", Phase.ALL: "token"}
    facts: tuple[str, ...] = (
        f"{short(middle)} of {n_experts} experts carry 90 %",
        *([] if snapshot.model.top_k is None else [_number(tokens, kind[snapshot.resident_phase])]),
        f"{fewest} to {most} by layer",
        f"{short(half)} carry 50 %",
    )
    if note := snapshot.resident_note:
        facts += (note,)
    missing = FEW * n_experts - median(snapshot.resident_counts.sum(axis=1).tolist())
    if missing > 0:
        more = _number(math.ceil(missing / (snapshot.model.top_k or 1)), "more token")
        return Judgement(subject, Word.TOO_EARLY, facts, more)
    share = middle / n_experts
    word = Word.CONCENTRATED if share <= NARROW else Word.SPREAD_OUT if share >= WIDE else Word.MODERATE
    return Judgement(subject, word, facts, _other_texts(tokens))


def _cache(snapshot: Snapshot) -> Judgement | None:
    """Whether keeping some experts of each layer in fast memory would pay."""
    subject = Subject.CACHE
    if snapshot.locality is None:
        return _not_made(subject, snapshot)
    found = cache_gain(snapshot.locality, CACHED)
    if found is None:
        return Judgement(subject, Word.TOO_EARLY, ("no decode steps so far",), "decode steps")
    recent, first, chance = found.lru.rate, found.never_again, found.chance
    steps = max(layer.steps for layer in snapshot.locality)
    facts = (
        f"decode: {found.experts} of {found.n_experts} a layer hit {percent(recent)}",
        f"chance {percent(chance)}",
        f"LRU gains {_points(found.gain, '+')} ± {_points(found.lru.error)} points",
        _number(steps, "decode step"),
        f"the most used {percent(found.fixed)} with hindsight",
    )
    if steps < FEW_STEPS:
        return Judgement(subject, Word.TOO_EARLY, facts, _number(FEW_STEPS - steps, "more decode step"))

    # What is used for the first time is missed however well a cache pays. Without these misses a short log
    # looks better than it will, so what both say is certain.
    if worth(recent, chance) is not worth(recent / (1 - first) if first < 1 else 1.0, chance):
        early = (*facts, f"{percent(first)} of the uses are the first of an expert")
        return Judgement(subject, Word.TOO_EARLY, early, "more decode steps")
    word, most = worth(recent, chance), worth(recent + found.margin, chance)
    # A gain that is not told apart from none pays nothing, unless it may yet be one that helps.
    told = found.gain > found.margin or (word is Word.HARDLY_PAYS and most is Word.HARDLY_PAYS)
    if math.isnan(found.margin) or (chance < 1 and not told):
        return Judgement(subject, Word.TOO_EARLY, facts, "more decode steps")
    return Judgement(subject, word, facts, _other_texts(steps))


def _tokens(counts: NDArray[np.int64], snapshot: Snapshot) -> int:
    """Tokens of the median layer, by its selections (layers, E): at most, where top-k is not known."""
    return round(median(counts.sum(axis=1).tolist()) / (snapshot.model.top_k or 1))


def _other_texts(tokens: int) -> str:
    """What would make a verdict surer that rests on so many tokens; "" for nothing."""
    return "tokens of other texts" if tokens < SEVERAL_TOPICS else ""


def _pairs(snapshot: Snapshot) -> Judgement | None:
    """Whether experts are chosen together more, or less, often than chance would have it."""
    layers, subject = snapshot.pairs, Subject.PAIRS
    if layers is None:
        return _not_made(subject, snapshot)
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
            reason = f"only {_number(tested, 'pair')} expected together in five rows"
            return Judgement(subject, Word.TOO_EARLY, (reason,), _more_rows(snapshot, layers))
        spread = median([pairs.spread for pairs in layers.values()])
        if spread >= VARYING:
            reason = f"all pairs vary, {short(spread)} times as much as in independent rows, as in a text"
            return Judgement(subject, Word.CANNOT_BE_TOLD, (reason,), "rows of more texts")
        possible = len(layers) * n_experts * (n_experts - 1) // 2
        none = f"none of {whole(tested)} pairs tested stands out from chance"
        rare = f"more tokens: {_number(possible - tested, 'pair')} too rare to test"
        return Judgement(subject, Word.NONE_FOUND, (none,), rare if tested < possible else "")
    facts = (
        f"in {len(standing_out)} of {_number(len(layers), 'layer')}",
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
    return _number(math.ceil(needed), "more token") if needed > 0 else "more tokens"


def _farthest_pair(layers: Mapping[int, LayerPairs]) -> str:
    """The pair that is most deviations off, in words."""
    layer, pair = max(
        ((layer, pair) for layer, pairs in layers.items() for pair in (*pairs.strongest, *pairs.weakest)),
        key=lambda found: abs(found[1].z),
    )
    seen = f"{_number(pair.count, 'row')}, {short(pair.expected)} expected"
    return f"layer {layer} experts {pair.a} and {pair.b} in {seen}"


def _next_layer(snapshot: Snapshot) -> Judgement | None:
    """Whether the experts of a layer foretell those of the next."""
    transitions, subject = snapshot.transitions, Subject.NEXT_LAYER
    if transitions is None:
        return _not_made(subject, snapshot)
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
        return Judgement(subject, Word.TOO_EARLY, rates, _number(FEW_TESTED - tested, "more token"))
    gaining = [pair for pair in transitions if pair.gain >= GAIN and pair.certain > 0]
    gain, error = (
        median([pair.gain for pair in transitions]),
        median([pair.gain_error for pair in transitions]),
    )
    facts = (
        f"median gain {_points(gain, '+')} ± {_points(error)} points",
        *rates,
        "gains learned on one half and tested on the other",
    )
    if gaining:
        layers = f"in {len(gaining)} of {_number(len(transitions), 'pair')} of layers"
        return Judgement(subject, Word.FOUND, (layers, *facts))
    # As much as the typical gain may be with what is uncertain of it.
    if gain + CERTAIN * error < GAIN:
        return Judgement(subject, Word.NONE_FOUND, (*facts, f"a gain counts from {GAIN:.0%} on"))
    return Judgement(subject, Word.TOO_EARLY, facts, "more tokens")


def _points(share: float, sign: str = "") -> str:
    """A share in percentage points."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}" if math.isfinite(share) else "–"


def _drift(snapshot: Snapshot) -> Judgement | None:
    """Whether the latest decode steps use the experts otherwise than those before."""
    drift, subject = snapshot.drift, Subject.DRIFT
    if snapshot.input.is_several:
        return Judgement(subject, Word.CANNOT_BE_TOLD, (_NO_COMMON_TIME,), "each source by itself")
    if drift is None:
        return _not_made(subject, snapshot)
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
            subject, Word.TOO_EARLY, (steps, most, early), f"{_number(missing, 'more token')} of decode"
        )
    if not drifting:
        tested = _comparable(drift.counts, drift.before)
        if not tested:
            return Judgement(subject, Word.TOO_EARLY, (_TOO_THIN, steps), "more decode steps")
        missing_layers = _number(len(layers) - tested, "layer")
        none = f"none of {_number(tested, 'layer')} beyond chance"
        surer = f"more decode steps in {missing_layers}" if tested < len(layers) else ""
        return Judgement(subject, Word.NONE_FOUND, (none, steps), surer)
    facts = (f"in {len(drifting)} of {_number(len(layers), 'layer')}", most, steps)
    return Judgement(subject, Word.FOUND, facts)


def _labels(snapshot: Snapshot) -> Judgement | None:
    """Whether labels differ in the experts they use."""
    labels, subject = snapshot.labels, Subject.LABELS
    if labels is None:
        return _not_made(subject, snapshot)
    names = _number(len(labels.usages), "label")
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
        layers = f"in {most.real_layers} of {_number(len(snapshot.layers), 'layer')}"
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


def _not_made(subject: Subject, snapshot: Snapshot) -> Judgement | None:
    """What is said where a section is missing; None if it was not asked for."""
    if not snapshot.layers:
        return _without_rows(subject)
    if snapshot.counts_only:
        return Judgement(subject, Word.TOO_EARLY, ("nothing but counts was kept",), "all of the analysis")
    return None


def _without_rows(subject: Subject) -> Judgement:
    """What is said of the use of experts while there is none."""
    return Judgement(subject, Word.TOO_EARLY, ("no expert rows so far",), "expert rows")


def _missing_selections(snapshot: Snapshot) -> float:
    """How many more selections the median layer needs."""
    n_experts: int = snapshot.counts.shape[1]
    return FEW * n_experts - median(snapshot.counts.sum(axis=1).tolist())


def _more_tokens(snapshot: Snapshot) -> str:
    """The tokens that bring so many."""
    return _number(math.ceil(_missing_selections(snapshot) / (snapshot.model.top_k or 1)), "more token")


def _comparable(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Layers in which selections (layers, E) are enough for a difference to be called real."""
    return int(np.count_nonzero(comparable(a, b)))


def _number(number: int, what: str) -> str:
    """A number of things: 1 layer, 24 layers."""
    return f"{whole(number)} {what}{'s'[: number != 1]}"


_JUDGES: Mapping[Subject, Callable[[Snapshot], Judgement | None]] = {
    Subject.ROWS: _rows,
    Subject.PHASE: _phase,
    Subject.BALANCE: _balance,
    Subject.HOT_SET: _hot_set,
    Subject.CACHE: _cache,
    Subject.PAIRS: _pairs,
    Subject.NEXT_LAYER: _next_layer,
    Subject.DRIFT: _drift,
    Subject.LABELS: _labels,
}
