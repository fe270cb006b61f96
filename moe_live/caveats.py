"""What a reader must know before believing the figures, in plain sentences with numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from moe_live.dataclass import dataclass
from moe_live.formatting import ranges
from moe_live.isolation import Failures
from moe_live.routing.evidence import Verdict
from moe_live.routing.sieve import Odd
from moe_live.settings import RowMode
from moe_live.snapshot import NO_ROWS, Rows, Snapshot
from moe_live.statistics.anomalies import Anomalies
from moe_live.statistics.rows import MAX_TOGETHER

_LONG_TOP_K = 4
"""From this k on a row 0 1 … k-1 does not come about by chance: 1 in 1,680 rows even for 8 experts."""

_ROWS_OF_SHARED = 32
"""From so many rows a layer on, an expert that is in each of them is no chance."""

_ODD_NAMED = 8
"""Odd layers and experts that are named at most."""

_UNSEEN_BY_CHANCE = 0.5
"""Experts expected to be unused under uniform routing, from which on the sample is called small."""


def verdict_sentence(rows: Rows) -> str:
    """What is known of the rows of multi-row blocks, and what follows for the figures.

    Args:
        rows: without the sentence.
    """
    known = rows.logged - rows.impossible - rows.odd - rows.drafts
    lost, recovered = rows.unrecoverable, rows.recovered
    if rows.soundness is Verdict.SOUND:
        return "rows are sound: every row is counted"
    if rows.soundness is Verdict.UNKNOWN:
        if not lost and not recovered:
            return "every row stands alone in its block: every row is counted"
        rest = (
            f"{lost:,} of {known:,} rows left out"
            if rows.mode is RowMode.VERIFIED
            else "every row is counted"
        )
        return f"not enough seen to tell whether prompt rows are real selections: {rest}"
    extent = "most prompt rows" if rows.soundness is Verdict.STRIDED else "some prompt rows"
    fault = f"{extent} in {rows.wrong_logs or 'this log'} are not real selections"
    if rows.mode is RowMode.LOGGED:
        told = f"{fault}: all {known:,} rows are counted as asked, {lost:,} of them wrong"
    else:
        told = f"{fault}: {lost:,} of {known:,} rows left out, {recovered:,} recovered"
    return "; ".join(filter(None, (told, run_sentence(rows), "see README")))


def run_sentence(rows: Rows) -> str:
    """What is known of the rows of the run of the server that goes on; "" if it is the only one."""
    if sum(rows.runs.values()) < 2:
        return ""
    run = rows.latest_runs[-1]
    if run.either_way:
        return "every row of this run stands alone in its block"
    return {
        Verdict.SOUND: "rows of this run are sound",
        Verdict.STRIDED: "most prompt rows of this run are not real",
        Verdict.MIXED: "some prompt rows of this run are not real",
        Verdict.UNKNOWN: "too few rows of this run to tell whether they are real",
    }[run.soundness]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides the figures of a snapshot.

    Attributes:
        anomalies: of the rows that are counted.
        repeating: how many of these name an expert twice.
        too_wide: malformed lines that name more experts than a layer has.
        odd: how many rows were set aside, by what is odd about them.
        top_k: how many rows have so many experts.
        n_embd: how many gate inputs have so many numbers.
        several_tokens: decode steps of more than one token.
        drafts: these verify drafts.
        only: the layers that are looked at; None for all.
        pieces: of steps, where several servers write one log.
        too_large: there are so many layers and experts that nothing but the use of the experts is known.
        given_up: what else of the experts is not known because there are so many.
    """

    anomalies: Anomalies
    repeating: int
    too_wide: int
    odd: Mapping[Odd, int]
    top_k: Mapping[int, int]
    n_embd: Mapping[int, int]
    several_tokens: int
    drafts: bool
    only: Collection[int] | None
    pieces: int
    too_large: bool
    given_up: Sequence[str]


def caveats(snapshot: Snapshot, facts: Facts, failures: Failures) -> tuple[str, ...]:
    """Everything about this snapshot that limits what can be concluded from it.

    Args:
        snapshot: what is warned of.
        facts: what else is known.
        failures: takes what fails.
    """
    tellers = (
        _about_rows,
        _about_odd_rows,
        _about_drafts,
        _about_input,
        _about_anomalies,
        _about_steps,
        _about_shared_experts,
        _about_size,
    )

    def told(about: Callable[[Snapshot, Facts], Iterator[str]]) -> tuple[str, ...]:
        return tuple(about(snapshot, facts))

    none: tuple[str, ...] = ()
    return tuple(
        sentence
        for about in tellers
        for sentence in failures.attempt(
            f"warnings{about.__name__.replace('_', ' ')}", partial(told, about), none
        )
    )


