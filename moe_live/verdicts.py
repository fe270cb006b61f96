"""The judgements on what a snapshot shows: a function for each subject, which knows nothing of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from moe_live.formatting import expected, fraction, number_of, percent, points, short, whole
from moe_live.judgement import Judgement, Subject, Word, median, not_made, without_rows, worth
from moe_live.routing.evidence import Verdict
from moe_live.settings import Phase, RowMode
from moe_live.snapshot import COVERED_PERCENT, NO_ROWS, TOPIC, WINDOWS, Snapshot
from moe_live.statistics.hot_set import coverage
from moe_live.statistics.layer_locality import cache_gain
from moe_live.statistics.runs import Run
from moe_live.structure import STRUCTURE

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


def _rows(snapshot: Snapshot) -> Judgement:
    """Whether the rows that are logged are the routers' choices."""
    rows, subject = snapshot.rows, Subject.ROWS
    run = (rows.run_verdict,) if rows.run_verdict else ()
    counted = f"{whole(rows.counted)} of {number_of(rows.logged, 'row')} counted"
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
    left_out = f"{whole(rows.unrecoverable)} of {number_of(rows.logged, 'row')} left out"
    recovered = f"{whole(rows.recovered)} recovered"
    return Judgement(subject, word, (fault, left_out, recovered, *run))


def _phase(snapshot: Snapshot) -> Judgement:
    """Whether it is known which steps are prefill and which decode."""
    steps, subject = snapshot.steps, Subject.PHASE
    if not steps.total:
        return Judgement(subject, Word.GUESSED, ("no steps so far",), "steps")
    counts = tuple(
        f"{number_of(number, f'{phase} step')} of {number_of(tokens, 'token')}"
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
        return without_rows(subject)
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
        facts.insert(0, f"{uneven} of {number_of(len(known), 'layer')} uneven")
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
        return without_rows(subject)
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
        *([] if snapshot.model.top_k is None else [number_of(tokens, kind[snapshot.resident_phase])]),
        f"{fewest} to {most} by layer",
        f"{short(half)} carry 50 %",
    )
    if note := snapshot.resident_note:
        facts += (note,)
    missing = FEW * n_experts - median(snapshot.resident_counts.sum(axis=1).tolist())
    if missing > 0:
        more = number_of(math.ceil(missing / (snapshot.model.top_k or 1)), "more token")
        return Judgement(subject, Word.TOO_EARLY, facts, more)
    share = middle / n_experts
    word = Word.CONCENTRATED if share <= NARROW else Word.SPREAD_OUT if share >= WIDE else Word.MODERATE
    return Judgement(subject, word, facts, _other_texts(tokens))


def _cache(snapshot: Snapshot) -> Judgement | None:
    """Whether keeping some experts of each layer in fast memory would pay."""
    subject = Subject.CACHE
    if snapshot.locality is None:
        return not_made(subject, snapshot)
    found = cache_gain(snapshot.locality, CACHED)
    if found is None:
        return Judgement(subject, Word.TOO_EARLY, ("no decode steps so far",), "decode steps")
    recent, first, chance = found.lru.rate, found.never_again, found.chance
    steps = max(layer.steps for layer in snapshot.locality)
    facts = (
        f"decode: {found.experts} of {found.n_experts} a layer hit {percent(recent)}",
        f"chance {percent(chance)}",
        f"LRU gains {points(found.gain, '+')} ± {points(found.lru.error)} points",
        number_of(steps, "decode step"),
        f"the most used {percent(found.fixed)} with hindsight",
    )
    if steps < FEW_STEPS:
        return Judgement(subject, Word.TOO_EARLY, facts, number_of(FEW_STEPS - steps, "more decode step"))

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


def _missing_selections(snapshot: Snapshot) -> float:
    """How many more selections the median layer needs."""
    n_experts: int = snapshot.counts.shape[1]
    return FEW * n_experts - median(snapshot.counts.sum(axis=1).tolist())


def _more_tokens(snapshot: Snapshot) -> str:
    """The tokens that bring so many."""
    return number_of(math.ceil(_missing_selections(snapshot) / (snapshot.model.top_k or 1)), "more token")


_JUDGES: Mapping[Subject, Callable[[Snapshot], Judgement | None]] = {
    Subject.ROWS: _rows,
    Subject.PHASE: _phase,
    Subject.BALANCE: _balance,
    Subject.HOT_SET: _hot_set,
    Subject.CACHE: _cache,
    **STRUCTURE,
}
