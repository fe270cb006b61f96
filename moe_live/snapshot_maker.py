"""From accumulators to a snapshot, one figure apart from the other: what fails is left out and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.caveats import Facts, caveats, run_sentence, verdict_sentence
from moe_live.dataclass import dataclass
from moe_live.isolation import Failures
from moe_live.routing.batch import Kind
from moe_live.routing.evidence import Verdict
from moe_live.routing.sieve import Odd
from moe_live.routing.steps import StepAssembler
from moe_live.settings import Phase, Settings
from moe_live.snapshot import (
    NO_ROWS,
    Distances,
    DraftHead,
    Input,
    LayerUsage,
    Model,
    PhaseCount,
    Rows,
    Section,
    Snapshot,
    Usage,
)
from moe_live.statistics.anomalies import Anomalies, AnomalyCounter
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.collection import GATE_MASS, Statistics
from moe_live.statistics.distances import GateDistances
from moe_live.statistics.frequency import Frequency
from moe_live.statistics.gate_mass import LayerGateMass
from moe_live.statistics.registry import RowStatistics
from moe_live.statistics.runs import Runs, Totals, choice
from moe_live.statistics.statistic import SAMPLE, Counted
from moe_live.statistics.transitions import Transitions
from moe_live.usage import total


@dataclass(frozen=True, slots=True)
class SnapshotMaker:
    """What a snapshot is made of.

    Attributes:
        statistics: of all complete steps.
        assembler: what it has learned of the model and the logger.
        odd: how many rows were set aside, by what is odd about them.
        input: what was read.
        settings: what the user decides.
    """

    statistics: Statistics
    assembler: StepAssembler
    odd: Mapping[Odd, int]
    input: Input
    settings: Settings

    def make(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics as they are now.

        Args:
            sections: figures that are made only if asked for.
            pairs_of: layers whose pairs are looked for; None for all.
            anew: test all predictions, and look for the pairs of all these layers. Otherwise those of most
                layers are as they were when last asked for, and say of how many tokens or rows.
        """
        statistics, failures = self.statistics, self.statistics.failures.copy()
        heads = self.assembler.heads.layers
        if heads >= statistics.layers:  # a log of drafts: they are what there is to look at
            heads = frozenset()
        model = self._model(heads)
        decode = decode_kinds(self.assembler)
        run = statistics.runs.run(failures)
        runs = statistics.runs.with_last(run)
        use_verified, counts_repeating = choice(run.soundness, self.settings.rows)
        counted = [statistics.certain, statistics.verified if use_verified else statistics.written]
        if counts_repeating:
            counted.append(statistics.repeating)
        asked = self.settings.phase if statistics.top_k else None  # of counts without rows no phase is known
        phase = asked or Phase.ALL
        usages = failures.attempt(
            "usage", lambda: _usages(counted, decode, model.n_experts or 0, phase), dict[int, Usage]()
        )
        none: tuple[DraftHead, ...] = ()
        drafts = failures.attempt("usage", lambda: tuple(self._drafts(heads, usages, runs)), none)
        usages = {layer: usage for layer, usage in usages.items() if layer not in heads}
        analysis = statistics.analysis
        rows = self._rows(model, runs, heads, failures)
        pieces = statistics.beginnings.pieces()
        snapshot = Snapshot(
            input=self._input(model),
            model=model,
            rows=rows,
            steps=phases(statistics.steps - pieces.steps, decode),
            tokens=phases(statistics.tokens - pieces.tokens, decode),
            layers=tuple(LayerUsage(layer, usage) for layer, usage in usages.items()),
            overall=total(tuple(usages.values()), model.n_experts or 0, phase),
            distances=self._distances(decode, heads, failures),
            warnings=(),
            gate_mass=self._gate_mass(model, heads, failures, use_verified=runs.has_verified),
            drafts=drafts,
            phase=asked,
            counts_only=analysis is None,
            lacks_rows=rows.verdict == NO_ROWS,
            last_layer_known=self.assembler.last_layer_known,
        )
        given_up: tuple[str, ...] = ()
        if usages and analysis is not None and not snapshot.lacks_rows:
            chosen = analysis.chosen(verified=use_verified)
            basis = Counted(
                rows=chosen.rows,
                steps=chosen.steps,
                batches=analysis.others,
                verified=use_verified,
                repeating=counts_repeating,
                decode=decode,
                layers=tuple(usages),
                drafts=heads,
                usage=snapshot.of(Phase.DECODE),
                top_k=model.top_k or 1,
                pairs_of=tuple(usages if pairs_of is None else pairs_of),
                anew=anew,
            )
            snapshot = _with_sections(snapshot, basis, sections, failures, statistics.failures)
            given_up = _given_up(chosen.rows)
        several = int(statistics.steps[Kind.UNDECIDED]) if Kind.UNDECIDED in decode else 0
        facts = Facts(
            anomalies=self._anomalies(failures, use_verified=use_verified),
            repeating=runs.totals(outside=heads).repeating,
            too_wide=self._too_wide(model),
            odd=self.odd,
            top_k=statistics.top_k,
            n_embd=statistics.n_embd,
            several_tokens=several,
            only=self.settings.layers,
            drafts=bool(heads) or statistics.rises.verify_drafts(several),
            pieces=int(pieces.steps.sum()),
            too_large=statistics.too_large,
            given_up=given_up,
        )
        warnings = caveats(snapshot, facts, failures)
        return snapshot.having(warnings=(*failures.sentences(), *warnings), left_out=frozenset(failures))

    def _gate_mass(
        self, model: Model, heads: Collection[int], failures: Failures, *, use_verified: bool
    ) -> tuple[LayerGateMass, ...]:
        """Nothing where rows as written are not real selections: weights tell of these too."""
        if use_verified:
            return ()
        none: tuple[LayerGateMass, ...] = ()
        mass = self.statistics.gate_mass
        found = failures.attempt(GATE_MASS, lambda: mass.summary(model.n_experts or 0), none)
        return tuple(entry for entry in found if entry.layer not in heads)

    def _drafts(self, heads: frozenset[int], usages: Mapping[int, Usage], runs: Runs) -> Iterator[DraftHead]:
        """What was found of draft heads, in the steps of the model and beside them."""
        told, every = self.statistics.drafts, runs.totals()
        beside = dict(zip(told.layers, told.counts(Kind, told.n_experts), strict=True))
        for layer in sorted(heads & usages.keys() | beside.keys()):
            usage = usages.get(layer, Usage.none(told.n_experts, self.settings.phase or Phase.ALL))
            counts = beside.get(layer, np.zeros(0, np.int64))
            size = max(len(usage.every), len(counts))
            parts = (np.pad(part, (0, size - len(part))) for part in (counts, usage.every, usage.decode))
            counts, in_steps, in_decode = parts
            yield DraftHead(
                layer,
                every.logged - runs.totals(outside={layer}).logged + self.statistics.draft_rows[layer],
                layer in self.assembler.heads.told,
                replace(usage, every=in_steps + counts, decode=in_decode + counts),
            )

    def _too_wide(self, model: Model) -> int:
        """How many rows name more experts than a layer has."""
        impossible, n_experts = self.statistics.impossible, model.n_experts
        return sum(rows for k, rows in impossible.items() if n_experts is not None and k > n_experts)

    def _input(self, model: Model) -> Input:
        """What was read, where lines that name more experts than a layer has are malformed."""
        tally = self.input.tally
        malformed = tally.malformed_lines + self._too_wide(model)
        return replace(self.input, tally=replace(tally, malformed_lines=malformed))

    def _model(self, heads: Collection[int]) -> Model:
        statistics, widths = self.statistics, self.statistics.top_k
        return Model(
            layers=tuple(sorted(statistics.layers - set(heads))),
            n_experts=max(self.settings.n_experts or 0, statistics.n_experts) or None,
            # Rows with empty slots are shorter than the model's.
            top_k=max(widths, default=None) if self.input.tally.empty_slots else _most_common(widths),
            gate_layers=tuple(sorted(statistics.gate_layers - set(heads))),
            n_embd=_most_common(statistics.n_embd),
            expert_bytes=dict(statistics.expert_bytes),
        )

    def _rows(self, model: Model, runs: Runs, heads: Collection[int], failures: Failures) -> Rows:
        """How many rows count; none if they could not be counted. Those of draft heads never do."""
        impossible = self.statistics.impossible.total() - self._too_wide(model)
        odd, totals, every = sum(self.odd.values()), runs.totals(outside=heads), runs.totals()
        if "usage" in failures:
            totals = every = Totals(*(0 for _ in totals))
        beside = self.statistics.draft_rows.total()
        rows = Rows(
            mode=self.settings.rows,
            logged=every.logged + impossible + odd + beside,
            counted=totals.counted,
            recovered=totals.recovered,
            unrecoverable=totals.unrecoverable,
            soundness=runs.soundness,
            verdict="",
            impossible=impossible + totals.impossible,
            odd=odd,
            drafts=every.logged - totals.logged + beside,
            runs={verdict: runs.ended[verdict] for verdict in (*Verdict, None)},
            latest_runs=tuple(runs.latest),
        )
        sentence = verdict_sentence(rows) if rows.logged or not model.layers else NO_ROWS
        return replace(rows, verdict=sentence, run_verdict=run_sentence(rows))

    def _distances(self, decode: list[Kind], heads: Collection[int], failures: Failures) -> Distances:
        analysis, include_prompt = self.statistics.analysis, self.settings.include_prompt
        none = Distances(0, include_prompt, ())
        if analysis is None:
            return none
        kinds, distances = list(Kind) if include_prompt else decode, analysis.others[GateDistances]

        def made() -> Distances:
            pairs = tuple(pair for pair in distances.summary(kinds) if pair.to_layer not in heads)
            return Distances(distances.steps(kinds), include_prompt, pairs)

        return failures.attempt("distances", made, none)

    def _anomalies(self, failures: Failures, *, use_verified: bool) -> Anomalies:
        analysis, none = self.statistics.analysis, Anomalies({}, 0, 0)
        if analysis is None:
            return none
        counters = [rows.at_once[AnomalyCounter] for rows in analysis.chosen(verified=use_verified).rows]
        return failures.attempt("anomalies", lambda: sum((each.found() for each in counters), none), none)