def _about_rows(snapshot: Snapshot, _: Facts) -> Iterator[str]:
    model, rows = snapshot.model, snapshot.rows
    if snapshot.lacks_rows:
        yield f"{NO_ROWS}: it tells how often each expert was chosen, not when or with which others"
        return
    if rows.impossible:
        yield (
            f"{rows.impossible:,} of {rows.logged:,} rows name an expert twice, which no router does: "
            "they are in no figure"
        )
    if rows.soundness in (Verdict.STRIDED, Verdict.MIXED):
        yield rows.verdict
    if len(model.layers) == 1 and snapshot.input.tally.lines and not snapshot.steps.decode:
        yield (
            f"rows of one layer only ({model.layers[0]}): steps cannot be told apart, "
            "nor strided rows found; all rows run together as one prompt"
        )


def _about_odd_rows(snapshot: Snapshot, facts: Facts) -> Iterator[str]:
    if not facts.odd:
        return
    named = [
        f"{'' if odd.expert < 0 else f'expert {odd.expert} in '}layer {odd.layer} ({_rows(rows)})"
        for odd, rows in sorted(facts.odd.items())
    ]
    more = ", …" if len(named) > _ODD_NAMED else ""
    yield (
        f"{_rows(snapshot.rows.odd)} set aside, for nothing else in the log is like them: "
        f"{', '.join(named[:_ODD_NAMED])}{more}"
    )


def _about_drafts(snapshot: Snapshot, _: Facts) -> Iterator[str]:
    for head in snapshot.drafts:
        yield (
            f"layer {head.layer} comes in steps of its own, as a draft head does: its {_rows(head.rows)} are "
            "in no figure of the model"
        )


def _rows(number: int) -> str:
    return f"{number:,} row{'s'[: number != 1]}"


def _about_input(snapshot: Snapshot, facts: Facts) -> Iterator[str]:
    tally, model = snapshot.input.tally, snapshot.model
    if facts.too_large:
        yield (
            f"{len(model.layers):,} layers of {model.n_experts or 0:,} experts are more than any model has: "
            "nothing but how often each is chosen is told; is it the log of one model?"
        )
    if facts.given_up:
        yield (
            f"{len(model.layers):,} layers of {model.n_experts or 0:,} experts are too many to tell "
            f"{' and '.join(facts.given_up)}"
        )
    if long := sum(rows for k, rows in facts.top_k.items() if k > MAX_TOGETHER):
        yield (
            f"{long:,} rows name more than {MAX_TOGETHER} experts: pairs and the next layer are told without "
            "them"
        )
    for name, widths in (("top-k", facts.top_k), ("n_embd", facts.n_embd)):
        if len(widths) > 1 and not (name == "top-k" and tally.empty_slots):
            found = ", ".join(f"{width} ({count:,} lines)" for width, count in sorted(widths.items())[:4])
            more = ", …" if len(widths) > 4 else ""
            yield f"{name} changes in this log: {found}{more}; is it the log of one model?"
    if tally.empty_slots:
        yield (
            f"places for an expert that are empty (-1): {tally.empty_slots:,}; rows count with what they "
            f"have, rows that have nothing: {tally.empty_rows:,}"
        )
    if tally.malformed_lines:
        yield f"{tally.malformed_lines:,} of {tally.lines:,} lines are malformed and left out"
    if facts.too_wide:
        yield (
            f"{facts.too_wide:,} of the malformed lines name more experts than a layer has "
            f"({snapshot.model.n_experts})"
        )
    if tally.dropped_steps:
        steps = "step is" if tally.dropped_steps == 1 else "steps are"
        yield (
            f"{tally.dropped_steps:,} {steps} not in the log, which could not be written as fast as they "
            "came: no figure knows them, and texts have gaps there"
        )
    if tally.nul_bytes:
        yield (
            f"{tally.nul_bytes:,} NUL bytes skipped: the log was emptied while the server wrote; "
            "its beginning is lost"
        )