def decode_kinds(assembler: StepAssembler) -> list[Kind]:
    """The kinds of steps that are decode, as far as is known."""
    return [Kind.DECODE, Kind.UNDECIDED] if assembler.last_layer_known else [Kind.DECODE]


def phases(by_kind: NDArray[np.int64], decode: list[Kind]) -> PhaseCount:
    """What was counted by kind, in prefill and decode."""
    decoded = int(by_kind[decode].sum())
    return PhaseCount(prefill=int(by_kind.sum()) - decoded, decode=decoded)


def _with_sections(
    snapshot: Snapshot,
    counted: Counted,
    sections: Collection[Section],
    failures: Failures,
    counting: Failures,
) -> Snapshot:
    """The snapshot with the sections that were asked for.

    Args:
        snapshot: without them.
        counted: what they are made of.
        sections: which are wanted.
        failures: what failed; takes what fails.
        counting: takes what fails when that is counted which was put off: not before a section is made.
    """

    def left_out(section: Section) -> bool:
        made = section.statistic
        return bool({made.name, made.rests_on, SAMPLE.name * made.sampled}.intersection(failures))

    made: dict[str, Any] = {}
    for section in Section:
        if section not in sections:
            continue
        if not left_out(section):
            make = partial(section.statistic.make, counted)
            made[section.field] = failures.attempt(section.value, make, None)
        failures |= counting
        if left_out(section):
            made[section.field] = None
    return snapshot.having(**made)