def _about_anomalies(snapshot: Snapshot, facts: Facts) -> Iterator[str]:
    anomalies, counted = facts.anomalies, snapshot.rows.counted
    if facts.repeating:
        yield f"{facts.repeating:,} of {counted:,} rows name an expert twice: no router does that"
    if anomalies.run_rows:
        yield (
            f"{anomalies.run_rows:,} of {counted:,} rows stand in runs of equal rows, the longest of "
            f"{anomalies.longest_run:,}: a dummy or warm-up batch, or a router that always chooses the same"
        )
    suspects = {
        entry.layer: rows
        for entry in snapshot.layers
        if (rows := anomalies.identity_rows.get(entry.layer, 0))
        and _is_too_many(rows, entry.usage.selections, snapshot.model.top_k or 1)
    }
    # Of a row with empty slots what is left may be an expert or two.
    if suspects and not snapshot.input.tally.empty_slots:
        yield (
            f"{sum(suspects.values()):,} rows in layers {ranges(suspects)} read 0 1 2 … in order: "
            "the router's scores were NaN or all equal there"
        )


def _is_too_many(identity_rows: int, selections: int, top_k: int) -> bool:
    """Whether rows 0 1 … k-1 need an explanation: always for long rows, else where they are most rows."""
    return top_k >= _LONG_TOP_K or (top_k > 1 and identity_rows * 2 * top_k > selections)


def _about_steps(snapshot: Snapshot, facts: Facts) -> Iterator[str]:
    model, steps = snapshot.model, snapshot.steps
    if facts.only is not None and snapshot.input.tally.lines:
        yield (
            f"only lines of layers {ranges(sorted(facts.only))} were looked at, as asked (--layers): "
            + (
                "without the model's last layer short prompts cannot be told from decode of several tokens"
                if model.layers or model.gate_layers
                else "there are none"
            )
        )
    if facts.pieces:
        yield (
            f"several servers seem to write this log: {facts.pieces:,} pieces of steps begin in the midst of "
            f"the layers, {steps.total:,} with the first, which count; what rests on the order of steps "
            "mixes their texts: give each server a log of its own"
        )
    elif facts.several_tokens:
        several = f"{facts.several_tokens:,} of {steps.decode:,} decode steps have several tokens"
        if facts.drafts:
            yield f"{several}, drafts that are verified: those that were rejected are in all figures too"
        else:
            yield (
                f"{several}: generations are interleaved, and successive steps need not belong to one text"
            )
    if model.gate_layers and not model.layers and steps.total and not steps.decode:
        yield (
            "gate lines only, and no step of one token: prompt and decode cannot be told apart; "
            "--include-prompt counts every step"
        )
    last = model.layers[-1] if model.layers else None
    if snapshot.distances.include_prompt and steps.prefill and last in model.gate_layers:
        yield (
            f"in prompt steps row 0 of layer {last}, the last, is another token than row 0 of the layers "
            f"below: the distances to layer {last} mix tokens"
        )


def _about_shared_experts(snapshot: Snapshot, _: Facts) -> Iterator[str]:
    """Those in every row: a logger that adds the shared experts, the last ones, to those that were chosen."""
    top_k, counts = snapshot.model.top_k or 1, snapshot.counts
    rows = counts.sum(axis=1, keepdims=True) // top_k
    if len(rows) < 2 or rows.min() < _ROWS_OF_SHARED:
        return
    shared = np.flatnonzero((counts == rows).all(axis=0)).tolist()
    if 0 < len(shared) < top_k:
        is_last = shared[0] == counts.shape[1] - len(shared)
        what = "a shared expert, which no router chooses" if is_last else "every router has collapsed onto it"
        less = "; with it, the load looks less even than it is" if is_last else ""
        yield f"expert {ranges(shared)} is in every row of every layer: {what}{less}"


def _about_size(snapshot: Snapshot, _: Facts) -> Iterator[str]:
    model = snapshot.model
    if not model.n_experts or not model.top_k or not snapshot.layers:
        return
    smaller: dict[int, list[int]] = {}
    for entry, size in zip(snapshot.layers, snapshot.layer_sizes, strict=True):
        if size < model.n_experts:
            smaller.setdefault(size, []).append(entry.layer)
    if smaller:
        found = ", ".join(f"{size} (layers {ranges(layers)})" for size, layers in sorted(smaller.items())[:4])
        more = ", …" if len(smaller) > 4 else ""
        yield (
            f"some layers seem to have fewer experts than {model.n_experts}: {found}{more}; load balance and "
            "unused experts of each layer are measured against its own"
        )
    fewest = int(snapshot.counts.sum(axis=1).min()) // model.top_k
    unseen = model.n_experts * (1 - model.top_k / model.n_experts) ** fewest
    if unseen >= _UNSEEN_BY_CHANCE:
        yield (
            f"figures rest on {fewest:,} token{'s'[: fewest != 1]} in the layer with the fewest: "
            f"by chance alone {unseen:.0f} of {model.n_experts} experts would be unused there"
        )