def _given_up(chosen: Iterable[RowStatistics]) -> tuple[str, ...]:
    """What is not told because there are too many experts for it."""
    names = []
    if any(rows.put_off[Coactivation].too_large for rows in chosen):
        names.append("which are chosen together")
    if any(rows.put_off[Transitions].too_large for rows in chosen):
        names.append("which follow in the next layer")
    return tuple(names)


def _usages(
    frequencies: Sequence[Frequency], decode: list[Kind], n_experts: int, phase: Phase
) -> dict[int, Usage]:
    """The use of each layer's experts, layers ascending, over all accumulators together."""
    frequencies = [frequency for frequency in frequencies if frequency.layers]
    layers = sorted({layer for frequency in frequencies for layer in frequency.layers})
    everything, decoded = np.zeros((2, len(layers), n_experts), np.int64)
    for frequency in frequencies:
        rows = np.searchsorted(layers, frequency.layers)
        everything[rows] += frequency.counts(Kind, n_experts)
        decoded[rows] += frequency.counts(decode, n_experts)
    return dict(zip(layers, map(partial(Usage, phase=phase), everything, decoded), strict=True))


def _most_common(widths: Counter[int]) -> int | None:
    """The width of most lines; of equally frequent ones the larger, whatever came first."""
    return max(widths, key=lambda width: (widths[width], width), default=None)
